package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// catchUp is how late a tick may still be started. Older ticks are left out: a burst of stale questions would tell
	// nothing more, and would be a load of its own.
	catchUp = 50 * time.Millisecond
	// spareInFlight is how many samples more than timeout/interval may be in flight before ticks are left out.
	spareInFlight = 16
)

// Sample is the sampler itself: it emits the header, then each sample as soon as it ends, one call at a time. It
// returns nil once ctx has ended or MaxDuration is over, and when the last sample in flight has ended; the first
// error of emit ends it too.
func Sample(ctx context.Context, cfg Config, emit func(Record) error) (err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return err
	}
	ask, err := cfg.asker()
	if err != nil {
		return err
	}
	if closer, ok := ask.(io.Closer); ok {
		defer func() { err = errors.Join(err, closer.Close()) }()
	}
	if cfg.Clock == nil {
		clock, free, clockErr := NewClock()
		if clockErr != nil {
			return clockErr
		}
		defer func() { err = errors.Join(err, free()) }()
		cfg.Clock = clock
	}
	boot, err := BootID()
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &sampler{cfg: cfg, ask: ask, emit: emit, fail: fail}
	s.slots = make(chan struct{}, int(cfg.Timeout/cfg.Interval)+spareInFlight)
	first := cfg.Clock.Now()
	s.record(Record{Header: &Header{
		Format: Format, Probe: cfg.Probe, Vantage: cfg.Vantage, BootID: boot, PID: os.Getpid(),
		Interval: cfg.Interval, Timeout: cfg.Timeout, Start: first,
	}})
	s.tick(ctx, first)
	s.flying.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

type sampler struct {
	cfg   Config
	ask   Asker
	slots chan struct{} // one for each sample in flight

	mu     sync.Mutex // orders emit
	emit   func(Record) error
	failed error
	fail   context.CancelCauseFunc
	flying sync.WaitGroup
}

// tick starts a sample on each tick of the absolute schedule first, first+interval, ... A tick that cannot be started
// (too late, or too many in flight) leaves no record: the hole in the stream is the record.
func (s *sampler) tick(ctx context.Context, first int64) {
	interval := int64(s.cfg.Interval)
	last := first + int64(s.cfg.MaxDuration)
	stale := max(int64(catchUp), interval)
	for seq := uint64(0); ; seq++ {
		due := first + int64(seq)*interval
		if due >= last {
			return
		}
		if err := s.cfg.Clock.Wait(ctx, due); err != nil {
			if ctx.Err() == nil {
				s.stop(fmt.Errorf("wait for tick: %w", err))
			}
			return
		}
		if late := s.cfg.Clock.Now() - due; late > stale {
			seq += uint64((late - stale) / interval)
			continue
		}
		select {
		case s.slots <- struct{}{}:
			s.flying.Go(func() { s.sample(ctx, seq, due) })
		default:
		}
	}
}

// sample asks once. It is cut short by its own timeout only: when the sampler ends, what is in flight is still settled,
// so that no question is asked and then forgotten.
func (s *sampler) sample(ctx context.Context, seq uint64, due int64) {
	defer func() { <-s.slots }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
	defer cancel()
	start := s.cfg.Clock.Now()
	answer := s.ask.Ask(ctx, seq)
	end := s.cfg.Clock.Now()
	s.record(Record{Point: &Point{
		Due: due, Start: start, End: end,
		OK: answer.Error == "", Status: answer.Status, Error: answer.Error, Tag: answer.Tag,
	}})
}

func (s *sampler) record(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return
	}
	if err := s.emit(r); err != nil {
		s.failed = err
		s.fail(err)
	}
}

func (s *sampler) stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = errors.Join(s.failed, err)
}
