package kindcluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/rebound-chaos/rebound/clusters"
)

var spec = clusters.Spec{Name: "a", Workers: []clusters.NodeGroup{{Count: 2}}}

// unused is kind where a test does not get that far.
func unused(log.Logger, *v1alpha4.Cluster, string) error {
	return errors.New("kind was not to be called")
}

func noFiles(t *testing.T, p *Provider) {
	t.Helper()
	if entries, err := os.ReadDir(p.store.root); err == nil && len(entries) > 0 {
		t.Errorf("files left: %v", entries)
	}
}

func TestCreateFailsAndLeavesNothing(t *testing.T) {
	broken := errors.New("broken")
	var f *fakeEngine
	var p *Provider
	p, f = newFake(t, failingKind(&f, broken))
	var progress strings.Builder
	p.progress = &progress
	_, err := p.Create(t.Context(), spec)
	if !errors.Is(err, broken) {
		t.Errorf("Create = %v", err)
	}
	if left := f.left(); left != "" {
		t.Errorf("left: %s", left)
	}
	noFiles(t, p)
	for _, want := range []string{"Preparing nodes\n", "the end of its log"} {
		if !strings.Contains(progress.String(), want) {
			t.Errorf("progress lacks %q:\n%s", want, progress.String())
		}
	}
}

// A `docker run` of kind's may still come through when kind has returned.
func TestCreateSweepsLateContainers(t *testing.T) {
	var f *fakeEngine
	var p *Provider
	var late sync.WaitGroup
	p, f = newFake(t, func(_ log.Logger, cfg *v1alpha4.Cluster, _ string) error {
		late.Go(func() {
			for range 100 {
				if f.kindRun(cfg, 1) != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
		return errors.New("gave up")
	})
	if _, err := p.Create(t.Context(), spec); err == nil {
		t.Fatal("Create passed")
	}
	late.Wait()
	if left := f.left(); left != "" {
		t.Errorf("left: %s", left)
	}
}

// The engine may have looked the image up just before it was removed, and come up with the container just after.
func TestDeleteLooksTwice(t *testing.T) {
	p, f := newFake(t, unused)
	finished(t, p, f, "a")
	f.late = &thing{name: "late", state: "created",
		labels: map[string]string{clusters.LabelManaged: labelTrue, clusters.LabelCluster: "a"}}
	if err := p.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if left := f.left(); left != "" || f.late != nil {
		t.Errorf("left: %s", left)
	}
}

func TestCreateIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var f *fakeEngine
	var p *Provider
	p, f = newFake(t, func(_ log.Logger, cfg *v1alpha4.Cluster, _ string) error {
		for node := range cfg.Nodes {
			if err := f.kindRun(cfg, node); err != nil {
				return err
			}
		}
		cancel()
		for { // a kubeadm that runs until its node is taken away
			f.mu.Lock()
			left := len(f.containers)
			f.mu.Unlock()
			if left == 0 {
				return errors.New("no such container")
			}
			time.Sleep(time.Millisecond)
		}
	})
	_, err := p.Create(ctx, spec)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Create = %v", err)
	}
	if left := f.left(); left != "" {
		t.Errorf("left: %s", left)
	}
	noFiles(t, p)
}

func TestCreateLabelsEverything(t *testing.T) {
	var f *fakeEngine
	var p *Provider
	checked := false
	p, f = newFake(t, func(_ log.Logger, cfg *v1alpha4.Cluster, kubeconfig string) error {
		checked = true
		if os.Getenv(envNetwork) != "rebound-a" || cfg.Name != "rebound-a" {
			t.Errorf("cluster %s in network %s", cfg.Name, os.Getenv(envNetwork))
		}
		if !strings.HasPrefix(kubeconfig, p.store.dir("a")) {
			t.Errorf("kubeconfig %s", kubeconfig)
		}
		for _, kind := range []string{"network", "image"} {
			if ids, err := p.engine.ids(t.Context(), kind, marks("a")...); err != nil || len(ids) != 1 {
				t.Errorf("labelled %ss: %v, %v", kind, ids, err)
			}
		}
		return errors.New("enough")
	})
	f.noIPv6 = true
	if _, err := p.Create(t.Context(), spec); err == nil || !checked {
		t.Errorf("Create = %v, kind called: %v", err, checked)
	}
}

func TestCreateRefuses(t *testing.T) {
	foreign := func(f *fakeEngine) {
		f.add(&f.containers, &thing{name: "rebound-a-control-plane",
			labels: map[string]string{kindLabelCluster: "rebound-a"}})
	}
	for name, c := range map[string]struct {
		spec  clusters.Spec
		setUp func(*fakeEngine)
		want  error
		text  string
	}{
		"no engine":       {spec, func(f *fakeEngine) { f.down = true }, clusters.ErrNoEngine, "make engine"},
		"somebody else's": {spec, foreign, clusters.ErrNameTaken, "kind delete cluster --name rebound-a"},
		"no image":        {spec, func(f *fakeEngine) { f.images = nil }, clusters.ErrNoImage, "make node-image"},
		"unknown image": {clusters.Spec{Name: "a", Image: "shop:v1"}, func(*fakeEngine) {}, clusters.ErrNoImage,
			"shop:v1"},
		"bad name":        {clusters.Spec{Name: "A b"}, func(*fakeEngine) {}, clusters.ErrBadSpec, `"A b"`},
		"unknown profile": {clusters.Spec{Name: "a", Profile: "slow"}, func(*fakeEngine) {}, clusters.ErrBadSpec, "slow"},
		"control planes": {clusters.Spec{Name: "a", ControlPlanes: 3}, func(*fakeEngine) {}, clusters.ErrBadSpec,
			"load balancer"},
		"no worker at all": {clusters.Spec{Name: "a", Workers: []clusters.NodeGroup{{}}}, func(*fakeEngine) {},
			clusters.ErrBadSpec, "group 1"},
	} {
		t.Run(name, func(t *testing.T) {
			p, f := newFake(t, unused)
			c.setUp(f)
			before := f.left()
			_, err := p.Create(t.Context(), c.spec)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Create = %v", err)
			}
			if after := f.left(); after != before {
				t.Errorf("the engine had %q and has %q", before, after)
			}
			noFiles(t, p)
		})
	}
}

