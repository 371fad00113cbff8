package assertions

import (
	"slices"
	"time"
)

// Dip is a stretch in which a condition did not hold, or may not have held. A condition's truth over time is the list
// of its dips: outside them it was true. Every point is an offset.
type Dip struct {
	// Began and Ended bound the two edges of the dip. Where it is Open, Ended.Lo is the last moment at which the
	// condition is known to have been false, and Ended.Hi the end of what was watched.
	Began Interval
	Ended Interval
	// Seen: the condition was false at some moment. Otherwise it can only not be excluded (a blind gap, missing data).
	Seen bool
	// Open: the condition was not seen to become true again.
	Open bool

	// hit is the moment by which the dip had begun when failing late is not held against it (see exposure).
	hit time.Duration
	// lastHit is the same for its last failure, sent the start of its first failing sample.
	lastHit, sent time.Duration
	// why explains a dip that was not seen, for the reasons of results.
	why string
}

// truth is the condition's value at one moment of or outside the dip.
func (d *Dip) truth(at time.Duration) Truth {
	switch {
	case at < d.Began.Lo || (!d.Open && at >= d.Ended.Hi):
		return True
	case d.Seen && at >= d.Began.Hi && at <= d.Ended.Lo:
		return False
	}
	return Unclear
}

// spell is a run of dips between which the condition never held for as long as `hold` with certainty: one outage.
type spell struct {
	began, ended Interval
	seen, open   bool
	// longest is the least that its longest sure part lasted; firstEnd the end of its first sure part, at the earliest.
	longest  time.Duration
	firstEnd time.Duration
	// surely is the moment by which its first sure part had begun.
	surely time.Duration
	sent   time.Duration // start of its first failing sample
	why    string

	partBegan, partEnded time.Duration // the sure part being built
	maybeFrom            time.Duration // where an unseen dip opened the spell, else its first sure part's hit
}

// join makes spells of dips, which are in order of Began.Lo. known is the moment up to which the data is complete.
//
// Rules. Failures interleaved within hold belong to one outage: a dip joins the spell unless the condition was true for
// hold between the latest end of the one and the earliest beginning of the other. Where that is only possible, not
// certain (an edge's width, a blind gap), the spell's upper bound spans both and its lower bound is that of the longest
// part that surely was one. A spell is open until the condition was true for hold after it, with all data in.
func join(dips []Dip, hold, known time.Duration) []spell {
	var spells []spell
	var cur *spell
	for i := range dips {
		d := &dips[i]
		if cur == nil || (!cur.open && d.Began.Lo >= cur.ended.Hi && d.Began.Lo-cur.ended.Hi >= hold) {
			spells = append(spells, spell{began: d.Began, ended: d.Ended, maybeFrom: d.Began.Lo, why: d.why})
			cur = &spells[len(spells)-1]
		}
		cur.add(d, hold)
	}
	for i := range spells {
		spells[i].open = spells[i].open || spells[i].ended.Hi+hold > known
	}
	return spells
}

// add puts a dip into the spell.
func (s *spell) add(d *Dip, hold time.Duration) {
	s.began.Lo, s.began.Hi = min(s.began.Lo, d.Began.Lo), min(s.began.Hi, d.Began.Hi)
	s.ended.Lo, s.ended.Hi = max(s.ended.Lo, d.Ended.Lo), max(s.ended.Hi, d.Ended.Hi)
	s.open = s.open || d.Open
	if s.why == "" {
		s.why = d.why
	}
	if !d.Seen {
		return
	}
	switch {
	case !s.seen:
		s.seen, s.surely, s.sent = true, d.hit, d.sent
		s.partBegan, s.partEnded, s.firstEnd = d.Began.Hi, d.Ended.Lo, d.Ended.Lo
	case d.hit-s.partEnded < hold:
		first := s.firstEnd == s.partEnded
		s.partBegan, s.partEnded = min(s.partBegan, d.Began.Hi), max(s.partEnded, d.Ended.Lo)
		if first {
			s.firstEnd = s.partEnded
		}
	default:
		s.partBegan, s.partEnded = d.Began.Hi, d.Ended.Lo
	}
	s.longest = max(s.longest, s.partEnded-s.partBegan)
}

