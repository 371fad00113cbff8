package reports

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
)

func at(d time.Duration) *time.Duration { return &d }

func number(v float64) *float64 { return &v }

// encode writes v as JSON: a field that does not apply has to be absent.
func encode(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestStepsOf(t *testing.T) {
	s := time.Second
	tl := assertions.Timeline{Steps: []assertions.Step{
		{Name: "cut", Type: "partition", At: 10 * s, Effective: &assertions.Interval{Lo: 10 * s, Hi: 12 * s},
			Done:   at(11 * s),
			Healed: at(40 * s), Targets: []assertions.Ref{{Kind: "Pod", Namespace: "shop", Name: "web-0", UID: "u",
				Containers: []string{"c"}}, {Kind: "Node", Name: "n"}}},
		{Name: "kill", Type: "kill-pod", At: 15 * s},
	}}
	want := []Step{
		{Name: "cut", Type: "partition", AtSeconds: 10, EffectiveAtSeconds: number(12), HealedAtSeconds: number(40),
			Undo:    "done",
			Targets: []Target{{Kind: "Pod", Namespace: "shop", Name: "web-0", UID: "u"}, {Kind: "Node", Name: "n"}}},
		{Name: "kill", Type: "kill-pod", AtSeconds: 15, Undo: "none owed"},
	}
	got := StepsOf(tl, map[string]string{"cut": "done", "kill": "none owed"})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("steps %s, want %s", encode(t, got), encode(t, want))
	}
	if text := encode(t, got[1]); text != `{"name":"kill","type":"kill-pod","atSeconds":15,"undo":"none owed"}` {
		t.Errorf("a step without effect, healing and targets is %s", text)
	}
	if got := StepsOf(assertions.Timeline{}, nil); got != nil {
		t.Errorf("no step: %+v", got)
	}
}

func TestObjectivesOf(t *testing.T) {
	for name, test := range map[string]struct {
		result assertions.Result
		want   Objective
	}{
		"seconds": {assertions.Result{Verdict: assertions.Met, Unit: assertions.Seconds, Limit: 25, Lo: 1, Hi: 2,
			Known: true, Reason: "why"},
			Objective{Unit: "seconds", Limit: 25, Lo: number(1), Hi: number(2), Verdict: assertions.Met, Reason: "why",
				LimitSeconds: number(25), LoSeconds: number(1), HiSeconds: number(2)}},
		"zero is a value": {assertions.Result{Verdict: assertions.Met, Unit: assertions.Seconds, Known: true},
			Objective{Unit: "seconds", Lo: number(0), Hi: number(0), Verdict: assertions.Met, LimitSeconds: number(0),
				LoSeconds: number(0), HiSeconds: number(0)}},
		"not reached": {assertions.Result{Verdict: assertions.Missed, Unit: assertions.Seconds, Limit: 25, Lo: 30, Hi: 31,
			Known:    true,
			Censored: true}, Objective{Unit: "seconds", Limit: 25, Lo: number(30), Verdict: assertions.Missed, Censored: true,
			LimitSeconds: number(25), LoSeconds: number(30)}},
		"not measured": {assertions.Result{Verdict: assertions.Unknown, Unit: assertions.Seconds, Limit: 25, Lo: 7, Hi: 8},
			Objective{Unit: "seconds", Limit: 25, Verdict: assertions.Unknown, LimitSeconds: number(25)}},
		"a share has no seconds": {assertions.Result{Verdict: assertions.Missed, Unit: assertions.Ratio, Limit: 0.05,
			Lo: 0.07, Hi: 0.07,
			Known: true}, Objective{Unit: "ratio", Limit: 0.05, Lo: number(0.07), Hi: number(0.07), Verdict: assertions.Missed}},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.Name = "traffic"
			// Another result behind it must not change what was taken of the first.
			got := ObjectivesOf([]assertions.Objective{{Name: "traffic"}, {Name: "other"}},
				[]assertions.Result{test.result, {Unit: assertions.Seconds, Limit: 99, Lo: 98, Hi: 99, Known: true}})
			if len(got) != 2 || !reflect.DeepEqual(got[0], test.want) {
				t.Errorf("objective %s, want %s", encode(t, got[0]), encode(t, test.want))
			}
		})
	}
	if text := encode(t, ObjectivesOf([]assertions.Objective{{Name: "loss"}},
		[]assertions.Result{{Verdict: assertions.Unknown, Unit: assertions.Ratio, Reason: "no samples"}})[0]); text !=
		`{"name":"loss","unit":"ratio","limit":0,"verdict":"unknown","reason":"no samples"}` {
		t.Errorf("an objective that was not measured is %s", text)
	}
}

