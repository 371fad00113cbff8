package assertions

import (
	"math"
	"slices"
	"sort"
	"time"
)

// Outage is one stretch in which the workload behind a probe did not serve.
type Outage struct {
	// Start is when its first failing sample was sent; Began and Ended bound its two edges. All are offsets.
	Start        time.Duration
	Began, Ended Interval
	// Lo and Hi bound its length. Hi is what it had come to when the watching ended where it is Open.
	Lo, Hi time.Duration
	Open   bool
}

// Outages finds the outages of a stream between two offsets; gaps that are not the probe's are ignored.
//
// Rules. A good sample proves that the service was up at some moment between its start and its end, a bad one that it
// was down at some moment of that stretch. So an outage began after the start of the last sample that was good before
// any failing one was sent, and by the first bad end; it ended after the last bad start, and by the first good end
// among the samples sent once the last failing one could no longer have been hit (see exposure). Lo is last bad start
// minus first bad end, never negative; Hi is first good end minus last good start. Failures interleaved within hold
// belong to one outage; where the data cannot tell whether two stretches of failure are one outage, Hi is that of
// both together and Lo that of the longer.
func Outages(s Stream, gaps []Gap, hold, from, to time.Duration) []Outage {
	dips := streamDips(&s, gaps, sampleOK, hold, from, to)
	dips = slices.DeleteFunc(dips, func(d Dip) bool { return !d.Open && d.Ended.Hi < from })
	var out []Outage
	for _, sp := range join(dips, hold, to) {
		if !sp.seen || sp.began.Lo > to || sp.ended.Hi < from {
			continue
		}
		out = append(out, Outage{
			Start: sp.sent, Began: sp.began, Ended: sp.ended,
			Lo: sp.longest, Hi: sp.ended.Hi - sp.began.Lo, Open: sp.open,
		})
	}
	return out
}

func sampleOK(s *Sample) bool { return s.OK }

// lookBack is how much is looked at before the time that is asked about: enough good samples to know how long the
// slowest answers take.
const lookBack = 10 * time.Second

// sentSince gives the samples that were sent from a moment on; they are in order.
func sentSince(samples []Sample, from time.Duration) []Sample {
	return samples[sort.Search(len(samples), func(i int) bool { return samples[i].Start >= from }):]
}

// over leaves out what was over by a moment: all before the last sample that passed and was answered by then. A steady
// state that was shorter than hold does not make one outage of the start-up before it and the fault after it.
func over(samples []Sample, pass func(*Sample) bool, by time.Duration) []Sample {
	first := 0
	for i := range samples {
		if samples[i].Start > by {
			break
		}
		if samples[i].End <= by && pass(&samples[i]) {
			first = i
		}
	}
	return samples[first:]
}

// never stands for an end that was not seen.
const never = time.Duration(math.MaxInt64)

// scan walks the samples of a stream in order of their start and builds its dips.
type scan struct {
	hold time.Duration
	dips []Dip
	// pending is the first dip whose end was not seen yet.
	pending int
	// good is the start of the last sample that is known to have been good by now; waiting are the good ones that were
	// not answered by now.
	good    time.Duration
	waiting []*Sample
	// between is set where a good sample was sent since the last failing one.
	between bool
}

// streamDips gives the dips of "every sample passes": one for each run of failing samples, one for each blind gap of
// the probe, declared or not (see blindGaps). Samples that were not answered by end are not looked at. Failures that
// are surely one outage under hold come as one dip; hold is zero where the dips between them matter. What was over
// before from is no part of what comes after it (see over).
func streamDips(s *Stream, gaps []Gap, pass func(*Sample) bool, hold, from, end time.Duration) []Dip {
	samples := inOrder(sentSince(s.Samples, from-hold-2*s.Timeout-lookBack))
	exposure := exposure{samples: samples, pass: pass, hold: hold, end: end}
	samples = over(samples, pass, from-s.Timeout)
	blind := blindGaps(s, samples, gaps, pass, hold, end)
	sc := scan{hold: hold}
	for i := range samples {
		p := &samples[i]
		if p.End > end {
			continue
		}
		for len(blind) > 0 && blind[0].From < p.Start {
			sc.blind(blind[0])
			blind = blind[1:]
		}
		sc.advance(p.Start)
		if pass(p) {
			sc.passed(p)
		} else {
			sc.failed(p, min(p.End, p.Start+exposure.at(p)))
		}
	}
	for _, g := range blind {
		sc.blind(g)
	}
	for i := sc.pending; i < len(sc.dips); i++ {
		if d := &sc.dips[i]; d.Ended.Hi == never {
			d.Open, d.Ended.Hi = true, max(end, d.Ended.Lo)
		}
	}
	return sc.dips
}

// advance moves the walk to a moment: good samples that were answered by then count as before what comes next.
func (sc *scan) advance(now time.Duration) {
	kept := sc.waiting[:0]
	for _, w := range sc.waiting {
		if w.End <= now {
			sc.good = max(sc.good, w.Start)
		} else {
			kept = append(kept, w)
		}
	}
	sc.waiting = kept
}

