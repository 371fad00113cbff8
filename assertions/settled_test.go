package assertions

import (
	"strings"
	"testing"
	"time"
)

// TestCalm: without a dip, a fault on pods is watched until its victims are replaced and Hold is over; every other
// fault for the whole of Within.
func TestCalm(t *testing.T) {
	t.Parallel()
	onPods := func(victims ...Ref) Step {
		st := fault(victims...)
		st.Targets = victims
		return st
	}
	onNode := func() Step {
		st := fault(victim("a"))
		st.Targets = []Ref{{Kind: "Node", Name: "n-a"}}
		return st
	}
	scene := []Fact{pod(s, "a"), pod(s, "b"), endpoint(2*s, "a", true), endpoint(2*s, "b", true)}
	replaced := []Fact{pod(11*s, "a", gone), endpoint(11*s, "a", false), pod(13*s, "c"), endpoint(14*s, "c", true)}
	for _, tc := range []struct {
		name    string
		step    Step
		facts   []Fact
		end     time.Duration
		settled bool
	}{
		{"restored, and held since", onPods(victim("a")), replaced, 18 * s, true},
		{"restored, but not for as long as hold", onPods(victim("a")), replaced, 16 * s, false},
		{"not published yet", onPods(victim("a")), replaced[:3], 25 * s, false},
		{"one of two restored", onPods(victim("a"), victim("b")), replaced, 25 * s, false},
		{"a node's pods restored", onNode(), replaced, 18 * s, false},
		{"all of within was watched", onNode(), replaced, 41 * s, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tl := Timeline{End: tc.end, Steps: []Step{tc.step}, Facts: append(append([]Fact{}, scene...), tc.facts...),
				Streams: []Stream{answers(100*ms, pad(int(tc.end/(100*ms))))}}
			r := Judge(tl, Objective{Since: Since{"cut", EdgeAt}, Reach: &Condition{Probe: "front", OK: ptr(true)}, Hold: 3 * s,
				Within: 30 * s})
			if r.Settled != tc.settled || (r.Verdict == Met) != tc.settled {
				t.Errorf("%s, settled %v (%s); want settled %v", r.Verdict, r.Settled, r.Reason, tc.settled)
			}
		})
	}
}

// TestChainStartsByDetection: an effect whose proof comes late began by the time it was detected.
func TestChainStartsByDetection(t *testing.T) {
	t.Parallel()
	st := fault(victim("a"))
	st.Effective = &Interval{10 * s, 14 * s}
	tl := Timeline{End: 30 * s, Steps: []Step{st}, Streams: []Stream{answers(100*ms, pad(301))}, Facts: []Fact{pod(s, "a"),
		endpoint(2*s, "a", true), pod(11*s, "a", gone), endpoint(11*s, "a", false), pod(12*s, "c"), endpoint(13*s, "c", true)}}
	got := picture(Chains(tl, "cut", ""))
	if want := "redundancy a: detect 0-1, evict 0-0.1, replace 0.9-1.1, schedule 0-0.1, start 0-0.1, ready 0-0.1, publish 0.9-1.1"; !strings.Contains(got, want) {
		t.Errorf("chains\n%s\nwant\n%s", got, want)
	}
}

// TestPending: what may still be under way is bounded by the time-out, and by the ticks that were answered in turn.
func TestPending(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stream Stream
		want   time.Duration
	}{
		"every tick was answered":      {answers(100*ms, pad(50)), 5 * s},
		"one of the last was not":      {answers(100*ms, pad(47)+"-.."), 4700 * ms},
		"one was not asked, long ago":  {answers(100*ms, pad(10)+"-"+pad(39)), 5 * s},
		"none was answered of late":    {answers(100*ms, pad(40)), 4500 * ms},
		"none was ever answered":       {answers(100*ms, ""), 4500 * ms},
		"ticks without a known period": {Stream{Timeout: s, Samples: answers(100*ms, pad(50)).Samples}, 4 * s},
	} {
		if got := tc.stream.pending(5 * s); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestStartUpIsNoPartOfTheOutage: what failed before the steady state, however short that was, is over; a blind gap in the
// middle of the outage then takes nothing from its lower bound.
func TestStartUpIsNoPartOfTheOutage(t *testing.T) {
	t.Parallel()
	down := []byte(strings.Repeat("x", 80) + pad(20) + strings.Repeat("x", 370) + pad(60)) // up again 2 s before the fault
	for i := 300; i < 312; i++ {
		down[i] = '-'
	}
	tl := Timeline{End: 53 * s, Steps: []Step{fault(victim("a"))}, Streams: []Stream{answers(100*ms, string(down))}}
	r := Judge(tl, Objective{Since: Since{"cut", EdgeAt}, Reach: &Condition{Probe: "front", OK: ptr(true)}, Hold: 3 * s,
		Within: 20 * s})
	if r.Verdict != Missed || r.Lo < 36.8 || r.Hi < 37 || r.Hi > 37.2 {
		t.Errorf("%s [%g, %g] (%s), want missed after 37 s", r.Verdict, r.Lo, r.Hi, r.Reason)
	}
	if out := Outages(tl.Streams[0], nil, 3*s, 10*s, tl.End); len(out) != 1 || out[0].Hi > 37200*ms {
		t.Errorf("outages %+v, want one of 37 s", out)
	}
}
