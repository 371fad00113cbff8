package injectors

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttest "k8s.io/client-go/testing"
)

// cluster is a world whose API server can be away.
type cluster struct {
	api  *fake.Clientset
	mu   sync.Mutex
	away error
}

func newCluster() *cluster {
	c := &cluster{api: fake.NewClientset()}
	c.api.PrependReactor("*", "*", func(clienttest.Action) (bool, k8sruntime.Object, error) {
		err := c.down()
		return err != nil, nil, err
	})
	return c
}

func (c *cluster) API() kubernetes.Interface      { return c.api }
func (c *cluster) Node(name string) (Node, error) { return nil, errors.New("no node access: " + name) }

func (c *cluster) down() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away
}

func (c *cluster) set(away error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
}

var refused = &url.Error{Op: "Get", URL: "https://cluster", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}

func apiStep(name string, fields ...string) Step {
	s := step(name, fields...)
	s.Needs = []Need{NeedAPI}
	return s
}

func nodeStep(name string) Step {
	s := step(name)
	s.Target.Kind = "Node"
	s.Needs = []Need{NeedNode}
	return s
}

// log collects what happens in order.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, " ")
}

func ledgers(t testing.TB) string { return filepath.Join(t.TempDir(), "ledgers") }

func TestReplayIsLastInFirstOut(t *testing.T) {
	var order log
	reg := registry(t, func(_ context.Context, _ World, s Step) error { order.add(s.Target.Name); return nil })
	l := newLedger(t, ledgers(t))
	one, two := NewUndo(l, reg, "one"), NewUndo(l, reg, "two")
	mustAdd(t, one, step("a"))
	mustAdd(t, two, step("b"))
	mustAdd(t, one, step("c"))
	mustAdd(t, two, step("d"))
	if got := names(one.Owed()); got != "a c" {
		t.Errorf("step one owes %q", got)
	}
	if left := one.Replay(t.Context(), nil); len(left) > 0 || order.String() != "c a" {
		t.Errorf("replayed %q, left %v", &order, left)
	}
	if left := ReplayLedger(t.Context(), l, reg, nil); len(left) > 0 || order.String() != "c a d b" {
		t.Errorf("replayed %q, left %v", &order, left)
	}
	if left := ReplayLedger(t.Context(), l, reg, nil); len(left) > 0 || order.String() != "c a d b" {
		t.Errorf("a second replay did %q, left %v", &order, left)
	}
}

func TestReplayOutlivesItsContext(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
	l := newLedger(t, ledgers(t))
	u := NewUndo(l, registry(t, func(ctx context.Context, _ World, _ Step) error {
		if _, limited := ctx.Deadline(); !limited || ctx.Value(key{}) != "kept" {
			return errors.New("no limit, or lost its values")
		}
		return ctx.Err()
	}), "cut")
	mustAdd(t, u, step("a"))
	cancel()
	if err := u.Add(ctx, step("b")); !errors.Is(err, context.Canceled) {
		t.Errorf("Add with a cancelled context: %v", err)
	}
	if left := u.Replay(ctx, nil); len(left) > 0 {
		t.Error(left)
	}
}

// Whatever step k does, all others are replayed, and just it is left over; the ledger still owes it.
func TestOneFailureStopsNoOther(t *testing.T) {
	failures := map[string]UndoFunc{
		"error":  func(context.Context, World, Step) error { return errors.New("broken") },
		"panic":  func(context.Context, World, Step) error { panic("broken") },
		"goexit": func(context.Context, World, Step) error { runtime.Goexit(); return nil },
		"bounds": func(_ context.Context, _ World, s Step) error { return errors.New(s.Fields[7]) },
	}
	const n = 4
	for name, fail := range failures {
		for k := range n {
			t.Run(fmt.Sprint(name, " at ", k), func(t *testing.T) {
				var done log
				bad := fmt.Sprint(k)
				reg := registry(t, func(ctx context.Context, w World, s Step) error {
					if s.Target.Name == bad {
						return fail(ctx, w, s)
					}
					done.add(s.Target.Name)
					return nil
				})
				l := newLedger(t, ledgers(t))
				u := NewUndo(l, reg, "cut")
				var want []string
				for i := range n {
					mustAdd(t, u, step(fmt.Sprint(i)))
					if i != k {
						want = append(want, fmt.Sprint(i))
					}
				}
				left := u.Replay(t.Context(), nil)
				if len(left) != 1 || left[0].Step.Target.Name != bad || left[0].Ledger != l.Path() {
					t.Errorf("left over: %v", left)
				}
				slices.Reverse(want)
				if done.String() != strings.Join(want, " ") {
					t.Errorf("done: %q, want %q", &done, want)
				}
				if got := names(l.Owed()); got != bad {
					t.Errorf("owes %q, want %q", got, bad)
				}
				if left := u.Replay(t.Context(), nil); len(left) != 1 {
					t.Errorf("tried again: %v", left)
				}
			})
		}
	}
}

func TestReplayGivesUpAStepThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var done log
		reg := registry(t, func(ctx context.Context, _ World, s Step) error {
			switch s.Target.Name {
			case "deaf":
				<-release
			case "slow":
				<-ctx.Done()
				return ctx.Err()
			}
			done.add(s.Target.Name)
			return nil
		})
		l := newLedger(t, ledgers(t))
		u := NewUndo(l, reg, "cut")
		slow := step("slow")
		slow.Limit = 7 * time.Second
		mustAdd(t, u, step("a"), step("deaf"), slow)
		start := time.Now()
		left := u.Replay(t.Context(), nil)
		if took, want := time.Since(start), 7*time.Second+attemptLimit+returnLimit; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
		if len(left) != 2 || done.String() != "a" {
			t.Errorf("left over %v, done %q", left, &done)
		}
		close(release)
	})
}

func TestAddRefuses(t *testing.T) {
	reg := registry(t, fine)
	tests := []struct {
		name     string
		held, by Step
		taken    bool
	}{
		{"the same field", step("a", "/spec/replicas"), step("a", "/spec/replicas"), true},
		{"another field", step("a", "/spec/replicas"), step("a", "/spec/paused"), false},
		{"a longer name", step("a", "/data/x"), step("a", "/data/xy"), false},
		{"a field below", step("a", "/spec"), step("a", "/spec/replicas"), true},
		{"a field above", step("a", "/spec/replicas"), step("a", "/spec/"), true},
		{"one of several", step("a", "/x", "/y"), step("a", "/z", "/y"), true},
		{"the whole object", step("a"), step("a", "/spec/replicas"), true},
		{"another object", step("a", "/spec"), step("b", "/spec"), false},
		{"a namesake of another kind", step("a", "/spec"), nodeStep("a"), false},
		{"a successor of that name", step("a", "/spec"), func() Step {
			s := step("a", "/spec")
			s.Target.UID = "another"
			return s
		}(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(t, ledgers(t))
			first, second := NewUndo(l, reg, "first"), NewUndo(l, reg, "second")
			mustAdd(t, first, tt.held)
			if err := second.Add(t.Context(), tt.by); errors.Is(err, ErrFieldTaken) != tt.taken {
				t.Errorf("Add returned %v", err)
			}
			// A step may strike the same field twice itself, and a healed one lets go of it.
			mustAdd(t, first, tt.held)
			if left := first.Replay(t.Context(), nil); len(left) > 0 {
				t.Fatal(left)
			}
			mustAdd(t, second, tt.by)
		})
	}
}

func TestAddRefusesWhatCantBeUndone(t *testing.T) {
	l := newLedger(t, ledgers(t))
	u := NewUndo(l, registry(t, fine), "cut")
	unknown := step("a")
	unknown.Kind = "other/undo"
	broken := step("a")
	broken.Params = []byte("{")
	bad := map[string]Step{"no target": {Kind: "test/undo"}, "unknown kind": unknown, "bad parameters": broken}
	for name, s := range bad {
		if err := u.Add(t.Context(), s); err == nil {
			t.Errorf("%s: added", name)
		}
	}
	if err := u.Add(t.Context(), unknown); !errors.Is(err, ErrUnknownUndo) {
		t.Errorf("unknown kind: %v", err)
	}
	if owed := l.Owed(); len(owed) > 0 {
		t.Errorf("owes %v", owed)
	}
}

func TestAddAfterReplayRefuses(t *testing.T) {
	l := newLedger(t, ledgers(t))
	reg := registry(t, fine)
	one, two := NewUndo(l, reg, "one"), NewUndo(l, reg, "two")
	one.Replay(t.Context(), nil)
	if err := one.Add(t.Context(), step("a")); !errors.Is(err, ErrHealing) {
		t.Errorf("a straggler's Add: %v", err)
	}
	mustAdd(t, two, step("a"))
	ReplayLedger(t.Context(), l, reg, nil)
	if err := two.Add(t.Context(), step("b")); !errors.Is(err, ErrHealing) {
		t.Errorf("a straggler's Add after all was healed: %v", err)
	}
	mustAdd(t, NewUndo(l, reg, "three"), step("b"))
}