// finished puts a cluster there as another process would have made it; its API server does not answer.
func finished(t *testing.T, p *Provider, f *fakeEngine, name string) {
	t.Helper()
	release, err := p.store.lock(name)
	if err != nil {
		t.Fatal(err)
	}
	kept := record{Spec: clusters.Spec{Name: name, Profile: clusters.ProfileFast, ControlPlanes: 1}, Image: baseImage}
	if err := p.store.writeRecord(kept); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{clusters.LabelManaged: labelTrue, clusters.LabelCluster: name}
	f.add(&f.images, &thing{name: imageName + ":" + name, labels: labels})
	f.add(&f.networks, &thing{name: kindName(name), labels: labels})
	cfg := &v1alpha4.Cluster{Name: kindName(name), Nodes: []v1alpha4.Node{{Image: imageName + ":" + name}}}
	if err := errors.Join(f.kindRun(cfg, 0), release()); err != nil {
		t.Fatal(err)
	}
}

func TestOursIsTaken(t *testing.T) {
	p, f := newFake(t, unused)
	finished(t, p, f, "a")
	before := f.left()
	_, err := p.Create(t.Context(), spec)
	if !errors.Is(err, clusters.ErrNameTaken) || !strings.Contains(err.Error(), "rebound cluster delete a") {
		t.Errorf("Create = %v", err)
	}
	if f.left() != before {
		t.Error("the cluster that was there was touched")
	}
	if _, found, err := p.store.readRecord("a"); err != nil || !found {
		t.Errorf("its files are gone: %v", err)
	}
}

func TestBeingMadeIsTaken(t *testing.T) {
	p, _ := newFake(t, unused)
	release, err := p.store.lock("a")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := p.Create(t.Context(), spec); !errors.Is(err, clusters.ErrNameTaken) || !errors.Is(err, clusters.ErrBusy) {
		t.Errorf("Create = %v", err)
	}
	if err := p.Delete(t.Context(), "a"); !errors.Is(err, clusters.ErrBusy) {
		t.Errorf("Delete = %v", err)
	}
}