func TestResultOfIsTheWayBack(t *testing.T) {
	for name, r := range map[string]assertions.Result{
		"known":    {Verdict: assertions.Met, Unit: assertions.Seconds, Limit: 25, Lo: 1, Hi: 2, Known: true, Reason: "why"},
		"censored": {Verdict: assertions.Missed, Unit: assertions.Seconds, Limit: 25, Lo: 30, Known: true, Censored: true},
		"unknown":  {Verdict: assertions.Unknown, Unit: assertions.Ratio, Limit: 0.05},
	} {
		r.Objective, r.Settled = "traffic", true
		got := ResultOf(ObjectivesOf([]assertions.Objective{{Name: "traffic"}}, []assertions.Result{r})[0])
		if got != r {
			t.Errorf("%s: back as %+v, want %+v", name, got, r)
		}
	}
}

func TestStatisticsOfKeepsWhatIsAbsent(t *testing.T) {
	got := StatisticsOf("traffic", assertions.Statistics{N: 3, Censored: 1, Min: number(1), P50: number(2),
		Note: "too few runs"})
	want := Statistics{Objective: "traffic", N: 3, Censored: 1, MinSeconds: number(1), P50Seconds: number(2),
		Note: "too few runs"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("statistics %s, want %s", encode(t, got), encode(t, want))
	}
}

func TestProbesOfWithoutSamplesShowNoFigure(t *testing.T) {
	s := time.Second
	good := assertions.Sample{Due: s, Start: s, End: s + 10*time.Millisecond, OK: true}
	bad := assertions.Sample{Due: 5 * s, Start: 5 * s, End: 5 * s}
	for name, test := range map[string]struct {
		samples []assertions.Sample
		steps   []assertions.Step
		absent  []string
		present []string
	}{
		"none at all": {nil, []assertions.Step{{At: 2 * s}}, []string{"lostRatio", "lagP99Seconds", "latency"},
			[]string{`"samples":0`}},
		"none after the step": {[]assertions.Sample{good}, []assertions.Step{{At: 2 * s}}, []string{"lostRatio", "latency"},
			[]string{`"samples":0`}},
		"there was no step": {[]assertions.Sample{good, bad}, nil, []string{"lostRatio", "latency"}, nil},
		"none was good": {[]assertions.Sample{good, bad}, []assertions.Step{{At: 2 * s}}, []string{"latency"},
			[]string{`"lostRatio":1`, `"failed":1`}},
		"the first step counts": {[]assertions.Sample{good, bad}, []assertions.Step{{At: 6 * s}, {At: s}}, nil,
			[]string{`"samples":2`, `"lostRatio":0.5`, `"p50Seconds":0.01`}},
	} {
		t.Run(name, func(t *testing.T) {
			tl := assertions.Timeline{End: 9 * s, Steps: test.steps,
				Streams: []assertions.Stream{{Probe: "front", Vantage: "n", Interval: s, Timeout: s, Samples: test.samples}}}
			text := encode(t, ProbesOf(tl))
			for _, field := range test.absent {
				if strings.Contains(text, field) {
					t.Errorf("%s is there: %s", field, text)
				}
			}
			for _, field := range test.present {
				if !strings.Contains(text, field) {
					t.Errorf("%s is not there: %s", field, text)
				}
			}
		})
	}
}

func TestProbesOfTakesExactPercentiles(t *testing.T) {
	s, ms := time.Second, time.Millisecond
	stream := assertions.Stream{Probe: "front", Interval: s, Timeout: s}
	for i := range 100 { // durations of 1 to 100 ms, lags of 100 to 1 ms, in a mixed order
		n := time.Duration(i*37%100 + 1)
		due := time.Duration(i+1) * s
		stream.Samples = append(stream.Samples, assertions.Sample{Due: due, Start: due + (101-n)*ms, End: due + 101*ms,
			OK: true})
	}
	p := ProbesOf(assertions.Timeline{End: 200 * s, Steps: []assertions.Step{{At: 0}},
		Streams: []assertions.Stream{stream}})[0]
	if want := (Latency{P50Seconds: 0.05, P90Seconds: 0.09, P99Seconds: 0.099, MaxSeconds: 0.1}); p.Latency == nil ||
		*p.Latency != want {
		t.Errorf("latency %+v, want %+v", p.Latency, want)
	}
	if p.LagP99Seconds == nil || *p.LagP99Seconds != 0.099 {
		t.Errorf("lag %v, want 0.099 s", p.LagP99Seconds)
	}
}

