// Package injectors is the contract between Rebound and its faults: what an injector is (Injector, Fault), what it
// may touch (World), what it acts on (Target), and what it owes (Undo, Ledger).
//
// One folder holds one family of faults, one file one fault; ADDING.md shows the smallest. Measuring, judging and
// choosing targets are left to others.
package injectors

import (
	"context"
	"errors"

	"k8s.io/client-go/kubernetes"
)

// Injector is one fault with its own decoded parameters: the struct that a scenario's step is decoded into.
//
// Inject changes the world. Before each change it registers with undo how to take it back; after an error, whatever was
// registered is replayed. It returns when the change is made; ctx ends when the run is interrupted.
type Injector interface {
	Inject(ctx context.Context, w World, t Target, undo *Undo) error
}

// Effective is an Injector that can prove that it bit. Effective returns nil once the effect is there, and an error
// that says what it waited for when ctx ends first: the run is then unknown.
type Effective interface {
	Effective(ctx context.Context, w World, t Target) error
}

// Validator is an Injector that checks its parameters beyond their types; it is called when the file is loaded.
type Validator interface {
	Validate() error
}

// Fault registers an injector. It is a value: there is no global registry.
type Fault struct {
	// Name is the step's key in a scenario file and the name of the source file: "kill-pod" and kill_pod.go.
	Name string
	// Doc is one sentence for `rebound explain` and the schema.
	Doc string
	// New returns a pointer to fresh parameters, defaults filled in.
	New func() Injector
	// Undo maps a step kind ("kill-pod/restore") to the function that replays it. Empty for a fault that the cluster
	// heals itself and that leaves nothing behind.
	Undo map[string]UndoFunc
	// Needs lists what the fault cannot do without: NeedNode, NeedAPI.
	Needs []Need
	// Targets lists the kinds of target it accepts: TargetPods, TargetNodes, TargetObjects; empty means that it takes
	// none.
	Targets []TargetKind
	// Changes says in one line what it will do to a target, for `plan`; Undoes says how it is taken back.
	Changes, Undoes string
}

// Need is something that a fault, an action or an undo step depends on.
type Need string

// What may be needed.
const (
	NeedAPI  Need = "api"  // the API server answers
	NeedNode Need = "node" // node access: Node.Exec works
	NeedHost Need = "host" // the container engine under the nodes
)

// TargetKind is a kind of target.
type TargetKind string

// The kinds of target.
const (
	TargetPods    TargetKind = "pods"
	TargetNodes   TargetKind = "nodes"
	TargetObjects TargetKind = "objects"
)

// Target is what a step acts on: objects bound to their UIDs when the step started.
type Target struct {
	Objects []Object
}

// Object is one bound object. Containers holds the ids of a pod's containers when it was bound.
type Object struct {
	Kind       string   `json:"kind"`
	APIVersion string   `json:"apiVersion,omitempty"`
	Namespace  string   `json:"namespace,omitempty"`
	Name       string   `json:"name"`
	UID        string   `json:"uid,omitempty"`
	Node       string   `json:"node,omitempty"`
	Containers []string `json:"containers,omitempty"`
}

// String names the object for people: "Pod shop/web-0".
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// World is what an injector may touch.
type World interface {
	API() kubernetes.Interface
	Node(name string) (Node, error)
}

// Node is a machine of the cluster, entered from below: it needs neither kubelet nor API server.
type Node interface {
	Name() string
	Exec(ctx context.Context, argv ...string) ([]byte, error)
}

// Errors that callers decide on.
var (
	// ErrTargetGone: a bound object no longer exists, or another one stands under its name.
	ErrTargetGone = errors.New("target is gone")
	// ErrConflict: what is there now is neither what was before nor what the fault made of it; nothing was overwritten.
	ErrConflict = errors.New("changed by somebody else")
	// ErrNeedsAPI marks a failure that will pass once the API server answers again.
	ErrNeedsAPI = errors.New("the API server does not answer")
	// ErrFieldTaken: another fault of this run owes an undo for the same field.
	ErrFieldTaken = errors.New("field is already broken by another step")
)
