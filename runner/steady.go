package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
)

// errNotSteady: the steady state was not reached in time, or did not hold.
var errNotSteady = errors.New("no steady state")

// awaitSteady returns once the steady state has held for its whole hold, and the moment of that.
func (p *play) awaitSteady(ctx context.Context) (time.Duration, error) {
	steady := p.plan.scenario.Spec.Steady
	if steady == nil {
		return p.now(), nil
	}
	condition, err := steady.Condition.Compile(resolver{ctx, p})
	if err != nil {
		return 0, fmt.Errorf("steady: %w", err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, time.Duration(steady.Within), errNotSteady)
	defer cancel()
	err = p.watch(limited, func(tl assertions.Timeline) bool {
		since, ok := trueSince(tl, condition)
		return ok && tl.End-since >= time.Duration(steady.Hold)
	})
	if errors.Is(err, errNotSteady) {
		why := whatFails(p.recorder.Snapshot(), condition)
		if why == "" {
			why = fmt.Sprintf("it holds by now, but did not for %s", steady.Hold)
		}
		err = fmt.Errorf("%w within %s: %s", err, steady.Within, why)
	}
	return p.now(), err
}

// trueSince is the moment from which a condition has surely held without a break; false where it does not hold now.
func trueSince(tl assertions.Timeline, condition assertions.Condition) (time.Duration, bool) {
	var since time.Duration
	for _, dip := range assertions.Dips(tl, condition, nil) {
		if dip.Open {
			return 0, false
		}
		since = max(since, dip.Ended.Hi)
	}
	return since, true
}

// whatFails says which parts of a condition do not hold at the end of a timeline, and what is known of the cause.
func whatFails(tl assertions.Timeline, c assertions.Condition) string {
	if len(c.All) > 0 {
		var parts []string
		for _, part := range c.All {
			if text := whatFails(tl, part); text != "" {
				parts = append(parts, text)
			}
		}
		return strings.Join(parts, "; ")
	}
	truth := assertions.Evaluate(tl, c, nil, tl.End)
	if truth == assertions.True {
		return ""
	}
	switch {
	case c.Workload != "":
		return fmt.Sprintf("workload %s is %s", c.Workload, describePods(tl, c.Workload))
	case c.Probe != "":
		return fmt.Sprintf("probe %s %s", c.Probe, describeLastSample(tl, c.Probe))
	case len(c.Nodes) > 0:
		return "nodes " + strings.Join(c.Nodes, ", ") + " are not as demanded"
	case c.Object != nil:
		return fmt.Sprintf("%s of %s is not as demanded", c.Object.Path, c.Object.Object)
	}
	return "a condition is " + truth.String()
}

// describePods says how many of a workload's pods are ready, and what keeps the others.
func describePods(tl assertions.Timeline, workload string) string {
	latest := map[string]*assertions.PodState{}
	for i := range tl.Facts {
		f := &tl.Facts[i]
		if f.Pod == nil || f.Pod.Workload != workload {
			continue
		}
		if f.Gone {
			delete(latest, f.Pod.UID)
		} else {
			latest[f.Pod.UID] = f.Pod
		}
	}
	ready, reasons := 0, map[string]bool{}
	for _, pod := range latest {
		if pod.Ready {
			ready++
			continue
		}
		for _, container := range pod.Containers {
			if container.Reason != "" {
				reasons[container.Reason] = true
			}
		}
		if !pod.Scheduled {
			reasons["not scheduled"] = true
		}
	}
	text := fmt.Sprintf("not as demanded (%d of its %d pods are ready", ready, len(latest))
	if len(reasons) > 0 {
		text += ": " + strings.Join(sortedKeys(reasons), ", ")
	}
	return text + ")"
}

func describeLastSample(tl assertions.Timeline, probe string) string {
	for _, stream := range tl.Streams {
		if stream.Probe != probe || len(stream.Samples) == 0 {
			continue
		}
		last := stream.Samples[len(stream.Samples)-1]
		switch {
		case last.OK:
			return "succeeds by now, but did not for long enough"
		case last.Status != 0:
			return fmt.Sprintf("fails (%s, status %d)", last.Error, last.Status)
		}
		return fmt.Sprintf("fails (%s)", last.Error) // a failure without a status always has a class
	}
	return "has no samples"
}
