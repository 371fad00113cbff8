//go:build !linux

package prober

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// errNoBootID: the system has no boot id, and so no clock that another machine's could be compared with.
var errNoBootID = errors.New("no boot id on this system")

// Now returns the wall clock in nanoseconds where the system has no monotonic clock that processes share.
func Now() (int64, error) { return time.Now().UnixNano(), nil }

// BootID names this process: its clock is equal to no other.
func BootID() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoBootID, err)
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid()), nil
}

// NewClock returns Go's own monotonic clock.
func NewClock() (Clock, func() error, error) {
	return NewGoClock(), func() error { return nil }, nil
}
