package assertions

import (
	"fmt"
	"math"
	"time"
)

// DefaultHold is the hold of outages where an objective names none.
const DefaultHold = 3 * time.Second

// Judge says what a timeline shows of one objective. It is pure: the same timeline gives the same result, and a live
// runner may call it over and over on a growing one whose End is "now".
//
// Rule of both sides. A true value is only known to lie in [Lo, Hi]: wholly within the limit is met, wholly beyond it
// is missed, and where the limit lies between the two the verdict is unknown, for the data is too coarse to tell.
func Judge(tl Timeline, o Objective) Result {
	r := Result{Objective: o.Name, Verdict: Unknown, Unit: Seconds}
	step := tl.step(o.Since.Step)
	if step == nil {
		return r.bounded(o).unknown("the step %q has not begun", o.Since.Step)
	}
	since, ok := step.edge(o.Since.Edge)
	if !ok {
		return r.bounded(o).unknown("the step %q is not %s", step.Name, o.Since.Edge)
	}
	j := judge{tl: &tl, o: &o, step: step, since: since}
	switch {
	case o.Reach != nil:
		r = j.reach(r)
	case o.Keeps != nil:
		r = j.keeps(r)
	case o.Phase != "":
		r = j.phase(r)
	case o.Probe != "":
		r = j.probe(r)
	case o.Writes != "":
		r = j.writes(r)
	default:
		return r.unknown("the objective asks for nothing")
	}
	// A fault that is not proven to have bitten proves nothing, whatever was measured.
	if step.Kind == Fault && step.Effective == nil {
		r.Verdict, r.Settled = Unknown, false
		r.Reason = fmt.Sprintf("no proof of effect: the fault %q was not seen to bite", step.Name)
	}
	return r
}

// judge is one call of Judge.
type judge struct {
	tl    *Timeline
	o     *Objective
	step  *Step
	since Interval
}

func (tl *Timeline) step(name string) *Step {
	for i := range tl.Steps {
		if tl.Steps[i].Name == name {
			return &tl.Steps[i]
		}
	}
	return nil
}

// edge bounds the moment of one of the step's edges, if it came.
func (s *Step) edge(e Edge) (Interval, bool) {
	var at *time.Duration
	switch e {
	case EdgeAt, "":
		at = &s.At
	case EdgeEffective:
		if s.Effective == nil {
			return Interval{}, false
		}
		return *s.Effective, true
	case EdgeDone:
		at = s.Done
	case EdgeHealed:
		at = s.Healed
	}
	if at == nil {
		return Interval{}, false
	}
	return Interval{*at, *at}, true
}

// bounded fills in what a value would have been held against, where there is none.
func (r Result) bounded(o Objective) Result {
	r.Limit = o.Within.Seconds()
	switch {
	case o.Probe != "" && o.Lost != nil:
		r.Unit = Ratio
		if o.Lost.Max != nil {
			r.Limit = *o.Lost.Max
		}
	case o.Writes != "":
		r.Unit = Counts
	}
	return r
}

func (r Result) unknown(format string, args ...any) Result {
	r.Verdict, r.Reason = Unknown, fmt.Sprintf(format, args...)
	return r
}

// within puts [lo, hi] against an upper limit, by the rule of both sides.
func (r Result) within(lo, hi time.Duration, what string) Result {
	lo, hi = max(0, lo), max(0, hi)
	r.Known, r.Lo, r.Hi = true, lo.Seconds(), hi.Seconds()
	limit := seconds(r.Limit)
	switch {
	case r.Hi <= r.Limit:
		r.Verdict, r.Reason = Met, fmt.Sprintf("%s after %s, within %s", what, span(lo, hi), round(limit))
	case r.Lo > r.Limit:
		r.Verdict, r.Reason = Missed, fmt.Sprintf("%s after %s, beyond %s", what, span(lo, hi), round(limit))
	default:
		r.Verdict = Unknown
		r.Reason = fmt.Sprintf("%s after %s: too coarse to hold against %s", what, span(lo, hi), round(limit))
	}
	return r
}

