package assertions

import (
	"math"
	"math/rand"
	"strings"
	"testing"
	"time"
)

var (
	reachOK  = &Condition{Probe: "front", OK: ptr(true)}
	reachAll = &Condition{Workload: web, Ready: &Count{All: true}}
)

// want is what a result has to be; NaN matches anything.
type want struct {
	verdict  Verdict
	lo, hi   float64
	settled  bool
	censored bool
	reason   string
}

func (w want) check(t *testing.T, r Result) {
	t.Helper()
	near := func(got, want float64) bool { return math.IsNaN(want) || math.Abs(got-want) < 1e-6 }
	if r.Verdict != w.verdict || !near(r.Lo, w.lo) || !near(r.Hi, w.hi) || r.Settled != w.settled ||
		r.Censored != w.censored || !strings.Contains(r.Reason, w.reason) {
		t.Errorf("got  %+v\nwant %+v", r, w)
	}
}

var any1 = math.NaN()

// pad draws n good ticks.
func pad(n int) string { return strings.Repeat(".", n) }

func TestReachProbe(t *testing.T) {
	t.Parallel()
	// Ticks are 100 ms apart, good answers take 10 ms, time-outs 500 ms; the fault is at tick 100.
	const tick = 100 * ms
	limit := func(d time.Duration) Objective {
		return Objective{Name: "traffic", Since: Since{"cut", EdgeAt}, Reach: reachOK, Hold: s, Within: d}
	}
	for _, tc := range []struct {
		name    string
		picture string
		gaps    []Gap
		step    func(*Step)
		o       Objective
		want    want
	}{
		{"refused", pad(101) + strings.Repeat("x", 20) + pad(40), nil, nil, limit(5 * s),
			want{Met, 2.0, 2.11, true, false, "within 5s"}},
		{"beyond", pad(101) + strings.Repeat("x", 20) + pad(40), nil, nil, limit(s),
			want{Missed, 2.0, 2.11, true, false, "beyond 1s"}},
		{"straddles the limit", pad(101) + strings.Repeat("x", 20) + pad(40), nil, nil, limit(2050 * ms),
			want{Unknown, 2.0, 2.11, true, false, "too coarse"}},
		{"interleaved failures are one outage", pad(101) + "x.x...x" + pad(40), nil, nil, limit(5 * s),
			want{Met, 0.7, 0.81, true, false, ""}},
		{"hold parts two outages", pad(101) + "x" + pad(15) + "x" + pad(40), nil, nil, limit(5 * s),
			want{Met, 0.1, 0.21, true, false, ""}},
		{"hangs until the time-out", pad(101) + strings.Repeat("h", 20) + pad(40), nil, nil, limit(5 * s),
			want{Met, 2.0, 2.11, true, false, ""}},
		{"waits and is good", pad(101) + "xxxxw" + pad(40), nil, nil, limit(5 * s),
			want{Met, 0.4, 0.61, true, false, ""}},
		{"no dip", pad(201), nil, nil, limit(5 * s),
			want{Met, 0, 0.11, true, false, "no dip"}},
		{"no dip yet", pad(130), nil, nil, limit(5 * s),
			want{Unknown, 0, 0.11, false, false, "so far"}},
		{"a late dip counts", pad(140) + "xxx" + pad(40), nil, nil, limit(5 * s),
			want{Met, 4.2, 4.31, true, false, ""}},
		{"a dip after the limit does not", pad(170) + "xxx" + pad(40), nil, nil, limit(5 * s),
			want{Met, 0, 0.11, true, false, "no dip"}},
		{"no proof of effect", pad(201), nil, func(st *Step) { st.Effective = nil }, limit(5 * s),
			want{Unknown, any1, any1, false, false, "no proof of effect"}},
		{"an action needs none", pad(201), nil, func(st *Step) { st.Effective, st.Kind = nil, Action }, limit(5 * s),
			want{Met, 0, 0.11, true, false, ""}},
		{"a blind gap that may hide the limit", pad(110) + strings.Repeat("-", 50) + pad(60),
			[]Gap{{Source: "probe:front", From: 11 * s, To: 16 * s}}, nil, limit(5 * s),
			want{Unknown, 0, 6.01, true, false, "blind gap of probe:front"}},
		{"a blind gap that may not", pad(110) + strings.Repeat("-", 20) + pad(90),
			[]Gap{{Source: "probe:front", From: 11 * s, To: 13 * s}}, nil, limit(5 * s),
			want{Met, 0, 3.01, true, false, ""}},
		{"another's gap is none", pad(201), []Gap{{Source: "probe:other", From: 11 * s, To: 16 * s}}, nil, limit(5 * s),
			want{Met, 0, 0.11, true, false, ""}},
		{"a gap that nobody declared", pad(110) + strings.Repeat("-", 50) + pad(60), nil, nil, limit(5 * s),
			want{Unknown, 0, 6.01, true, false, "no sample was sent"}},
		{"a gap within hold of the recovery", pad(101) + "xxxxx" + pad(5) + strings.Repeat("-", 20) + pad(60),
			[]Gap{{Source: "probe:front", From: 11 * s, To: 13 * s}}, nil, limit(5 * s),
			want{Met, 0.5, 3.11, true, false, ""}},
		{"a gap before the failures may have been the outage", pad(102) + strings.Repeat("-", 28) + "xxx" + pad(60),
			[]Gap{{Source: "probe:front", From: 10200 * ms, To: 13 * s}}, nil, limit(5 * s),
			want{Met, 0.1, 3.31, true, false, ""}},
		{"not over: unknown", pad(101) + strings.Repeat("x", 20), nil, nil, limit(5 * s),
			want{Unknown, 2.0, 2.01, false, true, "not recovered"}},
		{"not over: missed", pad(101) + strings.Repeat("x", 60), nil, nil, limit(5 * s),
			want{Missed, 6.0, 6.01, true, true, "not recovered"}},
		{"not held yet", pad(101) + "xxx" + pad(8), nil, nil, limit(5 * s),
			want{Unknown, 0.3, any1, false, true, "held"}},
		{"hold not over, but surely late", pad(101) + strings.Repeat("x", 60) + "...", nil, nil, limit(5 * s),
			want{Missed, 6.0, any1, true, true, ""}},
		{"recovered after the limit: the true time", pad(101) + strings.Repeat("x", 60) + pad(40), nil, nil, limit(5 * s),
			want{Missed, 6.0, 6.11, true, false, ""}},
		{"no probe", "", nil, nil, Objective{Since: Since{"cut", EdgeAt}, Reach: &Condition{Probe: "nope"}, Within: s},
			want{Unknown, 0, any1, false, false, "no probe nope"}},
		{"since an edge that did not come", pad(201), nil, nil,
			Objective{Since: Since{"cut", EdgeHealed}, Reach: reachOK, Within: s}, want{Unknown, 0, 0, false, false, "not healed"}},
		{"since a step that did not begin", pad(201), nil, nil,
			Objective{Since: Since{"other", EdgeAt}, Reach: reachOK, Within: s}, want{Unknown, 0, 0, false, false, "not begun"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			step := fault()
			if tc.step != nil {
				tc.step(&step)
			}
			st := answers(tick, tc.picture)
			tl := Timeline{End: time.Duration(len(tc.picture)-1)*tick + 10*ms, Steps: []Step{step}, Streams: []Stream{st}, Gaps: tc.gaps}
			tc.want.check(t, Judge(tl, tc.o))
		})
	}
}