func TestProbesOfLeavesAnOutageOpen(t *testing.T) {
	s := time.Second
	stream := assertions.Stream{Probe: "front", Interval: s, Timeout: s}
	for i := range 20 {
		due := time.Duration(i) * s
		stream.Samples = append(stream.Samples, assertions.Sample{Due: due, Start: due, End: due + s/10, OK: i < 10})
	}
	p := ProbesOf(assertions.Timeline{End: 20 * s, Steps: []assertions.Step{{At: 5 * s}},
		Streams: []assertions.Stream{stream}})[0]
	if len(p.Outages) != 1 || p.Outages[0].StartSeconds != 10 || p.Outages[0].HiSeconds != nil {
		t.Errorf("outages %s, want one from 10 s without an end", encode(t, p.Outages))
	}
}

func TestChainsOf(t *testing.T) {
	s := time.Second
	victim := func(uid string) assertions.Ref {
		return assertions.Ref{Kind: "Pod", Name: "pod-" + uid, UID: uid, Containers: []string{uid},
			Workload: "shop/deployment/web"}
	}
	pod := func(at time.Duration, uid string, ready, gone bool) assertions.Fact {
		return assertions.Fact{At: at, NotBefore: at, Source: "pods", Gone: gone, Pod: &assertions.PodState{UID: uid,
			Name:     "pod-" + uid,
			Workload: "shop/deployment/web", Scheduled: true, Started: ready, Ready: ready,
			Containers: []assertions.ContainerState{{Name: "c", ID: uid, Running: true}}}}
	}
	cut := assertions.Step{Name: "cut", Kind: assertions.Fault, At: 10 * s, Effective: &assertions.Interval{Lo: 10 * s,
		Hi: 10 * s},
		Done: at(10 * s), Victims: []assertions.Ref{victim("a"), victim("b")}}
	early := []assertions.Fact{pod(s, "a", true, false), pod(s, "b", true, false)}
	gone := append(early[:2:2], pod(12*s, "a", true, true), pod(13*s, "b", true, true), pod(14*s, "c", true, false))

	t.Run("the one restored last, its open phase without an end", func(t *testing.T) {
		got := ChainsOf(assertions.Timeline{End: 30 * s, Steps: []assertions.Step{cut}, Facts: gone})
		if len(got) != 2 || got[0].Name != assertions.Traffic || got[1].Name != assertions.Redundancy {
			t.Fatalf("chains %s, want traffic, then redundancy", encode(t, got))
		}
		redundancy := got[1]
		if redundancy.Step != "cut" || redundancy.Subject != "pod-b" { // c replaced a; nothing replaced b
			t.Errorf("chain %s, want that of pod-b", encode(t, redundancy))
		}
		first, last := redundancy.Phases[0], redundancy.Phases[len(redundancy.Phases)-1]
		if first.Name != "detect" || first.LoSeconds != 3 || first.HiSeconds == nil || *first.HiSeconds != 3 {
			t.Errorf("first phase %s, want detect of 3 s", encode(t, first))
		}
		if last.Name != "replace" || last.LoSeconds != 17 || last.HiSeconds != nil {
			t.Errorf("last phase %s, want replace, open after 17 s", encode(t, last))
		}
		if text := encode(t, last); text != `{"name":"replace","loSeconds":17}` {
			t.Errorf("an open phase is %s", text)
		}
	})
	t.Run("each fault has its own", func(t *testing.T) {
		again := cut
		again.Name = "again"
		got := ChainsOf(assertions.Timeline{End: 30 * s, Steps: []assertions.Step{cut, again}, Facts: gone})
		if len(got) != 4 || got[0].Step != "cut" || got[2].Step != "again" {
			t.Errorf("chains %s, want two of each fault", encode(t, got))
		}
	})
	for name, change := range map[string]func(*assertions.Step){
		"an action has none":           func(s *assertions.Step) { s.Kind = assertions.Action },
		"nor has what was not proven":  func(s *assertions.Step) { s.Effective = nil },
		"nor has what hit no pods yet": func(s *assertions.Step) { s.Victims = nil },
	} {
		t.Run(name, func(t *testing.T) {
			step := cut
			change(&step)
			if got := ChainsOf(assertions.Timeline{End: 30 * s, Steps: []assertions.Step{step}, Facts: gone}); got != nil {
				t.Errorf("chains %s, want none", encode(t, got))
			}
		})
	}
}
