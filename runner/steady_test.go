package runner

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/scenarios"
)

const (
	s   = time.Second
	web = "shop/deployment/web"
)

// sawPod is a fact about a pod of web, seen at once.
func sawPod(at time.Duration, uid string, ready bool, change ...func(*assertions.Fact)) assertions.Fact {
	f := assertions.Fact{At: at, NotBefore: at, Source: "pods", Pod: &assertions.PodState{UID: uid, Workload: web,
		Scheduled: true, Ready: ready, Containers: []assertions.ContainerState{{Name: "c"}}}}
	for _, c := range change {
		c(&f)
	}
	return f
}

func sawDesired(n int) assertions.Fact {
	return assertions.Fact{At: s, NotBefore: s, Source: "workloads",
		Workload: &assertions.WorkloadState{Workload: web, Desired: n}}
}

// sampled is a stream of one letter a second: "." good, "x" refused, "5" a status 503.
func sampled(picture string) assertions.Stream {
	stream := assertions.Stream{Probe: "front", Interval: s, Timeout: s}
	for i, c := range picture {
		at := time.Duration(i) * s
		sample := assertions.Sample{Due: at, Start: at, End: at + 100*time.Millisecond, OK: c == '.'}
		switch c {
		case 'x':
			sample.Error = "refused"
		case '5':
			sample.Error, sample.Status = "status", 503
		}
		stream.Samples = append(stream.Samples, sample)
	}
	return stream
}

func readyAll() assertions.Condition {
	return assertions.Condition{Workload: web, Ready: &assertions.Count{All: true}}
}

func probeOK() assertions.Condition { return assertions.Condition{Probe: "front"} }

func all(parts ...assertions.Condition) assertions.Condition { return assertions.Condition{All: parts} }

func TestTrueSince(t *testing.T) {
	came := []assertions.Fact{sawDesired(1), sawPod(2*s, "a", true)}
	for name, test := range map[string]struct {
		facts []assertions.Fact
		gaps  []assertions.Gap
		probe string
		ask   assertions.Condition
		since time.Duration
		holds bool
	}{
		"since it became true": {facts: came, ask: readyAll(), since: 2 * s, holds: true},
		"since the end of a dip": {facts: append(came, sawPod(5*s, "a", false), sawPod(7*s, "a", true)), ask: readyAll(),
			since: 7 * s, holds: true},
		"false now":        {facts: append(came, sawPod(5*s, "a", false)), ask: readyAll()},
		"never true":       {facts: []assertions.Fact{sawDesired(1), sawPod(2*s, "a", false)}, ask: readyAll()},
		"nothing was seen": {ask: readyAll()},
		"one of two":       {facts: []assertions.Fact{sawDesired(2), sawPod(2*s, "a", true)}, ask: readyAll()},
		"not within a blind gap": {facts: came, gaps: []assertions.Gap{{Source: "pods", From: 4 * s, To: 6 * s}},
			ask: readyAll(), since: 6 * s, holds: true},
		"blind until now": {facts: came, gaps: []assertions.Gap{{Source: "pods", From: 4 * s, To: 10 * s}},
			ask: readyAll()},
		"a gap that left nothing": {facts: came, gaps: []assertions.Gap{{Source: "pods", From: 4 * s, To: 6 * s,
			Complete: true}}, ask: readyAll(), since: 2 * s, holds: true},
		"another observer was": {facts: came, gaps: []assertions.Gap{{Source: "nodes", From: 4 * s, To: 10 * s}},
			ask: readyAll(), since: 2 * s, holds: true},
		"a probe that comes up":     {probe: "xxx.......", ask: probeOK(), since: 3*s + 100*time.Millisecond, holds: true},
		"a probe that fails now":    {probe: ".........x", ask: probeOK()},
		"a probe that is not there": {ask: probeOK()},
		"all: since the last of them": {facts: came, probe: "xxxxx.....", ask: all(readyAll(), probeOK()),
			since: 5*s + 100*time.Millisecond, holds: true},
		"all: one does not hold": {facts: came, probe: "xxxxxxxxxx", ask: all(readyAll(), probeOK())},
	} {
		t.Run(name, func(t *testing.T) {
			tl := assertions.Timeline{End: 10 * s, Facts: test.facts, Gaps: test.gaps}
			if test.probe != "" {
				tl.Streams = []assertions.Stream{sampled(test.probe)}
			}
			if since, holds := trueSince(tl, test.ask); since != test.since || holds != test.holds {
				t.Errorf("true since %v (%v), want %v (%v)", since, holds, test.since, test.holds)
			}
		})
	}
}