func TestReachWorkload(t *testing.T) {
	t.Parallel()
	before := []Fact{desired(0, 2), pod(s, "a"), pod(s, "b")}
	o := Objective{Name: "redundancy", Since: Since{"cut", EdgeAt}, Reach: reachAll, Hold: s, Within: 20 * s}
	for _, tc := range []struct {
		name  string
		step  Step
		facts []Fact
		gaps  []Gap
		end   time.Duration
		want  want
	}{
		{"a victim that still counts as ready", fault(victim("a")),
			[]Fact{pod(15*s, "a", unready), pod(16*s, "c", pending), pod(18*s, "c")}, nil, 30 * s,
			want{Met, 7.9, 8, true, false, ""}},
		{"several victims, the last one counts", fault(victim("a"), victim("b")),
			[]Fact{pod(11*s, "a", gone), pod(12*s, "c"), pod(13*s, "b", gone), pod(17*s, "d")}, nil, 30 * s,
			want{Met, 6.9, 7, true, false, ""}},
		{"a replacement while the victim still shows ready", fault(victim("a")),
			[]Fact{pod(12*s, "c"), pod(15*s, "a", gone)}, nil, 30 * s,
			want{Met, 1.9, 2, true, false, ""}},
		{"restart in place, never shown unready", fault(victim("a")), []Fact{pod(11*s, "a", renewed)}, nil, 30 * s,
			want{Met, 0.9, 1, true, false, ""}},
		{"restart in place", fault(victim("a")), []Fact{pod(11*s, "a", stopped), pod(13*s, "a", renewed)}, nil, 30 * s,
			want{Met, 2.9, 3, true, false, ""}},
		{"still ready, but being deleted", fault(victim("a")), []Fact{pod(11*s, "a", deleting), pod(14*s, "c")}, nil, 30 * s,
			want{Met, 3.9, 4, true, false, ""}},
		{"a victim not detected in time", fault(victim("a")), nil, nil, 40 * s,
			want{Missed, 30, 30, true, true, "not recovered"}},
		{"a victim not detected yet", fault(victim("a")), nil, nil, 15 * s,
			want{Unknown, 5, 5, false, true, "not recovered"}},
		{"a victim never detected, healed", func() Step { st := fault(victim("a")); st.Healed = ptr(15 * s); return st }(),
			nil, nil, 40 * s, want{Unknown, 5, any1, false, true, ""}},
		{"a flap within hold", fault(victim("a")),
			[]Fact{pod(11*s, "a", gone), pod(12*s, "c"), pod(12500*ms, "c", unready), pod(15*s, "c")}, nil, 30 * s,
			want{Met, 4.9, 5, true, false, ""}},
		{"a relist's gap widens", fault(victim("a")), []Fact{pod(11*s, "a", gone), pod(14*s, "c", func(f *Fact) { f.NotBefore = 12 * s })},
			[]Gap{{Source: "pods", From: 12 * s, To: 14 * s}}, 30 * s, want{Met, 2, 4, true, false, ""}},
		{"a relist's gap may hide a recovery", fault(victim("a")), []Fact{pod(11*s, "a", gone), pod(20*s, "c")},
			[]Gap{{Source: "pods", From: 14 * s, To: 17 * s}}, 30 * s, want{Met, 4, 10, true, false, ""}},
		{"too late", fault(victim("a")), []Fact{pod(11*s, "a", gone), pod(31*s, "c")}, nil, 40 * s,
			want{Missed, 20.9, 21, true, false, ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			facts := append(append([]Fact{}, before...), tc.facts...)
			tl := Timeline{End: tc.end, Steps: []Step{tc.step}, Facts: facts, Gaps: tc.gaps}
			tc.want.check(t, Judge(tl, o))
		})
	}
}

