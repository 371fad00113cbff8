package injectors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/client-go/discovery"
)

// The limits of a replay.
const (
	attemptLimit = 30 * time.Second       // of one attempt at a step, where the step names none
	returnLimit  = 5 * time.Second        // for a step to return once its attempt is over
	parkLimit    = 2 * time.Minute        // for the API server to be back
	parkEvery    = 500 * time.Millisecond // between two looks at whether it is
	askLimit     = 3 * time.Second        // of one such look
)

// errBehind is why a parked step was not tried yet.
var errBehind = errors.New("it waited behind a step that did")

// replay takes back the entries that mine chooses. Several replays of one ledger may run at once (a step's `for:`
// ends while another heals): each entry is worked on by one of them, and what another could not take back is tried
// once more.
func (l *Ledger) replay(ctx context.Context, faults Registry, w World, mine func(*entry) bool) []Leftover {
	r := replayer{ctx: context.WithoutCancel(ctx), ledger: l, faults: faults, world: w}
	tried := map[*entry]bool{}
	for {
		claimed, elsewhere := l.claim(func(e *entry) bool { return mine(e) && !tried[e] })
		for _, e := range claimed {
			tried[e] = true
		}
		r.run(claimed)
		if elsewhere == nil {
			return r.left
		}
		<-elsewhere // it ends by the limits of the other replay
	}
}

// claim takes the entries that are owed and that no other replay works on, newest first. elsewhere is closed when
// another replay lets go of one that was wanted; nil where there is none.
func (l *Ledger) claim(wanted func(*entry) bool) (claimed []*entry, elsewhere <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(l.entries) {
		switch {
		case e.done || !wanted(e):
		case e.busy != nil:
			elsewhere = e.busy
		default:
			e.busy = make(chan struct{})
			claimed = append(claimed, e)
		}
	}
	return claimed, elsewhere
}

// release lets go of an entry.
func (l *Ledger) release(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(e.busy)
	e.busy = nil
}

// replayer is one replay.
type replayer struct {
	ctx    context.Context // detached from the one that may be cancelled already
	ledger *Ledger
	faults Registry
	world  World
	left   []Leftover
}

// parked is a step that waits for the API server.
type parked struct {
	entry *entry
	err   error // of the last attempt
}

// run tries each entry once, newest first, and parks those that need the API server while it is away. Steps that do not
// need it go on meanwhile: one of them may bring it back.
func (r *replayer) run(entries []*entry) {
	var wait []parked
	for _, e := range entries {
		if isBehind(wait, e) || len(wait) > 0 && e.step.needsAPI() && !r.apiAnswers() {
			wait = append(wait, parked{e, errBehind})
			continue
		}
		if err := r.attempt(e.step); apiAway(e.step, err) {
			wait = append(wait, parked{e, err})
		} else {
			r.settle(e, err)
		}
	}
	r.retry(wait)
}

// retry tries parked steps until the API server is back, or the limit passed: then they are leftovers.
func (r *replayer) retry(wait []parked) {
	if len(wait) == 0 {
		return
	}
	limit := time.NewTimer(parkLimit)
	defer limit.Stop()
	look := time.NewTicker(parkEvery)
	defer look.Stop()
	for len(wait) > 0 {
		select {
		case <-limit.C:
			for _, p := range wait {
				r.settle(p.entry, fmt.Errorf("%w, for %v: %w", ErrNeedsAPI, parkLimit, p.err))
			}
			return
		case <-look.C:
		}
		if !r.apiAnswers() {
			continue
		}
		var still []parked
		for _, p := range wait {
			if isBehind(still, p.entry) {
				still = append(still, p)
				continue
			}
			if err := r.attempt(p.entry.step); stillComing(p.entry.step, err) {
				still = append(still, parked{p.entry, err})
			} else {
				r.settle(p.entry, err)
			}
		}
		wait = still
	}
}

// isBehind says whether a newer step on the same object waits: the older one must not come first.
func isBehind(wait []parked, e *entry) bool {
	return slices.ContainsFunc(wait, func(p parked) bool { return sameObject(p.entry.step.Target, e.step.Target) })
}

// settle ends the work on an entry.
func (r *replayer) settle(e *entry, err error) {
	if err == nil {
		if err = r.ledger.markDone(e); err != nil {
			err = fmt.Errorf("taken back, but the ledger could not note it: %w", err)
		}
	}
	if err != nil {
		r.left = append(r.left, Leftover{Step: e.step, Err: err, Ledger: r.ledger.path})
	}
	r.ledger.release(e)
}

// attempt runs a step's function once. A step that does not heed its context is given up: it must not keep the others
// from being healed.
func (r *replayer) attempt(s Step) error {
	undo, ok := r.faults.UndoFunc(s.Kind)
	if !ok {
		return fmt.Errorf("%q: %w", s.Kind, ErrUnknownUndo)
	}
	limit := s.Limit
	if limit <= 0 {
		limit = attemptLimit
	}
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		result <- shielded(func() error { return undo(ctx, r.world, s) })
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(returnLimit)
	defer late.Stop()
	select {
	case err := <-result:
		return err
	case <-late.C:
		return fmt.Errorf("it did not return within %v of its limit of %v", returnLimit, limit)
	}
}

// shielded turns a panic, or the end of the goroutine, into an error.
func shielded(f func() error) (err error) {
	done := make(chan struct{})
	err = errors.New("it ended its goroutine")
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("it panicked: %v", p)
			}
		}()
		err = f()
	}()
	<-done
	return err
}

// apiAnswers asks the API server for its version: that costs it nothing, and needs no rights.
func (r *replayer) apiAnswers() bool {
	ctx, cancel := context.WithTimeout(r.ctx, askLimit)
	defer cancel()
	err := shielded(func() error {
		_, err := discovery.ToServerVersionInterfaceWithContext(r.world.API().Discovery()).ServerVersionWithContext(ctx)
		return err
	})
	return !apiAway(Step{Needs: []Need{NeedAPI}}, err)
}
