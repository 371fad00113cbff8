package recorder

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rebound-chaos/rebound/assertions"
)

func ptr[T any](v T) *T { return &v }

func TestSlimPod(t *testing.T) {
	p := pod("a", "u1", func(p *corev1.Pod) {
		p.DeletionTimestamp = &metav1.Time{}
		p.Spec.NodeName = "n1"
		p.Spec.Containers = []corev1.Container{{Name: "c"}, {Name: "d"}}
		p.Status = corev1.PodStatus{
			Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionFalse},
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager"},
			},
			ContainerStatuses: []corev1.ContainerStatus{
				{Name: "c", ContainerID: "x://1", Ready: true, RestartCount: 2,
					State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
				{Name: "d", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}},
			},
		}
	})
	want := &assertions.PodState{
		UID: "u1", Namespace: "ns", Name: "a", Node: "n1", Workload: "w", Phase: "Running", Scheduled: true, Deleting: true,
		Disruption: "DeletionByTaintManager", Revision: "abc",
		Containers: []assertions.ContainerState{
			{Name: "c", ID: "x://1", Running: true, Ready: true, Restarts: 2}, {Name: "d", Reason: "CrashLoopBackOff"},
		},
	}
	if d := cmp.Diff(want, slimPod(p, "w")); d != "" {
		t.Error(d)
	}
	p.Status.ContainerStatuses[1].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	if !slimPod(p, "w").Started {
		t.Error("all containers run, and the pod has not started")
	}
}

func TestOwners(t *testing.T) {
	o := newOwners()
	controlled := func(kind, name string, uid types.UID) *corev1.Pod {
		return pod("a", "u", func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, UID: uid, Controller: ptr(true)}}
		})
	}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "nightly-1", UID: "j1",
		OwnerReferences: []metav1.OwnerReference{
			{Kind: "CronJob", Name: "nightly", Controller: ptr(true)}}}}
	o.learn("job", job)
	for want, p := range map[owner]*corev1.Pod{
		"deployment/web":     controlled("ReplicaSet", "web-abc", "unseen"),
		"replicaset/web-xyz": controlled("ReplicaSet", "web-xyz", "unseen"),
		"statefulset/pg":     controlled("StatefulSet", "pg", "s"),
		"cronjob/nightly":    controlled("Job", "nightly-1", "j1"),
		"pod/a":              pod("a", "u", func(p *corev1.Pod) { p.OwnerReferences = nil }),
	} {
		if got := o.of(p); got != want {
			t.Errorf("owner %s, want %s", got, want)
		}
	}
}

func slice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
		},
		Endpoints: endpoints,
	}
}

func endpoint(uid string, ready, serving *bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: "pod-" + uid, UID: types.UID(uid)},
		Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving},
	}
}

// TestEndpointsAreJoined: a pod that moves between slices never leaves its service.
func TestEndpointsAreJoined(t *testing.T) {
	s := newEndpointSink()
	state := func(uid string, ready, serving, gone bool) assertions.Fact {
		return assertions.Fact{Source: SourceEndpoints, Gone: gone, Endpoint: &assertions.EndpointState{
			Service: "ns/web", PodUID: uid, Pod: "pod-" + uid, Ready: ready, Serving: serving,
		}}
	}
	for i, tc := range []struct {
		do   func() []assertions.Fact
		want []assertions.Fact
	}{
		{func() []assertions.Fact {
			return s.see(slice("one", endpoint("a", ptr(true), nil), endpoint("b", nil, nil)), false)
		},
			[]assertions.Fact{state("a", true, true, false), state("b", true, true, false)}},
		{func() []assertions.Fact {
			return s.see(slice("one", endpoint("b", nil, nil), endpoint("a", ptr(true), nil)), false)
		}, nil},
		{func() []assertions.Fact { return s.see(slice("two", endpoint("a", ptr(true), nil)), false) }, nil},
		{func() []assertions.Fact { return s.see(slice("one", endpoint("b", ptr(false), ptr(true))), false) },
			[]assertions.Fact{state("b", false, true, false)}},
		{func() []assertions.Fact { return s.see(slice("two"), false) }, []assertions.Fact{state("a", true, true, true)}},
		{func() []assertions.Fact { return s.see(slice("one", endpoint("b", nil, nil)), true) },
			[]assertions.Fact{state("b", false, true, true)}},
		{func() []assertions.Fact { return s.see(slice("one", endpoint("c", nil, nil)), false) },
			[]assertions.Fact{state("c", true, true, false)}},
		{func() []assertions.Fact { return s.keep(map[types.UID]bool{"two": true}) },
			[]assertions.Fact{state("c", true, true, true)}},
	} {
		if d := cmp.Diff(tc.want, tc.do()); d != "" {
			t.Errorf("step %d: %s", i, d)
		}
	}
}