func TestReachNeedsTheDipFirst(t *testing.T) {
	t.Parallel()
	// A dead node is shown Ready for 40 s: what holds when the fault begins is no recovery.
	tl := Timeline{End: 20 * s, Steps: []Step{fault()}, Facts: []Fact{node(0, "w", "True")}}
	o := Objective{Since: Since{"cut", EdgeAt}, Reach: &Condition{Nodes: []string{"w"}, NodeReady: "True"}, Hold: s, Within: 90 * s}
	want{Unknown, 0, 0, false, false, "no dip was seen so far"}.check(t, Judge(tl, o))
	tl.Facts = append(tl.Facts, node(50*s, "w", "Unknown"), node(70*s, "w", "True"))
	tl.End = 80 * s
	want{Met, 59.9, 60, true, false, ""}.check(t, Judge(tl, o))
}

func TestKeeps(t *testing.T) {
	t.Parallel()
	o := Objective{Since: Since{"cut", EdgeAt}, Keeps: &Condition{Workload: web, Ready: &Count{Min: ptr(2)}}}
	before := []Fact{pod(s, "a"), pod(s, "b"), pod(s, "c")}
	for _, tc := range []struct {
		name  string
		facts []Fact
		gaps  []Gap
		want  want
	}{
		{"kept", []Fact{pod(11*s, "a", gone)}, nil, want{Met, 0, 0, true, false, "throughout"}},
		{"broken", []Fact{pod(11*s, "a", gone), pod(12*s, "b", unready), pod(15*s, "b")}, nil,
			want{Missed, 2.9, 3.1, true, false, "was false"}},
		{"broken for less than can be timed", []Fact{pod(11*s, "a", gone), pod(12*s, "b", unready), pod(12010*ms, "b")}, nil,
			want{Missed, 0, 0.11, true, false, ""}},
		{"a gap could hide it", nil, []Gap{{Source: "pods", From: 12 * s, To: 14 * s}},
			want{Unknown, 0, 2, true, false, "blind gap of pods"}},
		{"a complete gap hides nothing", nil, []Gap{{Source: "pods", From: 12 * s, To: 14 * s, Complete: true}},
			want{Met, 0, 0, true, false, ""}},
		{"a gap before the step is over", nil, []Gap{{Source: "pods", From: 2 * s, To: 4 * s}}, want{Met, 0, 0, true, false, ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tl := Timeline{End: 30 * s, Steps: []Step{fault(victim("a"))}, Facts: append(append([]Fact{}, before...), tc.facts...), Gaps: tc.gaps}
			tc.want.check(t, Judge(tl, o))
		})
	}
}

