package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/runner/recorder"
	"github.com/rebound-chaos/rebound/scenarios"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// slowFault takes its time to be injected, and to prove that it bit; each ends early with ctx.
type slowFault struct {
	injects, proves time.Duration
	// fail ends the injection, unproven the proof; owes is the undo kind that is registered first.
	fail, unproven error
	owes           string
}

func (f *slowFault) Inject(ctx context.Context, _ injectors.World, _ injectors.Target, undo *injectors.Undo) error {
	if f.owes != "" {
		object := injectors.Object{Kind: "ConfigMap", Namespace: "ns", Name: f.owes}
		if err := undo.Add(ctx, injectors.Step{Kind: f.owes, Target: object}); err != nil {
			return err
		}
	}
	return errors.Join(waitFor(ctx, f.injects), f.fail)
}

func (f *slowFault) Effective(ctx context.Context, _ injectors.World, _ injectors.Target) error {
	return errors.Join(waitFor(ctx, f.proves), f.unproven)
}

// diary notes what is injected and when, on the clock of a synctest bubble.
type diary struct {
	began time.Time
	mu    sync.Mutex
	at    map[string]time.Duration
	taken []string // undos, in their order
}

// noted is a fault that writes its beginning into the diary.
type noted struct {
	slowFault
	name  string
	diary *diary
}

func (n *noted) Inject(ctx context.Context, w injectors.World, t injectors.Target, undo *injectors.Undo) error {
	n.diary.mu.Lock()
	// Offsets of the run are real nanoseconds, waits are the bubble's: whole seconds are out of reach of the difference.
	n.diary.at[n.name] = time.Since(n.diary.began).Round(time.Second)
	n.diary.mu.Unlock()
	return n.slowFault.Inject(ctx, w, t, undo)
}

// panics is a fault that does.
type panics struct{}

func (*panics) Inject(context.Context, injectors.World, injectors.Target, *injectors.Undo) error {
	panic("out of its mind")
}

var errBoom = errors.New("boom")

