// Package assertions is Rebound's pure core: what one run saw (Timeline), what is demanded of it (Objective), and the
// one function that holds the two together (Judge).
//
// It imports the standard library only. Time comes in, verdicts go out: nothing here reads a clock, a file, a network
// or a cluster, so that every number that Rebound prints can be worked out again from a stored timeline. Recording is
// left to runner/recorder, the file format to scenarios, the writing of reports to reports.
package assertions

import "time"

// Timeline is everything that one run saw. Every point in it is an offset from the run's zero on one monotonic clock
// (time.Duration, nanoseconds in JSON, whose names end in "Nanos"). Facts, samples and gaps are each in order of time.
type Timeline struct {
	// Run and Scenario name the run: its id and the scenario it played.
	Run      string `json:"run,omitempty"`
	Scenario string `json:"scenario,omitempty"`
	// End is the offset up to which the recorder watched: what came later was not looked at.
	End     time.Duration `json:"endNanos"`
	Steps   []Step        `json:"steps,omitempty"`
	Facts   []Fact        `json:"facts,omitempty"`
	Streams []Stream      `json:"streams,omitempty"`
	Gaps    []Gap         `json:"gaps,omitempty"`
}

// Interval holds a true value that is only known to lie within it: Lo <= true value <= Hi. Both ends are durations, or
// both are offsets; the field that holds the interval says which.
type Interval struct {
	Lo time.Duration `json:"loNanos"`
	Hi time.Duration `json:"hiNanos"`
}

// StepKind tells what is owed for a step: a fault has an undo, an action has none.
type StepKind string

// The two kinds of step.
const (
	Fault  StepKind = "fault"
	Action StepKind = "action"
)

// Step is what one step of the scenario did, and when.
type Step struct {
	Name string   `json:"name"`
	Type string   `json:"type"`
	Kind StepKind `json:"kind"`
	// Targets are the objects the step acted on, bound when it started.
	Targets []Ref `json:"targets,omitempty"`
	// Victims are the pods that the step makes untrustworthy: its target pods, or the pods of its target nodes, as they
	// were when the step started. While such a pod still counts as ready with the same containers it satisfies no
	// `reach ... ready`.
	Victims []Ref `json:"victims,omitempty"`
	// At is the beginning of the injection: the step's clock starts here.
	At time.Duration `json:"atNanos"`
	// Effective bounds the moment from which the fault is proven to bite. Absent: no proof.
	Effective *Interval `json:"effective,omitempty"`
	// Done is when the injector or the action returned, Healed when the undo was complete. Absent: it did not happen.
	Done   *time.Duration `json:"doneNanos,omitempty"`
	Healed *time.Duration `json:"healedNanos,omitempty"`
}

// Ref names one object of the cluster. Pods carry the ids of the containers that ran in them when the reference was
// made, so that a restart in place can be told from the old process.
type Ref struct {
	Kind       string   `json:"kind"`
	Namespace  string   `json:"namespace,omitempty"`
	Name       string   `json:"name"`
	UID        string   `json:"uid,omitempty"`
	Containers []string `json:"containers,omitempty"`
	// Workload is the workload the pod belongs to, as conditions name it ("shop/deployment/web").
	Workload string `json:"workload,omitempty"`
}

// Fact is one change that an observer saw: the state of one object from then on. Exactly one of the state pointers is
// set.
type Fact struct {
	// At is the moment of receipt: the change had happened by then.
	At time.Duration `json:"atNanos"`
	// NotBefore is the earliest moment at which the change can have happened, as far as the observer knows; zero
	// where it knows nothing. The change lies in [NotBefore, At].
	NotBefore time.Duration `json:"notBeforeNanos,omitempty"`
	// Source names the observer (the same name as in Gap.Source): "pods", "nodes", "endpoints", "events", "workloads",
	// "objects".
	Source string `json:"source"`
	// Gone is set when the object no longer exists; the state is then its last one.
	Gone     bool           `json:"gone,omitempty"`
	Pod      *PodState      `json:"pod,omitempty"`
	Node     *NodeState     `json:"node,omitempty"`
	Endpoint *EndpointState `json:"endpoint,omitempty"`
	Workload *WorkloadState `json:"workload,omitempty"`
	Event    *EventState    `json:"event,omitempty"`
	Field    *FieldState    `json:"field,omitempty"`
}

