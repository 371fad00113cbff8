package recorder

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

// ErrNoCommonClock: a node's clock can neither be taken for ours nor be compared with it.
var ErrNoCommonClock = errors.New("no common clock")

// Clock is the run's clock: offsets from a zero on the machine's CLOCK_MONOTONIC, which its containers share.
type Clock struct {
	zero int64
	boot string
	now  func() int64
}

// NewClock sets the run's zero to now.
func NewClock() (*Clock, error) {
	zero, err := prober.Now()
	if err != nil {
		return nil, err
	}
	boot, err := prober.BootID()
	if err != nil {
		return nil, err
	}
	return &Clock{zero: zero, boot: boot, now: func() int64 {
		now, err := prober.Now()
		if err != nil {
			// Cannot happen: the same clock was read for zero, and the call fails for bad arguments only.
			panic(err)
		}
		return now
	}}, nil
}

// Now returns the offset from the run's zero.
func (c *Clock) Now() time.Duration { return time.Duration(c.now() - c.zero) }

// Zero is the run's zero in absolute nanoseconds of CLOCK_MONOTONIC.
func (c *Clock) Zero() int64 { return c.zero }

// BootID names the boot of this machine.
func (c *Clock) BootID() string { return c.boot }

// Offset bounds how far another machine's monotonic clock is ahead of ours: Lo <= theirs - ours <= Hi at the moment At.
// Both ends are zero where the machines share one kernel.
type Offset struct {
	Lo, Hi time.Duration
	At     time.Duration
	Shared bool
}

const (
	// maxSlew is how fast the kernel lets a clock be slewed: 500 ppm. Two clocks drift apart by no more than twice
	// that.
	maxSlew = 2 * 500e-6
	// exchanges is how often an offset is measured; the narrowest bound counts.
	exchanges = 5
)

// window turns a stretch on the other clock into the one on ours that surely holds it.
func (o Offset) window(from, to time.Duration) (time.Duration, time.Duration) {
	if o.Shared {
		return from, to
	}
	drift := func(t time.Duration) time.Duration { return time.Duration(float64((t - o.Lo - o.At).Abs()) * maxSlew) }
	return from - o.Hi - drift(from), to - o.Lo + drift(to)
}

// Compare finds out how a node's clock stands to ours: equal where the boot id is the same, else estimated by asking
// the node for its clock a few times, each answer bounded by our own clock before and after.
func (c *Clock) Compare(ctx context.Context, node Node) (Offset, error) {
	out, err := node.Exec(ctx, "cat", "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Offset{}, fmt.Errorf("boot id of node %s: %w", node.Name(), err)
	}
	if strings.TrimSpace(string(out)) == c.boot {
		return Offset{Shared: true, At: c.Now()}, nil
	}
	best := Offset{}
	for i := range exchanges {
		before := c.Now()
		out, err := node.Exec(ctx, "grep", "-m", "1", "^now at", "/proc/timer_list")
		after := c.Now()
		if err != nil {
			return Offset{}, fmt.Errorf("%w: node %s runs another kernel, and its clock cannot be read: %w",
				ErrNoCommonClock, node.Name(), err)
		}
		theirs, err := parseTimerList(out)
		if err != nil {
			return Offset{}, fmt.Errorf("%w: node %s: %w", ErrNoCommonClock, node.Name(), err)
		}
		theirs -= time.Duration(c.zero)
		if o := (Offset{Lo: theirs - after, Hi: theirs - before, At: after}); i == 0 || o.Hi-o.Lo < best.Hi-best.Lo {
			best = o
		}
	}
	return best, nil
}

// parseTimerList reads "now at 1234567 nsecs": CLOCK_MONOTONIC as the kernel prints it.
func parseTimerList(out []byte) (time.Duration, error) {
	fields := strings.Fields(string(out))
	if len(fields) != 4 || fields[3] != "nsecs" {
		return 0, fmt.Errorf("unexpected line of /proc/timer_list: %q", out)
	}
	n, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("clock in /proc/timer_list: %w", err)
	}
	return time.Duration(n), nil
}
