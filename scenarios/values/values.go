// Package values holds the small typed values of the scenario file: durations, percentages, rates, selectors. It is a
// leaf: scenarios and injectors share it, and it knows neither.
//
// Every type reads one YAML scalar (through encoding/json, since the loader turns YAML into plain values first),
// insists on its unit, and prints itself the way it is written in a file. A type also describes itself as JSON Schema
// (JSONSchema): from there come the published schema and what the loader accepts.
package values

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time written with its unit: "500ms", "3s", "2m", "1h30m". A bare number is an error, and so
// is anything negative.
type Duration time.Duration

// Percent is a share, written "5%" and kept as a ratio (0.05). It lies between 0% and 100%.
type Percent float64

// Rate is a number of samples a second, written "50/s" ("30/m" is allowed) and kept per second.
type Rate float64

// Take says how many of the selected objects are taken: a number, a percentage (rounded up), or all of them.
type Take struct {
	All     bool
	Count   int
	Percent Percent
}

// Profiled is a value that may differ by profile: written as the value itself, or as a map from profile to value.
type Profiled[T any] struct {
	// Any holds for profiles that ByProfile does not name; nil where there is no such value.
	Any       *T
	ByProfile map[string]T
}

// Selector chooses objects of one kind. An empty selector is an error: everything has to be asked for by `take: all`
// and at least one criterion.
type Selector struct {
	// Namespace is the name of a workload of the scenario (meaning its namespace) or of a real namespace.
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Names     []string          `json:"names,omitempty"`
	// Owner is a workload object, WORKLOAD/KIND/NAME: its pods.
	Owner string `json:"owner,omitempty"`
	// Hosting is a workload object whose pods run on the nodes that are meant.
	Hosting string `json:"hosting,omitempty"`
	// Role is a node role: control-plane or worker.
	Role string `json:"role,omitempty"`
	// Except is the name of a target whose members are left out.
	Except string `json:"except,omitempty"`
}

// maxRate bounds a Rate, per second: above it the planned distance of two samples is below a microsecond, which no
// sampler keeps.
const maxRate = 1e6