// PodState is a slim copy of a pod.
type PodState struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Node      string `json:"node,omitempty"`
	// Workload is the top owner as conditions name it: WORKLOAD/KIND/NAME, "shop/deployment/web".
	Workload string `json:"workload,omitempty"`
	Phase    string `json:"phase,omitempty"`
	// Scheduled, Started (every container is running) and Ready are the pod's own progress.
	Scheduled bool `json:"scheduled,omitempty"`
	Started   bool `json:"started,omitempty"`
	Ready     bool `json:"ready,omitempty"`
	// Deleting: a deletionTimestamp is set.
	Deleting bool `json:"deleting,omitempty"`
	// Disruption is the reason of a DisruptionTarget condition that is true.
	Disruption string `json:"disruption,omitempty"`
	// Revision tells old pods from new ones during a rollout (pod-template-hash or controller-revision-hash).
	Revision   string           `json:"revision,omitempty"`
	Containers []ContainerState `json:"containers,omitempty"`
}

// ContainerState is a slim copy of one container's status.
type ContainerState struct {
	Name     string `json:"name"`
	ID       string `json:"id,omitempty"`
	Running  bool   `json:"running,omitempty"`
	Ready    bool   `json:"ready,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
	// Reason is why it waits or ended ("CrashLoopBackOff", "OOMKilled").
	Reason string `json:"reason,omitempty"`
}

// NodeState is a slim copy of a node. Ready is "True", "False" or "Unknown".
type NodeState struct {
	UID           string   `json:"uid"`
	Name          string   `json:"name"`
	Ready         string   `json:"ready"`
	Unschedulable bool     `json:"unschedulable,omitempty"`
	Taints        []string `json:"taints,omitempty"` // KEY=VALUE:EFFECT
}

// EndpointState is one pod's place behind one service, joined over the service's endpoint slices.
type EndpointState struct {
	// Service is NAMESPACE/NAME.
	Service string `json:"service"`
	PodUID  string `json:"podUID"`
	Pod     string `json:"pod,omitempty"`
	Ready   bool   `json:"ready,omitempty"`
	Serving bool   `json:"serving,omitempty"`
}

// WorkloadState is a slim copy of a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job.
type WorkloadState struct {
	Workload string `json:"workload"`
	UID      string `json:"uid"`
	// Desired is how many pods the object asks for now; the rest are its own status counts.
	Desired    int   `json:"desired"`
	Current    int   `json:"current"`
	Ready      int   `json:"ready"`
	Updated    int   `json:"updated"`
	Available  int   `json:"available"`
	RolledOut  bool  `json:"rolledOut,omitempty"` // as `kubectl rollout status` would say
	Generation int64 `json:"generation,omitempty"`
}

// EventState is a Kubernetes Event.
type EventState struct {
	Reason    string `json:"reason"`
	Type      string `json:"type,omitempty"`
	Kind      string `json:"kind,omitempty"` // of the object it is about
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Message   string `json:"message,omitempty"`
}

// FieldState is the value of one field of one object, as text; Present is false where there is no such field.
type FieldState struct {
	Object  string `json:"object"` // WORKLOAD/KIND/NAME as the condition names it
	Path    string `json:"path"`
	Value   string `json:"value,omitempty"`
	Present bool   `json:"present,omitempty"`
}

// Stream is what one probe saw from one vantage.
type Stream struct {
	Probe   string `json:"probe"`
	Vantage string `json:"vantage"`
	// Interval is the planned time between two ticks, Timeout the longest a sample may take.
	Interval time.Duration `json:"intervalNanos"`
	Timeout  time.Duration `json:"timeoutNanos"`
	Samples  []Sample      `json:"samples,omitempty"`
	// Floor is what the probe cannot see below, for the report: its interval.
	Writes *Writes `json:"writes,omitempty"`
}

// Sample is one question to the workload: an interval, not a point.
type Sample struct {
	// Due is the tick the sample belonged to; Start is when it was sent (Start-Due is the lag); End is when its
	// outcome was known.
	Due   time.Duration `json:"dueNanos"`
	Start time.Duration `json:"startNanos"`
	End   time.Duration `json:"endNanos"`
	OK    bool          `json:"ok,omitempty"`
	// Status is the protocol's own code (HTTP status), Error the class of a failure ("timeout", "refused", "reset",
	// "unreachable", "status", "body", "dns", "other"), Tag what the workload said of itself (a version, a pod).
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	Tag    string `json:"tag,omitempty"`
}

// Writes is what a write probe found when it read its records back.
type Writes struct {
	Acknowledged int `json:"acknowledged"`
	Lost         int `json:"lost"`
	Duplicated   int `json:"duplicated"`
}

// Gap is a blind gap: from From to To the source saw nothing, and what happened then is known only by its result.
type Gap struct {
	// Source is the observer or probe ("pods", "probe:front") that was blind.
	Source string        `json:"source"`
	From   time.Duration `json:"fromNanos"`
	To     time.Duration `json:"toNanos"`
	Reason string        `json:"reason,omitempty"`
	// Complete is set where everything that happened in the gap came in afterwards (a watch that resumed where it broke
	// off): the times of those facts are wide (NotBefore), but nothing is missing. A relist is not complete.
	Complete bool `json:"complete,omitempty"`
}
