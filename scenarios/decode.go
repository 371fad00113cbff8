package scenarios

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// The decoders below read JSON, since the loader turns YAML into plain values first. They are strict by themselves, so
// that whoever decodes a Scenario without the loader gets the same answer, only without positions.

// isNull says that data is the JSON null. As is the custom of encoding/json, null leaves a value as it is.
func isNull(data []byte) bool { return bytes.Equal(data, []byte("null")) }

// UnmarshalJSON reads "all", a number (exactly that many), or {min, max}.
func (c *Count) UnmarshalJSON(data []byte) error {
	var number int
	var text string
	switch {
	case isNull(data):
		return nil
	case data[0] == '{':
		var bounds struct{ Min, Max *int }
		if err := values.Strict(data, &bounds); err != nil {
			return err
		}
		if bounds.Min == nil && bounds.Max == nil {
			return errors.New("a count needs min, max or both")
		}
		*c = Count{Min: bounds.Min, Max: bounds.Max}
		return nil
	case json.Unmarshal(data, &number) == nil && number >= 0:
		*c = Count{Min: &number, Max: &number}
		return nil
	case json.Unmarshal(data, &text) == nil && text == "all":
		*c = Count{All: true}
		return nil
	}
	return fmt.Errorf("%s is not a count: write a number, {min: N, max: N} or all", data)
}

// MarshalJSON writes the count the way it is written in a file.
func (c Count) MarshalJSON() ([]byte, error) {
	switch {
	case c.All:
		return json.Marshal("all")
	case c.Min != nil && c.Max != nil && *c.Min == *c.Max:
		return json.Marshal(*c.Min)
	}
	return marshalBounds(c.Min, c.Max)
}

// UnmarshalJSON reads "5%" or 0 (at most that), or {min, max}.
func (r *Ratio) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	if data[0] != '{' {
		share, err := unmarshalShare(data)
		*r = Ratio{Max: &share}
		return err
	}
	var bounds struct{ Min, Max json.RawMessage }
	if err := values.Strict(data, &bounds); err != nil {
		return err
	}
	if bounds.Min == nil && bounds.Max == nil {
		return errors.New("a share needs min, max or both")
	}
	*r = Ratio{}
	for _, bound := range []struct {
		raw  json.RawMessage
		into **values.Percent
	}{{bounds.Min, &r.Min}, {bounds.Max, &r.Max}} {
		if bound.raw == nil {
			continue
		}
		share, err := unmarshalShare(bound.raw)
		if err != nil {
			return err
		}
		*bound.into = &share
	}
	return nil
}

// MarshalJSON writes the bounds as {min, max}.
func (r Ratio) MarshalJSON() ([]byte, error) { return marshalBounds(r.Min, r.Max) }

func marshalBounds[T any](lower, upper *T) ([]byte, error) {
	return json.Marshal(struct {
		Min *T `json:"min,omitempty"`
		Max *T `json:"max,omitempty"`
	}{lower, upper})
}

// parseShare reads a percentage; a bare 0 is as good, since nothing is nothing in every unit.
func parseShare(text string) (values.Percent, error) {
	if text == "0" {
		return 0, nil
	}
	return values.ParsePercent(text)
}

func unmarshalShare(data []byte) (values.Percent, error) {
	text, err := scalarText(data)
	if err != nil {
		return 0, err
	}
	return parseShare(text)
}

// scalarText is the text of a JSON string or number.
func scalarText(data []byte) (string, error) {
	text := string(data)
	if data[0] == '"' {
		err := json.Unmarshal(data, &text)
		return text, err
	}
	return text, nil
}

// parseLoss reads a percentage or a whole number.
func parseLoss(text string) (LossLimit, error) {
	if strings.HasSuffix(text, "%") {
		share, err := values.ParsePercent(text)
		return LossLimit{MaxShare: &share}, err
	}
	count, err := strconv.Atoi(text)
	if err != nil || count < 0 {
		return LossLimit{}, fmt.Errorf("%q is not a limit on losses: write a percentage such as 5%%, or a whole number", text)
	}
	return LossLimit{MaxCount: &count}, nil
}

// UnmarshalJSON reads "5%", 0, or either as {max: ...}.
func (l *LossLimit) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	data, err := maxOf(data)
	if err != nil {
		return err
	}
	text, err := scalarText(data)
	if err != nil {
		return err
	}
	parsed, err := parseLoss(text)
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// maxOf unwraps {max: VALUE}; anything that is not a map is handed back as it is.
func maxOf(data []byte) ([]byte, error) {
	if data[0] != '{' {
		return data, nil
	}
	var bound struct{ Max json.RawMessage }
	if err := values.Strict(data, &bound); err != nil {
		return nil, err
	}
	if bound.Max == nil || isNull(bound.Max) {
		return nil, errors.New("the limit needs max")
	}
	return bound.Max, nil
}

// MarshalJSON writes {max: ...}.
func (l LossLimit) MarshalJSON() ([]byte, error) {
	if l.MaxShare != nil {
		return marshalBounds(nil, l.MaxShare)
	}
	return marshalBounds(nil, l.MaxCount)
}

// OwnsKey tells the keys of a limit from the names of profiles.
func (LossLimit) OwnsKey(key string) bool { return key == "max" }

// UnmarshalJSON reads "2s" or {max: 2s}.
func (l *TimeLimit) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	data, err := maxOf(data)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, &l.Max)
}