// newTestRecorder makes a recorder that is never started: it has a clock and holds steps, and reaches no cluster.
func newTestRecorder(t *testing.T) *recorder.Recorder {
	t.Helper()
	rec, err := recorder.New(recorder.Options{Run: "test", Namespace: "rebound-test", Heartbeat: -1,
		REST: &rest.Config{Host: "http://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// newTestPlay makes a play of steps that have no target. It is called within the bubble that the play runs in.
func newTestPlay(t *testing.T, spec scenarios.Spec) (*play, *diary) {
	t.Helper()
	d := &diary{began: time.Now(), at: map[string]time.Duration{}}
	undo := func(_ context.Context, _ injectors.World, s injectors.Step) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.taken = append(d.taken, s.Step)
		if s.Kind == "break/stuck" {
			return errBoom
		}
		return nil
	}
	faults, err := injectors.NewRegistry(injectors.Fault{Name: "break",
		New:  func() injectors.Injector { return &slowFault{} },
		Undo: map[string]injectors.UndoFunc{"break/mend": undo, "break/stuck": undo}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range spec.Steps {
		step := &spec.Steps[i]
		step.Type = "break"
		switch fault := step.Params.(type) {
		case nil:
			step.Params = &noted{name: step.Name, diary: d}
		case slowFault:
			step.Params = &noted{slowFault: fault, name: step.Name, diary: d}
		}
	}
	spec.Cluster.Profile = clusters.ProfileFast
	plan, err := (&Runner{Faults: faults}).Plan(&scenarios.Scenario{Spec: spec}, "")
	if err != nil {
		t.Fatal(err)
	}
	plan.LongestSeconds = 0 // nothing is judged here: all is settled once the last step was performed
	ledger, err := injectors.CreateLedger(t.Context(), filepath.Join(t.TempDir(), "ledgers"),
		injectors.Header{Run: "test", Cluster: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &play{plan: plan, faults: faults, ledger: ledger, progress: newProgress(nil), recorder: newTestRecorder(t),
		cluster: &clusters.Cluster{Name: "mine"}, world: &world{}, binder: newBinder()}
	for i, planned := range plan.Steps {
		p.steps = append(p.steps, newStepRun(planned, i))
	}
	p.steadyAt = p.now()
	return p, d
}

func sec(n int) *values.Duration {
	d := values.Duration(time.Duration(n) * time.Second)
	return &d
}

func forSec(n int) *values.Profiled[values.Duration] { return values.Same(*sec(n)) }

func TestStepsStartInTheirOrder(t *testing.T) {
	slow := slowFault{injects: time.Second, proves: 2 * time.Second}
	for name, test := range map[string]struct {
		steps []scenarios.Step
		want  map[string]int // seconds after the steady state
	}{
		"by default once the one before is effective": {
			[]scenarios.Step{{Name: "a", Params: slow}, {Name: "b", Params: slow}, {Name: "c"}},
			map[string]int{"a": 0, "b": 3, "c": 6}},
		"at, whatever stands before": {
			[]scenarios.Step{{Name: "a", At: sec(7)}, {Name: "b", At: sec(2)}, {Name: "c", At: sec(0)}},
			map[string]int{"a": 7, "b": 2, "c": 0}},
		"after is after the effect": {
			[]scenarios.Step{{Name: "a", Params: slow}, {Name: "b", At: sec(1)}, {Name: "c", After: "a"}},
			map[string]int{"a": 0, "b": 1, "c": 3}},
		"after effective": {
			[]scenarios.Step{{Name: "a", Params: slow}, {Name: "b", After: "a.effective"}}, map[string]int{"a": 0, "b": 3}},
		"after done": {
			[]scenarios.Step{{Name: "a", Params: slow}, {Name: "b", After: "a.done"}}, map[string]int{"a": 0, "b": 1}},
		"after the beginning": {
			[]scenarios.Step{{Name: "a", Params: slow}, {Name: "b", After: "a.at"}}, map[string]int{"a": 0, "b": 0}},
		"after healed": {
			[]scenarios.Step{{Name: "a", For: forSec(9)}, {Name: "b", After: "a.healed"}},
			map[string]int{"a": 0, "b": 9}},
		"a delay counts from the edge": {
			[]scenarios.Step{{Name: "a", Params: slow}, {Name: "b", After: "a.done", Delay: sec(4)}},
			map[string]int{"a": 0, "b": 5}},
		"for blocks nothing": {
			[]scenarios.Step{{Name: "a", For: forSec(60)}, {Name: "b"}}, map[string]int{"a": 0, "b": 0}},
		"after a step that stands below": {
			[]scenarios.Step{{Name: "a", After: "b"}, {Name: "b", At: sec(3)}}, map[string]int{"a": 3, "b": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, d := newTestPlay(t, scenarios.Spec{Steps: test.steps})
				if err := p.observe(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				want := map[string]time.Duration{}
				for step, seconds := range test.want {
					want[step] = time.Duration(seconds) * time.Second
				}
				if !maps.Equal(d.at, want) {
					t.Errorf("began at %v, want %v", d.at, want)
				}
			})
		})
	}
}

func TestStepsLeaveTheirEdgesInTheTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPlay(t, scenarios.Spec{Steps: []scenarios.Step{
			{Name: "timed", For: forSec(5), Params: slowFault{owes: "break/mend"}}, {Name: "lasting"}}})
		if err := p.observe(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(d.taken, []string{"timed"}) {
			t.Errorf("undone: %q, want timed", d.taken)
		}
		for _, s := range p.recorder.Snapshot().Steps {
			if s.Done == nil || *s.Done < s.At || s.Effective == nil || s.Effective.Lo != s.At || s.Effective.Hi < *s.Done {
				t.Errorf("%s: at %v, done %v, effective %v: want them in this order", s.Name, s.At, s.Done, s.Effective)
			}
			if healed := s.Healed != nil; healed != (s.Name == "timed") {
				t.Errorf("%s: healed %v", s.Name, s.Healed)
			}
		}
	})
}

func TestFailedStepLeavesNobodyWaiting(t *testing.T) {
	never := &scenarios.Condition{Event: &scenarios.EventMatch{Reason: "Never"}}
	rest := []scenarios.Step{{Name: "healed", After: "a.healed"}, {Name: "late", At: sec(3600)}, {Name: "last"}}
	for name, test := range map[string]struct {
		first scenarios.Step
		is    error
		says  string
		after time.Duration
		began []string
	}{
		"the injection fails": {scenarios.Step{Params: slowFault{injects: time.Second, fail: errBoom}}, errBoom,
			"step a: boom", time.Second, []string{"a"}},
		"the effect is not proven": {scenarios.Step{Params: slowFault{proves: time.Hour}}, errNoEffect, "no proof of effect",
			effectLimit, []string{"a"}},
		"the effect cannot be asked for": {scenarios.Step{Params: slowFault{unproven: errBoom}}, errNoEffect, "boom", 0,
			[]string{"a"}},
		"its condition is not met in time": {scenarios.Step{When: never, Within: forSec(20)}, errWhenUnmet,
			"step a did not start", 20 * time.Second, nil},
		"what it comes after is not there": {scenarios.Step{After: "nobody"}, nil, "after nobody: no such step", 0, nil},
		"the edge is not there": {scenarios.Step{After: "late.over"}, nil, `step late has no edge "over"`,
			0, nil},
		"its undo fails": {scenarios.Step{For: forSec(2), Params: slowFault{owes: "break/stuck"}}, errBoom, "boom",
			2 * time.Second, []string{"a"}},
		"it panics":         {scenarios.Step{Params: &panics{}}, nil, "panic: out of its mind", 0, nil},
		"it is no injector": {scenarios.Step{Params: "text"}, nil, "step a: break is not an injector", 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.first.Name = "a"
				p, d := newTestPlay(t, scenarios.Spec{Steps: append([]scenarios.Step{test.first}, rest...)})
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour/2) // a wait without an end fails the test
				defer cancel()
				err := p.observe(ctx, nil)
				// The step that failed is named, not one that waited for it.
				if err == nil || strings.Contains(err.Error(), "after a") || !strings.Contains(err.Error(), test.says) ||
					test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("observe: %v, want %q (%v)", err, test.says, test.is)
				}
				if took := time.Since(began); took.Round(time.Second) != test.after {
					t.Errorf("ended after %v, want %v", took, test.after)
				}
				if got := slices.Sorted(maps.Keys(d.at)); !slices.Equal(got, test.began) {
					t.Errorf("injected %q, want %q", got, test.began)
				}
			})
		})
	}
}

func TestObserveEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPlay(t, scenarios.Spec{Steps: []scenarios.Step{
			{Name: "busy", Params: slowFault{injects: time.Hour, owes: "break/mend"}}, {Name: "waits"},
			{Name: "late", At: sec(3600)}, {Name: "when", When: &scenarios.Condition{
				Event: &scenarios.EventMatch{Reason: "Never"}}},
			{Name: "held", At: sec(0), For: forSec(3600)},
		}})
		ctx, cancel := context.WithCancelCause(t.Context())
		began := time.Now()
		defer time.AfterFunc(5*time.Second, func() { cancel(Interruption("interrupt")) }).Stop()
		err := p.observe(ctx, nil)
		var signal Interruption
		if !errors.As(err, &signal) || signal != "interrupt" {
			t.Errorf("observe: %v, want the interruption", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("ended after %v, want 5 s", took)
		}
		for _, s := range p.steps { // every step has ended, and nobody waits for it any more
			for name, g := range map[string]*gate{"at": s.started, "effective": s.effective, "done": s.done,
				"healed": s.healed} {
				select {
				case <-g.done:
				default:
					t.Errorf("edge %s of step %s was left closed", name, s.planned.Name)
				}
			}
		}
		p.heal(ctx, &outcome{undo: map[string]string{}})
		if !slices.Equal(d.taken, []string{"busy"}) {
			t.Errorf("undone: %q, want busy", d.taken)
		}
	})
}

func TestObserveAbortsWhereTheLimitNoLongerHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The condition is surely false: the event was not seen.
		p, _ := newTestPlay(t, scenarios.Spec{Steps: []scenarios.Step{{Name: "late", At: sec(3600)}},
			Abort: &scenarios.Condition{Event: &scenarios.EventMatch{Reason: "AllIsWell"}}})
		if err := p.observe(t.Context(), nil); !errors.Is(err, errAborted) {
			t.Errorf("observe: %v, want %v", err, errAborted)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		// Nothing is known of the probe: that breaks off nothing.
		p, _ := newTestPlay(t, scenarios.Spec{Steps: []scenarios.Step{{Name: "late", At: sec(60)}},
			Abort: &scenarios.Condition{Probe: "front"}})
		if err := p.observe(t.Context(), nil); err != nil {
			t.Errorf("observe: %v, want no abortion for what is not known", err)
		}
	})
}

func TestHealTakesTheLastStepBackFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPlay(t, scenarios.Spec{Steps: []scenarios.Step{
			{Name: "first", Params: slowFault{owes: "break/mend"}}, {Name: "stuck", Params: slowFault{owes: "break/stuck"}},
			{Name: "nothing"}, {Name: "timed", For: forSec(1)}, {Name: "not-reached", Params: slowFault{fail: errBoom}}}})
		if err := p.observe(t.Context(), nil); !errors.Is(err, errBoom) {
			t.Fatalf("observe: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // healing goes on when the run is interrupted
		out := &outcome{undo: map[string]string{}}
		p.heal(ctx, out)
		if want := []string{"stuck", "first"}; !slices.Equal(d.taken, want) {
			t.Errorf("taken back in the order %q, want %q", d.taken, want)
		}
		want := map[string]string{"first": "done", "stuck": "owed", "nothing": "none owed", "timed": "none owed",
			"not-reached": "none owed"}
		if !maps.Equal(out.undo, want) {
			t.Errorf("undo %v, want %v", out.undo, want)
		}
		if len(out.leftovers) != 1 || out.leftovers[0].Step != "stuck" || !strings.Contains(out.leftovers[0].Error, "boom") ||
			out.leftovers[0].Object != "ConfigMap ns/break/stuck" || !strings.HasSuffix(out.leftovers[0].Repair,
			"--cluster mine") {
			t.Errorf("leftovers %+v, want that of stuck", out.leftovers)
		}
		for _, s := range p.recorder.Snapshot().Steps {
			if want := s.Name == "first" || s.Name == "timed"; (s.Healed != nil) != want {
				t.Errorf("%s: healed %v, want it set: %v", s.Name, s.Healed, want)
			}
		}
	})
}