func TestEventsCount(t *testing.T) {
	s := newEventSink()
	event := func(count int32) *corev1.Event {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{UID: "e"}, Reason: "BackOff", Count: count,
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "a"}}
	}
	for i, tc := range []struct {
		count int32
		gone  bool
		facts int
	}{{0, false, 1}, {1, false, 0}, {2, false, 1}, {2, false, 0}, {2, true, 0}, {1, false, 1}} {
		if got := s.see(event(tc.count), tc.gone); len(got) != tc.facts {
			t.Errorf("step %d: %d facts", i, len(got))
		}
	}
}

// TestRolledOut holds each kind against what `kubectl rollout status` says.
func TestRolledOut(t *testing.T) {
	slim := workloadSlimmer("shop", newOwners())
	meta := metav1.ObjectMeta{Name: "x", UID: "u", Generation: 2}
	deployment := func(observed int64, replicas, updated, available int32) runtime.Object {
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: ptr(int32(3))},
			Status: appsv1.DeploymentStatus{
				ObservedGeneration: observed, Replicas: replicas, UpdatedReplicas: updated, AvailableReplicas: available}}
	}
	statefulSet := func(partition *int32, ready, updated int32, current string) runtime.Object {
		return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: ptr(int32(3)),
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: partition}}},
			Status: appsv1.StatefulSetStatus{ObservedGeneration: 2, ReadyReplicas: ready, UpdatedReplicas: updated,
				CurrentRevision: current, UpdateRevision: "new"}}
	}
	daemonSet := func(updated, available int32) runtime.Object {
		return &appsv1.DaemonSet{ObjectMeta: meta, Status: appsv1.DaemonSetStatus{ObservedGeneration: 2,
			DesiredNumberScheduled: 2, UpdatedNumberScheduled: updated, NumberAvailable: available}}
	}
	for i, tc := range []struct {
		obj  runtime.Object
		want bool
	}{
		{deployment(2, 3, 3, 3), true},
		{deployment(1, 3, 3, 3), false}, // the controller has not seen the change
		{deployment(2, 4, 3, 4), false}, // an old pod is left
		{deployment(2, 3, 2, 3), false},
		{deployment(2, 3, 3, 2), false},
		{statefulSet(nil, 3, 3, "new"), true},
		{statefulSet(nil, 3, 3, "old"), false},
		{statefulSet(nil, 2, 3, "new"), false},
		{statefulSet(ptr(int32(2)), 3, 1, "old"), true},
		{statefulSet(ptr(int32(2)), 3, 0, "old"), false},
		{daemonSet(2, 2), true},
		{daemonSet(1, 2), false},
		{daemonSet(2, 1), false},
		{&batchv1.Job{ObjectMeta: meta}, false},
		{&batchv1.Job{ObjectMeta: meta, Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{
			{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}}, true},
	} {
		fact, ok := slim(tc.obj)
		if !ok || fact.Workload.RolledOut != tc.want {
			t.Errorf("case %d: rolled out %v, want %v", i, fact.Workload.RolledOut, tc.want)
		}
	}
	job, _ := slim(&batchv1.Job{ObjectMeta: meta,
		Spec:   batchv1.JobSpec{Parallelism: ptr(int32(4)), Completions: ptr(int32(5))},
		Status: batchv1.JobStatus{Succeeded: 3}})
	if job.Workload.Desired != 2 {
		t.Errorf("a job with two pods to go asks for %d", job.Workload.Desired)
	}
}
