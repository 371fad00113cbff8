package assertions

import (
	"slices"
	"strings"
	"time"
)

// Truth is what a timeline says of a condition at one moment. Its zero value is Unclear: nothing was seen.
type Truth int8

// The values of a condition.
const (
	Unclear Truth = iota
	True
	False
)

// String gives the word for a truth.
func (t Truth) String() string {
	switch t {
	case True:
		return "true"
	case False:
		return "false"
	}
	return "unclear"
}

// and is Kleene's: false beats unclear beats true.
func (t Truth) and(o Truth) Truth {
	switch {
	case t == False || o == False:
		return False
	case t == True && o == True:
		return True
	}
	return Unclear
}

func truthOf(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Evaluate says whether a condition held at one moment, as the whole timeline knows it now. With a step, its victims
// satisfy no `ready` (see Step.Victims), and events count from its beginning; without one, events count from zero.
func Evaluate(tl Timeline, c Condition, step *Step, at time.Duration) Truth {
	from := time.Duration(0)
	if step != nil {
		from = step.At
	}
	return EvaluateFrom(tl, c, step, from, at)
}

// EvaluateFrom is Evaluate for a condition that was first asked about at from: events before it do not count.
func EvaluateFrom(tl Timeline, c Condition, step *Step, from, at time.Duration) Truth {
	whole := True
	for _, d := range dipsOf(&query{tl: &tl, step: step, from: from, window: at}, &c) {
		whole = whole.and(d.truth(at))
	}
	return whole
}

// Dips gives the truth of a condition as a function of time: the stretches in which it did not hold, or may not have
// held, in order of their beginning, each edge an interval. Outside them it was true. Stretches may overlap.
func Dips(tl Timeline, c Condition, step *Step) []Dip {
	q := &query{tl: &tl, step: step}
	if step != nil {
		q.from = step.At
	}
	return dipsOf(q, &c)
}

// query is what a condition is asked against.
type query struct {
	tl *Timeline
	// step is the step whose victims are not trusted, nil for none; from is when the condition is first asked about.
	step *Step
	from time.Duration
	// window is the beginning of the time that is asked about; what probes saw well before it is not looked at.
	window time.Duration
	// hold allows failures of a probe within it to be taken for one dip; zero keeps them apart.
	hold time.Duration
}

func dipsOf(q *query, c *Condition) []Dip {
	switch {
	case len(c.All) > 0:
		dips := dipsOf(q, &c.All[0])
		for i := range c.All[1:] {
			dips = both(dips, dipsOf(q, &c.All[i+1]))
		}
		return dips
	case len(c.Any) > 0:
		apart := *q
		apart.hold = 0
		dips := dipsOf(&apart, &c.Any[0])
		for i := range c.Any[1:] {
			dips = either(dips, dipsOf(&apart, &c.Any[i+1]), q.tl.End)
		}
		return dips
	case c.Workload != "":
		return q.overlay(q.workload(c), "pods", "workloads")
	case c.Probe != "" && c.Lost != nil:
		return q.lost(c)
	case c.Probe != "":
		return q.probe(c)
	case len(c.Nodes) > 0:
		return q.overlay(q.nodes(c), "nodes")
	case c.Event != nil:
		return q.event(c.Event)
	case c.Object != nil:
		return q.overlay(q.object(c.Object), "objects")
	}
	return q.missing("the condition asks for nothing")
}

// missing is the truth of a condition whose data is not there: unknown throughout, never true.
func (q *query) missing(why string) []Dip {
	return []Dip{{Ended: Interval{0, q.tl.End}, Open: true, why: why}}
}

// walk builds dips from a truth that changes at edges, each known to lie within an interval.
type walk struct {
	dips []Dip
	last Truth
	// edge is the last change so far: an observer sees changes in the order in which they happened, so none is older
	// than the one before it.
	edge time.Duration
	why  string
}

// newWalk starts a truth that is unclear from zero on.
func newWalk(why string) *walk {
	return &walk{dips: []Dip{{why: why}}, why: why}
}

// set lets the truth be t from an edge on; edges come in order.
func (w *walk) set(edge Interval, t Truth) {
	if t == w.last {
		return
	}
	edge.Lo = max(edge.Lo, w.edge)
	edge.Hi = max(edge.Hi, edge.Lo)
	w.edge = edge.Lo
	if n := len(w.dips) - 1; w.last != True {
		w.dips[n].Ended = edge
	}
	if t != True {
		w.dips = append(w.dips, Dip{Began: edge, Seen: t == False, hit: edge.Hi, lastHit: edge.Hi, sent: edge.Hi})
		if t == Unclear {
			w.dips[len(w.dips)-1].why = w.why
		}
	}
	w.last = t
}

// finish closes the walk at the end of the timeline: what was false last is false until then.
func (w *walk) finish(end time.Duration) []Dip {
	if n := len(w.dips) - 1; w.last != True {
		w.dips[n].Ended, w.dips[n].Open = Interval{end, end}, true
	}
	return w.dips
}

// changed bounds the moment of a fact's change. What came in after a complete gap may have happened anywhere in it.
func (tl *Timeline) changed(f *Fact) Interval {
	lo := min(f.NotBefore, f.At)
	for _, g := range tl.Gaps {
		if g.Complete && g.Source == f.Source && lo > g.From && lo <= g.To {
			lo = g.From
		}
	}
	return Interval{lo, f.At}
}

// overlay puts the blind gaps of observers over a condition that hangs on them: in a gap nothing is known, whatever was
// seen last, but that the changes of a complete one (see Gap.Complete) all came in afterwards.
func (q *query) overlay(dips []Dip, sources ...string) []Dip {
	var blind []Dip
	for _, g := range q.tl.Gaps {
		if g.Complete || !slices.Contains(sources, g.Source) || g.From >= q.tl.End {
			continue
		}
		edge := Interval{g.From, min(g.To, q.tl.End)}
		blind = append(blind, Dip{Began: edge, Ended: edge, Open: g.To >= q.tl.End, hit: edge.Hi, lastHit: edge.Hi,
			sent: edge.Hi, why: blindness(g)})
		dips = cut(dips, edge)
	}
	if len(blind) == 0 {
		return dips
	}
	return both(dips, blind)
}

// cut takes a stretch out of what is surely false: the condition may have held within it.
func cut(dips []Dip, blind Interval) []Dip {
	var out []Dip
	for _, d := range dips {
		if d.Seen && d.Began.Hi < blind.Lo && d.Ended.Lo > blind.Hi {
			before, after := d, d
			before.Ended, before.Open = blind, false
			after.Began, after.hit, after.sent = blind, blind.Hi, blind.Hi
			out = append(out, before, after)
			continue
		}
		out = append(out, d)
	}
	return out
}

// probe gives the dips of "the latest sample is good" (or is not, where OK is false), over every vantage of the probe.
func (q *query) probe(c *Condition) []Dip {
	want := c.OK == nil || *c.OK
	pass := func(s *Sample) bool { return (s.OK && (c.Tag == "" || s.Tag == c.Tag)) == want }
	var dips []Dip
	found := false
	for i := range q.tl.Streams {
		if s := &q.tl.Streams[i]; s.Probe == c.Probe {
			d := streamDips(s, q.tl.Gaps, pass, q.hold, q.window, q.tl.End)
			if found {
				d = both(dips, d)
			}
			dips, found = d, true
		}
	}
	if !found {
		return q.missing("no probe " + c.Probe)
	}
	return dips
}

// lost gives the dips of "the share of failing samples in the last Over lies within the range". It is unclear until a
// whole window was sampled, and where a window holds no sample. A sample counts from the moment it was answered.
func (q *query) lost(c *Condition) []Dip {
	w := newWalk("no sample in the window")
	for i := range q.tl.Streams {
		s := &q.tl.Streams[i]
		if s.Probe != c.Probe || len(s.Samples) == 0 {
			continue
		}
		recent := s.Samples
		if c.Over > 0 {
			recent = sentSince(recent, q.window-2*c.Over-2*s.Timeout)
		}
		answered := slices.Clone(recent)
		slices.SortStableFunc(answered, func(a, b Sample) int { return compare(a.End, b.End) })
		full := max(q.from, s.Samples[0].Start) + c.Over
		failed, first, next := 0, 0, 0
		for next < len(answered) || (c.Over > 0 && first < next) {
			now := never
			if next < len(answered) {
				now = answered[next].End
			}
			if leaves := never; c.Over > 0 && first < next {
				leaves = answered[first].End + c.Over
				if leaves <= now {
					now = leaves
				}
			}
			if now > q.tl.End {
				break
			}
			for c.Over > 0 && first < next && answered[first].End+c.Over <= now {
				if !answered[first].OK {
					failed--
				}
				first++
			}
			for next < len(answered) && answered[next].End <= now {
				if !answered[next].OK {
					failed++
				}
				next++
			}
			t := Unclear
			if n := next - first; n > 0 && now >= full {
				t = truthOf(c.Lost.holds(float64(failed) / float64(n)))
			}
			w.set(Interval{now, now}, t)
		}
		return w.finish(q.tl.End)
	}
	return q.missing("no probe " + c.Probe)
}

// holds says whether a number lies within the range.
func (r *Range) holds(v float64) bool {
	return (r.Min == nil || v >= *r.Min) && (r.Max == nil || v <= *r.Max)
}

func (q *query) nodes(c *Condition) []Dip {
	w := newWalk("no node " + strings.Join(c.Nodes, ", ") + " was seen")
	seen := make(map[string]Truth, len(c.Nodes))
	for i := range q.tl.Facts {
		f := &q.tl.Facts[i]
		if f.Node == nil || f.At > q.tl.End {
			continue
		}
		edge := q.tl.changed(f)
		if !slices.Contains(c.Nodes, f.Node.Name) {
			continue
		}
		seen[f.Node.Name] = truthOf(!f.Gone && c.node(f.Node))
		whole := True
		for _, name := range c.Nodes {
			whole = whole.and(seen[name])
		}
		w.set(edge, whole)
	}
	return w.finish(q.tl.End)
}

func (c *Condition) node(n *NodeState) bool {
	if c.NodeReady != "" && n.Ready != c.NodeReady {
		return false
	}
	if c.Unschedulable != nil && n.Unschedulable != *c.Unschedulable {
		return false
	}
	return c.NodeTaint == "" || slices.ContainsFunc(n.Taints, func(t string) bool { return taintKey(t) == c.NodeTaint })
}

// taintKey is KEY of KEY=VALUE:EFFECT, both of whose other parts may be absent.
func taintKey(taint string) string {
	key, _, _ := strings.Cut(taint, ":")
	key, _, _ = strings.Cut(key, "=")
	return key
}

// event is true from the first event that matches on, false before. A blind gap matters only until then.
func (q *query) event(m *EventMatch) []Dip {
	d := Dip{Began: Interval{q.from, q.from}, Ended: Interval{q.tl.End, q.tl.End}, Seen: true, Open: true, hit: q.from,
		lastHit: q.from, sent: q.from}
	for i := range q.tl.Facts {
		f := &q.tl.Facts[i]
		if f.Event == nil || f.At > q.tl.End {
			continue
		}
		edge := q.tl.changed(f)
		if edge.Hi >= q.from && m.matches(f.Event) {
			d.Ended, d.Open = Interval{max(edge.Lo, q.from), edge.Hi}, false
			break
		}
	}
	for _, g := range q.tl.Gaps {
		if g.Source == "events" && !g.Complete && g.From < d.Ended.Lo && g.To > q.from {
			d.Ended.Lo = max(g.From, q.from)
		}
	}
	return []Dip{d}
}

func (m *EventMatch) matches(e *EventState) bool {
	return (m.Reason == "" || m.Reason == e.Reason) && (m.Kind == "" || m.Kind == e.Kind) &&
		(m.Name == "" || m.Name == e.Name) && (m.Type == "" || m.Type == e.Type)
}

func (q *query) object(m *FieldMatch) []Dip {
	w := newWalk("the field " + m.Path + " of " + m.Object + " was not seen")
	for i := range q.tl.Facts {
		f := &q.tl.Facts[i]
		if f.Field == nil || f.At > q.tl.End {
			continue
		}
		edge := q.tl.changed(f)
		if f.Field.Object != m.Object || f.Field.Path != m.Path {
			continue
		}
		present := f.Field.Present && !f.Gone
		fits := m.Present == nil || *m.Present == present
		if m.Equals != nil {
			fits = fits && present && f.Field.Value == *m.Equals
		}
		w.set(edge, truthOf(fits && (m.Present != nil || m.Equals != nil)))
	}
	return w.finish(q.tl.End)
}