// newEventServer is an API server that has nothing but events: Once at first, then Tick again and again.
func newEventServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		watches, events := r.URL.Query().Get("watch") != "", path.Base(r.URL.Path) == "events"
		switch {
		case watches && events:
			sendEvents(w, r)
		case watches:
			_ = http.NewResponseController(w).Flush() // the watch is there, and nothing happens
			<-r.Context().Done()
		case r.Method == http.MethodGet:
			kind := map[bool]string{true: "EventList", false: "NodeList"}[events]
			fmt.Fprintf(w, `{"apiVersion": "v1", "kind": %q, "metadata": {"resourceVersion": "1"}, "items": []}`, kind)
		case r.Method == http.MethodPost: // the recorder's namespace is there already
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "AlreadyExists", "code": 409}`)
		default:
			fmt.Fprint(w, `{"apiVersion": "v1", "kind": "Status", "status": "Success"}`)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func sendEvents(w http.ResponseWriter, r *http.Request) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	reason := "Once"
	for n := 2; ; n++ {
		fmt.Fprintf(w, `{"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Event", "reason": %q,
			"metadata": {"namespace": "default", "name": "e%d", "uid": "e%d", "resourceVersion": "%d"}}}`+"\n", reason, n, n, n)
		_ = http.NewResponseController(w).Flush()
		reason = "Tick"
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

// TestConditionsOverARealRecorder runs in real time: what the recorder sees comes over a connection.
func TestConditionsOverARealRecorder(t *testing.T) {
	on := func(reason string) scenarios.Condition {
		return scenarios.Condition{Event: &scenarios.EventMatch{Reason: reason}}
	}
	tickOn, onceOn, limit := on("Tick"), on("Once"), values.Duration(100*time.Millisecond)
	p, d := newTestPlay(t, scenarios.Spec{
		Steady: &scenarios.Steady{Condition: tickOn, Hold: limit, Within: *sec(10)},
		Steps: []scenarios.Step{{Name: "on-tick", When: &tickOn, Within: forSec(10)},
			{Name: "on-once", When: &onceOn, Within: values.Same(limit)}}})
	rec, err := recorder.New(recorder.Options{Run: "test", Namespace: "rebound-test", Heartbeat: -1,
		REST: &rest.Config{Host: newEventServer(t).URL}})
	if err != nil {
		t.Fatal(err)
	}
	p.recorder = rec
	if err := rec.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rec.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	at, err := p.awaitSteady(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tl := p.recorder.Snapshot()
	first := slices.IndexFunc(tl.Facts, func(f assertions.Fact) bool { return f.Event != nil && f.Event.Reason == "Tick" })
	if first < 0 || at-tl.Facts[first].At < time.Duration(limit) {
		t.Errorf("steady at %v, the event was seen at %v: want it held for %v", at, tl.Facts[first].At, limit)
	}
	// Once came before anybody asked for it, so that it starts nothing.
	err = p.observe(t.Context(), nil)
	if _, began := d.at["on-tick"]; !began || !errors.Is(err, errWhenUnmet) || !strings.Contains(err.Error(), "on-once") {
		t.Errorf("observe: %v, began %v; want on-tick to begin, and on-once not", err, d.at)
	}
}

func TestGateOpensOnce(t *testing.T) {
	for name, test := range map[string]struct {
		opened []error
		want   error
	}{
		"open": {[]error{nil}, nil}, "failed": {[]error{errBoom}, errBoom},
		"open stays open": {[]error{nil, errBoom}, nil}, "failed stays failed": {[]error{errBoom, nil}, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			for _, err := range test.opened {
				g.open(err)
			}
			for range 2 { // it does not close again
				if err := g.wait(t.Context()); !errors.Is(err, test.want) {
					t.Errorf("wait: %v, want %v", err, test.want)
				}
			}
		})
	}
}

func TestGateReleasesEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		ctx, cancel := context.WithCancelCause(t.Context())
		var gone, stay sync.WaitGroup
		results := make([]error, 6)
		for i := range results {
			group, until := &stay, t.Context()
			if i%2 == 0 {
				group, until = &gone, ctx
			}
			group.Go(func() { results[i] = g.wait(until) })
		}
		synctest.Wait()
		cancel(Interruption("terminated"))
		gone.Wait()
		var opening sync.WaitGroup
		for range 4 { // whoever comes first, it is the one error for all
			opening.Go(func() { g.open(errBoom) })
		}
		opening.Wait()
		stay.Wait()
		for i, err := range results {
			want := error(errBoom)
			if i%2 == 0 {
				want = Interruption("terminated")
			}
			if !errors.Is(err, want) {
				t.Errorf("waiter %d: %v, want %v", i, err, want)
			}
		}
	})
}

func TestStepEdges(t *testing.T) {
	s := newStepRun(PlannedStep{Name: "cut"}, 0)
	for edge, want := range map[assertions.Edge]*gate{
		"": s.effective, assertions.EdgeAt: s.started, assertions.EdgeEffective: s.effective, assertions.EdgeDone: s.done,
		assertions.EdgeHealed: s.healed,
	} {
		if got, err := s.edge(edge); err != nil || got != want {
			t.Errorf("edge %q: another gate (%v)", edge, err)
		}
	}
	if _, err := s.edge("over"); err == nil {
		t.Error("an edge that there is not was found")
	}
}

func TestFailedStepKeepsTheEdgesItReached(t *testing.T) {
	s := newStepRun(PlannedStep{Name: "cut"}, 0)
	s.started.open(nil)
	s.done.open(nil)
	s.fail(errBoom)
	for name, want := range map[*gate]error{s.started: nil, s.done: nil, s.effective: errBoom, s.healed: errBoom} {
		if err := name.wait(t.Context()); !errors.Is(err, want) {
			t.Errorf("wait: %v, want %v", err, want)
		}
	}
}

func TestWaitFor(t *testing.T) {
	for name, test := range map[string]struct {
		wait, cancelAt, took time.Duration
		want                 error
	}{
		"its time":                 {3 * time.Second, time.Hour, 3 * time.Second, nil},
		"nothing to wait for":      {0, time.Hour, 0, nil},
		"late already":             {-time.Second, time.Hour, 0, nil},
		"until the context's end":  {time.Hour, 2 * time.Second, 2 * time.Second, Interruption("interrupt")},
		"late beats a context end": {-time.Second, 0, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.cancelAt == 0 {
					cancel(Interruption("interrupt"))
				}
				defer time.AfterFunc(test.cancelAt, func() { cancel(Interruption("interrupt")) }).Stop()
				began := time.Now()
				if err := waitFor(ctx, test.wait); !errors.Is(err, test.want) {
					t.Errorf("waitFor: %v, want %v", err, test.want)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
			})
		})
	}
}
