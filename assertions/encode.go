package assertions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// errTrailing is returned where more than one value stands in a timeline file.
var errTrailing = errors.New("more than one value in the file")

// ReadTimeline reads one timeline as WriteTimeline wrote it. It is strict: unknown fields, a second value and a
// timeline that contradicts itself (times out of order, a fact without a state) are errors.
func ReadTimeline(r io.Reader) (Timeline, error) {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	var tl Timeline
	if err := decoder.Decode(&tl); err != nil {
		return Timeline{}, fmt.Errorf("read timeline: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Timeline{}, fmt.Errorf("read timeline: %w", errTrailing)
	}
	if err := tl.Check(); err != nil {
		return Timeline{}, fmt.Errorf("read timeline: %w", err)
	}
	return tl, nil
}

// WriteTimeline writes a timeline as one JSON object and a newline; every time in it is in nanoseconds.
func WriteTimeline(w io.Writer, tl Timeline) error {
	if err := json.NewEncoder(w).Encode(tl); err != nil {
		return fmt.Errorf("write timeline: %w", err)
	}
	return nil
}

// Check reports everything in which the timeline contradicts itself; what it passes can be judged.
func (tl Timeline) Check() error {
	var problems []error
	complain := func(format string, args ...any) {
		if len(problems) < 20 {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	for i, f := range tl.Facts {
		switch {
		case f.states() != 1:
			complain("fact %d: %d states, not one", i, f.states())
		case f.NotBefore > f.At:
			complain("fact %d: not before %v, but received at %v", i, f.NotBefore, f.At)
		case i > 0 && f.At < tl.Facts[i-1].At:
			complain("fact %d: out of order", i)
		}
	}
	for _, s := range tl.Streams {
		for i := range s.Samples {
			if p := &s.Samples[i]; p.End < p.Start {
				complain("stream %q, sample %d: ends before it starts", s.Probe, i)
			}
			if i > 0 && s.Samples[i].Start < s.Samples[i-1].Start {
				complain("stream %q, sample %d: out of order", s.Probe, i)
			}
		}
	}
	for i, g := range tl.Gaps {
		if g.To < g.From {
			complain("gap %d: ends before it begins", i)
		}
	}
	for _, s := range tl.Steps {
		if s.Effective != nil && s.Effective.Hi < s.Effective.Lo {
			complain("step %q: its effect is proven before it can have begun", s.Name)
		}
	}
	return errors.Join(problems...)
}

func (f *Fact) states() int {
	n := 0
	for _, set := range []bool{f.Pod != nil, f.Node != nil, f.Endpoint != nil, f.Workload != nil, f.Event != nil,
		f.Field != nil} {
		if set {
			n++
		}
	}
	return n
}
