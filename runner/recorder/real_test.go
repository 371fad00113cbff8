//go:build cluster && linux

package recorder_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/clusters/image"
	"github.com/rebound-chaos/rebound/clusters/kindcluster"
	"github.com/rebound-chaos/rebound/runner/demo"
	"github.com/rebound-chaos/rebound/runner/recorder"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

// progress writes the cluster's steps to the test's log.
type progress struct{ t *testing.T }

func (p progress) Write(b []byte) (int, error) {
	p.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// must ends the test over an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestRealCluster records a demo on a real cluster while its only pod is killed and the API server goes away.
func TestRealCluster(t *testing.T) {
	program := os.Getenv("REBOUND_PROGRAM")
	if program == "" {
		t.Fatal("REBOUND_PROGRAM has to name a static Linux build (make test-real does)")
	}
	ctx := t.Context()
	provider := must[*kindcluster.Provider](t)(kindcluster.New(
		kindcluster.WithState(t.TempDir()), kindcluster.WithProgress(progress{t})))
	const name = "recorder-real"
	t.Cleanup(func() {
		if err := provider.Delete(context.WithoutCancel(ctx), name); err != nil && !errors.Is(err, clusters.ErrNotFound) {
			t.Error(err)
		}
	})
	cluster := must[*clusters.Cluster](t)(provider.Create(ctx, clusters.Spec{
		Name: name, Profile: clusters.ProfileFast, Workers: []clusters.NodeGroup{{Count: 2}},
	}))
	ref := must[string](t)(image.Ensure(ctx, cluster.Nodes, program))
	config, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	api := must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(config))
	const ns = "shop-1"
	rec := must[*recorder.Recorder](t)(recorder.New(recorder.Options{
		Run: "real", REST: config, Namespace: "rebound-real", Workloads: map[string]string{ns: "shop"},
		Nodes: nodes(cluster), Image: ref,
		Fields: []recorder.Field{{
			Resource:  schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
			Namespace: ns, Name: demo.Name, Path: ".spec.replicas", Ref: "shop/deployment/demo",
		}},
	}))
	if err := rec.Start(ctx); err != nil {
		t.Fatal(err)
	}
	deploy(t, api, ns, ref)
	waitFor(t, rec, "demo is ready", func(tl assertions.Timeline) bool { return readyPods(tl) == 1 })

	started := time.Now()
	vantage := cluster.Nodes[len(cluster.Nodes)-1].Name()
	if err := rec.StartProbes(ctx,
		recorder.Probe{
			Name: "front", Type: "http", Params: &prober.HTTP{Service: "shop/demo"}, Node: vantage,
			Interval: 10 * time.Millisecond, Timeout: 500 * time.Millisecond,
		},
		recorder.Probe{
			Name: "kept", Type: "http", Params: &prober.HTTP{Service: "shop/demo:http"}, Node: vantage,
			Connections: prober.Reused,
		},
	); err != nil {
		t.Fatal(err)
	}
	t.Logf("probers delivered after %v", time.Since(started))
	before := cpuTicks(t)
	quietFrom := rec.Clock().Now()
	wait(t, 10*time.Second)
	quietTo := rec.Clock().Now()
	t.Logf("recorder used %.1f %% of a core", 100*float64(cpuTicks(t)-before)/100/(quietTo-quietFrom).Seconds())
	checkLag(t, rec.Snapshot(), quietFrom, quietTo)

	killPod(t, rec, api, ns)
	pauseAPIServer(t, rec, cluster)

	written := written(t, cluster, vantage, "front")
	if err := rec.Stop(ctx); err != nil {
		t.Error(err)
	}
	checkFinal(t, rec.Timeline())
	if n := len(stream(rec.Timeline(), "front").Samples); n < written {
		t.Errorf("%d samples in the timeline, the prober had written %d before the end", n, written)
	}
	nothingLeft(t, api, cluster)
}

// written counts the samples in a prober's own file on its node: none of them may be missing from the timeline.
func written(t *testing.T, c *clusters.Cluster, vantage, probe string) int {
	t.Helper()
	node := must[clusters.Node](t)(c.Node(vantage))
	out := must[[]byte](t)(node.Exec(t.Context(), "cat", "/var/lib/rebound/real/"+probe+".ndjson"))
	return strings.Count(string(out), "\n") - 1 // the first line is the header
}

func nodes(c *clusters.Cluster) []recorder.Node {
	var out []recorder.Node
	for _, n := range c.Nodes {
		out = append(out, n)
	}
	return out
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal("interrupted")
	case <-time.After(d):
	}
}

// waitFor looks at each change until the condition holds.
func waitFor(t *testing.T, rec *recorder.Recorder, what string, holds func(assertions.Timeline) bool) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		changed := rec.Changed()
		if holds(rec.Snapshot()) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			tl := rec.Snapshot()
			t.Fatalf("not in time: %s; %d facts, gaps %+v", what, len(tl.Facts), tl.Gaps)
		}
	}
}

