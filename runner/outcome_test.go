package runner

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/scenarios"
)

func result(name string, v assertions.Verdict, reason string) assertions.Result {
	return assertions.Result{Objective: name, Verdict: v, Reason: reason}
}

func TestJudgeRun(t *testing.T) {
	met := []assertions.Result{result("traffic", assertions.Met, "back in time")}
	missed := append(slices.Clone(met), result("loss", assertions.Missed, "7 % were lost"))
	for name, test := range map[string]struct {
		out  outcome
		want assertions.Verdict
		says string
	}{
		"its objectives' verdict":      {outcome{results: met}, assertions.Met, "every objective was met"},
		"with the reason that decides": {outcome{results: missed}, assertions.Missed, "loss: 7 % were lost"},
		"nothing was judged":           {outcome{}, assertions.Unknown, "no objective was judged"},
		"it failed, whatever was met":  {outcome{results: met, failure: errBoom}, assertions.Unknown, "boom"},
		"it failed, whatever was missed": {outcome{results: missed, failure: errNoEffect}, assertions.Unknown,
			"no proof of effect"},
		"it was interrupted": {outcome{results: met, failure: fmt.Errorf("deploy: %w", Interruption("interrupt"))},
			assertions.Unknown, "interrupted (interrupt); what was broken is healed"},
		"it did not come back": {outcome{results: met, relapse: errNotSteady}, assertions.Missed,
			"the steady state did not come back: no steady state"},
		"it did not come back, and unsure": {outcome{results: []assertions.Result{result("a", assertions.Unknown, "")},
			relapse: errNotSteady}, assertions.Missed, "did not come back"},
		"a failure beats a relapse": {outcome{results: met, failure: errBoom, relapse: errNotSteady},
			assertions.Unknown, "boom"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, reason := judgeRun(&test.out); got != test.want || !strings.Contains(reason, test.says) {
				t.Errorf("verdict %s (%s), want %s (%s)", got, reason, test.want, test.says)
			}
		})
	}
}

func TestJudgeTwin(t *testing.T) {
	run := func(objectives ...reports.Objective) []reports.Run { return []reports.Run{{Objectives: objectives}} }
	of := func(name string, v assertions.Verdict) reports.Objective {
		return reports.Objective{Name: name, Verdict: v, Reason: "why"}
	}
	for name, test := range map[string]struct {
		runs []reports.Run
		want assertions.Verdict
		says string
	}{
		"caught": {run(of("loss", assertions.Met), of("traffic", assertions.Missed)), assertions.Met,
			"caught: traffic was missed"},
		"not caught": {run(of("loss", assertions.Missed), of("traffic", assertions.Met)), assertions.Missed,
			"not caught: traffic was met"},
		"not known":       {run(of("traffic", assertions.Unknown)), assertions.Unknown, "traffic: why"},
		"not judged":      {run(of("loss", assertions.Missed)), assertions.Unknown, "was not judged"},
		"nothing was run": {nil, assertions.Unknown, "was not judged"},
		"missed in a run that broke": {[]reports.Run{{Broken: true, Reason: "interrupted", Objectives: []reports.Objective{
			of("traffic", assertions.Missed)}}}, assertions.Unknown, "interrupted"},
		"judged in a later run": {append(run(), reports.Run{Objectives: []reports.Objective{of("traffic",
			assertions.Missed)}}), assertions.Met, "caught"},
		"a miss of another alone": {run(of("redundancy", assertions.Missed), of("traffic", assertions.Unknown)),
			assertions.Unknown, "traffic: why"},
	} {
		t.Run(name, func(t *testing.T) {
			got, reason := judgeTwin(&scenarios.Twin{Misses: "traffic"}, test.runs)
			if got != test.want || !strings.Contains(reason, test.says) {
				t.Errorf("verdict %s (%s), want %s (%s)", got, reason, test.want, test.says)
			}
		})
	}
}

