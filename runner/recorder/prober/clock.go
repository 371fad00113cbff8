package prober

import (
	"context"
	"time"
)

// Clock is a monotonic clock in absolute nanoseconds that can be waited on.
type Clock interface {
	Now() int64
	// Wait returns nil once the clock has reached the time (at once where it has passed), or ctx's error.
	Wait(ctx context.Context, until int64) error
}

// goClock reads Go's own monotonic clock; its zero is the moment it was made.
type goClock struct{ zero time.Time }

// NewGoClock returns a clock of this process only: for systems without CLOCK_MONOTONIC, and for tests in a
// testing/synctest bubble.
func NewGoClock() Clock { return goClock{time.Now()} }

func (c goClock) Now() int64 { return int64(time.Since(c.zero)) }

func (c goClock) Wait(ctx context.Context, until int64) error {
	left := time.Duration(until - c.Now())
	if left <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