func TestProbeObjectives(t *testing.T) {
	t.Parallel()
	since := Since{"cut", EdgeAt}
	top := func(v float64) *Range { return &Range{Max: &v} }
	picture := pad(101) + "xxxxx" + pad(95) // 5 of 101 lost since the step
	for _, tc := range []struct {
		name    string
		picture string
		gaps    []Gap
		o       Objective
		want    want
	}{
		{"lost within", picture, nil, Objective{Lost: top(0.05)}, want{Met, 5 / 101.0, 5 / 101.0, true, false, "lost 5 of 101"}},
		{"lost beyond", picture, nil, Objective{Lost: top(0.04)}, want{Missed, 5 / 101.0, 5 / 101.0, true, false, ""}},
		{"too few samples", picture, nil, Objective{Lost: top(0.05), Samples: 1000}, want{Unknown, 0, 0, false, false, "too few samples: 101 of 1000"}},
		{"unasked ticks may have been lost", pad(101) + "xxxxx" + pad(45) + "-----" + pad(45), nil, Objective{Lost: top(0.05)},
			want{Unknown, 5 / 101.0, 10 / 101.0, true, false, "too coarse"}},
		{"a gap at the end", pad(101) + pad(50) + strings.Repeat("-", 50), []Gap{{Source: "probe:front", From: 15 * s, To: 20 * s}},
			Objective{Lost: top(0.05)}, want{Unknown, 0, 50 / 101.0, true, false, "too coarse"}},
		{"longest outage", picture, nil, Objective{Outage: top(1), Hold: s}, want{Met, 0.39, 0.61, true, false, ""}},
		{"longest outage beyond", picture, nil, Objective{Outage: top(0.3), Hold: s}, want{Missed, 0.39, 0.61, true, false, ""}},
		{"longest outage straddles", picture, nil, Objective{Outage: top(0.5), Hold: s}, want{Unknown, 0.39, 0.61, true, false, ""}},
		{"no outage", pad(201), nil, Objective{Outage: top(0.3), Hold: s}, want{Met, 0, 0.11, true, false, ""}},
		{"latency", pad(201), nil, Objective{Latency: top(0.2), Percentile: 0.99}, want{Met, 0.01, 0.01, true, false, "p99"}},
		{"latency as a percentage", pad(201), nil, Objective{Latency: top(0.2), Percentile: 99}, want{Met, 0.01, 0.01, true, false, "p99"}},
		{"latency beyond", pad(201), nil, Objective{Latency: top(0.005), Percentile: 0.99}, want{Missed, 0.01, 0.01, true, false, ""}},
		{"too few for a percentile", pad(150), nil, Objective{Latency: top(0.2), Percentile: 0.99}, want{Unknown, 0, 0, false, false, "too few good"}},
		{"the worst of several", picture, nil, Objective{Lost: top(0.5), Outage: top(0.3), Hold: s}, want{Missed, 0.39, 0.61, true, false, "outage"}},
		{"nothing bound", picture, nil, Objective{}, want{Unknown, 0, 0, true, false, "bounds nothing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.o.Since, tc.o.Probe = since, "front"
			tl := Timeline{End: 20*s + 10*ms, Steps: []Step{fault()}, Streams: []Stream{answers(100*ms, tc.picture)}, Gaps: tc.gaps}
			tc.want.check(t, Judge(tl, tc.o))
		})
	}
}