// MarshalJSON writes {max: 2s}.
func (l TimeLimit) MarshalJSON() ([]byte, error) { return marshalBounds(nil, &l.Max) }

// OwnsKey tells the keys of a limit from the names of profiles.
func (TimeLimit) OwnsKey(key string) bool { return key == "max" }

// percentileKey is a key of a LatencyLimit: "p50", "p99", "p99.9".
var percentileKey = regexp.MustCompile(`^p([1-9][0-9]?(\.[0-9]+)?)$`)

// UnmarshalJSON reads {p99: 200ms}: exactly one percentile.
func (l *LatencyLimit) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	var bounds map[string]values.Duration
	if err := json.Unmarshal(data, &bounds); err != nil {
		return err
	}
	if len(bounds) != 1 {
		return errors.New("a latency limit has exactly one percentile, such as {p99: 200ms}")
	}
	for key, limit := range bounds {
		match := percentileKey.FindStringSubmatch(key)
		if match == nil {
			return fmt.Errorf("%q is not a percentile: write p50, p95, p99 or p99.9", key)
		}
		percentile, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
		*l = LatencyLimit{Percentile: percentile, Max: limit}
	}
	return nil
}

// MarshalJSON writes {p99: 200ms}.
func (l LatencyLimit) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]values.Duration{"p" + strconv.FormatFloat(l.Percentile, 'f', -1, 64): l.Max})
}

// OwnsKey tells the keys of a limit from the names of profiles.
func (LatencyLimit) OwnsKey(key string) bool { return percentileKey.MatchString(key) }

// UnmarshalJSON reads a number of workers, or a list of groups.
func (w *Workers) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	if data[0] == '[' {
		var groups []WorkerGroup
		if err := values.Strict(data, &groups); err != nil {
			return err
		}
		*w = groups
		return nil
	}
	var count int
	if err := json.Unmarshal(data, &count); err != nil {
		return err
	}
	*w = Workers{{Count: count}}
	return nil
}

// Total is the number of workers in all groups.
func (w Workers) Total() int {
	total := 0
	for _, group := range w {
		total += group.Count
	}
	return total
}

// targetFields is a Target that is not a bare name.
type targetFields struct {
	SameAs string `json:"same-as,omitempty"`
	Rule
}

// UnmarshalJSON reads the name of a target, {same-as: STEP}, or an inline rule.
func (t *Target) UnmarshalJSON(data []byte) error {
	switch {
	case isNull(data):
		return nil
	case data[0] == '"':
		*t = Target{}
		return json.Unmarshal(data, &t.Name)
	}
	var fields targetFields
	if err := values.Strict(data, &fields); err != nil {
		return err
	}
	*t = Target{SameAs: fields.SameAs, Rule: fields.Rule}
	return nil
}

// MarshalJSON writes the name, {same-as: STEP}, or the rule.
func (t Target) MarshalJSON() ([]byte, error) {
	switch {
	case t.Name != "":
		return json.Marshal(t.Name)
	case t.SameAs != "":
		return json.Marshal(map[string]string{"same-as": t.SameAs})
	}
	return json.Marshal(t.Rule)
}

// stepFields and probeFields are the common keys: the types without their methods, so that decoding does not recur.
type (
	stepFields  Step
	probeFields Probe
)

// UnmarshalJSON reads the common keys strictly, and keeps the one other key: Type is its name and Params its value as
// json.RawMessage, until the loader decodes it into the registered type.
func (s *Step) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	var fields stepFields
	kind, params, err := splitType(data, &fields)
	if err != nil {
		return err
	}
	*s = Step(fields)
	s.Type, s.Params = kind, params
	return nil
}

// MarshalJSON writes the common keys and the type's key.
func (s Step) MarshalJSON() ([]byte, error) { return joinType(stepFields(s), s.Type, s.Params) }

// UnmarshalJSON reads the common keys strictly, and keeps the one other key as Step does.
func (p *Probe) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	var fields probeFields
	kind, params, err := splitType(data, &fields)
	if err != nil {
		return err
	}
	*p = Probe(fields)
	p.Type, p.Params = kind, params
	return nil
}

// MarshalJSON writes the common keys and the type's key.
func (p Probe) MarshalJSON() ([]byte, error) { return joinType(probeFields(p), p.Type, p.Params) }

// splitType decodes the keys that fields has, and returns the one key that it has not. Where there is none, or more
// than one, the type is empty: the loader's checks say so with a position.
func splitType(data []byte, fields any) (kind string, params any, err error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return "", nil, err
	}
	common := jsonKeys(reflect.TypeOf(fields).Elem())
	var others []string
	for key := range raw {
		if !slices.Contains(common, key) {
			others = append(others, key)
		}
	}
	if len(others) == 1 {
		kind, params = others[0], raw[others[0]]
	}
	for _, key := range others {
		delete(raw, key)
	}
	rest, err := json.Marshal(raw)
	if err != nil {
		return "", nil, err
	}
	return kind, params, values.Strict(rest, fields)
}

func joinType(fields any, kind string, params any) ([]byte, error) {
	data, err := json.Marshal(fields)
	if err != nil || kind == "" {
		return data, err
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	if raw[kind], err = json.Marshal(params); err != nil {
		return nil, err
	}
	return json.Marshal(raw)
}

// jsonKeys are the keys that a struct type is decoded from, those of embedded structs included, sorted.
func jsonKeys(t reflect.Type) []string {
	keys := map[string]bool{}
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			keys[name] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
