package values

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// check decodes text as JSON into a T and holds the outcome against want, or the error against a part of its message.
// What decodes must print itself as printed, and decode again from what it prints.
func check[T any](t *testing.T, text string, want T, printed, message string) {
	t.Helper()
	var got T
	err := json.Unmarshal([]byte(text), &got)
	if message != "" {
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: error %v, want %q", text, err, message)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", text, diff)
	}
	data, err := json.Marshal(got)
	if err != nil || string(data) != printed {
		t.Errorf("%s prints as %s (%v), want %s", text, data, err, printed)
	}
	var again T
	if err := json.Unmarshal(data, &again); err != nil {
		t.Errorf("%s prints as %s, which does not decode: %v", text, data, err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("%s does not survive printing: %s", text, diff)
	}
}

func TestDuration(t *testing.T) {
	for _, test := range []struct {
		text    string
		want    time.Duration
		printed string
		message string
	}{
		{`"500ms"`, 500 * time.Millisecond, `"500ms"`, ""},
		{`"3s"`, 3 * time.Second, `"3s"`, ""},
		{`"2m"`, 2 * time.Minute, `"2m"`, ""},
		{`"120s"`, 2 * time.Minute, `"2m"`, ""},
		{`"1h30m"`, 90 * time.Minute, `"1h30m"`, ""},
		{`"1h"`, time.Hour, `"1h"`, ""},
		{`"10m"`, 10 * time.Minute, `"10m"`, ""},
		{`"10s"`, 10 * time.Second, `"10s"`, ""},
		{`"1h0m10s"`, time.Hour + 10*time.Second, `"1h0m10s"`, ""},
		{`"1.5s"`, 1500 * time.Millisecond, `"1.5s"`, ""},
		{`"250us"`, 250 * time.Microsecond, `"250us"`, ""},
		{`"0.5us"`, 500, `"0.5us"`, ""},
		{`"0s"`, 0, `"0s"`, ""},
		{`"3"`, 0, "", `has no unit: write 3ms, 3s or 3m`},
		{`3`, 0, "", `"3" has no unit`},
		{`0`, 0, "", `"0" has no unit`},
		{`"-3s"`, 0, "", "is negative"},
		{`-3`, 0, "", "is negative"},
		{`"+3s"`, 0, "", "is not a duration"},
		{`"3d"`, 0, "", "is not a duration"},
		{`"3 s"`, 0, "", "is not a duration"},
		{`".5s"`, 0, "", "is not a duration"},
		{`""`, 0, "", "is not a duration"},
		{`"s"`, 0, "", "is not a duration"},
		{`"9999999h"`, 0, "", "longer than a duration can be"},
		{`true`, 0, "", "is not a duration"},
		{`["3s"]`, 0, "", "is not a duration"},
		{`{}`, 0, "", "is not a duration"},
	} {
		check(t, test.text, Duration(test.want), test.printed, test.message)
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		text    string
		want    Percent
		printed string
		message string
	}{
		{`"5%"`, 0.05, `"5%"`, ""},
		{`"0%"`, 0, `"0%"`, ""},
		{`"100%"`, 1, `"100%"`, ""},
		{`"0.5%"`, 0.005, `"0.5%"`, ""},
		{`"7%"`, 0.07, `"7%"`, ""},
		{`"33.3%"`, 0.33299999999999996, `"33.3%"`, ""},
		{`"5"`, 0, "", `"5" has no unit: write 5%`},
		{`5`, 0, "", `"5" has no unit`},
		{`0`, 0, "", `"0" has no unit`},
		{`"-5%"`, 0, "", "is not a percentage"},
		{`"101%"`, 0, "", "more than 100%"},
		{`"five%"`, 0, "", "is not a percentage"},
		{`"%"`, 0, "", "is not a percentage"},
		{`"5 %"`, 0, "", "is not a percentage"},
		{`"1` + strings.Repeat("0", 400) + `%"`, 0, "", "more than 100%"},
	} {
		check(t, test.text, test.want, test.printed, test.message)
	}
}

func TestRate(t *testing.T) {
	for _, test := range []struct {
		text    string
		want    Rate
		printed string
		message string
	}{
		{`"50/s"`, 50, `"50/s"`, ""},
		{`"30/m"`, 0.5, `"30/m"`, ""},
		{`"0.5/s"`, 0.5, `"30/m"`, ""},
		{`"120/m"`, 2, `"2/s"`, ""},
		{`"2.5/s"`, 2.5, `"150/m"`, ""},
		{`"0.123/s"`, 0.123, `"0.123/s"`, ""},
		{`"50"`, 0, "", "has no unit: write 50/s or 50/m"},
		{`50`, 0, "", "has no unit"},
		{`"50/h"`, 0, "", "is not a rate"},
		{`"/s"`, 0, "", "is not a rate"},
		{`"-1/s"`, 0, "", "is not a rate"},
		{`"0/s"`, 0, "", "less than one sample an hour"},
		{`"2000000/s"`, 0, "", "more than 1000000/s"},
	} {
		check(t, test.text, test.want, test.printed, test.message)
	}
	if got := Rate(50).Interval(); got != 20*time.Millisecond {
		t.Errorf("50/s is one in %s", got)
	}
	if got := Rate(0).Interval(); got != 0 {
		t.Errorf("no rate is one in %s", got)
	}
}

