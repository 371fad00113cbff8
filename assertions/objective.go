package assertions

import "time"

// Verdict is what a run says of an objective, a scenario or a whole report.
type Verdict string

// The verdicts. NotApplicable stands only where a scenario's requirements are not there; it never counts as a pass.
const (
	Met           Verdict = "met"
	Missed        Verdict = "missed"
	Unknown       Verdict = "unknown"
	NotApplicable Verdict = "not-applicable"
)

// Count is a demand on a number of things: All of them (as many as the workload asks for, or more), or Min <= n <= Max,
// each bound optional.
type Count struct {
	All bool `json:"all,omitempty"`
	Min *int `json:"min,omitempty"`
	Max *int `json:"max,omitempty"`
}

// Condition is a statement about the cluster or a probe, true or false at any moment of a timeline, or unknown where
// nothing was seen. Exactly one of Workload, Probe, Node, Event, Object, All and Any is set.
type Condition struct {
	// Workload is WORKLOAD/KIND/NAME; with it any of Ready, Updated and RolledOut.
	Workload  string `json:"workload,omitempty"`
	Ready     *Count `json:"ready,omitempty"`
	Updated   *Count `json:"updated,omitempty"`
	RolledOut *bool  `json:"rolledOut,omitempty"`

	// Probe names a probe; with it OK (the latest sample), or Lost over a window. Tag narrows OK to samples that
	// carry it.
	Probe string        `json:"probe,omitempty"`
	OK    *bool         `json:"ok,omitempty"`
	Tag   string        `json:"tag,omitempty"`
	Lost  *Range        `json:"lost,omitempty"` // ratio, 0 to 1
	Over  time.Duration `json:"overNanos,omitempty"`

	// Nodes are node names, already bound; NodeReady is "True", "False" or "Unknown", NodeTaint a key that must be
	// there, Unschedulable the cordon. All named nodes must agree.
	Nodes         []string `json:"nodes,omitempty"`
	NodeReady     string   `json:"nodeReady,omitempty"`
	NodeTaint     string   `json:"nodeTaint,omitempty"`
	Unschedulable *bool    `json:"unschedulable,omitempty"`

	// Event is true from the first event that matches, counted from the moment the condition is first asked about.
	Event *EventMatch `json:"event,omitempty"`
	// Object is true while a field has a value.
	Object *FieldMatch `json:"object,omitempty"`

	All []Condition `json:"all,omitempty"`
	Any []Condition `json:"any,omitempty"`
}

// EventMatch names Kubernetes Events; empty fields match anything.
type EventMatch struct {
	Reason string `json:"reason,omitempty"`
	Kind   string `json:"kind,omitempty"`
	Name   string `json:"name,omitempty"`
	Type   string `json:"type,omitempty"`
}

// FieldMatch demands a value of one field of one object: equal to Equals, or present (or absent) where Present is set.
type FieldMatch struct {
	Object  string  `json:"object"`
	Path    string  `json:"path"`
	Equals  *string `json:"equals,omitempty"`
	Present *bool   `json:"present,omitempty"`
}

// Range bounds a number; its unit is that of the field that holds it. An absent bound does not bind.
type Range struct {
	Min *float64 `json:"min,omitempty"`
	Max *float64 `json:"max,omitempty"`
}

// Edge is a point of a step's life from which an objective counts.
type Edge string

// The edges of a step: the beginning of its injection, the proof of its effect, its end, the end of its undo.
const (
	EdgeAt        Edge = "at"
	EdgeEffective Edge = "effective"
	EdgeDone      Edge = "done"
	EdgeHealed    Edge = "healed"
)

// Since is the moment from which an objective counts.
type Since struct {
	Step string `json:"step"`
	Edge Edge   `json:"edge"`
}

// Objective is one limit. Exactly one of Reach, Keeps, Phase, Probe and Writes says what is measured.
type Objective struct {
	Name  string `json:"name"`
	Since Since  `json:"since"`

	// Reach: the condition becomes true within Within and stays true for Hold; the time counts to the beginning of that
	// stretch. Unit: seconds.
	Reach  *Condition    `json:"reach,omitempty"`
	Hold   time.Duration `json:"holdNanos,omitempty"`
	Within time.Duration `json:"withinNanos,omitempty"` // Reach and Phase

	// Keeps: the condition is never false. Unit: seconds of violation.
	Keeps *Condition `json:"keeps,omitempty"`

	// Phase: the named phase takes no longer than Within. Chain ("traffic", "redundancy") is needed only where both
	// chains have a phase of that name. Unit: seconds.
	Phase string `json:"phase,omitempty"`
	Chain string `json:"chain,omitempty"`

	// Probe: any of Lost (ratio), Outage (longest, seconds), Latency (seconds at Percentile), each judged; Samples is
	// the least number that allows a verdict.
	Probe      string  `json:"probe,omitempty"`
	Lost       *Range  `json:"lost,omitempty"`
	Outage     *Range  `json:"outage,omitempty"`
	Latency    *Range  `json:"latency,omitempty"`
	Percentile float64 `json:"percentile,omitempty"`
	Samples    int     `json:"samples,omitempty"`

	// Writes names a write probe; LostMax and DuplicatedMax bound its counts. Unit: count.
	Writes        string `json:"writes,omitempty"`
	LostMax       *int   `json:"lostMax,omitempty"`
	DuplicatedMax *int   `json:"duplicatedMax,omitempty"`
}

// Unit is what an objective is measured in.
type Unit string

// The units of results.
const (
	Seconds Unit = "seconds"
	Ratio   Unit = "ratio"
	Counts  Unit = "count"
)

// Result is what a timeline says of one objective.
type Result struct {
	Objective string  `json:"objective"`
	Verdict   Verdict `json:"verdict"`
	Unit      Unit    `json:"unit"`
	// Limit is the bound that was held against the value, in Unit.
	Limit float64 `json:"limit"`
	// Lo and Hi bound the true value, in Unit. Known is false where nothing was measured; Censored is set where the run
	// ended before the value was reached: then only Lo is known.
	Lo       float64 `json:"lo"`
	Hi       float64 `json:"hi"`
	Known    bool    `json:"known"`
	Censored bool    `json:"censored,omitempty"`
	// Reason explains the verdict in one sentence.
	Reason string `json:"reason"`
	// Settled is set when watching longer cannot change the verdict. A runner may stop once every result is settled.
	// What lasts as long as the run (keeps, probe, writes) has no end of its own: it is settled once its step is done
	// and its data suffices, so that it holds nothing up.
	Settled bool `json:"settled"`
}
