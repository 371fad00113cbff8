package assertions

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestTimelineRoundTrip(t *testing.T) {
	t.Parallel()
	st := answers(100*ms, "..xh.")
	st.Writes = &Writes{Acknowledged: 3, Lost: 1}
	step := fault(victim("a"))
	step.Healed = ptr(20 * s)
	tl := Timeline{Run: "r", Scenario: "x", End: 30 * s, Steps: []Step{step}, Streams: []Stream{st},
		Facts: []Fact{desired(s, 2), pod(2*s, "a", renewed), endpoint(3*s, "a", true), node(4*s, "n", "True", "k:NoExecute"),
			{At: 5 * s, Source: "events", Event: &EventState{Reason: "Killing"}},
			{At: 6 * s, Source: "objects", Field: &FieldState{Object: "o", Path: ".p"}}},
		Gaps: []Gap{{Source: "pods", From: s, To: 2 * s, Reason: "broke off", Complete: true}}}
	var buffer bytes.Buffer
	if err := WriteTimeline(&buffer, tl); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTimeline(&buffer)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, tl) {
		t.Errorf("got  %+v\nwant %+v", got, tl)
	}
}

func TestReadTimelineIsStrict(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"no JSON":         {"x", "invalid character"},
		"unknown field":   {`{"endNanos":1,"more":1}`, "unknown field"},
		"second value":    {`{"endNanos":1}{"endNanos":1}`, "more than one value"},
		"empty fact":      {`{"endNanos":1,"facts":[{"atNanos":1,"source":"pods"}]}`, "0 states"},
		"facts disorder":  {`{"endNanos":1,"facts":[{"atNanos":2,"event":{"reason":"a"}},{"atNanos":1,"event":{"reason":"a"}}]}`, "out of order"},
		"negative fact":   {`{"endNanos":1,"facts":[{"atNanos":2,"notBeforeNanos":3,"event":{"reason":"a"}}]}`, "not before"},
		"negative sample": {`{"endNanos":1,"streams":[{"samples":[{"startNanos":2,"endNanos":1}]}]}`, "ends before it starts"},
		"negative gap":    {`{"endNanos":1,"gaps":[{"source":"pods","fromNanos":2,"toNanos":1}]}`, "ends before it begins"},
	} {
		if _, err := ReadTimeline(strings.NewReader(tc.in)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
