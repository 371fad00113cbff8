package recorder

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

// store is the timeline while it grows. Facts and samples are append-only: snapshots share their backing arrays, which
// are never written again below a snapshot's length.
type store struct {
	clock *Clock

	mu       sync.Mutex
	run      string
	scenario string
	facts    []assertions.Fact
	steps    []assertions.Step // copied before each change
	streams  []*stream
	gaps     []assertions.Gap
	open     map[any]assertions.Gap // by the observer that is blind
	end      time.Duration          // set once the recorder stopped
	changed  chan struct{}          // nil until somebody waits
}

// stream is what one probe saw so far. Samples arrive as they end and are kept in order of their start.
type stream struct {
	probe, vantage    string
	interval, timeout time.Duration
	samples           []assertions.Sample
	shared            int // length of the longest snapshot
	newest            time.Duration
	sorted            bool // false: samples[:] must be sorted before it is shown
}

func newStore(clock *Clock, run, scenario string) *store {
	return &store{clock: clock, run: run, scenario: scenario, open: map[any]assertions.Gap{}}
}

// notify wakes whoever waits; s.mu is held.
func (s *store) notify() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// wait returns a channel that is closed at the next change.
func (s *store) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// addFacts stamps facts with the moment of receipt and appends them; bound is their NotBefore.
func (s *store) addFacts(bound time.Duration, facts []assertions.Fact) {
	if len(facts) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.clock.Now() // under the lock, so that facts are in order
	if s.end > 0 {
		return // the timeline is final
	}
	for _, f := range facts {
		f.At, f.NotBefore = at, min(bound, at)
		s.facts = append(s.facts, f)
	}
	s.notify()
}

func (s *store) addStep(step assertions.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(slices.Clip(s.steps), step)
	s.notify()
}

// updateStep changes a copy of the last step of that name and reports whether there is one.
func (s *store) updateStep(name string, change func(*assertions.Step)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if s.steps[i].Name == name {
			s.steps = slices.Clone(s.steps)
			change(&s.steps[i])
			s.notify()
			return true
		}
	}
	return false
}

// blind opens a gap of an observer from its last proof of life; one that is open already is kept.
func (s *store) blind(observer any, source string, from time.Duration, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[observer]; ok {
		return
	}
	s.open[observer] = assertions.Gap{Source: source, From: max(0, from), Reason: reason}
	s.notify()
}

// sees closes the observer's gap, if there is one; complete says that everything that happened in it has come in.
func (s *store) sees(observer any, complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gap, ok := s.open[observer]
	if !ok {
		return
	}
	delete(s.open, observer)
	gap.To, gap.Complete = s.clock.Now(), complete
	s.gaps = append(s.gaps, gap)
	s.notify()
}

func (s *store) addStream(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = append(s.streams, st)
	s.notify()
}

// addSamples appends samples to a stream.
func (s *store) addSamples(st *stream, samples []assertions.Sample) {
	if len(samples) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sample := range samples {
		if s.end > 0 && sample.Start > s.end {
			continue // began after what was watched
		}
		if hole := sample.Start - st.newest; len(st.samples) > 0 && hole > st.timeout+st.interval {
			s.gaps = append(s.gaps, st.gap(sample.Start))
		}
		st.samples = append(st.samples, sample)
		st.sorted = st.sorted && sample.Start > st.newest
		st.newest = max(st.newest, sample.Start)
	}
	s.notify()
}

// gap is the stretch without a sample that lasts until to.
func (st *stream) gap(to time.Duration) assertions.Gap {
	return assertions.Gap{Source: SourceProbe + st.probe, From: st.newest, To: to, Reason: "no samples"}
}

// view returns the samples in order. Where late ones have to be sorted in below what a snapshot shares, that happens in
// a copy: the snapshot stays as it was.
func (st *stream) view() []assertions.Sample {
	if !st.sorted {
		if !slices.IsSortedFunc(st.samples, prober.Compare) {
			if st.shared > 0 {
				st.samples = append(make([]assertions.Sample, 0, 2*len(st.samples)), st.samples...)
			}
			slices.SortStableFunc(st.samples, prober.Compare)
		}
		st.sorted = true
	}
	st.shared = len(st.samples)
	return st.samples[:st.shared:st.shared]
}

// snapshot returns the timeline up to now, or up to the end where the recorder has stopped.
func (s *store) snapshot() assertions.Timeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.end
	if end == 0 {
		end = s.clock.Now()
	}
	tl := assertions.Timeline{
		Run: s.run, Scenario: s.scenario, End: end,
		Steps: slices.Clip(s.steps), Facts: s.facts[:len(s.facts):len(s.facts)],
		Gaps: slices.Clone(s.gaps),
	}
	for _, gap := range s.open {
		gap.To = max(end, gap.From)
		tl.Gaps = append(tl.Gaps, gap)
	}
	for _, st := range s.streams {
		// While the run goes on, samples may still be on their way; once it is over, they are not.
		late := st.timeout + st.interval
		if s.end == 0 {
			late += deliverySlack
		}
		if len(st.samples) > 0 && end-st.newest > late {
			tl.Gaps = append(tl.Gaps, st.gap(end))
		}
	}
	slices.SortStableFunc(tl.Gaps, func(a, b assertions.Gap) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Source, b.Source))
	})
	for _, st := range s.streams {
		tl.Streams = append(tl.Streams, assertions.Stream{
			Probe: st.probe, Vantage: st.vantage, Interval: st.interval, Timeout: st.timeout, Samples: st.view(),
		})
	}
	return tl
}

// finish fixes the end: the offset up to which was watched.
func (s *store) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == 0 {
		s.end = s.clock.Now()
	}
	s.notify()
}
