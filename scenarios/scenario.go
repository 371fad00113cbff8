// Package scenarios is the file format: what a scenario can say (Scenario and the types below it), how files are
// loaded, merged and checked (Loader), and how their demands become those of the assertions package (Compile).
//
// It knows no concrete fault and no concrete probe: their names and parameters are handed in (Types), and from the same
// Go types come the decoder and the JSON Schema (Schema). It touches no cluster.
package scenarios

import (
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// APIVersion and Kind open every scenario file.
const (
	APIVersion = "rebound/v1alpha1"
	Kind       = "Scenario"
)

// Scenario is one scenario file after merging (`use:`), parameter substitution, validation and strict decoding.
type Scenario struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`

	// File is where the scenario was read from, as given on the command line ("library:pod-kill" for a shipped one);
	// Dir is the folder that relative paths in it start from ("" for standard input and shipped files); Hash is the
	// SHA-256 of the merged document, in hexadecimal. Merged is that document itself as YAML, parameters filled in,
	// without defaults.
	File   string `json:"-"`
	Dir    string `json:"-"`
	Hash   string `json:"-"`
	Merged []byte `json:"-"`
}

// Metadata says what the scenario is.
type Metadata struct {
	Name      string            `json:"name"`
	Title     string            `json:"title,omitempty"`
	Mechanism string            `json:"mechanism"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Spec is what the scenario does and demands.
type Spec struct {
	Use        []string            `json:"use,omitempty"`
	Params     map[string]string   `json:"params,omitempty"`
	Requires   []string            `json:"requires,omitempty"`
	Cluster    Cluster             `json:"cluster,omitzero"`
	Workloads  map[string]Workload `json:"workloads,omitempty"`
	Targets    map[string]Rule     `json:"targets,omitempty"`
	Probes     []Probe             `json:"probes,omitempty"`
	Steady     *Steady             `json:"steady,omitempty"`
	Steps      []Step              `json:"steps,omitempty"`
	Objectives []Objective         `json:"objectives,omitempty"`
	// Abort is a limit on the run itself: as soon as this condition is false the run heals and stops, verdict unknown.
	Abort  *Condition `json:"abort,omitempty"`
	Twins  []Twin     `json:"twins,omitempty"`
	Repeat int        `json:"repeat,omitempty"` // 1 where absent
}

// Cluster is the cluster that the scenario asks for.
type Cluster struct {
	Profile       string  `json:"profile,omitempty"`       // "fast" where absent
	ControlPlanes int     `json:"controlPlanes,omitempty"` // 1 where absent
	Workers       Workers `json:"workers,omitempty"`       // 2 where absent
}

// Workers is written as a number, or as a list of groups.
type Workers []WorkerGroup

// WorkerGroup is a number of workers with the same labels, roles and taints.
type WorkerGroup struct {
	Count  int               `json:"count"`
	Labels map[string]string `json:"labels,omitempty"`
	Role   string            `json:"role,omitempty"` // shown by kubectl: node-role.kubernetes.io/ROLE
}

// Workload is what runs in the cluster under test. Exactly one of Manifests, Demo and Existing is set.
type Workload struct {
	// Manifests are paths of YAML files or folders, relative to the scenario file.
	Manifests []string `json:"manifests,omitempty"`
	// Namespace is a fixed namespace; absent, the run makes a fresh one.
	Namespace string `json:"namespace,omitempty"`
	// Images are local images (of the container engine) that are loaded into the nodes first.
	Images   []string  `json:"images,omitempty"`
	Demo     *Demo     `json:"demo,omitempty"`
	Existing *Existing `json:"existing,omitempty"`
}

// Demo is the shipped demo workload: a Deployment and a Service, both called "demo".
type Demo struct {
	Replicas int `json:"replicas"`
	// Env sets the demo's switches (REBOUND_DEMO_...), as `rebound demo --help` lists them.
	Env map[string]string `json:"env,omitempty"`
}

// Existing is a workload that is already there.
type Existing struct {
	Namespace string `json:"namespace"`
}

// Rule says what a step acts on. Exactly one of Pods, Nodes, Object and Objects is set.
type Rule struct {
	Pods    *values.Selector `json:"pods,omitempty"`
	Nodes   *values.Selector `json:"nodes,omitempty"`
	Object  string           `json:"object,omitempty"`  // WORKLOAD/KIND/NAME
	Objects []string         `json:"objects,omitempty"` // the same, several
	// Take is mandatory with Pods and Nodes, and absent with the other two.
	Take *values.Take `json:"take,omitempty"`
}

// Target is a step's target: the name of a rule in `targets:`, an inline rule, or that of another step.
type Target struct {
	Name   string // written as a bare string
	SameAs string `json:"same-as,omitempty"`
	Rule          // inline
}

// Probe is one sampler. Exactly one type key (http, write, ...) is set; its value is that type's parameters.
type Probe struct {
	Name    string          `json:"name"`
	Rate    values.Rate     `json:"rate,omitempty"`    // 50/s where absent
	Timeout values.Duration `json:"timeout,omitempty"` // 1s where absent
	// From is the vantage: one node of the rule, which must take exactly one. Absent: a node that is no step's target.
	From *Rule `json:"from,omitempty"`
	// Connections is "new" (the default: one connection a sample) or "reused".
	Connections string `json:"connections,omitempty"`

	// Type is the probe type's key, Params its decoded parameters: what the registered prototype's New returned.
	Type   string `json:"-"`
	Params any    `json:"-"`
}

// Count is a demand on a number: "all", a number (exactly), or {min, max}.
type Count struct {
	All      bool
	Min, Max *int
}

// Ratio is a bound on a share: "5%" or 0 (at most), or {min, max} of percentages.
type Ratio struct {
	Min, Max *values.Percent
}

// Condition is a statement about the cluster or a probe. Exactly one of Workload, Probe, Node, Event, Object, All, Any.
type Condition struct {
	Workload  string `json:"workload,omitempty"` // WORKLOAD/KIND/NAME
	Ready     *Count `json:"ready,omitempty"`    // with workload; with node use nodeReady
	Updated   *Count `json:"updated,omitempty"`
	RolledOut *bool  `json:"rolledOut,omitempty"`

	Probe string           `json:"probe,omitempty"`
	OK    *bool            `json:"ok,omitempty"`
	Tag   string           `json:"tag,omitempty"`
	Lost  *Ratio           `json:"lost,omitempty"`
	Over  *values.Duration `json:"over,omitempty"`

	// Node is the name of a node, or of a target that selects nodes; Status is "Ready", "NotReady" or "Unknown".
	Node          string `json:"node,omitempty"`
	Status        string `json:"status,omitempty"`
	Taint         string `json:"taint,omitempty"`
	Unschedulable *bool  `json:"unschedulable,omitempty"`

	Event *EventMatch `json:"event,omitempty"`

	// Object is WORKLOAD/KIND/NAME; Field a path (".spec.replicas"), Equals its value as text, Exists whether it is
	// there.
	Object string  `json:"object,omitempty"`
	Field  string  `json:"field,omitempty"`
	Equals *string `json:"equals,omitempty"`
	Exists *bool   `json:"exists,omitempty"`

	All []Condition `json:"all,omitempty"`
	Any []Condition `json:"any,omitempty"`
}

// EventMatch names Kubernetes Events; absent fields match anything.
type EventMatch struct {
	Reason string `json:"reason,omitempty"`
	Kind   string `json:"kind,omitempty"`
	Name   string `json:"name,omitempty"`
	Type   string `json:"type,omitempty"`
}

// Steady is the steady state: Condition true throughout Hold, reached within Within. Without it nothing is injected.
type Steady struct {
	Condition
	Hold   values.Duration `json:"hold,omitempty"`   // 3s where absent
	Within values.Duration `json:"within,omitempty"` // 90s where absent
}

// Step is one step. The keys below are common to all; the one key that is none of them names the fault or action.
type Step struct {
	Name   string                            `json:"name"`
	Target *Target                           `json:"target,omitempty"`
	For    *values.Profiled[values.Duration] `json:"for,omitempty"`
	At     *values.Duration                  `json:"at,omitempty"`    // since the steady state
	After  string                            `json:"after,omitempty"` // STEP[.effective|done|healed]
	Delay  *values.Duration                  `json:"delay,omitempty"` // with after or when
	When   *Condition                        `json:"when,omitempty"`
	Within *values.Profiled[values.Duration] `json:"within,omitempty"` // with when

	// Type is the fault's or action's key, Params its decoded parameters: what the registered prototype's New returned.
	Type   string `json:"-"`
	Params any    `json:"-"`
}

// Objective is one limit. Exactly one of Reach, Keeps, Phase, Probe and Writes is set.
type Objective struct {
	Name  string `json:"name"`
	Since string `json:"since,omitempty"` // STEP[.effective|done|healed]; the first step where absent

	Reach  *Condition                        `json:"reach,omitempty"`
	Hold   values.Duration                   `json:"hold,omitempty"`   // with reach; 3s where absent
	Within *values.Profiled[values.Duration] `json:"within,omitempty"` // with reach and phase: mandatory

	Keeps *Condition `json:"keeps,omitempty"`

	Phase string `json:"phase,omitempty"`
	Chain string `json:"chain,omitempty"`

	Probe   string                         `json:"probe,omitempty"`
	Lost    *values.Profiled[LossLimit]    `json:"lost,omitempty"` // with probe: a share; with writes: a count
	Outage  *values.Profiled[TimeLimit]    `json:"outage,omitempty"`
	Latency *values.Profiled[LatencyLimit] `json:"latency,omitempty"`
	Samples *SampleLimit                   `json:"samples,omitempty"`

	Writes     string                      `json:"writes,omitempty"`
	Duplicated *values.Profiled[LossLimit] `json:"duplicated,omitempty"`
}

// LossLimit bounds what was lost: {max: 5%} or "5%" for probes, {max: 0} or 0 for writes.
type LossLimit struct {
	MaxShare *values.Percent
	MaxCount *int
}

// TimeLimit bounds a duration: {max: 2s} or "2s".
type TimeLimit struct{ Max values.Duration }

// LatencyLimit bounds a percentile: {p99: 200ms}.
type LatencyLimit struct {
	Percentile float64
	Max        values.Duration
}

// SampleLimit is the least number of samples that allows a verdict.
type SampleLimit struct {
	Min int `json:"min"`
}

// Twin is a weak variant of the scenario that must be missed: that proves that the scenario can fail.
type Twin struct {
	Name  string `json:"name"`
	Patch Patch  `json:"patch"`
	// Misses names the objective that must be missed.
	Misses string `json:"misses"`
}

// Patch weakens one workload. Exactly one of Workload (an object, with Merge) and Demo is set.
type Patch struct {
	Workload string         `json:"workload,omitempty"` // WORKLOAD/KIND/NAME
	Merge    map[string]any `json:"merge,omitempty"`    // a JSON merge patch of the object
	Demo     *DemoPatch     `json:"demo,omitempty"`
}

// DemoPatch changes a demo workload of the scenario.
type DemoPatch struct {
	// Workload is the name of the demo workload; it may be absent where the scenario has only one.
	Workload string `json:"workload,omitempty"`
	// Replicas replaces the number of replicas; nil leaves it.
	Replicas *int `json:"replicas,omitempty"`
	// Env is added to the demo's switches; a switch that is there already is replaced.
	Env map[string]string `json:"env,omitempty"`
}