// passed ends every dip whose last failure cannot have come after this sample was sent.
func (sc *scan) passed(p *Sample) {
	sc.waiting, sc.between = append(sc.waiting, p), true
	for i := min(sc.pending, max(0, len(sc.dips)-1)); i < len(sc.dips); i++ {
		if d := &sc.dips[i]; p.Start >= d.lastHit {
			d.Ended.Hi = min(d.Ended.Hi, p.End)
		}
	}
	for sc.pending < len(sc.dips) && sc.dips[sc.pending].Ended.Hi != never {
		sc.pending++
	}
}

// failed puts a failing sample, which was hit by x, into the current dip. It opens a new one where a sample that was
// sent after the last failing one was good, unless the two failures are surely within hold of each other.
func (sc *scan) failed(p *Sample, x time.Duration) {
	n := len(sc.dips) - 1
	if n < 0 || !sc.dips[n].Seen || (sc.between && x-sc.dips[n].Ended.Lo >= sc.hold) {
		sc.between = false
		sc.dips = append(sc.dips, Dip{Began: Interval{sc.good, p.End}, Ended: Interval{p.Start, never}, Seen: true,
			hit: x, lastHit: x, sent: p.Start})
		return
	}
	sc.between = false
	d := &sc.dips[n]
	d.Began.Hi, d.hit, d.lastHit = min(d.Began.Hi, p.End), min(d.hit, x), max(d.lastHit, x)
	d.Ended = Interval{max(d.Ended.Lo, p.Start), never}
	sc.pending = min(sc.pending, n)
}

// blind puts a blind gap in: what lies between the last good sample before it and the first one after it is not known.
// One that opens with a good sample begins there.
func (sc *scan) blind(g blindGap) {
	sc.advance(g.From)
	began := g.From
	if !g.fromGood {
		began = min(sc.good, g.From)
	}
	sc.dips = append(sc.dips, Dip{Began: Interval{began, g.To}, Ended: Interval{g.From, never},
		hit: g.To, lastHit: g.To, sent: g.From, why: blindness(g.Gap)})
}

// blindGap is a gap of a stream; fromGood is set where it begins with the start of a good sample.
type blindGap struct {
	Gap
	fromGood bool
}

// silentTicks is how many ticks in a row have to go unasked before the silence counts as a blind gap that the prober
// failed to declare. Fewer are lag, and lag shows in the samples' own edges.
const silentTicks = 10

// blindGaps gives the blind gaps of a stream up to end, in order: those declared for its probe, and every stretch in
// which no sample was sent for ten ticks, or for a whole hold (two ticks at least): such a stretch proves no hold.
func blindGaps(s *Stream, samples []Sample, gaps []Gap, pass func(*Sample) bool, hold,
	end time.Duration) []blindGap {
	var out []blindGap
	source := "probe:" + s.Probe
	for _, g := range gaps {
		if g.Source == source && g.From < end && g.To > g.From {
			out = append(out, blindGap{Gap: g})
		}
	}
	limit := silentTicks * s.Interval
	if hold > 0 && limit > 0 {
		limit = min(limit, max(hold, 2*s.Interval))
	}
	silent := func(last *Sample, to, limit time.Duration) {
		if limit > 0 && to-last.Start > limit {
			out = append(out, blindGap{Gap{Source: source, From: last.Start, To: to, Reason: "no sample was sent"}, pass(last)})
		}
	}
	var last *Sample
	for i := range samples {
		p := &samples[i]
		if p.End > end {
			continue
		}
		if last == nil && p.Start > 0 && len(samples) == len(s.Samples) {
			out = append(out, blindGap{Gap{Source: source, To: p.Start, Reason: "the prober had not started"}, true})
		}
		if last != nil {
			silent(last, p.Start, limit)
		}
		last = p
	}
	if last == nil {
		return append(out, blindGap{Gap{Source: source, To: end, Reason: "no sample was taken"}, true})
	}
	silent(last, end, limit+s.Timeout)
	slices.SortStableFunc(out, func(a, b blindGap) int { return compare(a.From, b.From) })
	return out
}

func blindness(g Gap) string {
	text := "blind gap of " + g.Source
	if g.Reason != "" {
		text += " (" + g.Reason + ")"
	}
	return text
}

// exposure is how long after its start a request can still have been hit by an outage: as long as the slowest good
// answer of the stream took, among the samples sent up to hold after it (later ones must not change what is settled).
// A request that fails later than that has waited for its time-out, not served; without this bound every outage whose
// requests hang would end a time-out late. It makes upper bounds later than the first good end after the last bad
// start, never earlier; lower bounds are held against the failing sample's own end.
type exposure struct {
	samples   []Sample
	pass      func(*Sample) bool
	hold, end time.Duration
	next      int
	slowest   time.Duration
}

// at gives the exposure of a sample; samples are asked about in order.
func (e *exposure) at(s *Sample) time.Duration {
	for ; e.next < len(e.samples) && e.samples[e.next].Start <= s.Start+e.hold; e.next++ {
		if p := &e.samples[e.next]; p.End <= e.end && e.pass(p) {
			e.slowest = max(e.slowest, p.End-p.Start)
		}
	}
	return e.slowest
}

// inOrder gives the samples in order of their start; a recorder hands them over so, and then nothing is copied.
func inOrder(samples []Sample) []Sample {
	for i := 1; i < len(samples); i++ {
		if samples[i].Start < samples[i-1].Start {
			sorted := slices.Clone(samples)
			slices.SortStableFunc(sorted, func(a, b Sample) int { return compare(a.Start, b.Start) })
			return sorted
		}
	}
	return samples
}