func TestWrites(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		writes *Writes
		lost   *int
		twice  *int
		want   want
	}{
		{"durable", &Writes{Acknowledged: 10}, ptr(0), ptr(0), want{Met, 0, 0, true, false, "lost 0 of 10"}},
		{"lost", &Writes{Acknowledged: 10, Lost: 1}, ptr(0), ptr(0), want{Missed, 1, 1, true, false, "lost 1 of 10"}},
		{"twice", &Writes{Acknowledged: 10, Duplicated: 2}, ptr(0), ptr(1), want{Missed, 2, 2, true, false, "twice"}},
		{"lost is not asked", &Writes{Acknowledged: 10, Lost: 3}, nil, ptr(0), want{Met, 0, 0, true, false, "twice"}},
		{"none acknowledged", &Writes{}, ptr(0), nil, want{Unknown, 0, 0, true, false, "no write was acknowledged"}},
		{"not read back", nil, ptr(0), nil, want{Unknown, 0, 0, true, false, "not read back"}},
		{"nothing bound", &Writes{Acknowledged: 1}, nil, nil, want{Unknown, 0, 0, true, false, "bounds nothing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			st := answers(100*ms, pad(10))
			st.Writes = tc.writes
			tl := Timeline{End: 20 * s, Steps: []Step{fault()}, Streams: []Stream{st}}
			o := Objective{Since: Since{"cut", EdgeAt}, Writes: "front", LostMax: tc.lost, DuplicatedMax: tc.twice}
			tc.want.check(t, Judge(tl, o))
		})
	}
}

// TestSettledStaysSettled judges random outages over and over while their timeline grows: once a reach is settled, its
// verdict never changes, and a censored value gives way to the true one.
func TestSettledStaysSettled(t *testing.T) {
	t.Parallel()
	for seed := range int64(60) {
		sim := simulate(rand.New(rand.NewSource(seed)))
		whole := Timeline{Steps: []Step{{Name: "cut", Kind: Action, At: 4 * s}}, Gaps: sim.gaps}
		o := Objective{Since: Since{"cut", EdgeAt}, Reach: &Condition{Probe: "p"}, Hold: sim.hold, Within: sim.end / 3}
		var settled *Result
		for end := 4 * s; end <= sim.end; end += 250 * ms {
			tl := whole
			tl.End = end
			st := sim.stream
			st.Samples = nil
			for _, p := range sim.stream.Samples {
				if p.End <= end {
					st.Samples = append(st.Samples, p)
				}
			}
			tl.Streams = []Stream{st}
			r := Judge(tl, o)
			if settled != nil && r.Verdict != settled.Verdict {
				t.Fatalf("seed %d: settled as %+v, at %v %+v", seed, *settled, end, r)
			}
			if r.Settled && settled == nil {
				settled = &r
			}
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	st := Stream{Probe: "front", Interval: 10 * ms, Timeout: s}
	for i := range 100_000 {
		at := time.Duration(i) * 10 * ms
		st.Samples = append(st.Samples, Sample{Due: at, Start: at, End: at + 2*ms, OK: i < 50_000 || i > 60_000})
	}
	step := Step{Name: "cut", Kind: Action, At: 490 * s}
	tl := Timeline{End: 1000 * s, Steps: []Step{step}, Streams: []Stream{st}}
	o := Objective{Since: Since{"cut", EdgeAt}, Reach: reachOK, Hold: 3 * s, Within: 200 * s}
	if r := Judge(tl, o); r.Verdict != Met {
		b.Fatal(r)
	}
	b.ReportAllocs()
	for b.Loop() {
		Judge(tl, o)
	}
}
