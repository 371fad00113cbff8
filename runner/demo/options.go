package demo

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ConfigFailure is what a config that cannot be read does to the demo.
type ConfigFailure string

// The ways to fail over a config: leave, go unready, answer 500, or go on with the last good one.
const (
	FailCrash   ConfigFailure = "crash"
	FailUnready ConfigFailure = "unready"
	FailError   ConfigFailure = "error"
	FailIgnore  ConfigFailure = "ignore"
)

// Options of the demo. The zero value serves on :8080 without config and records.
type Options struct {
	// Address to listen on (":8080"), Version and Pod as they are printed.
	Address, Version, Pod string
	// StartDelay is how long startup and readiness fail at first.
	StartDelay time.Duration
	// Drain is how long the demo goes on serving, unready, after it was told to end; Environment sets 1 s.
	Drain time.Duration
	// Config is the path of the config file; none where empty. ConfigFailure is unready where empty, ConfigPoll 500 ms
	// where zero.
	Config        string
	ConfigFailure ConfigFailure
	ConfigPoll    time.Duration
	// Data is the folder of the records; without it there are none.
	Data string
	// Switches are set from the start.
	Switches Switches
}

func (o Options) withDefaults() Options {
	if o.Address == "" {
		o.Address = ":8080"
	}
	if o.Version == "" {
		o.Version = "v1"
	}
	if o.ConfigFailure == "" {
		o.ConfigFailure = FailUnready
	}
	if o.ConfigPoll == 0 {
		o.ConfigPoll = 500 * time.Millisecond
	}
	return o
}

// Variable is one environment variable of the demo, for its help text.
type Variable struct {
	Name, Doc string
	set       func(o *Options, value string) error
}

// defaultDrain lets endpoints and proxies (1 s sync at most) learn that the pod is leaving, and no longer.
const defaultDrain = time.Second

// Variables are all environment variables that the demo reads.
func Variables() []Variable {
	return []Variable{
		{"REBOUND_DEMO_ADDRESS", "address to listen on (:8080)", text(func(o *Options) *string { return &o.Address })},
		{"REBOUND_DEMO_VERSION", "version that is printed, and sent as " + TagHeader + " (v1)",
			text(func(o *Options) *string { return &o.Version })},
		{"REBOUND_DEMO_POD", "name of the pod that is printed (the host's name)",
			text(func(o *Options) *string { return &o.Pod })},
		{"REBOUND_DEMO_START_DELAY", "how long startup and readiness fail at first (0s)",
			length(func(o *Options) *time.Duration { return &o.StartDelay })},
		{"REBOUND_DEMO_DRAIN", "how long to go on serving after SIGTERM (1s)",
			length(func(o *Options) *time.Duration { return &o.Drain })},
		{"REBOUND_DEMO_CONFIG", "path of a config file (YAML)", text(func(o *Options) *string { return &o.Config })},
		{"REBOUND_DEMO_CONFIG_FAILURE", "what a bad config does: crash, unready, error or ignore (unready)",
			setConfigFailure},
		{"REBOUND_DEMO_DATA", "folder of the records", text(func(o *Options) *string { return &o.Data })},
		{"REBOUND_DEMO_CRASH_AFTER", "crash so long after the start", func(o *Options, v string) error {
			return setDuration(&o.Switches.Crash.After, v, func() { o.Switches.Crash.On = true })
		}},
		{"REBOUND_DEMO_CRASH_CODE", "exit code of the crash (1)", func(o *Options, v string) (err error) {
			o.Switches.Crash.Code, err = strconv.Atoi(v)
			return err
		}},
		{"REBOUND_DEMO_HANG", "answer nothing (false)", flag(func(o *Options) *bool { return &o.Switches.Hang })},
		{"REBOUND_DEMO_UNREADY", "fail readiness (false)", flag(func(o *Options) *bool { return &o.Switches.Unready })},
		{"REBOUND_DEMO_LEAK_BYTES_PER_SECOND", "leak memory at this rate (0)",
			size(func(o *Options) *int64 { return &o.Switches.Leak.BytesPerSecond })},
		{"REBOUND_DEMO_LEAK_MAX_BYTES", "leak no more than this (1 GiB)",
			size(func(o *Options) *int64 { return &o.Switches.Leak.MaxBytes })},
		{"REBOUND_DEMO_BURN_CORES", "burn as many cores (0)",
			number(func(o *Options) *float64 { return &o.Switches.BurnCores })},
		{"REBOUND_DEMO_DELAY", "answer so much later (0s)",
			length(func(o *Options) *time.Duration { return &o.Switches.Delay })},
		{"REBOUND_DEMO_ERROR_STATUS", "answer with this status (500 where only the share is set)",
			func(o *Options, v string) (err error) {
				o.Switches.Errors.Status, err = strconv.Atoi(v)
				return err
			}},
		{"REBOUND_DEMO_ERROR_SHARE", "share of answers that are errors, 0 to 1 (1 where only the status is set)",
			number(func(o *Options) *float64 { return &o.Switches.Errors.Share })},
	}
}

// Environment reads the options from environment variables, given as os.Getenv; every value that cannot be read is in
// the error.
func Environment(getenv func(string) string) (Options, error) {
	o := Options{Drain: defaultDrain}
	if host, err := os.Hostname(); err == nil {
		o.Pod = host
	}
	var errs []error
	for _, v := range Variables() {
		value := getenv(v.Name)
		if value == "" {
			continue
		}
		if err := v.set(&o, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.Name, err))
		}
	}
	if err := o.Switches.check(); err != nil {
		errs = append(errs, err)
	}
	return o, errors.Join(errs...)
}

func setConfigFailure(o *Options, v string) error {
	switch f := ConfigFailure(v); f {
	case FailCrash, FailUnready, FailError, FailIgnore:
		o.ConfigFailure = f
		return nil
	}
	return fmt.Errorf("%q is none of crash, unready, error, ignore", v)
}

func setDuration(to *time.Duration, v string, then func()) error {
	d, err := time.ParseDuration(v)
	if err != nil {
		return err
	}
	*to = d
	then()
	return nil
}

func text(field func(*Options) *string) func(*Options, string) error {
	return func(o *Options, v string) error {
		*field(o) = v
		return nil
	}
}

func length(field func(*Options) *time.Duration) func(*Options, string) error {
	return func(o *Options, v string) error { return setDuration(field(o), v, func() {}) }
}

func flag(field func(*Options) *bool) func(*Options, string) error {
	return func(o *Options, v string) (err error) {
		*field(o), err = strconv.ParseBool(v)
		return err
	}
}

func size(field func(*Options) *int64) func(*Options, string) error {
	return func(o *Options, v string) (err error) {
		*field(o), err = strconv.ParseInt(v, 10, 64)
		return err
	}
}

func number(field func(*Options) *float64) func(*Options, string) error {
	return func(o *Options, v string) (err error) {
		*field(o), err = strconv.ParseFloat(v, 64)
		return err
	}
}