// reach judges "the condition becomes true within, and stays so for hold".
//
// Rules. The condition has to have dipped to come back: what holds from the beginning on proves nothing until Within
// is over, for the dip may be still to come (a node is shown Ready for 40 s after its death). The time counts to the
// end of the first spell that began within Within. No dip: met, with [0, longest stretch without a sample] as the
// value, once all of Within was watched, or the fault has nothing left to act on (see calm); a blind gap in it widens
// the value up to the gap's end. A run that ends before recovery is censored: missed where the condition was seen false
// after Within, else unknown.
func (j *judge) reach(r Result) Result {
	r.Limit = j.o.Within.Seconds()
	q := &query{tl: j.tl, step: j.step, from: j.since.Lo, window: j.since.Lo, hold: j.o.Hold}
	dips := j.after(dipsOf(q, j.o.Reach))
	known := j.complete(j.o.Reach)
	deadline := j.since.Hi + j.o.Within
	if calm, ok := j.calm(); ok {
		deadline = min(deadline, calm)
	}
	var maybe *spell
	spells := join(dips, j.o.Hold, known)
	for i := range spells {
		sp := &spells[i]
		if sp.began.Lo > deadline {
			break
		}
		if sp.seen && sp.surely <= deadline {
			return j.recovery(r, sp, maybe)
		}
		if maybe == nil {
			maybe = sp
		} else {
			maybe.ended.Hi, maybe.open = sp.ended.Hi, sp.open
		}
	}
	return j.noDip(r, maybe, deadline, known)
}

// calm is the moment from which a step can bring no dip any more; false where there is none yet.
//
// Rule. A fault that strikes pods and nothing else acts through them alone. Once each of its victims is replaced, or
// ready again in place, and the new one is published, all that it took away is there again; a condition that then
// holds for Hold was not made to dip by it. A fault on nodes, links or objects may show itself later, so it has no
// such moment.
func (j *judge) calm() (time.Duration, bool) {
	s := j.step
	if s.Done == nil || s.Effective == nil || len(s.Targets) == 0 || len(s.Victims) == 0 {
		return 0, false
	}
	for i := range s.Targets {
		if s.Targets[i].Kind != "Pod" {
			return 0, false
		}
	}
	restored, until := 0, s.Effective.Hi
	for _, c := range Chains(*j.tl, s.Name, "") {
		if c.Name != Redundancy {
			continue
		}
		if c.open() {
			return 0, false
		}
		restored, until = restored+1, max(until, c.end().Hi)
	}
	return until + j.o.Hold, restored == len(s.Victims)
}

// recovery judges a spell that was seen; maybe is an unseen one before it, which may have been the outage.
func (j *judge) recovery(r Result, sp, maybe *spell) Result {
	back := sp.recoveredAt(j.o.Hold)
	if maybe != nil {
		back.Lo = min(back.Lo, maybe.began.Lo)
	}
	lo, hi := max(0, back.Lo-j.since.Hi), max(0, back.Hi-j.since.Lo)
	if !sp.open {
		r = r.within(lo, hi, "recovered")
		r.Settled = true
		return r
	}
	r.Censored, r.Lo, r.Hi = true, lo.Seconds(), (j.tl.End - j.since.Lo).Seconds()
	if lo > j.o.Within {
		r.Verdict, r.Settled = Missed, true
		r.Reason = fmt.Sprintf("not recovered after %s, beyond %s", round(lo), round(j.o.Within))
		return r
	}
	if sp.ended.Hi < j.tl.End {
		return r.unknown("the timeline ends %s after recovery, before it had held for %s", round(j.tl.End-sp.ended.Hi),
			round(j.o.Hold))
	}
	return r.unknown("not recovered after %s when the timeline ended, of %s allowed", round(j.tl.End-j.since.Lo),
		round(j.o.Within))
}

// noDip judges a condition that was never seen to fail.
func (j *judge) noDip(r Result, maybe *spell, deadline, known time.Duration) Result {
	if maybe != nil {
		r.Known, r.Hi = !maybe.open, (maybe.ended.Hi - j.since.Lo).Seconds()
		if !maybe.open && maybe.ended.Hi-j.since.Lo <= j.o.Within && known >= deadline {
			r = r.within(0, maybe.ended.Hi-j.since.Lo, "no dip was seen, and what could not be seen had ended")
			r.Settled = true
			return r
		}
		r.Settled = !maybe.open && known >= deadline
		return r.unknown("no dip was seen, but one cannot be excluded: %s", maybe.why)
	}
	longest := longestUnseen(j.tl, j.o.Reach, j.since.Lo, min(deadline, j.tl.End))
	if known < deadline {
		r.Known, r.Hi = true, longest.Seconds()
		return r.unknown("no dip was seen so far; watched for %s of %s", round(max(0, known-j.since.Hi)), round(j.o.Within))
	}
	r = r.within(0, longest, "no dip was seen: recovered")
	r.Settled = true
	if r.Verdict == Met {
		r.Reason = fmt.Sprintf("no dip was seen; none can have lasted longer than %s", round(longest))
	}
	return r
}

