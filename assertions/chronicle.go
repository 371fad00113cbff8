package assertions

import (
	"slices"
	"strings"
)

// chronicle is what a timeline says of the pods that a step touched, edge by edge. Facts up to the step's beginning
// only set the scene.
type chronicle struct {
	tl      *Timeline
	step    *Step
	victims []*life
	// lives are all pods by UID, order those that came after the step's beginning, in order.
	lives    map[string]*life
	newcomer []*life
	// tainted are the edges at which nodes got their first NoExecute taint, down those at which they left Ready, by
	// name.
	tainted, down map[string]*Interval
	noExecute     map[string]int
	services      []string
}

// life is one pod's way, as far as it was seen. An edge that was not seen is nil.
type life struct {
	ref      Ref
	workload string
	node     string
	victim   bool

	seen, scheduled, started, ready *Interval // of a newcomer
	detected, evicted               *Interval // of a victim
	withdrawn, published            *Interval // its endpoints; a victim's published tells that it had some before
	endpoints                       map[string]bool
	again                           again // of a victim that came back in place
	replacement                     *life
	gone                            bool
	// known is set once a pod fact was seen.
	known bool
}

// again is a victim's second life under the same UID.
type again struct {
	restarted                 bool
	started, ready, published *Interval
}

// back is the edge at which a victim was ready again in place.
func (l *life) back() *Interval { return l.again.ready }

func newChronicle(tl *Timeline, step *Step, services []string) *chronicle {
	c := &chronicle{tl: tl, step: step, lives: map[string]*life{}, tainted: map[string]*Interval{},
		down: map[string]*Interval{}, noExecute: map[string]int{}}
	for _, s := range services {
		if s != "" {
			c.services = append(c.services, s)
		}
	}
	for _, v := range step.Victims {
		l := &life{ref: v, workload: v.Workload, victim: true}
		c.victims, c.lives[v.UID] = append(c.victims, l), l
	}
	for i := range tl.Facts {
		f := &tl.Facts[i]
		if f.At > tl.End {
			break
		}
		edge := tl.changed(f)
		switch {
		case f.Pod != nil:
			c.pod(f, edge)
		case f.Node != nil:
			c.node(f, edge)
		case f.Endpoint != nil && (len(c.services) == 0 || slices.Contains(c.services, f.Endpoint.Service)):
			c.endpoint(f, edge)
		}
	}
	c.pair()
	return c
}

// before says whether a fact only sets the scene.
func (c *chronicle) before(f *Fact) bool { return f.At <= c.step.At }

// first notes an edge where none was noted yet.
func first(at **Interval, edge Interval) {
	if *at == nil {
		*at = &edge
	}
}

func (c *chronicle) pod(f *Fact, edge Interval) {
	l := c.lives[f.Pod.UID]
	if l == nil {
		l = &life{ref: Ref{Kind: "Pod", Namespace: f.Pod.Namespace, Name: f.Pod.Name, UID: f.Pod.UID,
			Workload: f.Pod.Workload}}
		c.lives[f.Pod.UID] = l
		if !c.before(f) {
			c.newcomer = append(c.newcomer, l)
		}
	}
	if f.Pod.Workload != "" {
		l.workload, l.ref.Workload = f.Pod.Workload, f.Pod.Workload
	}
	if f.Pod.Node != "" {
		l.node = f.Pod.Node
	}
	l.known = true
	switch {
	case c.before(f):
	case l.victim:
		l.suffer(f, edge)
	default:
		l.grow(f, edge)
	}
}

// suffer notes a victim's edges. It is detected when it is seen not ready, being deleted, gone, or without one of its
// containers running.
func (l *life) suffer(f *Fact, edge Interval) {
	renewed := restarted(&l.ref, f.Pod)
	if !serves(f) || renewed || l.stopped(f.Pod) {
		first(&l.detected, edge)
	}
	if f.Gone || f.Pod.Deleting || f.Pod.Disruption != "" {
		first(&l.detected, edge)
		first(&l.evicted, edge)
		l.gone = l.gone || f.Gone
		return
	}
	if l.detected == nil {
		return
	}
	if renewed {
		l.again.restarted = true
		if f.Pod.Started {
			first(&l.again.started, edge)
		}
	}
	if serves(f) && !l.stopped(f.Pod) {
		first(&l.again.ready, edge)
	}
}

