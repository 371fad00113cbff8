package assertions

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// probe judges what was lost, the longest outage and the latency of a probe, each where the objective bounds it. The
// result is that of the bound with the worst verdict.
//
// Rules. Below the least number of samples there is no verdict. A tick that was not asked (lag, a blind gap) may have
// been lost or not, and widens the ratio. The latency is that of the good samples; its lower bound counts from when
// the sample was sent and its upper bound from its tick, so that a prober that lags hides nothing; a percentile needs
// at least one sample beyond it.
func (j *judge) probe(r Result) Result {
	var judged []Result
	for i := range j.tl.Streams {
		if s := &j.tl.Streams[i]; s.Probe == j.o.Probe {
			judged = append(judged, j.stream(r, s)...)
		}
	}
	verdicts := make([]Verdict, len(judged))
	for i := range judged {
		verdicts[i] = judged[i].Verdict
	}
	_, from := Combine(verdicts...)
	if from < 0 {
		return r.unknown("no probe %q", j.o.Probe)
	}
	return judged[from]
}

// stream judges one vantage of the probe.
func (j *judge) stream(r Result, s *Stream) []Result {
	t := j.count(s)
	if least := max(1, j.o.Samples); t.sent < least {
		if j.o.Lost != nil {
			r.Unit = Ratio
		}
		return []Result{r.unknown("too few samples: %d of %d", t.sent, least)}
	}
	r.Settled = j.step.Done != nil
	var out []Result
	if j.o.Lost != nil {
		lost := r
		lost.Unit = Ratio
		out = append(out, lost.inRange(j.o.Lost, t.ratio(0), t.ratio(t.unasked),
			fmt.Sprintf("lost %d of %d samples", t.failed, t.sent)))
	}
	if j.o.Outage != nil {
		out = append(out, j.longestOutage(r, s))
	}
	if j.o.Latency != nil {
		out = append(out, j.latency(r, s))
	}
	if len(out) == 0 {
		return []Result{r.unknown("the objective bounds nothing of the probe")}
	}
	return out
}

// sampled counts the samples that were sent in the objective's time.
type sampled struct{ sent, failed, unasked int }

// ratio is the share lost when the given number of unasked ticks is taken for lost as well; the rest of them for good.
func (t sampled) ratio(lost int) float64 {
	return float64(t.failed+lost) / float64(t.sent+t.unasked)
}

func (j *judge) count(s *Stream) sampled {
	var t sampled
	last := time.Duration(-1)
	samples := sentSince(s.Samples, j.since.Lo)
	for i := range samples {
		p := &samples[i]
		if p.End > j.tl.End {
			continue
		}
		t.sent++
		if !p.OK {
			t.failed++
		}
		if last >= 0 {
			t.unasked += ticks(p.Due-last, s.Interval) - 1
		}
		last = max(last, p.Due)
	}
	for _, g := range j.tl.Gaps {
		// A gap at the end is not closed by a sample, and so does not show in the ticks above.
		if g.Source == "probe:"+s.Probe && g.To > last && g.To > j.since.Lo && min(g.To, j.tl.End) > max(g.From, last) {
			t.unasked += ticks(min(g.To, j.tl.End)-max(g.From, last, j.since.Lo), s.Interval)
		}
	}
	return t
}

// ticks is how many intervals lie in d, one at least.
func ticks(d, interval time.Duration) int {
	if interval <= 0 {
		return 1
	}
	return max(1, int(math.Round(float64(d)/float64(interval))))
}

// inRange puts [lo, hi] against a range, by the rule of both sides.
func (r Result) inRange(limits *Range, lo, hi float64, what string) Result {
	r.Known, r.Lo, r.Hi = true, lo, hi
	if limits.Min != nil {
		r.Limit = *limits.Min
	}
	if limits.Max != nil {
		r.Limit = *limits.Max
	}
	switch {
	case limits.holds(lo) && limits.holds(hi):
		r.Verdict, r.Reason = Met, what
	case (limits.Max != nil && lo > *limits.Max) || (limits.Min != nil && hi < *limits.Min):
		r.Verdict, r.Reason = Missed, what
	default:
		r.Verdict, r.Reason = Unknown, what+": too coarse to hold against the limit"
	}
	return r
}

