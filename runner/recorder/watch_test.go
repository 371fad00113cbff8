package recorder

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rebound-chaos/rebound/assertions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const podsOf = "api/v1/namespaces/ns/pods"

// limit bounds every wait of these tests.
const limit = 10 * time.Second

func startRecorder(t *testing.T, f *fakeAPI, change func(*Options)) *Recorder {
	t.Helper()
	opts := Options{
		Run: "r1", REST: f.config(), Namespace: "ours", Workloads: map[string]string{"ns": "shop"},
		Heartbeat:  10 * time.Millisecond,
		StartLimit: limit,
	}
	if change != nil {
		change(&opts)
	}
	rec, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rec.Stop(t.Context()); err != nil {
			t.Log(err) // the server may be away by design
		}
	})
	if err := rec.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return rec
}

// until waits for a timeline that holds what is wanted.
func until(t *testing.T, rec *Recorder, what string, holds func(assertions.Timeline) bool) assertions.Timeline {
	t.Helper()
	over := time.After(limit)
	for {
		changed := rec.Changed()
		if tl := rec.Snapshot(); holds(tl) {
			return tl
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond): // open gaps grow without a change
		case <-over:
			t.Fatalf("not in time: %s: %+v", what, rec.Snapshot())
		}
	}
}

func pod(name string, uid types.UID, change func(*corev1.Pod)) *corev1.Pod {
	controller := true
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: uid, Labels: map[string]string{podTemplateHash: "abc"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-abc", UID: "rs1", Controller: &controller}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func ready(p *corev1.Pod) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

func podFacts(tl assertions.Timeline) []assertions.Fact {
	return slices.DeleteFunc(slices.Clone(tl.Facts), func(f assertions.Fact) bool { return f.Pod == nil })
}

func gaps(tl assertions.Timeline, source string) []assertions.Gap {
	return slices.DeleteFunc(slices.Clone(tl.Gaps), func(g assertions.Gap) bool { return g.Source != source })
}

var withoutTimes = cmpopts.IgnoreFields(assertions.Fact{}, "At", "NotBefore")

// TestFacts: one fact a change of the slim state, none for what it does not hold, none for a repeated event.
func TestFacts(t *testing.T) {
	f := newFakeAPI(t)
	f.put(podsOf, pod("a", "u1", nil))
	rec := startRecorder(t, f, nil)
	before := rec.Clock().Now()
	f.put(podsOf, pod("a", "u1", ready))
	f.again(podsOf)
	f.put(podsOf, pod("a", "u1", func(p *corev1.Pod) {
		ready(p)
		p.Annotations = map[string]string{"noise": "1"}
	}))
	f.remove(podsOf, "a")
	tl := until(t, rec, "the pod is gone", func(tl assertions.Timeline) bool {
		facts := podFacts(tl)
		return len(facts) > 0 && facts[len(facts)-1].Gone
	})
	state := assertions.PodState{UID: "u1", Namespace: "ns", Name: "a", Workload: "shop/deployment/web", Revision: "abc"}
	readyState := state
	readyState.Ready = true
	want := []assertions.Fact{
		{Source: SourcePods, Pod: &state},
		{Source: SourcePods, Pod: &readyState},
		{Source: SourcePods, Pod: &readyState, Gone: true},
	}
	got := podFacts(tl)
	if d := cmp.Diff(want, got, withoutTimes); d != "" {
		t.Error(d)
	}
	if got[0].NotBefore != 0 {
		t.Errorf("what was there before has a lower bound of %v", got[0].NotBefore)
	}
	for _, fact := range got[1:] {
		// The heartbeat writes each 10 ms: the bound is close, and never after the receipt.
		if fact.NotBefore == 0 || fact.NotBefore > fact.At || fact.NotBefore < before-time.Second {
			t.Errorf("change after %v is bounded by [%v, %v]", before, fact.NotBefore, fact.At)
		}
	}
	if g := gaps(tl, SourcePods); len(g) > 0 {
		t.Errorf("gaps without a break: %+v", g)
	}
}

// TestLowerBoundIsTrue makes changes at known moments: each must lie between its bounds.
func TestLowerBoundIsTrue(t *testing.T) {
	f := newFakeAPI(t)
	rec := startRecorder(t, f, nil)
	var truth [][2]time.Duration
	for i := range 20 {
		from := rec.Clock().Now()
		f.put(podsOf, pod("a", "u1", func(p *corev1.Pod) { p.Spec.NodeName = "n" + strconv.Itoa(i) }))
		truth = append(truth, [2]time.Duration{from, rec.Clock().Now()})
		time.Sleep(7 * time.Millisecond)
	}
	tl := until(t, rec, "all changes", func(tl assertions.Timeline) bool { return len(podFacts(tl)) == len(truth) })
	bounded := 0
	for i, fact := range podFacts(tl) {
		if fact.NotBefore > truth[i][1] || fact.At < truth[i][0] {
			t.Errorf("change in %v is bounded by [%v, %v]", truth[i], fact.NotBefore, fact.At)
		}
		if fact.NotBefore > 0 && fact.At-fact.NotBefore < time.Second {
			bounded++
		}
	}
	if bounded < len(truth)-1 {
		t.Errorf("%d of %d changes have a useful bound", bounded, len(truth))
	}
}

// TestResume takes the server away: the watch resumes where it stood, nothing in between is lost, the break is a gap.
func TestResume(t *testing.T) {
	f := newFakeAPI(t)
	f.put(podsOf, pod("a", "u1", nil))
	rec := startRecorder(t, f, nil)
	mark := f.bookmark(podsOf)
	f.put("api/v1/nodes", &corev1.Node{ // seen: the bookmark before it has been, or will be, too
		TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1"},
	})
	until(t, rec, "the node", func(tl assertions.Timeline) bool {
		return slices.ContainsFunc(tl.Facts, func(f assertions.Fact) bool { return f.Node != nil })
	})
	time.Sleep(100 * time.Millisecond)
	left := rec.Clock().Now()
	f.leave()
	until(t, rec, "the break", func(tl assertions.Timeline) bool { return len(gaps(tl, SourcePods)) == 1 })
	f.put(podsOf, pod("a", "u1", ready))
	f.put(podsOf, pod("a", "u1", nil))
	time.Sleep(300 * time.Millisecond)
	back := rec.Clock().Now()
	f.back(false)
	tl := until(t, rec, "what happened meanwhile, and the end of the gap", func(tl assertions.Timeline) bool {
		g := gaps(tl, SourcePods)
		return len(podFacts(tl)) == 3 && g[0].To < tl.End && len(gaps(tl, SourceAPI)) == 1 &&
			gaps(tl, SourceAPI)[0].To < tl.End
	})
	for _, source := range []string{SourcePods, SourceAPI} {
		g := gaps(tl, source)
		if len(g) == 1 && g[0].Complete != (source == SourcePods) {
			t.Errorf("gap of %s is complete: %v", source, g[0].Complete)
		}
		if len(g) != 1 || g[0].From > left+100*time.Millisecond || g[0].To < back || g[0].To > back+time.Second {
			t.Errorf("gaps of %s: %+v, server was away in [%v, %v]", source, g, left, back)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if from := f.asked[len(f.asked)-1]; from != strconv.Itoa(mark) {
		t.Errorf("resumed from version %s, bookmark was %d", from, mark)
	}
}

// TestRelist: after 410 the list tells what changed and what is gone, with bounds that reach back before the gap.
func TestRelist(t *testing.T) {
	f := newFakeAPI(t)
	f.put(podsOf, pod("a", "u1", nil))
	f.put(podsOf, pod("b", "u2", nil))
	f.put(podsOf, pod("c", "u3", nil))
	rec := startRecorder(t, f, nil)
	left := rec.Clock().Now()
	f.leave()
	until(t, rec, "the break", func(tl assertions.Timeline) bool { return len(gaps(tl, SourcePods)) == 1 })
	f.remove(podsOf, "a")
	f.put(podsOf, pod("a", "u4", nil)) // the same name, as in a StatefulSet
	f.put(podsOf, pod("b", "u2", ready))
	f.back(true)
	tl := until(t, rec, "what the list tells", func(tl assertions.Timeline) bool {
		return len(podFacts(tl)) == 6 && gaps(tl, SourcePods)[0].To < tl.End
	})
	if gaps(tl, SourcePods)[0].Complete {
		t.Error("a gap that ended with a relist is called complete")
	}
	seen := map[string]bool{}
	for _, fact := range podFacts(tl)[3:] {
		seen[fact.Pod.UID+" "+strconv.FormatBool(fact.Pod.Ready)+" "+strconv.FormatBool(fact.Gone)] = true
		if fact.NotBefore > left {
			t.Errorf("fact of the relist is bounded by %v, the watch broke at %v", fact.NotBefore, left)
		}
	}
	for _, want := range []string{"u1 false true", "u2 true false", "u4 false false"} {
		if !seen[want] {
			t.Errorf("no fact %q; there are %v", want, seen)
		}
	}
}

// TestStartFails: without a server nothing starts, and what could not be cleaned up is said.
func TestStartFails(t *testing.T) {
	f := newFakeAPI(t)
	f.leave()
	rec, err := New(Options{Run: "r1", REST: f.config(), Namespace: "ours", StartLimit: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Start(t.Context()); err == nil {
		t.Error("started without a server")
	}
	if err := rec.Stop(t.Context()); err == nil {
		t.Error("the heartbeat that could not be removed was not reported")
	}
}

// TestFields watches one field of a type that is not built in.
func TestFields(t *testing.T) {
	f := newFakeAPI(t)
	const widgets = "apis/example.com/v1/namespaces/ns/widgets"
	widget := func(size any) *unstructured.Unstructured {
		o := map[string]any{
			"apiVersion": "example.com/v1", "kind": "Widget",
			"metadata": map[string]any{"name": "w", "namespace": "ns", "uid": "w1"},
		}
		if size != nil {
			o["spec"] = map[string]any{"size": size, "colour": "red"}
		}
		return &unstructured.Unstructured{Object: o}
	}
	f.put(widgets, widget(nil))
	rec := startRecorder(t, f, func(o *Options) {
		o.Fields = []Field{{
			Resource:  schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"},
			Namespace: "ns", Name: "w", Path: ".spec.size", Ref: "shop/widget/w",
		}}
	})
	f.put(widgets, widget(int64(3)))
	f.put(widgets, widget("big"))
	tl := until(t, rec, "three values", func(tl assertions.Timeline) bool { return len(tl.Facts) == 3 })
	var got []assertions.FieldState
	for _, fact := range tl.Facts {
		got = append(got, *fact.Field)
	}
	want := []assertions.FieldState{
		{Object: "shop/widget/w", Path: ".spec.size"},
		{Object: "shop/widget/w", Path: ".spec.size", Value: "3", Present: true},
		{Object: "shop/widget/w", Path: ".spec.size", Value: "big", Present: true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := fieldSlimmer(Field{Path: ".spec["}); err == nil {
		t.Error("a broken path was taken")
	}
}

// TestResolve finds a service by its workload's name and its port by name, number or default.
func TestResolve(t *testing.T) {
	f := newFakeAPI(t)
	service := func(name, ip string) *corev1.Service {
		return &corev1.Service{
			TypeMeta:   metav1.TypeMeta{Kind: "Service", APIVersion: "v1"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{
				{Name: "admin", Port: 81}, {Name: "http", Port: 80},
			}},
		}
	}
	f.put("api/v1/namespaces/ns/services", service("web", "10.0.0.7"))
	f.put("api/v1/namespaces/ns/services", service("headless", corev1.ClusterIPNone))
	rec := startRecorder(t, f, nil)
	for ref, want := range map[string]string{
		"shop/web": "10.0.0.7:80", "shop/web:admin": "10.0.0.7:81", "ns/web:81": "10.0.0.7:81",
		"shop/web:82": "", "shop/headless": "", "shop/none": "", "web": "",
	} {
		got, err := rec.Resolve(t.Context(), ref)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
		}
	}
}

// TestStandaloneReplicaSet: a ReplicaSet that nobody controls is a workload; that of a Deployment only names its pods.
func TestStandaloneReplicaSet(t *testing.T) {
	f := newFakeAPI(t)
	controller := true
	replicaSet := func(name string, owners ...metav1.OwnerReference) *appsv1.ReplicaSet {
		return &appsv1.ReplicaSet{
			TypeMeta:   metav1.TypeMeta{Kind: "ReplicaSet", APIVersion: "apps/v1"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), OwnerReferences: owners},
		}
	}
	f.put("apis/apps/v1/namespaces/ns/replicasets", replicaSet("alone"))
	f.put("apis/apps/v1/namespaces/ns/replicasets", replicaSet("odd-name",
		metav1.OwnerReference{Kind: "Deployment", Name: "web", UID: "d", Controller: &controller}))
	rec := startRecorder(t, f, nil)
	f.put(podsOf, pod("a", "u1", func(p *corev1.Pod) {
		p.OwnerReferences[0].Name, p.OwnerReferences[0].UID = "odd-name", "odd-name"
	}))
	tl := until(t, rec, "pod and replica set", func(tl assertions.Timeline) bool { return len(tl.Facts) == 2 })
	if got := tl.Facts[0].Workload.Workload; got != "shop/replicaset/alone" {
		t.Errorf("workload %s", got)
	}
	if got := tl.Facts[1].Pod.Workload; got != "shop/deployment/web" {
		t.Errorf("pod of %s", got)
	}
}