// recoveredAt bounds the moment at which the condition came back for good (for hold). An unseen dip that opened the
// spell may have been all of the first outage, where it leaves room for a hold before the first sure failure.
func (s *spell) recoveredAt(hold time.Duration) Interval {
	lo := s.firstEnd
	if s.maybeFrom < s.surely-hold {
		lo = min(lo, s.maybeFrom)
	}
	return Interval{Lo: lo, Hi: s.ended.Hi}
}

// both gives the dips of "a and b": it dips wherever one of them does.
func both(a, b []Dip) []Dip {
	out := append(slices.Clone(a), b...)
	slices.SortStableFunc(out, func(x, y Dip) int { return compare(x.Began.Lo, y.Began.Lo) })
	return out
}

// either gives the dips of "a or b": it dips only where both may, and surely only while both are surely false. A dip
// too short to have a sure stretch of its own is no proof against the other side.
func either(a, b []Dip, end time.Duration) []Dip {
	var out []Dip
	falseA, falseB := surely(a, end), surely(b, end)
	falses := intersect(falseA, falseB)
	for _, outer := range intersect(outers(a, end), outers(b, end)) {
		open := openAt(a, outer.Hi) && openAt(b, outer.Hi)
		before := len(out)
		for len(falses) > 0 && falses[0].Lo < outer.Lo {
			falses = falses[1:]
		}
		from := outer.Lo
		for len(falses) > 0 && falses[0].Hi <= outer.Hi {
			f := falses[0]
			falses = falses[1:]
			next := outer.Hi
			if len(falses) > 0 && falses[0].Hi <= outer.Hi {
				next = falses[0].Lo
			}
			out = append(out, Dip{Began: Interval{from, f.Lo}, Ended: Interval{f.Hi, next}, Seen: true, hit: f.Lo})
			from = f.Hi
		}
		if len(out) == before {
			out = append(out, Dip{Began: outer, Ended: outer, hit: outer.Hi, why: firstWhy(a, b)})
		}
		out[len(out)-1].Open = open
	}
	return out
}

// surely gives the stretches in which the condition was certainly false, merged and in order.
func surely(dips []Dip, end time.Duration) []Interval {
	var out []Interval
	for _, d := range dips {
		if d.Seen && d.Began.Hi < d.Ended.Lo {
			out = append(out, Interval{d.Began.Hi, min(end, d.Ended.Lo)})
		}
	}
	return merge(out)
}

// outers gives the stretches in which the condition may have been false, merged and in order.
func outers(dips []Dip, end time.Duration) []Interval {
	out := make([]Interval, 0, len(dips))
	for _, d := range dips {
		hi := d.Ended.Hi
		if d.Open {
			hi = max(hi, end)
		}
		out = append(out, Interval{d.Began.Lo, hi})
	}
	return merge(out)
}

func merge(in []Interval) []Interval {
	slices.SortFunc(in, func(x, y Interval) int { return compare(x.Lo, y.Lo) })
	var out []Interval
	for _, i := range in {
		if n := len(out); n > 0 && i.Lo <= out[n-1].Hi {
			out[n-1].Hi = max(out[n-1].Hi, i.Hi)
			continue
		}
		out = append(out, i)
	}
	return out
}

// intersect gives the stretches that lie in both lists, which are merged and in order.
func intersect(a, b []Interval) []Interval {
	var out []Interval
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if lo, hi := max(a[i].Lo, b[j].Lo), min(a[i].Hi, b[j].Hi); lo < hi {
			out = append(out, Interval{lo, hi})
		}
		if a[i].Hi < b[j].Hi {
			i++
		} else {
			j++
		}
	}
	return out
}

func openAt(dips []Dip, at time.Duration) bool {
	for _, d := range dips {
		if d.Open && d.Began.Lo < at {
			return true
		}
	}
	return false
}

func firstWhy(lists ...[]Dip) string {
	for _, dips := range lists {
		for _, d := range dips {
			if d.why != "" {
				return d.why
			}
		}
	}
	return ""
}

func compare(a, b time.Duration) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
