// Package clusters says what a cluster under test is: where it comes from (Provider), what it is made of (Cluster,
// Node), which Kubernetes timers it runs with (Profile), and what "as before" means (Fingerprint, Reset).
//
// Concrete providers live in folders of their own (kindcluster, existing); nothing here breaks, measures or judges.
package clusters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The labels that everything we make carries: objects in a cluster as labels, containers and networks of a container
// engine as labels too.
const (
	LabelManaged = "rebound.dev/managed" // "true" on whatever Rebound made
	LabelRun     = "rebound.dev/run"     // the run that made it
	LabelCluster = "rebound.dev/cluster" // the cluster it belongs to
)

// Errors that callers decide on.
var (
	// ErrNotFound: there is no cluster of that name that Rebound made, or no such node in it.
	ErrNotFound = errors.New("not found")
	// ErrNameTaken: a cluster of that name exists already.
	ErrNameTaken = errors.New("cluster name is taken")
	// ErrNoEngine: no container engine answers.
	ErrNoEngine = errors.New("no container engine answers")
	// ErrNotAsBefore: a reset could not bring the cluster back to its fingerprint.
	ErrNotAsBefore = errors.New("cluster is not as before")
	// ErrUnreachable: the cluster is known, but its nodes or its API server do not answer.
	ErrUnreachable = errors.New("cluster does not answer")
	// ErrNotReady: a new cluster did not become usable within the limit.
	ErrNotReady = errors.New("cluster is not ready")
	// ErrNoImage: the node image is neither there nor to be had.
	ErrNoImage = errors.New("node image is missing")
	// ErrHostLimit: the host has too little of something (disk space, inotify instances) for the cluster.
	ErrHostLimit = errors.New("host has too little left")
	// ErrBadSpec: the provider cannot make the cluster that was asked for.
	ErrBadSpec = errors.New("cluster spec cannot be met")
	// ErrBusy: another process is making or removing the cluster at this moment.
	ErrBusy = errors.New("cluster is being changed by another process")
)

// ExecError is a command that failed in a node.
type ExecError struct {
	Node string
	Argv []string
	// Code is the command's exit code; -1 where it could not be started or was ended by a signal.
	Code int
	// Stderr is the tail of what it printed to standard error.
	Stderr string
	// Err is the cause underneath; the context's error where that ended the command.
	Err error
}

// Error names the node, the command and its last words.
func (e *ExecError) Error() string {
	text := fmt.Sprintf("node %s: %s: %v", e.Node, strings.Join(e.Argv, " "), e.Err)
	if last := strings.TrimSpace(e.Stderr); last != "" {
		text += ": " + last
	}
	return text
}

// Unwrap returns the cause underneath.
func (e *ExecError) Unwrap() error { return e.Err }

// Spec is the cluster that is asked for.
type Spec struct {
	Name          string      `json:"name"`
	Profile       string      `json:"profile"`
	ControlPlanes int         `json:"controlPlanes"`
	Workers       []NodeGroup `json:"workers"`
	// Image is the node image; empty means the provider's choice.
	Image string `json:"image,omitempty"`
}

// NodeGroup is a number of workers with the same labels and role.
type NodeGroup struct {
	Count  int               `json:"count"`
	Labels map[string]string `json:"labels,omitempty"`
	Role   string            `json:"role,omitempty"`
}

// Provider is where clusters come from. Its clusters survive the process: Get finds one that another process made.
type Provider interface {
	// Create makes a cluster and returns once it is usable by our own readiness. When ctx ends it leaves nothing
	// behind.
	Create(ctx context.Context, spec Spec) (*Cluster, error)
	// Get returns the named cluster, or ErrNotFound. With ErrUnreachable it returns what is known of the cluster as
	// well: its nodes may be entered from below, to repair it.
	Get(ctx context.Context, name string) (*Cluster, error)
	// Delete removes it and its files; deleting what is not there is ErrNotFound.
	Delete(ctx context.Context, name string) error
}

// Lister is a Provider that can name its clusters.
type Lister interface {
	List(ctx context.Context) ([]*Cluster, error)
}

// ImageSource is a Provider whose container engine holds images that can be put into the nodes. SaveImage writes one
// as an archive, as `docker save` does; an image that is not there is ErrNoImage.
type ImageSource interface {
	SaveImage(ctx context.Context, ref string, out io.Writer) error
}

// Cluster is a running cluster. The zero value is of no use; providers make them.
type Cluster struct {
	Name     string
	Provider string
	// KubernetesVersion is the API server's own ("v1.36.3").
	KubernetesVersion string
	Profile           Profile
	Spec              Spec
	// Kubeconfig is the path of the cluster's own kubeconfig file; the user's is never read or written.
	Kubeconfig string
	Nodes      []Node
	// State is the folder where the cluster's own files lie: kubeconfig, spec.json, fingerprint.json.
	State string
	// Problem is nil where the cluster can be used. List sets it for one that is known but dead (ErrUnreachable), so
	// that it can be shown, repaired and deleted; Get returns the same as its error.
	Problem error
}

// Node returns the named node.
func (c *Cluster) Node(name string) (Node, error) {
	for _, node := range c.Nodes {
		if node.Name() == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("node %q in cluster %q: %w", name, c.Name, ErrNotFound)
}

// Node is one machine of the cluster. Exec runs argv in it as root, outside any pod, and returns what it printed to
// standard output; the error carries the exit code and standard error. It needs neither kubelet nor API server.
type Node interface {
	Name() string
	Exec(ctx context.Context, argv ...string) ([]byte, error)
}

// Streamer is a Node that can feed a command and follow its output while it runs; nil streams are allowed.
type Streamer interface {
	Stream(ctx context.Context, stdin io.Reader, stdout io.Writer, argv ...string) error
}

// ImageHolder is a Node whose container runtime can be asked for an image and given one (an image archive, as
// `docker save` writes it).
type ImageHolder interface {
	HasImage(ctx context.Context, ref string) (bool, error)
	LoadImage(ctx context.Context, archive io.Reader) error
}
