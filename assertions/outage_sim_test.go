package assertions

import (
	"math/rand"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// simulation is one service with its true down periods, and the prober's view of it.
type simulation struct {
	down   []Interval // true, in order, apart
	gaps   []Gap
	stream Stream
	hold   time.Duration
	end    time.Duration
	// hit are the down periods that made a sample fail, by index.
	hit map[int]bool
}

// simulate draws an outage of 50 ms to 60 s, steady or flapping, and probes it in an open loop.
//
// The service answers in 1 to 5 ms, now and then in 60 ms. A request needs it up from its arrival to its answer. One
// that meets a down period fails at once (refused), at the moment of the fall (reset), or when its time-out is over
// (hangs); some that arrive while it is down wait instead, and succeed when it comes back in time.
func simulate(rng *rand.Rand) *simulation {
	sim := &simulation{hold: time.Duration(200+rng.Intn(2800)) * ms, hit: map[int]bool{}}
	interval := []time.Duration{10 * ms, 20 * ms, 50 * ms, 100 * ms}[rng.Intn(4)]
	timeout := []time.Duration{200 * ms, 500 * ms, 1000 * ms, 2000 * ms}[rng.Intn(4)]
	at := 4*time.Second + time.Duration(rng.Int63n(int64(time.Second)))
	length := func() time.Duration {
		if rng.Intn(2) == 0 {
			return 50*ms + time.Duration(rng.Int63n(int64(950*ms)))
		}
		return 50*ms + time.Duration(rng.Int63n(int64(time.Duration(1+rng.Intn(60))*time.Second-50*ms)))
	}
	switch rng.Intn(3) {
	case 0, 1:
		sim.down = []Interval{{at, at + length()}}
	case 2: // flapping
		for range 2 + rng.Intn(8) {
			d := 50*ms + time.Duration(rng.Int63n(int64(3*time.Second)))
			sim.down = append(sim.down, Interval{at, at + d})
			at += d + 5*ms + time.Duration(rng.Int63n(int64(2*sim.hold)))
		}
	}
	sim.end = sim.down[len(sim.down)-1].Hi + sim.hold + timeout + 3*time.Second
	if sim.end > 20*time.Second {
		interval = max(interval, 20*ms) // for the test's own speed
	}
	if rng.Intn(3) == 0 {
		for range 1 + rng.Intn(2) {
			from := 3*time.Second + time.Duration(rng.Int63n(int64(sim.end-4*time.Second)))
			to := from + time.Duration(rng.Int63n(int64(4*time.Second)))
			sim.gaps = append(sim.gaps, Gap{Source: "probe:p", From: from, To: min(to, sim.end)})
		}
		slices.SortFunc(sim.gaps, func(a, b Gap) int { return compare(a.From, b.From) })
	}
	sim.probe(rng, interval, timeout)
	return sim
}

func (sim *simulation) probe(rng *rand.Rand, interval, timeout time.Duration) {
	s := Stream{Probe: "p", Interval: interval, Timeout: timeout}
	mode, lagging := rng.Intn(4), rng.Intn(2) == 0
	var stalled time.Duration // the prober was not scheduled until then: everything due starts at once
	for due := time.Duration(0); due < sim.end; due += interval {
		if lagging && rng.Intn(200) == 0 {
			stalled = due + time.Duration(rng.Int63n(int64(300*ms)))
		}
		start := max(due+time.Duration(rng.Int63n(int64(ms))), stalled+time.Duration(rng.Int63n(int64(ms))))
		serve := ms + time.Duration(rng.Int63n(int64(4*ms)))
		if rng.Intn(20) == 0 {
			serve = 60 * ms
		}
		if slices.ContainsFunc(sim.gaps, func(g Gap) bool { return start >= g.From && start < g.To }) {
			continue
		}
		p := sim.ask(rng, start, serve, timeout, mode)
		p.Due = due
		if p.End <= sim.end {
			s.Samples = append(s.Samples, p)
		}
	}
	slices.SortStableFunc(s.Samples, func(a, b Sample) int { return compare(a.Start, b.Start) })
	sim.stream = s
}

// ask sends one request and notes which down period it was hit by.
func (sim *simulation) ask(rng *rand.Rand, start, serve, timeout time.Duration, mode int) Sample {
	p := Sample{Start: start, End: start + serve, OK: true}
	for i, d := range sim.down {
		if d.Lo >= start+serve || d.Hi <= start {
			continue
		}
		fell := max(d.Lo, start)
		if mode == 3 && d.Lo <= start && d.Hi+serve-start < timeout && rng.Intn(2) == 0 {
			// It waits and is answered after the heal, unless the service falls again meanwhile.
			again := sim.ask(rng, d.Hi, serve, timeout-(d.Hi-start), 0)
			return Sample{Start: start, End: again.End, OK: again.OK}
		}
		sim.hit[i] = true
		switch {
		case mode == 0 || (mode == 3 && rng.Intn(2) == 0):
			p.End = fell + time.Duration(rng.Int63n(int64(ms))) // refused or reset
		default:
			p.End = start + timeout
		}
		p.OK = false
		return p
	}
	return p
}

// truths are the true outages: down periods that a sample was hit by, or that touch a blind gap, joined where the
// service was up for less than hold between them, or where no sample that was sent in between was good. A down period
// that no sample met is finer than the data, and no truth of it.
func (sim *simulation) truths() []Interval {
	var out []Interval
	for i, d := range sim.down {
		blind := slices.ContainsFunc(sim.gaps, func(g Gap) bool { return g.From < d.Hi && g.To > d.Lo })
		if !sim.hit[i] && !blind {
			continue
		}
		if n := len(out) - 1; n >= 0 {
			up := Interval{out[n].Hi, d.Lo}
			proven := slices.ContainsFunc(sim.stream.Samples, func(p Sample) bool {
				return p.OK && p.Start >= up.Lo && p.Start < up.Hi
			})
			blindUp := slices.ContainsFunc(sim.gaps, func(g Gap) bool { return g.From < up.Hi && g.To > up.Lo })
			if up.Hi-up.Lo < sim.hold || (!proven && !blindUp) {
				out[n].Hi = d.Hi
				continue
			}
		}
		out = append(out, d)
	}
	return out
}

// TestOutagesHoldTheTruth simulates 10,000 outages. Truth: the longest true outage (see truths) among those that
// overlap the reported one, which has to lie within [Lo, Hi]; every true outage that was seen has to be in one
// reported.
func TestOutagesHoldTheTruth(t *testing.T) {
	t.Parallel()
	const simulations = 10000
	open, reported, wrong := 0, 0, 0
	for seed := range int64(simulations) {
		sim := simulate(rand.New(rand.NewSource(seed)))
		outages := Outages(sim.stream, sim.gaps, sim.hold, 0, sim.end)
		if problem := sim.check(outages); problem != "" {
			wrong++
			if wrong <= 5 {
				t.Errorf("seed %d: %s\n down %v\n gaps %v\n hold %v interval %v timeout %v\n outages %+v", seed, problem,
					sim.down, sim.gaps, sim.hold, sim.stream.Interval, sim.stream.Timeout, outages)
			}
		}
		reported += len(outages)
		for _, o := range outages {
			if o.Open {
				open++
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d simulations are wrong", wrong, simulations)
	}
	if reported < simulations || open > reported/20 {
		t.Errorf("%d outages reported, %d of them open: the simulation shows too little", reported, open)
	}
}

func (sim *simulation) check(outages []Outage) string {
	truths := sim.truths()
	covered := make([]bool, len(truths))
	for i, o := range outages {
		if o.Lo < 0 || o.Hi < o.Lo {
			return "an interval is negative"
		}
		if i > 0 && o.Began.Lo < outages[i-1].Began.Lo {
			return "outages are out of order"
		}
		var longest time.Duration
		for k, truth := range truths {
			if truth.Lo < o.Ended.Hi && truth.Hi > o.Began.Lo {
				covered[k] = true
				longest = max(longest, truth.Hi-truth.Lo)
			}
		}
		if longest < o.Lo || longest > o.Hi {
			return "the truth " + longest.String() + " is not within [" + o.Lo.String() + ", " + o.Hi.String() + "]"
		}
		if o.Hi-o.Lo < sim.finest() {
			return "an interval is finer than the data"
		}
	}
	for k, truth := range truths {
		seen := false
		for i, d := range sim.down {
			seen = seen || sim.hit[i] && d.Lo >= truth.Lo && d.Hi <= truth.Hi
		}
		if seen && !covered[k] {
			return "a true outage is not reported"
		}
	}
	return ""
}

// finest is the least stretch between two starts among the samples: no edge can be known better than that, unless the
// prober caught up after a stall, when several start at once.
func (sim *simulation) finest() time.Duration {
	finest := sim.stream.Interval
	for i := 1; i < len(sim.stream.Samples); i++ {
		finest = min(finest, sim.stream.Samples[i].Start-sim.stream.Samples[i-1].Start)
	}
	return finest
}