func TestCreateClearsWhatAKilledOneLeft(t *testing.T) {
	reached := errors.New("reached kind")
	var f *fakeEngine
	var p *Provider
	p, f = newFake(t, func(log.Logger, *v1alpha4.Cluster, string) error {
		if count := len(f.containers); count != 0 {
			t.Errorf("%d containers of the killed one are left", count)
		}
		return reached
	})
	finished(t, p, f, "a")
	if err := os.Remove(filepath.Join(p.store.dir("a"), clusters.FileSpec)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Create(t.Context(), spec); !errors.Is(err, reached) {
		t.Errorf("Create = %v", err)
	}
}

func TestGetListDelete(t *testing.T) {
	p, f := newFake(t, unused)
	foreign := &thing{name: "kind-control-plane", labels: map[string]string{kindLabelCluster: "kind"}}
	f.add(&f.containers, foreign)
	finished(t, p, f, "a")
	finished(t, p, f, "b")
	f.containers[2].state = "exited"
	if _, err := p.Get(t.Context(), "none"); !errors.Is(err, clusters.ErrNotFound) {
		t.Errorf("Get(none) = %v", err)
	}
	dead, err := p.Get(t.Context(), "b")
	if !errors.Is(err, clusters.ErrUnreachable) || !strings.Contains(err.Error(), "exited") || len(dead.Nodes) != 1 {
		t.Errorf("Get(b) = %+v, %v", dead, err)
	}
	list, err := p.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Fatalf("List = %v, %v", list, err)
	}
	for _, cluster := range list { // a has no kubeconfig, b no running node
		if !errors.Is(cluster.Problem, clusters.ErrUnreachable) || cluster.Profile.Name != clusters.ProfileFast {
			t.Errorf("%s: %v, profile %q", cluster.Name, cluster.Problem, cluster.Profile.Name)
		}
	}
	for _, name := range []string{"a", "b"} {
		if err := p.Delete(t.Context(), name); err != nil {
			t.Errorf("Delete(%s) = %v", name, err)
		}
	}
	if err := p.Delete(t.Context(), "a"); !errors.Is(err, clusters.ErrNotFound) {
		t.Errorf("second Delete = %v", err)
	}
	if left := f.left(); left != foreign.id+" "+foreign.name {
		t.Errorf("left: %s", left)
	}
	noFiles(t, p)
}

func TestDeleteSaysWhatStays(t *testing.T) {
	p, f := newFake(t, unused)
	finished(t, p, f, "a")
	// A container of somebody else's in our network keeps it.
	f.add(&f.containers, &thing{name: "guest", network: kindName("a")})
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	err := p.Delete(ctx, "a")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("Delete = %v", err)
	}
	if exists, _ := p.store.exists("a"); !exists {
		t.Error("the cluster is forgotten while some of it is there")
	}
}

func TestNodeImage(t *testing.T) {
	for name, c := range map[string]struct {
		spec, env, want string
		images          []thing
		pulls           bool
	}{
		"the spec's":        {spec: baseImage, env: "other:v1", want: baseImage},
		"the environment's": {env: baseImage, want: baseImage},
		"the newest built here, not a cluster's own": {want: "built:new", images: []thing{
			{name: imageName + ":x", labels: map[string]string{LabelNodeImage: "h"}},
			{name: "<none>:<none>", labels: map[string]string{LabelNodeImage: "h"}},
			{name: "built:new", labels: map[string]string{LabelNodeImage: "h"}},
			{name: "built:old", labels: map[string]string{LabelNodeImage: "h"}}}},
		"kind's, pulled": {want: "kindest/node", images: []thing{{name: "unrelated:v1"}}, pulls: true},
	} {
		t.Run(name, func(t *testing.T) {
			p, f := newFake(t, unused)
			if c.images != nil {
				f.images = nil
				for i := range c.images {
					f.add(&f.images, &c.images[i])
				}
			}
			f.pulls = c.pulls
			t.Setenv(EnvNodeImage, c.env)
			making := &creation{Provider: p, spec: clusters.Spec{Image: c.spec}, log: newRecorder(nil)}
			got, err := making.nodeImage(t.Context())
			if err != nil || !strings.HasPrefix(got, c.want) {
				t.Errorf("nodeImage = %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// One Provider makes its clusters one after the other, and a cancelled one does not wait for its turn.
func TestCreateWaitsItsTurn(t *testing.T) {
	var f *fakeEngine
	var p *Provider
	entered, proceed := make(chan struct{}), make(chan struct{})
	p, f = newFake(t, func(log.Logger, *v1alpha4.Cluster, string) error {
		entered <- struct{}{}
		<-proceed
		return errors.New("enough")
	})
	first := make(chan error, 1)
	go func() {
		_, err := p.Create(t.Context(), spec)
		first <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	second := spec
	second.Name = "b"
	if _, err := p.Create(ctx, second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second Create = %v", err)
	}
	close(proceed)
	if err := <-first; err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("first Create = %v", err)
	}
	if left := f.left(); left != "" {
		t.Errorf("left: %s", left)
	}
}