func TestConclude(t *testing.T) {
	run := func(v assertions.Verdict, reason string) reports.Run { return reports.Run{Verdict: v, Reason: reason} }
	for name, test := range map[string]struct {
		twin *scenarios.Twin
		runs []reports.Run
		not  int // repeats that were to be, and were not
		want assertions.Verdict
		says string
	}{
		"the worst of its runs": {nil, []reports.Run{run(assertions.Met, "fine"), run(assertions.Missed, "too slow"),
			run(assertions.Unknown, "blind")}, 0, assertions.Missed, "too slow"},
		"all met": {nil, []reports.Run{run(assertions.Met, "fine"), run(assertions.Met, "fine")}, 0, assertions.Met,
			"fine"},
		"one is unknown": {nil, []reports.Run{run(assertions.Met, "fine"), run(assertions.Unknown, "blind")}, 0,
			assertions.Unknown, "blind"},
		"no run at all": {nil, nil, 3, assertions.Unknown, ""},
		"a twin that was caught": {&scenarios.Twin{Misses: "traffic"}, []reports.Run{{Verdict: assertions.Missed,
			Reason:     "too slow",
			Objectives: []reports.Objective{{Name: "traffic", Verdict: assertions.Missed}}}}, 0, assertions.Met, "caught"},
		"a twin without a run": {&scenarios.Twin{Misses: "traffic"}, nil, 1, assertions.Unknown, ""},
		"repeats that never ran are no pass": {nil, []reports.Run{run(assertions.Met, "fine")}, 2, assertions.Unknown,
			"only 1 of 3 runs"},
		"nor do they hide a miss": {nil, []reports.Run{run(assertions.Missed, "too slow")}, 2, assertions.Missed,
			""},
	} {
		t.Run(name, func(t *testing.T) {
			plan := &Plan{scenario: &scenarios.Scenario{}, twin: test.twin, Repeat: len(test.runs) + test.not}
			s := (&call{}).newScenario(plan)
			s.Runs = append(s.Runs, test.runs...)
			(&call{}).conclude(plan, &s)
			if s.Verdict != test.want || !strings.Contains(s.Reason, test.says) {
				t.Errorf("verdict %s (%s), want %s (%s)", s.Verdict, s.Reason, test.want, test.says)
			}
		})
	}
}

func TestRelapsedIsAnObjectiveThatWasMissed(t *testing.T) {
	plan := &Plan{scenario: &scenarios.Scenario{Spec: scenarios.Spec{Steady: &scenarios.Steady{Within: *sec(90)}}}}
	o := relapsed(plan, errors.New("probe front fails"))
	if o.Name != "steady-again" || o.Verdict != assertions.Missed || !o.Censored || o.Unit != "seconds" || o.Limit != 90 ||
		o.Reason != "probe front fails" {
		t.Errorf("objective %+v", o)
	}
	if o.LimitSeconds == nil || *o.LimitSeconds != 90 || o.Lo == nil || *o.Lo != 90 || o.LoSeconds == nil ||
		*o.LoSeconds != 90 {
		t.Errorf("limit %v, lo %v: want 90 s, which it took at least", o.LimitSeconds, o.LoSeconds)
	}
	if o.Hi != nil || o.HiSeconds != nil {
		t.Error("it has an upper bound, which nobody saw")
	}
}

