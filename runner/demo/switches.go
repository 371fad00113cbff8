package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxBurn and defaultLeak bound what the demo may do to its node: cores, and bytes where no bound is given.
const (
	maxBurn     = 64
	defaultLeak = 1 << 30
)

// Switches are the ways in which the demo misbehaves.
type Switches struct {
	Crash   Crash  `json:"crash"`
	Hang    bool   `json:"hang"`
	Unready bool   `json:"unready"`
	Leak    Leak   `json:"leak"`
	Errors  Errors `json:"errors"`
	// BurnCores is how many cores are kept busy; parts of a core are fine.
	BurnCores float64 `json:"burnCores"`
	// Delay comes before each answer.
	Delay time.Duration `json:"delayNanos"`
}

// Crash ends the process with Code (1 where zero) once After is over.
type Crash struct {
	On    bool          `json:"on"`
	After time.Duration `json:"afterNanos"`
	Code  int           `json:"code"`
}

// Leak grows the memory at a rate up to a bound; 1 GiB where zero.
type Leak struct {
	BytesPerSecond int64 `json:"bytesPerSecond"`
	MaxBytes       int64 `json:"maxBytes"`
}

// Errors replaces a share of the answers (0 to 1) by a status.
type Errors struct {
	Status int     `json:"status"`
	Share  float64 `json:"share"`
}

func (s Switches) check() error {
	var errs []error
	if s.Crash.Code < 0 || s.Crash.Code > 255 || s.Crash.After < 0 {
		errs = append(errs, fmt.Errorf("crash with code %d after %v: codes are 0 to 255, times not negative",
			s.Crash.Code, s.Crash.After))
	}
	if s.BurnCores < 0 || s.BurnCores > maxBurn {
		errs = append(errs, fmt.Errorf("burn %v cores: 0 to %d", s.BurnCores, maxBurn))
	}
	if s.Leak.BytesPerSecond < 0 || s.Leak.MaxBytes < 0 {
		errs = append(errs, errors.New("leak: neither rate nor bound is negative"))
	}
	if s.Delay < 0 {
		errs = append(errs, errors.New("delay is not negative"))
	}
	if st := s.Errors.Status; st != 0 && (st < 400 || st > 599) {
		errs = append(errs, fmt.Errorf("error status %d: 400 to 599", st))
	}
	if s.Errors.Share < 0 || s.Errors.Share > 1 {
		errs = append(errs, fmt.Errorf("error share %v: 0 to 1", s.Errors.Share))
	}
	return errors.Join(errs...)
}

// switches hold the switches and run what they start.
type switches struct {
	ctx   context.Context
	tasks *sync.WaitGroup
	crash chan<- int

	mu      sync.Mutex
	now     Switches
	stop    context.CancelFunc // of what the last change started
	answers uint64             // for the share of errors
	held    [][]byte           // leaked
}

func newSwitches(ctx context.Context, tasks *sync.WaitGroup, crash chan<- int, first Switches) *switches {
	s := &switches{ctx: ctx, tasks: tasks, crash: crash, stop: func() {}}
	s.change(func(now *Switches) { *now = first })
	return s
}

func (s *switches) get() Switches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// set changes the switches unless the outcome makes no sense.
func (s *switches) set(change func(*Switches)) error {
	tried := s.get()
	change(&tried)
	if err := tried.check(); err != nil {
		return err
	}
	s.change(change)
	return nil
}

// change applies the change and starts anew what runs in the background.
func (s *switches) change(change func(*Switches)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.now)
	s.stop()
	ctx, stop := context.WithCancel(s.ctx)
	s.stop = stop
	if c := s.now.Crash; c.On {
		s.tasks.Go(func() {
			if wait(ctx, c.After) {
				s.exit(cmp.Or(c.Code, 1))
			}
		})
	}
	if l := s.now.Leak; l.BytesPerSecond > 0 {
		s.tasks.Go(func() { s.leak(ctx, l) })
	} else {
		s.held = nil
	}
	for left := s.now.BurnCores; left > 0; left-- {
		s.tasks.Go(func() { burn(ctx, min(left, 1)) })
	}
}

// exit asks for the end of the process; the first to ask wins.
func (s *switches) exit(code int) {
	select {
	case s.crash <- code:
	default:
	}
}

// failing decides whether the next answer is an error: spread evenly, exactly the share.
func (s *switches) failing() (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.now.Errors
	if e.Status == 0 && e.Share == 0 {
		return 0, false
	}
	share := cmp.Or(e.Share, 1)
	before := uint64(float64(s.answers) * share)
	s.answers++
	return cmp.Or(e.Status, 500), uint64(float64(s.answers)*share) > before
}

// leak allocates, and touches every page, ten times a second.
func (s *switches) leak(ctx context.Context, l Leak) {
	const perSecond, page = 10, 4096
	bound := cmp.Or(l.MaxBytes, defaultLeak)
	ticker := time.NewTicker(time.Second / perSecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		chunk := min(max(l.BytesPerSecond/perSecond, 1), bound-s.heldBytes())
		if chunk > 0 && ctx.Err() == nil {
			b := make([]byte, chunk)
			for i := 0; i < len(b); i += page {
				b[i] = 1
			}
			s.held = append(s.held, b)
		}
		s.mu.Unlock()
	}
}

// heldBytes is how much was leaked; s.mu is held.
func (s *switches) heldBytes() (n int64) {
	for _, b := range s.held {
		n += int64(len(b))
	}
	return n
}

// burn keeps one core busy for the given share of each 10 ms.
func burn(ctx context.Context, share float64) {
	const period = 10 * time.Millisecond
	for ctx.Err() == nil {
		begin := time.Now()
		for busy := time.Duration(share * float64(period)); time.Since(begin) < busy; {
			if ctx.Err() != nil {
				return
			}
		}
		wait(ctx, period-time.Since(begin))
	}
}

// wait returns false where ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