func TestWhatFails(t *testing.T) {
	unscheduled := func(f *assertions.Fact) { f.Pod.Scheduled = false }
	pulling := func(f *assertions.Fact) { f.Pod.Containers[0].Reason = "ImagePullBackOff" }
	gone := func(f *assertions.Fact) { f.Gone = true }
	elsewhere := func(f *assertions.Fact) { f.Pod.Workload = "shop/deployment/db" }
	never := assertions.Condition{Event: &assertions.EventMatch{Reason: "Never"}}
	for name, test := range map[string]struct {
		facts []assertions.Fact
		probe string
		ask   assertions.Condition
		want  string
	}{
		"nothing": {facts: []assertions.Fact{sawDesired(1), sawPod(2*s, "a", true)}, ask: readyAll()},
		"pods, and why": {facts: []assertions.Fact{sawDesired(4), sawPod(2*s, "a", true), sawPod(3*s, "b", false,
			unscheduled),
			sawPod(3*s, "c", false, pulling), sawPod(3*s, "d", false, pulling), sawPod(4*s, "e", false), sawPod(5*s, "e",
				false, gone),
			sawPod(5*s, "x", false, elsewhere)}, ask: readyAll(),
			want: "workload shop/deployment/web is not as demanded (1 of its 4 pods are ready: ImagePullBackOff, not scheduled)"},
		"pods that are merely late": {facts: []assertions.Fact{sawDesired(1), sawPod(2*s, "a", false)}, ask: readyAll(),
			want: "workload shop/deployment/web is not as demanded (0 of its 1 pods are ready)"},
		"the latest state counts": {facts: []assertions.Fact{sawDesired(2), sawPod(2*s, "a", false, pulling), sawPod(3*s,
			"a", true)},
			ask: readyAll(), want: "workload shop/deployment/web is not as demanded (1 of its 1 pods are ready)"},
		"no pods": {ask: readyAll(),
			want: "workload shop/deployment/web is not as demanded (0 of its 0 pods are ready)"},
		"a probe by its error":   {probe: "......xxxx", ask: probeOK(), want: "probe front fails (refused)"},
		"a probe by its status":  {probe: "xxxx555555", ask: probeOK(), want: "probe front fails (status, status 503)"},
		"a probe without sample": {ask: probeOK(), want: "probe front has no samples"},
		"nodes": {ask: assertions.Condition{Nodes: []string{"n-1", "n-2"}, NodeReady: "True"},
			want: "nodes n-1, n-2 are not as demanded"},
		"a field": {ask: assertions.Condition{Object: &assertions.FieldMatch{Object: web, Path: ".spec.replicas"}},
			want: ".spec.replicas of shop/deployment/web is not as demanded"},
		"an event": {ask: never, want: "a condition is false"},
		"all: those that fail": {facts: []assertions.Fact{sawDesired(1), sawPod(2*s, "a", true)}, probe: "xxxxxxxxxx",
			ask: all(probeOK(), readyAll(), never), want: "probe front fails (refused); a condition is false"},
		"all: none fails": {facts: []assertions.Fact{sawDesired(1), sawPod(2*s, "a", true)}, probe: "..........",
			ask: all(probeOK(), readyAll())},
		"any: none holds": {ask: assertions.Condition{Any: []assertions.Condition{never, never}},
			want: "a condition is false"},
		"any: nothing is known of one": {ask: assertions.Condition{Any: []assertions.Condition{probeOK(), never}},
			want: "a condition is unclear"},
		"any: one is enough": {probe: "..........", ask: assertions.Condition{Any: []assertions.Condition{probeOK(), never}}},
	} {
		t.Run(name, func(t *testing.T) {
			tl := assertions.Timeline{End: 10 * s, Facts: test.facts}
			if test.probe != "" {
				tl.Streams = []assertions.Stream{sampled(test.probe)}
			}
			if got := whatFails(tl, test.ask); got != test.want {
				t.Errorf("what fails: %q, want %q", got, test.want)
			}
		})
	}
}

func TestAwaitSteady(t *testing.T) {
	ready := scenarios.Condition{Workload: web, Ready: &scenarios.Count{All: true}}
	for name, test := range map[string]struct {
		steady *scenarios.Steady
		stop   time.Duration // when the context ends; zero: not at all
		is     error
		says   string
		took   time.Duration
	}{
		"no steady state is asked for": {},
		"it is not reached": {steady: &scenarios.Steady{Condition: ready, Within: *sec(90)}, is: errNotSteady,
			says: "no steady state within 1m30s: workload shop/deployment/web is not as demanded (0 of its 0 pods",
			took: 90 * s},
		"the run is interrupted": {steady: &scenarios.Steady{Condition: ready, Within: *sec(90)}, stop: 4 * s,
			is: Interruption("interrupt"), says: "interrupt", took: 4 * s},
		"it names a node that is not there": {steady: &scenarios.Steady{Condition: scenarios.Condition{Node: "n-9",
			Status: "Ready"},
			Within: *sec(90)}, says: `steady: node "n-9"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := newTestPlay(t, scenarios.Spec{Steady: test.steady})
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.stop > 0 {
					defer time.AfterFunc(test.stop, func() { cancel(Interruption("interrupt")) }).Stop()
				}
				began, before := time.Now(), p.now()
				at, err := p.awaitSteady(ctx)
				if !errors.Is(err, test.is) && test.is != nil || (err != nil) != (test.says != "") {
					t.Fatalf("awaitSteady: %v, want %v", err, test.is)
				}
				if err != nil && !strings.Contains(err.Error(), test.says) {
					t.Errorf("awaitSteady: %q, want %q in it", err, test.says)
				}
				if err == nil && (at < before || at > p.now()) {
					t.Errorf("steady at %v, want now", at)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
			})
		})
	}
}