func TestSpent(t *testing.T) {
	times := map[string]time.Duration{"deploy": 4 * s, "steady": 6 * s, "observe": 9 * s, "heal": s, "total": 25 * s}
	reach := func(hold time.Duration) assertions.Objective {
		return assertions.Objective{Reach: &assertions.Condition{}, Hold: hold}
	}
	known := func(hi float64) assertions.Result { return assertions.Result{Known: true, Hi: hi} }
	for name, test := range map[string]struct {
		out                outcome
		recovery, overhead float64
	}{
		"the latest recovery and its hold": {outcome{objectives: []assertions.Objective{reach(3 * s), reach(s)},
			results: []assertions.Result{known(2), known(5)}}, 6, 9},
		"what is no recovery does not count": {outcome{objectives: []assertions.Objective{{Probe: "front"}, reach(0)},
			results: []assertions.Result{known(99), known(2)}}, 2, 13},
		"nor does what is not known": {outcome{objectives: []assertions.Objective{reach(3 * s)},
			results: []assertions.Result{{Lo: 4}}}, 0, 15},
	} {
		t.Run(name, func(t *testing.T) {
			test.out.spent = times
			want := map[string]float64{"deploy": 4, "steady": 6, "observe": 9, "heal": 1, "total": 25, "recovery": test.recovery,
				"overhead": test.overhead}
			got := spent(&test.out)
			if !maps.EqualFunc(got, want, func(x, y float64) bool { return math.Abs(x-y) < 1e-9 }) {
				t.Errorf("spent %v, want %v", got, want)
			}
		})
	}
	failed := spent(&outcome{spent: times, failure: errBoom})
	if len(failed) != len(times) {
		t.Errorf("a run that failed spent %v: overhead and recovery mean nothing there", failed)
	}
}

func TestStatisticsOverRepeats(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	seconds := func(name string, lo, hi float64) reports.Objective {
		return reports.Objective{Name: name, Unit: "seconds", Lo: f(lo), LoSeconds: f(lo), Hi: f(hi), HiSeconds: f(hi),
			LimitSeconds: f(25)}
	}
	never := reports.Objective{Name: "traffic", Unit: "seconds", Lo: f(30), LoSeconds: f(30), LimitSeconds: f(25),
		Censored: true}
	unclear := reports.Objective{Name: "redundancy", Unit: "seconds", LimitSeconds: f(25)}
	loss := reports.Objective{Name: "loss", Unit: "ratio", Lo: f(0.01), Hi: f(0.01)}
	plan := &Plan{scenario: &scenarios.Scenario{Spec: scenarios.Spec{Objectives: []scenarios.Objective{{Name: "traffic"},
		{Name: "loss"}, {Name: "redundancy"}, {Name: "not-reached"}}}}}
	runs := []reports.Run{
		{Objectives: []reports.Objective{seconds("traffic", 1, 2), loss, seconds("redundancy", 5, 6)}},
		{Objectives: []reports.Objective{seconds("traffic", 3, 4), loss, seconds("redundancy", 7, 8)}},
		{Objectives: []reports.Objective{never, loss, unclear}},
	}
	got := statistics(plan, runs)
	if len(got) != 2 || got[0].Objective != "traffic" || got[1].Objective != "redundancy" {
		t.Fatalf("statistics %+v, want those of traffic and redundancy: a share has none", got)
	}
	traffic, redundancy := got[0], got[1]
	if traffic.N != 3 || traffic.Censored != 1 || traffic.MinSeconds == nil || *traffic.MinSeconds != 1 ||
		traffic.P50Seconds == nil || *traffic.P50Seconds != 4 || traffic.MaxSeconds != nil {
		t.Errorf("traffic %+v: want 3 runs, 1 that never recovered, min 1, median 4, and no max", traffic)
	}
	if redundancy.N != 2 || redundancy.Censored != 0 || redundancy.MaxSeconds == nil || *redundancy.MaxSeconds != 8 {
		t.Errorf("redundancy %+v: want 2 runs, max 8", redundancy)
	}
	if !strings.Contains(redundancy.Note, "1 runs without a value") {
		t.Errorf("redundancy: %q: want the run without a value told", redundancy.Note)
	}
	for _, st := range got {
		if st.P95Seconds != nil || st.CILoSeconds != nil || !strings.Contains(st.Note, "too few runs") {
			t.Errorf("%s: %+v: want no figure that so few runs cannot carry", st.Objective, st)
		}
	}
	broken := append(slices.Clone(runs), reports.Run{Broken: true, Objectives: []reports.Objective{seconds("traffic", 0,
		0)}})
	if got := statistics(plan, broken)[0]; got.N != 3 || *got.MinSeconds != 1 {
		t.Errorf("traffic %+v: want a run that did not go as planned left out", got)
	}
	if got := statistics(plan, nil); got != nil {
		t.Errorf("statistics of nothing: %+v", got)
	}
}