// A fault took the API server down: the step that needs it waits, the one that brings it back runs, and then all is
// well.
func TestParkedUntilTheAPIIsBack(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "n", errors.New("not yet ready"))
	for name, away := range map[string]error{
		"refused":     refused,
		"unavailable": apierrors.NewServiceUnavailable("etcd"),
		"internal":    apierrors.NewInternalError(errors.New("no leader")),
		"marked":      fmt.Errorf("ask: %w", ErrNeedsAPI),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCluster()
				w.set(away)
				var done log
				starting := true
				reg := registry(t, func(_ context.Context, _ World, s Step) error {
					if s.Target.Kind == "Node" {
						time.AfterFunc(40*time.Second, func() { w.set(nil) })
					} else if err := w.down(); err != nil {
						return err
					} else if starting { // the API server is back, its access rules are not
						starting = false
						return forbidden
					}
					done.add(s.Target.Name)
					return nil
				})
				l := newLedger(t, ledgers(t))
				u := NewUndo(l, reg, "stop")
				mustAdd(t, u, apiStep("a", "/x"), nodeStep("server"), apiStep("b"), apiStep("c", "/x"), apiStep("c", "/y"))
				start := time.Now()
				if left := u.Replay(t.Context(), w); len(left) > 0 {
					t.Errorf("left over: %v", left)
				}
				if took := time.Since(start); took < 40*time.Second || took > 42*time.Second {
					t.Errorf("took %v, want 40 s and a bit", took)
				}
				// Both of c in their order; the first of them had to wait for the access rules, which b and a need not.
				if got := done.String(); got != "server b a c c" {
					t.Errorf("order %q", got)
				}
			})
		})
	}
}

func TestParkedForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCluster()
		w.set(refused)
		tries := 0
		reg := registry(t, func(context.Context, World, Step) error { tries++; return refused })
		l := newLedger(t, ledgers(t))
		u := NewUndo(l, reg, "stop")
		mustAdd(t, u, apiStep("a"), apiStep("b"))
		start := time.Now()
		left := u.Replay(t.Context(), w)
		if took := time.Since(start); took != parkLimit {
			t.Errorf("took %v, want %v", took, parkLimit)
		}
		if len(left) != 2 || tries != 1 {
			t.Errorf("left over %v after %d tries, want both after one", left, tries)
		}
		for _, x := range left {
			if !errors.Is(x.Err, ErrNeedsAPI) {
				t.Errorf("%v: want ErrNeedsAPI", x)
			}
		}
		w.set(nil)
		if left := ReplayLedger(t.Context(), l, registry(t, fine), w); len(left) > 0 {
			t.Errorf("repaired later: %v", left)
		}
	})
}

// An API server that swallows requests must not cost the limit of an attempt for each step.
func TestParkedWhileTheAPIHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCluster()
		w.set(context.DeadlineExceeded)
		reg := registry(t, func(ctx context.Context, _ World, _ Step) error { <-ctx.Done(); return ctx.Err() })
		u := NewUndo(newLedger(t, ledgers(t)), reg, "stop")
		for i := range 20 {
			mustAdd(t, u, apiStep(fmt.Sprint(i)))
		}
		start := time.Now()
		if left := u.Replay(t.Context(), w); len(left) != 20 {
			t.Errorf("left over: %d", len(left))
		}
		if took := time.Since(start); took > attemptLimit+parkLimit {
			t.Errorf("took %v", took)
		}
	})
}

// A step's `for:` ends, and its undo waits for the API server that another step took away: that one's undo must not
// wait for the first.
func TestReplaysDoNotBlockEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCluster()
		w.set(refused)
		var done log
		reg := registry(t, func(_ context.Context, _ World, s Step) error {
			if s.Target.Kind == "Node" {
				w.set(nil)
			} else if err := w.down(); err != nil {
				return err
			}
			done.add(s.Target.Name)
			return nil
		})
		l := newLedger(t, ledgers(t))
		patch, stop := NewUndo(l, reg, "patch"), NewUndo(l, reg, "stop")
		mustAdd(t, patch, apiStep("a"))
		mustAdd(t, stop, nodeStep("server"))
		var first []Leftover
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			first = patch.Replay(t.Context(), w)
		}()
		time.Sleep(10 * time.Second)
		if left := ReplayLedger(t.Context(), l, reg, w); len(left) > 0 {
			t.Error(left)
		}
		<-ended
		if len(first) > 0 || done.String() != "server a" {
			t.Errorf("left over %v, done %q", first, &done)
		}
	})
}

func TestEachStepIsReplayedByOne(t *testing.T) {
	var done log
	reg := registry(t, func(_ context.Context, _ World, s Step) error { done.add(s.Target.Name); return nil })
	l := newLedger(t, ledgers(t))
	u := NewUndo(l, reg, "cut")
	for i := range 20 {
		mustAdd(t, u, step(fmt.Sprint(i)))
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if left := ReplayLedger(t.Context(), l, reg, nil); len(left) > 0 {
				t.Error(left)
			}
			if owed := l.Owed(); len(owed) > 0 {
				t.Errorf("a replay returned while %v is owed", owed)
			}
		})
	}
	all.Wait()
	if n := len(strings.Fields(done.String())); n != 20 {
		t.Errorf("%d replays of 20 steps", n)
	}
}