// stopped says whether one of the containers that the victim had is seen not running.
func (l *life) stopped(p *PodState) bool {
	return slices.ContainsFunc(p.Containers, func(c ContainerState) bool {
		return !c.Running && slices.Contains(l.ref.Containers, c.ID)
	})
}

// grow notes a newcomer's edges.
func (l *life) grow(f *Fact, edge Interval) {
	if (f.Gone || f.Pod.Deleting) && l.ready == nil {
		l.gone = true
	}
	first(&l.seen, edge)
	if f.Pod.Scheduled {
		first(&l.scheduled, edge)
	}
	if f.Pod.Started {
		first(&l.started, edge)
	}
	if serves(f) {
		first(&l.ready, edge)
	}
}

func (c *chronicle) node(f *Fact, edge Interval) {
	name := f.Node.Name
	taints := 0
	for _, t := range f.Node.Taints {
		if strings.HasSuffix(t, ":NoExecute") {
			taints++
		}
	}
	if c.before(f) {
		c.noExecute[name] = taints
		return
	}
	if (f.Gone || f.Node.Ready != "True") && c.down[name] == nil {
		c.down[name] = &edge
		for _, v := range c.victims {
			if v.node == name {
				first(&v.detected, edge)
			}
		}
	}
	if taints > c.noExecute[name] && c.tainted[name] == nil {
		c.tainted[name] = &edge
	}
}

// taintBefore is the edge at which a victim's node was tainted, where that came before another edge (or that is nil).
func (c *chronicle) taintBefore(v *life, edge *Interval) *Interval {
	t := c.tainted[v.node]
	if t == nil || (edge != nil && t.Lo > edge.Hi) {
		return nil
	}
	return t
}

// endpoint notes when a pod was withdrawn from, and published behind, its services: the last of them counts.
func (c *chronicle) endpoint(f *Fact, edge Interval) {
	l := c.lives[f.Endpoint.PodUID]
	if l == nil {
		l = &life{ref: Ref{Kind: "Pod", Name: f.Endpoint.Pod, UID: f.Endpoint.PodUID}}
		c.lives[f.Endpoint.PodUID] = l
		if !c.before(f) {
			c.newcomer = append(c.newcomer, l)
		}
	}
	if l.endpoints == nil {
		l.endpoints = map[string]bool{}
	}
	ready, was := f.Endpoint.Ready && !f.Gone, l.endpoints[f.Endpoint.Service]
	l.endpoints[f.Endpoint.Service] = ready
	switch {
	case l.victim && c.before(f):
		if ready {
			l.published = &edge
		}
	case l.victim && was && !ready:
		l.withdrawn, l.again.published = &edge, nil
	case l.victim && !was && ready && l.withdrawn != nil:
		l.again.published = &edge
	case !l.victim && ready && !was && !c.before(f):
		l.published = &edge
	}
}

// pair gives each victim that was evicted its replacement.
func (c *chronicle) pair() {
	var evicted []*life
	for _, v := range c.victims {
		if v.evicted != nil {
			evicted = append(evicted, v)
		}
	}
	slices.SortStableFunc(evicted, func(a, b *life) int { return compare(a.evicted.Hi, b.evicted.Hi) })
	taken := map[*life]bool{}
	for _, v := range evicted {
		for _, n := range c.newcomer {
			if n.seen != nil && !n.gone && !taken[n] && n.workload == v.workload && v.workload != "" {
				v.replacement, taken[n] = n, true
				break
			}
		}
	}
}

// served is when a probe's clients were served again: nil where they always were, open where they were not yet.
type served struct {
	edge *Interval
	open bool
}

func (c *chronicle) served(probe string) served {
	for i := range c.tl.Streams {
		s := &c.tl.Streams[i]
		if probe != "" && s.Probe != probe {
			continue
		}
		dips := streamDips(s, c.tl.Gaps, sampleOK, DefaultHold, c.step.At, c.tl.End)
		dips = slices.DeleteFunc(dips, func(d Dip) bool { return !d.Open && d.Ended.Hi <= c.step.At })
		for _, sp := range join(dips, DefaultHold, c.tl.End) {
			if !sp.seen {
				continue
			}
			if sp.open {
				return served{open: true}
			}
			return served{edge: &Interval{max(sp.firstEnd, c.step.At), sp.ended.Hi}}
		}
		return served{}
	}
	return served{}
}
