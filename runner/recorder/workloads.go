package recorder

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rebound-chaos/rebound/assertions"
)

// workloadSlimmer copies the counts of Deployments, StatefulSets, DaemonSets, Jobs and of ReplicaSets that nobody
// controls; those of Deployments only teach the owners.
func workloadSlimmer(workload string, owners *owners) func(runtime.Object) (assertions.Fact, bool) {
	return func(obj runtime.Object) (assertions.Fact, bool) {
		var state *assertions.WorkloadState
		switch o := obj.(type) {
		case *appsv1.Deployment:
			state = slimDeployment(o)
		case *appsv1.StatefulSet:
			state = slimStatefulSet(o)
		case *appsv1.DaemonSet:
			state = slimDaemonSet(o)
		case *appsv1.ReplicaSet:
			owners.learn("replicaset", o)
			if metav1.GetControllerOf(o) != nil {
				return assertions.Fact{}, false
			}
			state = slimReplicaSet(o)
		case *batchv1.Job:
			owners.learn("job", o)
			state = slimJob(o)
		default:
			return assertions.Fact{}, false
		}
		state.Workload = workload + "/" + state.Workload
		return assertions.Fact{Workload: state}, true
	}
}

// wanted is a replica count whose absence means one.
func wanted(replicas *int32) int {
	if replicas == nil {
		return 1
	}
	return int(*replicas)
}

func slimDeployment(d *appsv1.Deployment) *assertions.WorkloadState {
	s := d.Status
	desired := wanted(d.Spec.Replicas)
	return &assertions.WorkloadState{
		Workload: "deployment/" + d.Name, UID: string(d.UID), Generation: d.Generation,
		Desired: desired, Current: int(s.Replicas), Ready: int(s.ReadyReplicas), Updated: int(s.UpdatedReplicas),
		Available: int(s.AvailableReplicas),
		RolledOut: s.ObservedGeneration >= d.Generation && int(s.UpdatedReplicas) >= desired &&
			s.Replicas <= s.UpdatedReplicas && s.AvailableReplicas >= s.UpdatedReplicas,
	}
}

func slimReplicaSet(r *appsv1.ReplicaSet) *assertions.WorkloadState {
	s := r.Status
	desired := wanted(r.Spec.Replicas)
	return &assertions.WorkloadState{
		Workload: "replicaset/" + r.Name, UID: string(r.UID), Generation: r.Generation,
		Desired: desired, Current: int(s.Replicas), Ready: int(s.ReadyReplicas), Updated: int(s.FullyLabeledReplicas),
		Available: int(s.AvailableReplicas),
		RolledOut: s.ObservedGeneration >= r.Generation && int(s.AvailableReplicas) >= desired,
	}
}

func slimStatefulSet(st *appsv1.StatefulSet) *assertions.WorkloadState {
	s := st.Status
	desired := wanted(st.Spec.Replicas)
	state := &assertions.WorkloadState{
		Workload: "statefulset/" + st.Name, UID: string(st.UID), Generation: st.Generation,
		Desired: desired, Current: int(s.Replicas), Ready: int(s.ReadyReplicas), Updated: int(s.UpdatedReplicas),
		Available: int(s.AvailableReplicas),
	}
	ready := s.ObservedGeneration >= st.Generation && int(s.ReadyReplicas) >= desired
	if p := st.Spec.UpdateStrategy.RollingUpdate; p != nil && p.Partition != nil && *p.Partition > 0 {
		state.RolledOut = ready && int(s.UpdatedReplicas) >= desired-int(*p.Partition)
	} else {
		state.RolledOut = ready && s.UpdateRevision == s.CurrentRevision
	}
	return state
}

func slimDaemonSet(d *appsv1.DaemonSet) *assertions.WorkloadState {
	s := d.Status
	return &assertions.WorkloadState{
		Workload: "daemonset/" + d.Name, UID: string(d.UID), Generation: d.Generation,
		Desired: int(s.DesiredNumberScheduled), Current: int(s.CurrentNumberScheduled), Ready: int(s.NumberReady),
		Updated: int(s.UpdatedNumberScheduled), Available: int(s.NumberAvailable),
		RolledOut: s.ObservedGeneration >= d.Generation && s.UpdatedNumberScheduled >= s.DesiredNumberScheduled &&
			s.NumberAvailable >= s.DesiredNumberScheduled,
	}
}

// slimJob counts the pods that still have to run; a Job is rolled out once it is complete.
func slimJob(j *batchv1.Job) *assertions.WorkloadState {
	s := j.Status
	desired := wanted(j.Spec.Parallelism)
	if j.Spec.Completions != nil {
		desired = min(desired, max(0, int(*j.Spec.Completions)-int(s.Succeeded)))
	}
	state := &assertions.WorkloadState{
		Workload: "job/" + j.Name, UID: string(j.UID), Generation: j.Generation,
		Desired: desired, Current: int(s.Active), Updated: int(s.Active),
	}
	if s.Ready != nil {
		state.Ready, state.Available = int(*s.Ready), int(*s.Ready)
	}
	for _, c := range s.Conditions {
		if c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue {
			state.RolledOut = true
		}
	}
	return state
}