func TestTake(t *testing.T) {
	for _, test := range []struct {
		text    string
		want    Take
		printed string
		message string
	}{
		{`"all"`, Take{All: true}, `"all"`, ""},
		{`2`, Take{Count: 2}, `2`, ""},
		{`"2"`, Take{Count: 2}, `2`, ""},
		{`"50%"`, Take{Percent: 0.5}, `"50%"`, ""},
		{`0`, Take{}, "", "takes nothing"},
		{`-1`, Take{}, "", "takes nothing"},
		{`"0%"`, Take{}, "", "takes nothing"},
		{`"101%"`, Take{}, "", "more than 100%"},
		{`1.5`, Take{}, "", "says not how many"},
		{`"ALL"`, Take{}, "", "says not how many"},
		{`[1]`, Take{}, "", "says not how many"},
	} {
		check(t, test.text, test.want, test.printed, test.message)
	}
}

func TestTakeOf(t *testing.T) {
	for _, test := range []struct {
		take    Take
		n, want int
	}{
		{Take{All: true}, 5, 5},
		{Take{Count: 2}, 5, 2},
		{Take{Count: 7}, 5, 5},
		{Take{Percent: 0.5}, 5, 3},
		{Take{Percent: 0.5}, 2, 1},
		{Take{Percent: 0.07}, 100, 7},
		{Take{Percent: 0.01}, 5, 1},
		{Take{Percent: 1}, 5, 5},
		{Take{Percent: 0.5}, 0, 0},
	} {
		if got := test.take.Of(test.n); got != test.want {
			t.Errorf("%s of %d is %d, want %d", test.take, test.n, got, test.want)
		}
	}
}

// bound is a value that is itself written as a map.
type bound struct {
	Max Duration `json:"max"`
}

func (bound) OwnsKey(key string) bool { return key == "max" }

func TestProfiled(t *testing.T) {
	second, minute := Duration(time.Second), Duration(time.Minute)
	check(t, `"1s"`, Profiled[Duration]{Any: &second}, `"1s"`, "")
	check(t, `{"fast":"1s","default":"1m"}`,
		Profiled[Duration]{ByProfile: map[string]Duration{"fast": second, "default": minute}},
		`{"default":"1m","fast":"1s"}`, "")
	check(t, `{"max":"1s"}`, Profiled[bound]{Any: &bound{second}}, `{"max":"1s"}`, "")
	check(t, `{"fast":{"max":"1s"}}`, Profiled[bound]{ByProfile: map[string]bound{"fast": {second}}},
		`{"fast":{"max":"1s"}}`, "")
	check(t, `{"max":"1s","min":"1s"}`, Profiled[bound]{}, "", "unknown field")
	check(t, `{}`, Profiled[Duration]{}, "", "holds for no profile")
	check(t, `{"fast":3}`, Profiled[Duration]{}, "", `fast: "3" has no unit`)
	check(t, `3`, Profiled[Duration]{}, "", "has no unit")
	both := Profiled[Duration]{Any: &second, ByProfile: map[string]Duration{"fast": second}}
	if _, err := json.Marshal(both); err == nil {
		t.Error("a value that can't be written was written")
	}
}

func TestProfiledFor(t *testing.T) {
	by := Profiled[int]{ByProfile: map[string]int{"fast": 1}}
	both := Profiled[int]{Any: new(int), ByProfile: map[string]int{"fast": 1}}
	for _, test := range []struct {
		name    string
		value   Profiled[int]
		profile string
		want    int
		ok      bool
	}{
		{"named", by, "fast", 1, true},
		{"not named", by, "default", 0, false},
		{"named wins", both, "fast", 1, true},
		{"any", both, "default", 0, true},
		{"same", *Same(7), "default", 7, true},
		{"nothing", Profiled[int]{}, "fast", 0, false},
	} {
		if got, ok := test.value.For(test.profile); got != test.want || ok != test.ok {
			t.Errorf("%s: %d, %t", test.name, got, ok)
		}
	}
}

// TestFormatsAgree holds the patterns of the schema, which editors use, against the parsers, which decide.
func TestFormatsAgree(t *testing.T) {
	odd := []any{3, 1.5, -1, "3", "3s", "", "all", "5%", "101%", "50/s", "-3s", uint64(math.MaxUint64), true, nil}
	for _, value := range odd {
		for _, format := range []string{FormatDuration, FormatPercent, FormatRate, FormatTake} {
			_, scalar := ScalarText(value)
			if err := CheckFormat(format, value); err != nil && !scalar {
				t.Errorf("%v is no scalar, yet %s says %v", value, format, err)
			}
		}
	}
	if CheckFormat(FormatDuration, 3) == nil || CheckFormat(FormatTake, "some") == nil || CheckFormat("uri", "x") != nil {
		t.Error("formats do not check")
	}
	for name, schema := range map[string]interface{ UnmarshalJSON([]byte) error }{
		"duration": new(Duration), "percent": new(Percent), "rate": new(Rate), "take": new(Take),
	} {
		if err := schema.UnmarshalJSON([]byte("null")); err != nil {
			t.Errorf("%s: null is not left alone: %v", name, err)
		}
	}
	for _, example := range []struct {
		format   string
		examples []any
	}{
		{FormatDuration, Duration(0).JSONSchema().Examples},
		{FormatPercent, Percent(0).JSONSchema().Examples},
		{FormatRate, Rate(0).JSONSchema().Examples},
		{FormatTake, Take{}.JSONSchema().Examples},
	} {
		for _, value := range example.examples {
			if err := CheckFormat(example.format, value); err != nil {
				t.Errorf("example %v of %s: %v", value, example.format, err)
			}
		}
	}
}
