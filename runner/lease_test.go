package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rebound-chaos/rebound/clusters"
)

// fakeProvider keeps clusters in memory and remembers what was asked of it.
type fakeProvider struct {
	up    map[string]*clusters.Cluster
	calls []string
	fail  error
}

func (f *fakeProvider) Create(_ context.Context, spec clusters.Spec) (*clusters.Cluster, error) {
	f.calls = append(f.calls, "create "+spec.Name)
	if f.fail != nil {
		return nil, f.fail
	}
	c := &clusters.Cluster{Name: spec.Name, Spec: spec}
	f.up[spec.Name] = c
	return c, nil
}

func (f *fakeProvider) Get(_ context.Context, name string) (*clusters.Cluster, error) {
	if c, ok := f.up[name]; ok {
		return c, nil
	}
	return nil, clusters.ErrNotFound
}

func (f *fakeProvider) Delete(_ context.Context, name string) error {
	f.calls = append(f.calls, "delete "+name)
	delete(f.up, name)
	return nil
}

func newLease(f *fakeProvider, given string, reset error) *lease {
	return &lease{provider: f, progress: newProgress(nil), name: "run", given: given,
		repair: func(context.Context, *clusters.Cluster) error {
			f.calls = append(f.calls, "repair")
			return nil
		},
		reset: func(context.Context, *clusters.Cluster) error {
			f.calls = append(f.calls, "reset")
			return reset
		}}
}

func spec(profile string, workers int) clusters.Spec {
	return clusters.Spec{Profile: profile, ControlPlanes: 1, Workers: []clusters.NodeGroup{{Count: workers}}}
}

func TestLeaseReusesResetsAndRecreates(t *testing.T) {
	for name, test := range map[string]struct {
		reset error
		specs []clusters.Spec
		want  []string
	}{
		"same again is reset":      {nil, []clusters.Spec{spec("fast", 2), spec("fast", 2)}, []string{"create run-1", "repair", "reset", "delete run-1"}},
		"another one is made anew": {nil, []clusters.Spec{spec("fast", 2), spec("fast", 3)}, []string{"create run-1", "delete run-1", "create run-2", "delete run-2"}},
		"a mismatch after reset likewise": {clusters.ErrNotAsBefore, []clusters.Spec{spec("fast", 2), spec("fast", 2)},
			[]string{"create run-1", "repair", "reset", "delete run-1", "create run-2", "delete run-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeProvider{up: map[string]*clusters.Cluster{}}
			l := newLease(f, "", test.reset)
			for _, s := range test.specs {
				if _, err := l.get(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				l.dirty = true
			}
			if err := l.release(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(f.calls, test.want) || len(f.up) != 0 {
				t.Errorf("calls %q, clusters left %v; want %q and none", f.calls, f.up, test.want)
			}
		})
	}
}

func TestLeaseNeverDeletesAGivenCluster(t *testing.T) {
	f := &fakeProvider{up: map[string]*clusters.Cluster{"mine": {Name: "mine", Spec: spec("fast", 2)}}}
	l := newLease(f, "mine", nil)
	if _, err := l.get(t.Context(), spec("fast", 2)); err != nil {
		t.Fatal(err)
	}
	l.dirty = true
	if err := l.release(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if want := []string{"repair", "reset", "repair", "reset"}; !slices.Equal(f.calls, want) || f.up["mine"] == nil {
		t.Errorf("calls %q, want %q, and the cluster left up", f.calls, want)
	}
}

func TestLeaseRefusesAGivenClusterThatDoesNotFit(t *testing.T) {
	for name, s := range map[string]clusters.Spec{
		"profile": spec("default", 2), "workers": spec("fast", 3),
		"labels": {Profile: "fast", ControlPlanes: 1, Workers: []clusters.NodeGroup{{Count: 1, Labels: map[string]string{"zone": "a"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeProvider{up: map[string]*clusters.Cluster{"mine": {Name: "mine", Spec: spec("fast", 2)}}}
			l := newLease(f, "mine", nil)
			if _, err := l.get(t.Context(), s); err == nil {
				t.Error("a cluster that does not fit was handed out")
			}
			if err := l.release(t.Context(), false); err != nil || len(f.calls) > 0 {
				t.Errorf("a cluster that was refused was touched: %q, %v", f.calls, err)
			}
		})
	}
}

func TestLeaseKeepsWhatIsToBeLookedInto(t *testing.T) {
	f := &fakeProvider{up: map[string]*clusters.Cluster{}}
	l := newLease(f, "", nil)
	if _, err := l.get(t.Context(), spec("fast", 2)); err != nil {
		t.Fatal(err)
	}
	if err := l.release(t.Context(), true); err != nil || f.up["run-1"] == nil {
		t.Errorf("release with keep: %v, clusters %v; want it left up", err, f.up)
	}
}

func TestLeaseReportsAFailedCreation(t *testing.T) {
	f := &fakeProvider{up: map[string]*clusters.Cluster{}, fail: fmt.Errorf("disk: %w", clusters.ErrNoEngine)}
	l := newLease(f, "", nil)
	if _, err := l.get(t.Context(), spec("fast", 2)); !errors.Is(err, clusters.ErrNoEngine) {
		t.Errorf("get: %v, want ErrNoEngine", err)
	}
	if err := l.release(t.Context(), false); err != nil || len(f.up) != 0 {
		t.Errorf("release after a failed creation: %v", err)
	}
}
