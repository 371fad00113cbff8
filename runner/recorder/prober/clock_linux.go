package prober

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns CLOCK_MONOTONIC in nanoseconds. Containers on one host share it; Go's own reading is process-relative.
func Now() (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, fmt.Errorf("read monotonic clock: %w", err)
	}
	return ts.Nano(), nil
}

// BootID names the boot of this machine: equal ids mean one kernel, and so one monotonic clock.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// timerClock waits on a timerfd: the kernel wakes the poller at the absolute time itself, where Go's own timers are
// rounded up to whole milliseconds of epoll.
type timerClock struct {
	fd   int
	file *os.File
	buf  [8]byte
}

// NewClock returns the machine's monotonic clock. Wait is for one caller at a time. The close function frees it.
func NewClock() (Clock, func() error, error) {
	if _, err := Now(); err != nil {
		return nil, nil, err
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("create timer: %w", err)
	}
	c := &timerClock{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
	return c, c.file.Close, nil
}

func (c *timerClock) Now() int64 {
	now, err := Now()
	if err != nil {
		// Cannot happen: NewClock has read the same clock, and the call fails for bad arguments only.
		panic(err)
	}
	return now
}

func (c *timerClock) Wait(ctx context.Context, until int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Now() >= until {
		return nil
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(until)}
	if err := unix.TimerfdSettime(c.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	if err := c.file.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("reset timer: %w", err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		// A deadline in the past ends the read below. The file is open for as long as Wait runs.
		_ = c.file.SetReadDeadline(time.Unix(1, 0))
	})
	_, err := c.file.Read(c.buf[:])
	if !stop() {
		<-interrupted
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wait for timer: %w", err)
	}
	return nil
}