var (
	durationPattern = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(us|ms|s|m|h))+$`)
	numberPattern   = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
)

// ParseDuration reads a duration as it is written in a file. Its error says what is wrong and how to write it.
func ParseDuration(text string) (Duration, error) {
	switch {
	case strings.HasPrefix(text, "-"):
		return 0, fmt.Errorf("%q is negative: a duration counts forwards", text)
	case numberPattern.MatchString(text):
		return 0, fmt.Errorf("%q has no unit: write %sms, %ss or %sm", text, text, text, text)
	case !durationPattern.MatchString(text):
		return 0, fmt.Errorf("%q is not a duration: write a number with its unit (us, ms, s, m, h), "+
			"such as 500ms, 3s or 1h30m", text)
	}
	d, err := time.ParseDuration(text)
	if err != nil { // the shape is right, so only the size can be wrong
		return 0, fmt.Errorf("%q is longer than a duration can be (%s)", text, Duration(math.MaxInt64))
	}
	return Duration(d), nil
}

// ParsePercent reads a share such as "5%" or "0.5%".
func ParsePercent(text string) (Percent, error) {
	digits, found := strings.CutSuffix(text, "%")
	if !found && numberPattern.MatchString(text) {
		return 0, fmt.Errorf("%q has no unit: write %s%%", text, text)
	}
	if !numberPattern.MatchString(digits) {
		return 0, fmt.Errorf("%q is not a percentage: write a number from 0 to 100 and a percent sign, such as 5%%", text)
	}
	percent, err := strconv.ParseFloat(digits, 64)
	if err != nil || percent > 100 {
		return 0, fmt.Errorf("%q is more than 100%%", text)
	}
	return Percent(percent / 100), nil
}

// ParseRate reads a rate such as "50/s" or "30/m".
func ParseRate(text string) (Rate, error) {
	if numberPattern.MatchString(text) {
		return 0, fmt.Errorf("%q has no unit: write %s/s or %s/m", text, text, text)
	}
	digits, unit, _ := strings.Cut(text, "/")
	if !numberPattern.MatchString(digits) || (unit != "s" && unit != "m") {
		return 0, fmt.Errorf("%q is not a rate: write a number a second or a minute, such as 50/s or 30/m", text)
	}
	rate, err := strconv.ParseFloat(digits, 64)
	if unit == "m" {
		rate /= 60
	}
	switch {
	case err != nil || rate > maxRate:
		return 0, fmt.Errorf("%q is more than %.0f/s", text, float64(maxRate))
	case rate < 1.0/3600:
		return 0, fmt.Errorf("%q is less than one sample an hour", text)
	}
	return Rate(rate), nil
}

// ParseTake reads "all", a number such as "2", or a percentage such as "50%".
func ParseTake(text string) (Take, error) {
	if text == "all" {
		return Take{All: true}, nil
	}
	if strings.HasSuffix(text, "%") {
		percent, err := ParsePercent(text)
		if err == nil && percent == 0 {
			err = fmt.Errorf("%q takes nothing", text)
		}
		return Take{Percent: percent}, err
	}
	count, err := strconv.Atoi(text)
	if err != nil {
		return Take{}, fmt.Errorf("%q says not how many: write a number, a percentage such as 50%%, or all", text)
	}
	if count < 1 {
		return Take{}, fmt.Errorf("%q takes nothing: take at least 1", text)
	}
	return Take{Count: count}, nil
}

// String prints the duration as it is written in a file: "1h30m", "1.5s", "0s".
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	if strings.HasSuffix(text, "ns") { // below the microsecond no unit is offered in files
		text = strconv.FormatFloat(float64(d)/1e3, 'f', -1, 64) + "us"
	}
	return strings.Replace(text, "µs", "us", 1)
}

// MarshalJSON writes the duration as a string with its unit.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a string with its unit.
func (d *Duration) UnmarshalJSON(data []byte) error { return unmarshalText(data, d, ParseDuration) }

// String prints the share as it is written in a file: "5%".
func (p Percent) String() string {
	// Twelve digits hide the binary fraction (0.07 * 100) and keep whatever anybody writes.
	rounded := math.Round(float64(p)*100*1e12) / 1e12
	return strconv.FormatFloat(rounded, 'f', -1, 64) + "%"
}

// MarshalJSON writes the share as a string with a percent sign.
func (p Percent) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// UnmarshalJSON reads a string with a percent sign.
func (p *Percent) UnmarshalJSON(data []byte) error { return unmarshalText(data, p, ParsePercent) }

// String prints the rate as it is written in a file: "50/s", or by the minute where the second gives no whole number.
func (r Rate) String() string {
	perMinute := math.Round(float64(r)*60*1e9) / 1e9
	if float64(r) != math.Trunc(float64(r)) && perMinute == math.Trunc(perMinute) {
		return strconv.FormatFloat(perMinute, 'f', -1, 64) + "/m"
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64) + "/s"
}

// Interval is the planned time between two samples; zero for the zero rate.
func (r Rate) Interval() time.Duration {
	if r <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / float64(r))
}

// MarshalJSON writes the rate as a string with its unit.
func (r Rate) MarshalJSON() ([]byte, error) { return json.Marshal(r.String()) }

// UnmarshalJSON reads a string with its unit.
func (r *Rate) UnmarshalJSON(data []byte) error { return unmarshalText(data, r, ParseRate) }

// String prints what is taken as it is written in a file: "all", "2", "50%".
func (t Take) String() string {
	switch {
	case t.All:
		return "all"
	case t.Percent > 0:
		return t.Percent.String()
	}
	return strconv.Itoa(t.Count)
}

// Of is how many of n objects are taken, at most n; a percentage is rounded up.
func (t Take) Of(n int) int {
	switch {
	case t.All:
		return n
	case t.Percent > 0:
		// The subtraction keeps 50% of 2 at 1 where the binary fraction lies above the decimal one.
		return min(n, int(math.Ceil(float64(t.Percent)*float64(n)-1e-9)))
	}
	return min(n, t.Count)
}

// MarshalJSON writes a number where it is one, else a string.
func (t Take) MarshalJSON() ([]byte, error) {
	if !t.All && t.Percent == 0 {
		return json.Marshal(t.Count)
	}
	return json.Marshal(t.String())
}

// UnmarshalJSON reads a number or a string.
func (t *Take) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	text := string(data)
	if data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	parsed, err := ParseTake(text)
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}

// For is the value under a profile; false where there is none.
func (p Profiled[T]) For(profile string) (T, bool) {
	if value, ok := p.ByProfile[profile]; ok {
		return value, true
	}
	if p.Any != nil {
		return *p.Any, true
	}
	var zero T
	return zero, false
}

// Same is the value that holds under every profile.
func Same[T any](value T) *Profiled[T] { return &Profiled[T]{Any: &value} }

// keyed is a T that is itself written as a map: it owns some keys, and only a map of other keys goes by profile.
type keyed interface{ OwnsKey(key string) bool }

// MarshalJSON writes the value itself, or the map from profile to value. Both at once can't be written.
func (p Profiled[T]) MarshalJSON() ([]byte, error) {
	if p.Any == nil {
		return json.Marshal(p.ByProfile)
	}
	if len(p.ByProfile) > 0 {
		return nil, fmt.Errorf("a value for every profile and values by profile exclude each other")
	}
	return json.Marshal(p.Any)
}

// UnmarshalJSON reads the value itself, or a map from profile to value. Which profiles there are only the loader knows:
// it refuses other keys before it decodes.
func (p *Profiled[T]) UnmarshalJSON(data []byte) error {
	*p = Profiled[T]{}
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	if !p.byProfile(data) {
		p.Any = new(T)
		return Strict(data, p.Any)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if len(raw) == 0 {
		return fmt.Errorf("an empty map holds for no profile")
	}
	p.ByProfile = make(map[string]T, len(raw))
	for profile, value := range raw {
		var decoded T
		if err := Strict(value, &decoded); err != nil {
			return fmt.Errorf("%s: %w", profile, err)
		}
		p.ByProfile[profile] = decoded
	}
	return nil
}

// byProfile tells a map of profiles from a value that happens to be a map.
func (p *Profiled[T]) byProfile(data []byte) bool {
	var raw map[string]json.RawMessage
	if data[0] != '{' || json.Unmarshal(data, &raw) != nil {
		return false
	}
	var zero T
	if owner, ok := any(zero).(keyed); ok {
		for key := range raw {
			if owner.OwnsKey(key) {
				return false
			}
		}
	}
	return true
}

// Strict decodes JSON into v and refuses keys that v does not have, and anything behind the value.
func Strict(data []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return err
	}
	if decoder.More() {
		return fmt.Errorf("more than one value")
	}
	return nil
}

// unmarshalText reads a JSON string by parse. A number is shown to parse as well: its message says which unit is
// missing.
func unmarshalText[T any](data []byte, into *T, parse func(string) (T, error)) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	text := string(data)
	if data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	parsed, err := parse(text)
	if err != nil {
		return err
	}
	*into = parsed
	return nil
}