// after keeps the dips that may lie after the objective's beginning. One that may have been over by then counts as
// unseen.
func (j *judge) after(dips []Dip) []Dip {
	kept := dips[:0]
	for _, d := range dips {
		if !d.Open && d.Ended.Hi <= j.since.Lo {
			continue
		}
		if d.Seen && d.Began.Lo < j.since.Hi && d.Ended.Lo < j.since.Hi {
			d.Seen, d.why = false, "the condition failed about when the clock started"
		}
		kept = append(kept, d)
	}
	return kept
}

// complete is the moment up to which later data cannot change what is known of a condition: the start of the last
// sample that was good and answered before the earliest request that may still be under way was sent.
func (j *judge) complete(c *Condition) time.Duration {
	known := j.tl.End
	for i := range j.tl.Streams {
		s := &j.tl.Streams[i]
		if !c.asks(s.Probe) {
			continue
		}
		sent, samples := s.pending(j.tl.End), s.Samples
		for len(samples) > 0 && samples[len(samples)-1].End > sent {
			samples = samples[:len(samples)-1]
		}
		if len(samples) == 0 {
			return 0
		}
		known = min(known, samples[len(samples)-1].Start)
	}
	return known
}

// pending is when the earliest request that may still be under way at the end was sent. None can be for longer than the
// time-out; and where every tick since then has been answered in turn, none is before the first tick without an answer.
func (s *Stream) pending(end time.Duration) time.Duration {
	sent := end - s.Timeout
	i := len(s.Samples)
	for i > 0 && s.Samples[i-1].Start >= sent {
		i--
	}
	if i == 0 || s.Interval <= 0 {
		return sent
	}
	// The sample before the window carries the count on; ticks are planned, so their distance is the interval but for
	// rounding.
	last := s.Samples[i-1].Due
	for ; i < len(s.Samples); i++ {
		due := s.Samples[i].Due
		if due > last+s.Interval+s.Interval/2 {
			break
		}
		last = max(last, due)
	}
	return max(sent, min(end, last+s.Interval))
}

// asks says whether a condition hangs on a probe.
func (c *Condition) asks(probe string) bool {
	if c.Probe != "" {
		return c.Probe == probe
	}
	for i := range c.All {
		if c.All[i].asks(probe) {
			return true
		}
	}
	for i := range c.Any {
		if c.Any[i].asks(probe) {
			return true
		}
	}
	return false
}

// longestUnseen is the longest outage that no sample can have noticed, over the streams that a condition hangs on.
func longestUnseen(tl *Timeline, c *Condition, from, to time.Duration) time.Duration {
	var longest time.Duration
	for i := range tl.Streams {
		if s := &tl.Streams[i]; c.asks(s.Probe) {
			longest = max(longest, unseen(s, from, to))
		}
	}
	return longest
}

// keeps judges "the condition is never false". Its value is how long it was false; any moment of it is a miss,
// however short, and what cannot be seen could hide one. An objective that lasts as long as the run has no end of its
// own, so it is settled when its step is done: from then on it holds nothing up, but is judged to the end.
func (j *judge) keeps(r Result) Result {
	q := &query{tl: j.tl, from: j.since.Lo, window: j.since.Lo}
	var lo, hi time.Duration
	why, seen := "", false
	dips := j.after(dipsOf(q, j.o.Keeps))
	for i := range dips {
		if d := &dips[i]; d.Seen {
			seen = true
		} else if why == "" {
			why = d.why
		}
	}
	for _, i := range surely(dips, j.tl.End) {
		lo += max(0, i.Hi-max(i.Lo, j.since.Hi))
	}
	for _, i := range outers(dips, j.tl.End) {
		hi += max(0, min(i.Hi, j.tl.End)-max(i.Lo, j.since.Lo))
	}
	r.Known, r.Lo, r.Hi, r.Settled = true, lo.Seconds(), hi.Seconds(), j.step.Done != nil
	switch {
	case seen:
		r.Verdict, r.Settled, r.Reason = Missed, true, "was false for "+span(lo, hi)
	case len(dips) > 0:
		return r.unknown("was never seen false, but it may have been for up to %s: %s", round(hi), why)
	default:
		r.Verdict, r.Reason = Met, "was true throughout"
	}
	return r
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// round shortens a duration for a reason: to milliseconds, or to microseconds below one.
func round(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

func span(lo, hi time.Duration) string { return fmt.Sprintf("[%s, %s]", round(lo), round(hi)) }
