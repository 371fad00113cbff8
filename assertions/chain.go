package assertions

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The two chains of a recovery. Traffic comes back when clients are served again, redundancy when the pod that was lost
// is replaced: minutes apart, and each with phases of its own.
const (
	Traffic    = "traffic"
	Redundancy = "redundancy"
)

// Chain is one victim's recovery, phase by phase.
type Chain struct {
	Name    string
	Subject Ref
	Phases  []PhaseSpan
}

// PhaseSpan is one phase: its length lies within [Lo, Hi]. From and To bound its two edges (offsets). Where it is
// Open it was not over when the timeline ended, and only Lo is known.
type PhaseSpan struct {
	Name     string
	Lo, Hi   time.Duration
	From, To Interval
	Open     bool
}

// end bounds the moment at which the chain was complete, or as far as it got.
func (c *Chain) end() Interval {
	if len(c.Phases) == 0 {
		return Interval{}
	}
	return c.Phases[len(c.Phases)-1].To
}

// open says whether the chain was not complete when the timeline ended.
func (c *Chain) open() bool { return len(c.Phases) > 0 && c.Phases[len(c.Phases)-1].Open }

// Chains splits the recovery from a step into phases: for each victim one traffic chain (detect, withdraw, serve) and
// one redundancy chain (detect, taint, evict, replace, schedule, start, ready, publish). Phases that do not apply are
// absent. The probe says when clients were served again ("" for the first of the timeline); the services are those
// whose endpoints count ("" or none: all that the victims stood behind). Within a name the chain restored last comes
// last.
//
// Rules. A chain starts when the step was effective, and by the time its effect was detected; without proof there is
// none. Each edge lies in its fact's [NotBefore, At], and no earlier than the edge before it: what had happened
// already takes no time. So no phase is negative. A victim that was never deleted is followed itself (restarted in
// place, or back again): it has no evict, replace or schedule. A victim that was is followed by its replacement: new
// pods of the same workload, known by UID, paired in the order in which victims went and new pods came; one that went
// before it was ready replaced nothing.
func Chains(tl Timeline, step, probe string, services ...string) []Chain {
	s := tl.step(step)
	if s == nil {
		return nil
	}
	start := Interval{s.At, s.At}
	if s.Kind == Fault {
		if s.Effective == nil {
			return nil
		}
		start = *s.Effective
	}
	c := newChronicle(&tl, s, services)
	served := c.served(probe)
	var out []Chain
	for _, v := range c.victims {
		out = append(out, c.traffic(v, start, served))
	}
	for _, v := range c.victims {
		out = append(out, c.redundancy(v, start))
	}
	out = slices.DeleteFunc(out, func(c Chain) bool { return len(c.Phases) == 0 })
	slices.SortStableFunc(out, func(a, b Chain) int {
		switch {
		case a.Name != b.Name:
			return cmp.Compare(b.Name, a.Name) // traffic before redundancy
		case a.open() != b.open():
			return cmp.Compare(btoi(a.open()), btoi(b.open()))
		}
		return compare(a.end().Hi, b.end().Hi)
	})
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// LastRestored is the chain of a name that was restored last: the one that says how long the whole took.
func LastRestored(chains []Chain, name string) (Chain, bool) {
	for i := len(chains) - 1; i >= 0; i-- {
		if chains[i].Name == name {
			return chains[i], true
		}
	}
	return Chain{}, false
}

// builder strings edges together.
type builder struct {
	chain Chain
	last  Interval
	end   time.Duration
}

// to adds a phase that ends at an edge; nil adds none.
func (b *builder) to(name string, edge *Interval) {
	if edge == nil {
		return
	}
	to := Interval{max(edge.Lo, b.last.Lo), max(edge.Hi, b.last.Hi)}
	b.chain.Phases = append(b.chain.Phases, PhaseSpan{Name: name, From: b.last, To: to,
		Lo: max(0, to.Lo-b.last.Hi), Hi: to.Hi - b.last.Lo})
	b.last = to
}

// waiting adds the phase that was not over when the timeline ended.
func (b *builder) waiting(name string) {
	end := Interval{max(b.end, b.last.Lo), max(b.end, b.last.Hi)}
	b.chain.Phases = append(b.chain.Phases, PhaseSpan{Name: name, From: b.last, To: end, Open: true,
		Lo: max(0, b.end-b.last.Hi), Hi: end.Hi - b.last.Lo})
}

// began narrows the chain's start for one victim: what was detected had bitten by then, however late its proof came.
func (v *life) began(start Interval) Interval {
	if v.detected != nil && v.detected.Hi < start.Hi {
		start.Hi = max(start.Lo, v.detected.Hi)
	}
	return start
}

func (c *chronicle) traffic(v *life, start Interval, served served) Chain {
	b := builder{chain: Chain{Name: Traffic, Subject: v.ref}, last: v.began(start), end: c.tl.End}
	b.to("detect", v.detected)
	b.to("withdraw", v.withdrawn)
	b.to("serve", served.edge)
	switch {
	case served.edge != nil:
	case v.detected == nil:
		b.waiting("detect")
	case v.withdrawn == nil && v.published != nil && v.back() == nil:
		b.waiting("withdraw")
	case served.open:
		b.waiting("serve")
	}
	return b.chain
}

func (c *chronicle) redundancy(v *life, start Interval) Chain {
	b := builder{chain: Chain{Name: Redundancy, Subject: v.ref}, last: v.began(start), end: c.tl.End}
	b.to("detect", v.detected)
	if v.detected == nil {
		b.waiting("detect")
		return b.chain
	}
	if v.evicted == nil {
		b.to("taint", c.taintBefore(v, v.again.ready))
		c.restart(&b, v)
		return b.chain
	}
	b.to("taint", c.taintBefore(v, v.evicted))
	b.to("evict", v.evicted)
	if v.replacement == nil {
		b.waiting("replace")
		return b.chain
	}
	n := v.replacement
	c.follow(&b, []milestone{{"replace", n.seen}, {"schedule", n.scheduled}, {"start", n.started}, {"ready", n.ready}},
		v.published != nil, n.published)
	return b.chain
}

// restart follows a victim that was never deleted.
func (c *chronicle) restart(b *builder, v *life) {
	if v.again.ready == nil && c.taintBefore(v, nil) != nil {
		b.waiting("evict")
		return
	}
	if v.again.restarted {
		c.follow(b, []milestone{{"start", v.again.started}, {"ready", v.again.ready}}, v.withdrawn != nil, v.again.published)
		return
	}
	c.follow(b, []milestone{{"ready", v.again.ready}}, v.withdrawn != nil, v.again.published)
}

// milestone is a phase and the edge at its end.
type milestone struct {
	name string
	edge *Interval
}

// follow adds phases up to the first whose edge was not seen, which is then open; publish only where it applies.
func (c *chronicle) follow(b *builder, milestones []milestone, publishes bool, published *Interval) {
	if publishes {
		milestones = append(milestones, milestone{"publish", published})
	}
	for _, m := range milestones {
		if m.edge == nil {
			b.waiting(m.name)
			return
		}
		b.to(m.name, m.edge)
	}
}

// phase judges the length of one phase: that of the victim for which it took longest.
func (j *judge) phase(r Result) Result {
	r.Limit = j.o.Within.Seconds()
	var lo, hi, openLo time.Duration
	found, open, pending := false, false, false
	for _, c := range Chains(*j.tl, j.step.Name, "") {
		if j.o.Chain != "" && j.o.Chain != c.Name {
			continue
		}
		pending = pending || c.open()
		for _, p := range c.Phases {
			if p.Name != j.o.Phase {
				continue
			}
			found = true
			if p.Open {
				open, openLo = true, max(openLo, p.Lo)
			}
			lo, hi = max(lo, p.Lo), max(hi, p.Hi)
		}
	}
	switch {
	case !found:
		return r.unknown("no victim went through the phase %q", j.o.Phase)
	case open:
		r.Censored, r.Lo, r.Hi = true, lo.Seconds(), hi.Seconds()
		if lo > j.o.Within {
			r.Verdict, r.Settled = Missed, true
			r.Reason = fmt.Sprintf("the phase %s took longer than %s, beyond %s", j.o.Phase, round(lo), round(j.o.Within))
			return r
		}
		return r.unknown("the phase %s was not over after %s when the timeline ended", j.o.Phase, round(openLo))
	}
	r = r.within(lo, hi, "the phase "+j.o.Phase+" was over")
	r.Settled = r.Verdict == Missed || !pending
	return r
}

// Published are the spans that the literature on Kubernetes' reaction to failures reports (Vayghan et al., CLOUD 2018):
// Reaction from the failure to the first reaction of Kubernetes, Repair from there until the pod is repaired (ready),
// Recovery from there until the service is back, Outage both together. A span whose end was not seen is nil.
type Published struct {
	Subject  Ref
	Reaction *Interval // lengths
	Repair   *Interval
	Recovery *Interval
	Outage   *Interval
}

// PublishedSpans derives the published spans of every victim from the chains of a step. The service is back when the
// probe's clients were served again; where the probe saw no outage, when the pod was behind its service again.
func PublishedSpans(chains []Chain) []Published {
	var out []Published
	for _, c := range chains {
		if c.Name != Redundancy {
			continue
		}
		p := Published{Subject: c.Subject}
		detect := c.phase("detect")
		if detect == nil {
			continue
		}
		back := c.phase("publish")
		for i := range chains {
			if t := &chains[i]; t.Name == Traffic && t.Subject.UID == c.Subject.UID && t.phase("serve") != nil {
				back = t.phase("serve")
			}
		}
		p.Reaction = &Interval{detect.Lo, detect.Hi}
		if ready := c.phase("ready"); ready != nil {
			p.Repair = stretch(detect.To, ready.To)
		}
		if back != nil {
			p.Recovery, p.Outage = stretch(detect.To, back.To), stretch(detect.From, back.To)
		}
		out = append(out, p)
	}
	return out
}

// phase is the chain's phase of a name that is over, or nil.
func (c *Chain) phase(name string) *PhaseSpan {
	for i := range c.Phases {
		if p := &c.Phases[i]; p.Name == name && !p.Open {
			return p
		}
	}
	return nil
}

// stretch is the length of the stretch between two edges, never negative.
func stretch(from, to Interval) *Interval {
	return &Interval{max(0, to.Lo-from.Hi), max(0, to.Hi-from.Lo)}
}
