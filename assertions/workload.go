package assertions

import (
	"slices"
	"time"
)

// tally counts the ready pods of one workload while its facts are walked.
type tally struct {
	pods map[string]standing
	// ready are the pods that count, maybe those that may or may not.
	ready, maybe int
	// seen is set once anything of the workload was seen; state is the workload's own, nil before it was seen.
	seen, gone bool
	state      *WorkloadState
}

// standing is one pod's part in the tally.
type standing struct {
	shown bool // as Kubernetes shows it: ready, not being deleted, not gone
	trust trust
}

// trust says whether a pod that shows ready counts.
type trust int8

const (
	trusted trust = iota
	distrusted
	doubted
)

// workload gives the dips of a condition over a workload's pods and status. Ready pods are counted by UID: those of the
// workload that are ready, not being deleted and not gone; `all` is as many as the workload asks for.
//
// Rule of the victims. From the beginning of the step a victim does not count while it shows ready with the same
// containers and its dip was not seen. It counts again once it was seen not ready, being deleted, gone, or with other
// containers. A victim whose dip is never seen counts as unclear once the step is healed: it may never have been down.
func (q *query) workload(c *Condition) []Dip {
	w := newWalk("nothing of " + c.Workload + " was seen")
	t := tally{pods: map[string]standing{}}
	dipped := victimDips(q.tl, q.step)
	armed, healed := q.step == nil, q.step == nil || q.step.Healed == nil
	turn := func(now time.Duration) {
		if !armed && now > q.step.At {
			armed = true
			t.distrust(q.step, dipped)
			w.set(Interval{q.step.At, q.step.At}, t.truth(c))
		}
		if armed && !healed && now > *q.step.Healed {
			healed = true
			t.doubt(q.step, dipped)
			w.set(Interval{*q.step.Healed, *q.step.Healed}, t.truth(c))
		}
	}
	for i := range q.tl.Facts {
		f := &q.tl.Facts[i]
		if (f.Pod == nil && f.Workload == nil) || f.At > q.tl.End {
			continue
		}
		turn(f.At)
		if t.take(c.Workload, f, dipped) {
			w.set(q.tl.changed(f), t.truth(c))
		}
	}
	turn(never)
	return w.finish(q.tl.End)
}

// take puts a fact into the tally and says whether it is of the workload.
func (t *tally) take(workload string, f *Fact, dipped map[string]time.Duration) bool {
	if f.Workload != nil {
		if f.Workload.Workload != workload {
			return false
		}
		t.seen, t.gone, t.state = true, f.Gone, f.Workload
		return true
	}
	if f.Pod.Workload != workload {
		return false
	}
	t.seen = true
	s := t.pods[f.Pod.UID]
	t.count(s, -1)
	s.shown = serves(f)
	if at, ok := dipped[f.Pod.UID]; ok && f.At >= at {
		s.trust = trusted
	}
	t.count(s, 1)
	t.pods[f.Pod.UID] = s
	return true
}

func (t *tally) count(s standing, by int) {
	switch {
	case s.shown && s.trust == trusted:
		t.ready += by
	case s.shown && s.trust == doubted:
		t.maybe += by
	}
}

// mark changes the trust in a victim.
func (t *tally) mark(uid string, to trust) {
	s := t.pods[uid]
	t.count(s, -1)
	s.trust = to
	t.count(s, 1)
	t.pods[uid] = s
}

func (t *tally) distrust(step *Step, dipped map[string]time.Duration) {
	for _, v := range step.Victims {
		if at, ok := dipped[v.UID]; !ok || at > step.At {
			t.mark(v.UID, distrusted)
		}
	}
}

func (t *tally) doubt(step *Step, dipped map[string]time.Duration) {
	for _, v := range step.Victims {
		if _, ok := dipped[v.UID]; !ok {
			t.mark(v.UID, doubted)
		}
	}
}

// truth says whether the condition holds of the tally as it stands.
func (t *tally) truth(c *Condition) Truth {
	if !t.seen {
		return Unclear
	}
	if t.gone {
		return False
	}
	whole, asked := True, false
	if c.Ready != nil {
		whole, asked = whole.and(c.Ready.holds(t.ready, t.ready+t.maybe, t.state)), true
	}
	if c.Updated != nil {
		updated := Unclear
		if t.state != nil {
			updated = c.Updated.holds(t.state.Updated, t.state.Updated, t.state)
		}
		whole, asked = whole.and(updated), true
	}
	if c.RolledOut != nil {
		rolled := Unclear
		if t.state != nil {
			rolled = truthOf(t.state.RolledOut == *c.RolledOut)
		}
		whole, asked = whole.and(rolled), true
	}
	if !asked {
		return Unclear
	}
	return whole
}

// holds holds a demand against a number that lies in [lo, hi].
func (c *Count) holds(lo, hi int, state *WorkloadState) Truth {
	whole := True
	if c.All {
		if state == nil {
			return Unclear
		}
		whole = whole.and(between(lo >= state.Desired, hi < state.Desired))
	}
	if c.Min != nil {
		whole = whole.and(between(lo >= *c.Min, hi < *c.Min))
	}
	if c.Max != nil {
		whole = whole.and(between(hi <= *c.Max, lo > *c.Max))
	}
	if !c.All && c.Min == nil && c.Max == nil {
		return Unclear
	}
	return whole
}

func between(surely, surelyNot bool) Truth {
	switch {
	case surely:
		return True
	case surelyNot:
		return False
	}
	return Unclear
}

// serves says whether a pod's fact lets it count as ready.
func serves(f *Fact) bool { return f.Pod.Ready && !f.Pod.Deleting && !f.Gone }

// restarted says whether a pod runs other containers than the reference: one of the reference's is no longer there. A
// reference or a state without ids says nothing.
func restarted(ref *Ref, p *PodState) bool {
	known := slices.ContainsFunc(p.Containers, func(c ContainerState) bool { return c.ID != "" })
	if !known {
		return false
	}
	return slices.ContainsFunc(ref.Containers, func(id string) bool {
		return !slices.ContainsFunc(p.Containers, func(c ContainerState) bool { return c.ID == id })
	})
}

// victimDips gives, for every victim of a step whose dip was seen, when: the receipt of the first state, from the one
// that stood when the step began, in which it does not show ready with the same containers.
func victimDips(tl *Timeline, step *Step) map[string]time.Duration {
	if step == nil || len(step.Victims) == 0 {
		return nil
	}
	refs := make(map[string]*Ref, len(step.Victims))
	for i := range step.Victims {
		refs[step.Victims[i].UID] = &step.Victims[i]
	}
	dips := make(map[string]time.Duration, len(refs))
	for i := range tl.Facts {
		f := &tl.Facts[i]
		if f.Pod == nil || f.At > tl.End {
			continue
		}
		ref, ok := refs[f.Pod.UID]
		if !ok {
			continue
		}
		_, known := dips[f.Pod.UID]
		down := !serves(f) || restarted(ref, f.Pod)
		switch {
		case f.At <= step.At && down:
			dips[f.Pod.UID] = f.At
		case f.At <= step.At:
			delete(dips, f.Pod.UID)
		case down && !known:
			dips[f.Pod.UID] = f.At
		}
	}
	return dips
}
