// Package demo is the workload that Rebound ships: a small HTTP server that can be made to misbehave, by its
// environment or while it runs, in the ways real programs do.
//
// It knows nothing of scenarios. Objects returns the Deployment, Service and ConfigMap that run it in a cluster.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// TagHeader is the response header that carries the version.
const TagHeader = "X-Rebound-Tag"

// closeLimit bounds the end of connections that are still busy once the drain time is over.
const closeLimit = 250 * time.Millisecond

// CrashError is what Run returns when the crash switch was used: the process is to exit with Code, at once.
type CrashError struct{ Code int }

func (e *CrashError) Error() string {
	return fmt.Sprintf("crashed as asked, with exit code %d", e.Code)
}

// server is one running demo.
type server struct {
	opts     Options
	started  time.Time
	switches *switches
	config   *configFile
	records  *records
	draining atomic.Bool
	crash    chan int // exit codes
}

// Run serves until ctx ends (SIGTERM), then drains: it is unready at once, goes on serving for Options.Drain, and
// leaves with nil. It prints its address to stdout. A crash is returned as *CrashError.
func Run(ctx context.Context, opts Options, stdout io.Writer) (err error) {
	opts = opts.withDefaults()
	s := &server{opts: opts, started: time.Now(), crash: make(chan int, 1)}
	// Work that the switches start must end with the server, not with the signal.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	s.switches = newSwitches(background, &tasks, s.crash, opts.Switches)
	if opts.Data != "" {
		if s.records, err = openRecords(opts.Data); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.records.close()) }()
	}
	if opts.Config != "" {
		s.config = newConfigFile(opts.Config)
		if s.config.reload(); s.config.err() != nil && opts.ConfigFailure == FailCrash {
			return fmt.Errorf("config: %w", s.config.err())
		}
		tasks.Go(func() { s.watchConfig(background) })
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", opts.Address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if _, err := fmt.Fprintf(stdout, "rebound demo %s listens on %s\n", opts.Version, listener.Addr()); err != nil {
		return errors.Join(fmt.Errorf("print address: %w", err), listener.Close())
	}
	return s.serve(ctx, background, listener)
}

func (s *server) serve(ctx, background context.Context, listener net.Listener) error {
	web := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second,
		// Hanging requests end with the server.
		BaseContext: func(net.Listener) context.Context { return background },
	}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case code := <-s.crash:
		closeErr := web.Close()
		<-failed
		return errors.Join(&CrashError{code}, closeErr)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	web.SetKeepAlivesEnabled(false)
	drain := time.NewTimer(s.opts.Drain)
	defer drain.Stop()
	select {
	case <-drain.C:
	case code := <-s.crash:
		closeErr := web.Close()
		<-failed
		return errors.Join(&CrashError{code}, closeErr)
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	err := web.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		err = web.Close() // what hangs is cut
	}
	<-failed
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// ready says why the demo must get no traffic, or nil.
func (s *server) ready() error {
	switch {
	case s.draining.Load():
		return errors.New("draining")
	case time.Since(s.started) < s.opts.StartDelay:
		return errors.New("starting")
	case s.switches.get().Unready:
		return errors.New("switched to unready")
	case s.configFails() && s.opts.ConfigFailure == FailUnready:
		return fmt.Errorf("config: %w", s.config.err())
	}
	return nil
}

func (s *server) configFails() bool { return s.config != nil && s.config.err() != nil }

// watchConfig reloads the config when it changes, and crashes over a bad one where that is asked for.
func (s *server) watchConfig(ctx context.Context) {
	ticker := time.NewTicker(s.opts.ConfigPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.config.reload()
		if s.configFails() && s.opts.ConfigFailure == FailCrash {
			s.switches.exit(1)
		}
	}
}