func TestUnknownUndoIsLeftOver(t *testing.T) {
	l := newLedger(t, ledgers(t))
	mustAdd(t, NewUndo(l, registry(t, fine), "cut"), step("a"))
	left := ReplayLedger(t.Context(), l, Registry{}, nil)
	if len(left) != 1 || !errors.Is(left[0].Err, ErrUnknownUndo) {
		t.Errorf("left over: %v", left)
	}
}

func TestAPIAway(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	gateway := apierrors.NewGenericServerResponse(http.StatusBadGateway, "get", pods, "x", "", 0, true)
	tests := []struct {
		name      string
		err       error
		api, node bool // counts for a step that needs the API server, or just the node
	}{
		{"nothing", nil, false, false},
		{"marked", fmt.Errorf("ask: %w", ErrNeedsAPI), true, true},
		{"joined", errors.Join(errors.New("x"), fmt.Errorf("ask: %w", refused)), true, false},
		{"refused", syscall.ECONNREFUSED, true, false},
		{"reset", &url.Error{Err: syscall.ECONNRESET}, true, false},
		{"closed", &net.OpError{Op: "read", Err: net.ErrClosed}, true, false},
		{"too late", context.DeadlineExceeded, true, false},
		{"unavailable", apierrors.NewServiceUnavailable("x"), true, false},
		{"internal", apierrors.NewInternalError(errors.New("x")), true, false},
		{"too many", apierrors.NewTooManyRequests("x", 1), true, false},
		{"bad gateway", gateway, true, false},
		{"cancelled", &url.Error{Err: context.Canceled}, false, false},
		{"not found", apierrors.NewNotFound(pods, "x"), false, false},
		{"forbidden", apierrors.NewForbidden(pods, "x", nil), false, false},
		{"conflict", fmt.Errorf("x: %w", ErrConflict), false, false},
		{"says so", errors.New("connection refused"), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := apiAway(apiStep("a"), tt.err); got != tt.api {
				t.Errorf("for a step that needs the API server: %v", got)
			}
			if got := apiAway(nodeStep("a"), tt.err); got != tt.node {
				t.Errorf("for a step that needs the node: %v", got)
			}
		})
	}
}

func TestRegistry(t *testing.T) {
	good := func(name string, kinds ...string) Fault {
		f := Fault{Name: name, New: func() Injector { return &nothing{} }, Undo: map[string]UndoFunc{}}
		for _, k := range kinds {
			f.Undo[k] = fine
		}
		return f
	}
	var none *nothing
	tests := []struct {
		name   string
		faults []Fault
		errs   int
	}{
		{"none", nil, 0},
		{"two", []Fault{good("b", "b/x", "b/y"), good("a-1", "a-1/x")}, 0},
		{"twice", []Fault{good("a"), good("a")}, 1},
		{"no name", []Fault{good("")}, 1},
		{"bad names", []Fault{good("Kill"), good("a b"), good("-a"), good("a/b")}, 4},
		{"no New", []Fault{{Name: "a"}}, 1},
		{"New of nothing", []Fault{
			{Name: "a", New: func() Injector { return nil }}, {Name: "b", New: func() Injector { return none }},
		}, 2},
		{"New of a value", []Fault{{Name: "a", New: func() Injector { return nothing{} }}}, 1},
		{"another's undo", []Fault{good("a", "a/x"), good("b", "a/x")}, 1},
		{"an undo of nothing", []Fault{good("a", "a/")}, 1},
		{"an undo without function", []Fault{{Name: "a", New: good("a").New, Undo: map[string]UndoFunc{"a/x": nil}}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewRegistry(tt.faults...)
			if got := countErrors(err); got != tt.errs {
				t.Errorf("%d errors, want %d: %v", got, tt.errs, err)
			}
			if err != nil {
				return
			}
			if len(r.Names()) != len(tt.faults) || !slices.IsSorted(r.Names()) {
				t.Errorf("names %v", r.Names())
			}
			for _, f := range tt.faults {
				if got, ok := r.Fault(f.Name); !ok || got.Name != f.Name {
					t.Errorf("fault %q is not found", f.Name)
				}
				for kind := range f.Undo {
					if _, ok := r.UndoFunc(kind); !ok {
						t.Errorf("undo %q is not found", kind)
					}
				}
			}
			if _, ok := r.Fault("never"); ok {
				t.Error("found a fault that nobody registered")
			}
		})
	}
}

func countErrors(err error) int {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		return len(many.Unwrap())
	}
	if err != nil {
		return 1
	}
	return 0
}
