// Package progress tells a person where a long job stands: which step of how many, for how long, and what comes next.
//
// It prints lines and keeps time. What the steps do is left to their functions.
package progress

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Heartbeat is how often a step that takes long says that it is alive.
const Heartbeat = 15 * time.Second

// Reporter prints the progress of one job.
type Reporter struct {
	prefix string
	titles []string
	began  time.Time

	mutex sync.Mutex // steps may run side by side
	out   io.Writer
}

// New makes a reporter of a job with these steps, whose lines start with the prefix.
func New(out io.Writer, prefix string, titles ...string) *Reporter {
	return &Reporter{prefix: prefix, titles: titles, began: time.Now(), out: out}
}

// Status is what a running step may say about itself.
type Status struct {
	mutex sync.Mutex
	text  string
}

// Set replaces what the next heartbeat says.
func (s *Status) Set(format string, arguments ...any) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.text = fmt.Sprintf(format, arguments...)
}

func (s *Status) get() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.text
}

// Say prints a line that belongs to no step.
func (r *Reporter) Say(format string, arguments ...any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	fmt.Fprintf(r.out, r.prefix+": "+format+"\n", arguments...)
}

// Run runs step number index, counted from 0, and reports its start, its heartbeats and its end.
func (r *Reporter) Run(ctx context.Context, index int, step func(context.Context, *Status) error) error {
	title := r.titles[index]
	next := "nothing, it is the last"
	if index+1 < len(r.titles) {
		next = r.titles[index+1]
	}
	r.Say("step %d/%d %s (%s so far; then: %s)", index+1, len(r.titles), title, r.Elapsed(), next)
	began, status := time.Now(), &Status{}
	stopped, beating := make(chan struct{}), sync.WaitGroup{}
	beating.Go(func() {
		tick := time.NewTicker(Heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-tick.C:
				r.Say("step %d/%d %s: %s %s", index+1, len(r.titles), title, round(time.Since(began)), status.get())
			}
		}
	})
	err := step(ctx, status)
	close(stopped)
	beating.Wait()
	took := time.Since(began)
	if err != nil {
		r.Say("step %d/%d %s failed after %s", index+1, len(r.titles), title, round(took))
		return err
	}
	r.Say("step %d/%d %s done in %s", index+1, len(r.titles), title, round(took))
	return nil
}

// Elapsed is the time since the reporter was made, rounded for people.
func (r *Reporter) Elapsed() time.Duration { return round(time.Since(r.began)) }

func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
