package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/injectors"
)

// gate is an edge of a step that others wait for. It opens once, or fails once.
type gate struct {
	once sync.Once
	done chan struct{}
	err  error
}

func newGate() *gate { return &gate{done: make(chan struct{})} }

// open lets the waiting go on; with an error they fail instead.
func (g *gate) open(err error) {
	g.once.Do(func() {
		g.err = err
		close(g.done)
	})
}

func (g *gate) wait(ctx context.Context) error {
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stepRun is one step in progress.
type stepRun struct {
	planned PlannedStep
	index   int
	// started, effective, done and healed are the edges that other steps wait for.
	started, effective, done, healed *gate
	// undo is what the step owes; nil until it starts. undone is set once something owed was taken back.
	undo   *injectors.Undo
	undone bool
}

func newStepRun(planned PlannedStep, index int) *stepRun {
	return &stepRun{planned: planned, index: index, started: newGate(), effective: newGate(), done: newGate(),
		healed: newGate()}
}

// fail opens every edge that has not been reached with an error, so that nobody waits for it for ever.
func (s *stepRun) fail(err error) {
	for _, g := range []*gate{s.started, s.effective, s.done, s.healed} {
		g.open(err)
	}
}

// edge returns the gate of a named edge; the default is effective for a fault and done for an action.
func (s *stepRun) edge(name assertions.Edge) (*gate, error) {
	switch name {
	case assertions.EdgeAt:
		return s.started, nil
	case assertions.EdgeEffective, "":
		return s.effective, nil
	case assertions.EdgeDone:
		return s.done, nil
	case assertions.EdgeHealed:
		return s.healed, nil
	}
	return nil, fmt.Errorf("step %s has no edge %q", s.planned.Name, name)
}

// errWhenUnmet: the condition that a step waits for did not become true in time.
var errWhenUnmet = errors.New("its condition was not met in time")

// awaitStart returns when a step is due: by `at:`, `after:` (+ `delay:`), `when:` (+ `within:`), or, without any of
// them, once the step before is effective.
func (p *play) awaitStart(ctx context.Context, s *stepRun) error {
	spec := p.plan.scenario.Spec.Steps[s.index]
	switch {
	case spec.At != nil:
		return waitFor(ctx, p.steadyAt+time.Duration(*spec.At)-p.now())
	case spec.When != nil:
		if err := p.awaitCondition(ctx, s); err != nil {
			return err
		}
	case spec.After != "":
		name, edge, _ := strings.Cut(spec.After, ".")
		before, ok := p.stepByName(name)
		if !ok {
			return fmt.Errorf("after %s: no such step", spec.After)
		}
		g, err := before.edge(assertions.Edge(edge))
		if err != nil {
			return err
		}
		if err := g.wait(ctx); err != nil {
			return fmt.Errorf("after %s: %w", spec.After, err)
		}
	case s.index > 0:
		if err := p.steps[s.index-1].effective.wait(ctx); err != nil {
			return fmt.Errorf("after %s: %w", p.steps[s.index-1].planned.Name, err)
		}
	}
	if spec.Delay != nil {
		return waitFor(ctx, time.Duration(*spec.Delay))
	}
	return nil
}

// awaitCondition returns once a step's `when:` is true.
func (p *play) awaitCondition(ctx context.Context, s *stepRun) error {
	condition, err := p.plan.scenario.Spec.Steps[s.index].When.Compile(resolver{ctx, p})
	if err != nil {
		return fmt.Errorf("when: %w", err)
	}
	if s.planned.within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.planned.within, errWhenUnmet)
		defer cancel()
	}
	asked := p.now()
	return p.watch(ctx, func(tl assertions.Timeline) bool {
		return assertions.EvaluateFrom(tl, condition, nil, asked, tl.End) == assertions.True
	})
}

func (p *play) stepByName(name string) (*stepRun, bool) {
	for _, s := range p.steps {
		if s.planned.Name == name {
			return s, true
		}
	}
	return nil, false
}

// waitFor returns after d, or when ctx ends.
func waitFor(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