func deploy(t *testing.T, api kubernetes.Interface, ns, ref string) {
	t.Helper()
	ctx := t.Context()
	must[*corev1.Namespace](t)(api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}))
	for _, o := range demo.Objects(ns, ref, 1, map[string]string{"REBOUND_DEMO_VERSION": "v3"}) {
		var err error
		switch o := o.(type) {
		case *corev1.ConfigMap:
			_, err = api.CoreV1().ConfigMaps(ns).Create(ctx, o, metav1.CreateOptions{})
		case *corev1.Service:
			_, err = api.CoreV1().Services(ns).Create(ctx, o, metav1.CreateOptions{})
		case *appsv1.Deployment:
			_, err = api.AppsV1().Deployments(ns).Create(ctx, o, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readyPods counts the demo's pods that are ready and not leaving.
func readyPods(tl assertions.Timeline) int {
	ready := map[string]bool{}
	for _, f := range tl.Facts {
		if f.Pod != nil && f.Pod.Workload == "shop/deployment/demo" {
			ready[f.Pod.UID] = f.Pod.Ready && !f.Pod.Deleting && !f.Gone
		}
	}
	n := 0
	for _, r := range ready {
		if r {
			n++
		}
	}
	return n
}

func stream(tl assertions.Timeline, probe string) assertions.Stream {
	i := slices.IndexFunc(tl.Streams, func(s assertions.Stream) bool { return s.Probe == probe })
	return tl.Streams[i]
}

// checkLag prints how late samples started and wants none lost in a quiet stretch.
func checkLag(t *testing.T, tl assertions.Timeline, from, to time.Duration) {
	t.Helper()
	s := stream(tl, "front")
	var lags, took []time.Duration
	for _, sample := range s.Samples {
		if sample.Due < from || sample.Due > to-time.Second {
			continue
		}
		if !sample.OK || sample.Tag != "v3" {
			t.Errorf("sample in a quiet stretch: %+v", sample)
		}
		lags, took = append(lags, sample.Start-sample.Due), append(took, sample.End-sample.Start)
	}
	slices.Sort(lags)
	slices.Sort(took)
	n := len(lags)
	ticks := int((to - from - time.Second) / s.Interval)
	if n < ticks*8/10 { // a busy machine stalls the prober for longer than ticks are caught up
		t.Fatalf("%d samples for %d ticks", n, ticks)
	}
	t.Logf("%d ticks, load of the machine %s", ticks, loadAverage(t))
	t.Logf("%d samples: lag p50 %v p99 %v max %v; answer p50 %v p99 %v", n, lags[n/2], lags[n*99/100], lags[n-1],
		took[n/2], took[n*99/100])
}

// killPod deletes the only pod at once: its end, its replacement and the outage must be there, in order and bounded.
func killPod(t *testing.T, rec *recorder.Recorder, api kubernetes.Interface, ns string) {
	t.Helper()
	pods := must[*corev1.PodList](t)(api.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{}))
	victim := pods.Items[0]
	now, zero := rec.Clock().Now(), int64(0)
	rec.AddStep(assertions.Step{Name: "kill", Type: "kill-pod", Kind: assertions.Fault, At: now})
	atOnce := metav1.DeleteOptions{GracePeriodSeconds: &zero}
	if err := api.CoreV1().Pods(ns).Delete(t.Context(), victim.Name, atOnce); err != nil {
		t.Fatal(err)
	}
	waitFor(t, rec, "the pod is gone, another ready and the probe good again", func(tl assertions.Timeline) bool {
		s := stream(tl, "front").Samples
		failed := slices.ContainsFunc(s, func(s assertions.Sample) bool { return s.Start > now && !s.OK })
		return readyPods(tl) == 1 && failed && s[len(s)-1].OK && s[len(s)-1].Start > now+time.Second
	})
	tl := rec.Snapshot()
	var gone, replaced, published time.Duration
	for _, f := range tl.Facts {
		if f.NotBefore > f.At {
			t.Errorf("fact happened after it was seen: %+v", f)
		}
		if f.At < now {
			continue
		}
		switch {
		case f.Pod != nil && f.Pod.UID == string(victim.UID) && f.Gone:
			gone = f.At
			if f.NotBefore == 0 || f.At-f.NotBefore > 2*time.Second {
				t.Errorf("end of the pod is bounded by [%v, %v]", f.NotBefore, f.At)
			}
			t.Logf("pod gone in [%v, %v] after the kill", f.NotBefore-now, f.At-now)
		case f.Pod != nil && f.Pod.UID != string(victim.UID) && f.Pod.Ready && replaced == 0:
			replaced = f.At
		case f.Endpoint != nil && f.Endpoint.PodUID != string(victim.UID) && f.Endpoint.Ready && published == 0:
			published = f.At
		}
	}
	if gone == 0 || replaced < gone || published == 0 {
		t.Errorf("gone at %v, replaced at %v, published at %v", gone, replaced, published)
	}
	t.Logf("replacement ready %v, published %v after the kill", replaced-now, published-now)
}

// pauseAPIServer freezes the API server's processes: the watches and the heartbeat must tell, and no sample be lost.
func pauseAPIServer(t *testing.T, rec *recorder.Recorder, c *clusters.Cluster) {
	t.Helper()
	i := slices.IndexFunc(c.Nodes, func(n clusters.Node) bool { return strings.HasSuffix(n.Name(), "control-plane") })
	node := c.Nodes[i]
	signal := func(name string) {
		out, err := node.Exec(context.WithoutCancel(t.Context()), "pidof", "kube-apiserver")
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range strings.Fields(string(out)) {
			if _, err := node.Exec(context.WithoutCancel(t.Context()), "kill", "-"+name, pid); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal("STOP")
	from := rec.Clock().Now()
	wait(t, 6*time.Second)
	to := rec.Clock().Now()
	signal("CONT")
	resumed := rec.Clock().Now()
	sources := []string{recorder.SourceAPI, recorder.SourcePods, recorder.SourceNodes, recorder.SourceEndpoints}
	waitFor(t, rec, "every observer sees again", func(tl assertions.Timeline) bool {
		for _, source := range sources {
			gap, ok := gapAround(tl, source, from)
			if !ok || gap.To >= tl.End {
				return false
			}
		}
		return true
	})
	tl := rec.Snapshot()
	for _, source := range sources {
		gap, _ := gapAround(tl, source, from)
		t.Logf("gap of %-9s begins %v after the stop, ends %v after the return: %s", source, gap.From-from,
			gap.To-resumed, gap.Reason)
		// How soon after the return it sees again is in the log: that is the machine's speed, not a bound.
		if gap.From > from+time.Second || gap.To < to {
			t.Errorf("gap of %s is [%v, %v], API server was away in [%v, %v]", source, gap.From, gap.To, from, to)
		}
	}
	waitFor(t, rec, "samples of the outage are here", func(tl assertions.Timeline) bool {
		s := stream(tl, "front").Samples
		return s[len(s)-1].Start > to
	})
	n := 0
	for _, s := range stream(rec.Snapshot(), "front").Samples {
		if s.Due > from && s.Due < to {
			n++
		}
	}
	if ticks := int((to - from) / (10 * time.Millisecond)); n < ticks*8/10 {
		t.Errorf("%d samples for %d ticks while the API server was away", n, ticks)
	}
}

// gapAround finds a gap of the source that holds the moment, or begins within a second after it.
func gapAround(tl assertions.Timeline, source string, at time.Duration) (assertions.Gap, bool) {
	for _, g := range tl.Gaps {
		if g.Source == source && g.From < at+time.Second && g.To > at+time.Second {
			return g, true
		}
	}
	return assertions.Gap{}, false
}

func checkFinal(t *testing.T, tl assertions.Timeline) {
	t.Helper()
	if !slices.IsSortedFunc(tl.Facts, func(a, b assertions.Fact) int { return int(a.At - b.At) }) {
		t.Error("facts are out of order")
	}
	kinds := map[string]int{}
	for _, f := range tl.Facts {
		kinds[f.Source]++
		if f.Field != nil && (f.Field.Value != "1" || !f.Field.Present) {
			t.Errorf("field is %+v", f.Field)
		}
	}
	for _, source := range []string{
		recorder.SourcePods, recorder.SourceNodes, recorder.SourceEndpoints, recorder.SourceEvents, recorder.SourceWorkloads,
		recorder.SourceObjects,
	} {
		if kinds[source] == 0 {
			t.Errorf("no facts of %s", source)
		}
	}
	for _, s := range tl.Streams {
		if !slices.IsSortedFunc(s.Samples, prober.Compare) {
			t.Errorf("samples of %s are out of order", s.Probe)
		}
		for _, g := range tl.Gaps {
			if g.Source == recorder.SourceProbe+s.Probe {
				// A machine that has no time for the prober makes it blind, and the timeline says so.
				t.Logf("probe was blind: %+v", g)
			}
		}
		t.Logf("%s from %s: %d samples", s.Probe, s.Vantage, len(s.Samples))
	}
	t.Logf("facts: %v, gaps: %d", kinds, len(tl.Gaps))
}

func nothingLeft(t *testing.T, api kubernetes.Interface, c *clusters.Cluster) {
	t.Helper()
	for _, n := range c.Nodes {
		out, err := n.Exec(t.Context(), "find", "/var/lib", "-maxdepth", "1", "-name", "rebound")
		if err != nil || len(out) > 0 {
			t.Errorf("left on %s: %s %v", n.Name(), out, err)
		}
	}
	for limit := time.Now().Add(time.Minute); ; wait(t, 500*time.Millisecond) {
		_, err := api.CoreV1().Namespaces().Get(t.Context(), "rebound-real", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("namespace is still there: %v", err)
		}
	}
}