// longestOutage judges the longest outage that the objective's time shows. Without any, its value is the longest one
// that no sample can have noticed; a blind gap counts as one that may have been.
func (j *judge) longestOutage(r Result, s *Stream) Result {
	hold := j.o.Hold
	if hold <= 0 {
		hold = DefaultHold
	}
	dips := j.after(streamDips(s, j.tl.Gaps, sampleOK, hold, j.since.Lo, j.tl.End))
	lo, hi := time.Duration(0), unseen(s, j.since.Lo, j.tl.End)
	open := false
	for _, sp := range join(dips, hold, j.tl.End) {
		lo = max(lo, sp.longest)
		hi = max(hi, min(sp.ended.Hi, j.tl.End)-max(sp.began.Lo, j.since.Lo))
		open = open || sp.open && sp.ended.Hi >= j.tl.End
	}
	r = r.inRange(j.o.Outage, lo.Seconds(), hi.Seconds(), "the longest outage lasted "+span(lo, hi))
	if open && r.Verdict == Met && j.o.Outage.Max != nil {
		r = r.unknown("the service is still down after %s", span(lo, hi))
	}
	r.Settled = r.Settled || r.Verdict == Missed && j.o.Outage.Max != nil
	return r
}

// unseen is the longest outage between two offsets that would have left every sample good: one that began right after a
// good sample was sent and ended when the first of those sent later was answered.
func unseen(s *Stream, from, to time.Duration) time.Duration {
	samples := inOrder(sentSince(s.Samples, from-lookBack))
	var longest time.Duration
	last, first := from, never // the last start so far, and the least end among the samples after it
	for i := len(samples) - 1; i >= 0; i-- {
		p := &samples[i]
		if p.Start > to || p.End > to || !p.OK {
			continue
		}
		if p.End < from {
			break
		}
		if first != never {
			longest = max(longest, first-max(p.Start, from))
		}
		first, last = min(first, p.End), p.Start
	}
	if first == never {
		return max(0, to-from)
	}
	if last > from {
		longest = max(longest, first-from)
	}
	return longest
}

// latency judges a percentile of the good samples' durations.
func (j *judge) latency(r Result, s *Stream) Result {
	samples := sentSince(s.Samples, j.since.Lo)
	least, most := make([]time.Duration, 0, len(samples)), make([]time.Duration, 0, len(samples))
	for i := range samples {
		if p := &samples[i]; p.OK && p.End <= j.tl.End {
			least, most = append(least, p.End-p.Start), append(most, p.End-min(p.Due, p.Start))
		}
	}
	share := j.o.Percentile
	if share > 1 {
		share /= 100
	}
	if needed := int(math.Ceil(1/(1-share) - 1e-9)); share >= 1 || len(least) < needed {
		r.Settled = false
		return r.unknown("too few good samples for a p%g: %d", share*100, len(least))
	}
	slices.Sort(least)
	slices.Sort(most)
	at := nearestRank(len(least), share)
	return r.inRange(j.o.Latency, least[at].Seconds(), most[at].Seconds(),
		fmt.Sprintf("p%g is %s", share*100, span(least[at], most[at])))
}

// writes judges what a write probe found when it read its records back. Nothing read back, or nothing acknowledged that
// could have been lost: unknown.
func (j *judge) writes(r Result) Result {
	r.Unit, r.Settled = Counts, j.step.Done != nil
	for i := range j.tl.Streams {
		s := &j.tl.Streams[i]
		if s.Probe != j.o.Writes || s.Writes == nil {
			continue
		}
		w := s.Writes
		if w.Acknowledged == 0 {
			return r.unknown("no write was acknowledged")
		}
		lost := r.most(j.o.LostMax, w.Lost, fmt.Sprintf("lost %d of %d acknowledged writes", w.Lost, w.Acknowledged))
		twice := r.most(j.o.DuplicatedMax, w.Duplicated,
			fmt.Sprintf("found %d of %d writes twice", w.Duplicated, w.Acknowledged))
		switch _, from := Combine(lost.Verdict, twice.Verdict); from {
		case 0:
			return lost
		case 1:
			return twice
		}
		return r.unknown("the objective bounds nothing of the writes")
	}
	return r.unknown("the writes of %q were not read back", j.o.Writes)
}

// most puts a count against its greatest allowed value; without one it does not count.
func (r Result) most(limit *int, n int, what string) Result {
	if limit == nil {
		r.Verdict = NotApplicable
		return r
	}
	r.Known, r.Limit, r.Lo, r.Hi, r.Reason = true, float64(*limit), float64(n), float64(n), what
	r.Verdict = Met
	if n > *limit {
		r.Verdict = Missed
	}
	return r
}
