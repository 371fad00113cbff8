// Package recorder writes down what happens to a cluster during a run: changes of its objects from watches, answers to
// probes from named nodes, and the stretches in which either saw nothing.
//
// All of it goes into one assertions.Timeline, as offsets on one monotonic clock. The recorder never judges and never
// breaks anything; the runner adds the steps. What a probe asks is left to the prober package.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

// The observers, as in assertions.Fact.Source and Gap.Source. A probe's gaps carry SourceProbe and its name. SourceAPI
// has no facts: its gaps are the stretches in which the API server took no write.
const (
	SourcePods      = "pods"
	SourceNodes     = "nodes"
	SourceEndpoints = "endpoints"
	SourceEvents    = "events"
	SourceWorkloads = "workloads"
	SourceObjects   = "objects"
	SourceAPI       = "api"
	SourceProbe     = "probe:"
)

// Errors that callers decide on.
var (
	// ErrStarted: the recorder was started before.
	ErrStarted = errors.New("recorder was started before")
	// ErrUnknownStep: no step of that name was added.
	ErrUnknownStep = errors.New("unknown step")
	// ErrUnknownNode: no node of that name was given.
	ErrUnknownNode = errors.New("unknown node")
	// ErrNotSynced: a watch did not get its first list in time.
	ErrNotSynced = errors.New("watch did not start in time")
	// ErrNoSamples: a prober did not deliver its first sample in time.
	ErrNoSamples = errors.New("prober delivers no samples")
)

// Node is one machine of the cluster; Exec runs argv in it as root and needs neither kubelet nor API server.
type Node interface {
	Name() string
	Exec(ctx context.Context, argv ...string) ([]byte, error)
}

// Streamer is a Node that can follow a command's output while it runs. Other nodes are asked again and again.
type Streamer interface {
	Stream(ctx context.Context, stdin io.Reader, stdout io.Writer, argv ...string) error
}

// Options say what is recorded. REST, Run and Namespace are needed; the rest has defaults.
type Options struct {
	// Run and Scenario name the run; Run is a part of file and object names ([a-z0-9-]).
	Run, Scenario string
	// Clock is the run's clock; a new one where nil.
	Clock *Clock
	// REST says how the API server is reached. It is copied; the recorder's client has no rate limit.
	REST *rest.Config
	// Namespace is where the recorder's own objects live: prober pods and the heartbeat. It is made where it is not
	// there, and then deleted by Stop.
	Namespace string
	// Workloads maps each namespace that is watched to the scenario's name of the workload in it.
	Workloads map[string]string
	// Nodes are the machines that probers can be put on.
	Nodes []Node
	// Fields are single fields to watch.
	Fields []Field
	// Image is the image of the prober pods: it holds this program as /rebound.
	Image string
	// Heartbeat is the time between two writes of a small object of ours, which put lower bounds on facts and show when
	// the API server takes no writes; DefaultHeartbeat where zero, none where negative.
	Heartbeat time.Duration
	// StartLimit bounds how long Start and each probe may take; DefaultStartLimit where zero.
	StartLimit time.Duration
	// MaxDuration bounds a prober's life; prober.DefaultMaxDuration where zero.
	MaxDuration time.Duration
}

// Defaults of Options.
const (
	DefaultHeartbeat  = 150 * time.Millisecond
	DefaultStartLimit = time.Minute
)

// Field is one field of one object, watched for `object` conditions.
type Field struct {
	Resource  schema.GroupVersionResource
	Namespace string
	Name      string
	// Path is a path such as ".spec.replicas" or ".status.conditions[?(@.type=='Ready')].status".
	Path string
	// Ref is the object as the condition names it, WORKLOAD/KIND/NAME.
	Ref string
}

// Probe is one sampler on one node.
type Probe struct {
	Name string
	// Type names the probe type; Params are its parameters.
	Type   string
	Params prober.Params
	// Interval and Timeout are the prober's defaults where zero.
	Interval, Timeout time.Duration
	Connections       prober.Connections
	// Node is the vantage: the node that the prober's pod is pinned to.
	Node string
	// Address is the IP:port to ask; resolved from the parameters' service where empty.
	Address string
}

// plainName is what a part of an object's name and of a path may be.
var plainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// Recorder records one run. Its methods may be called from several goroutines.
type Recorder struct {
	opts   Options
	store  *store
	client *client
	beats  *heartbeat
	owners *owners

	mu      sync.Mutex
	started bool
	stopped bool
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	probes  []*probeRun
	ownsNS  bool
}

// New checks the options and connects nothing yet.
func New(opts Options) (*Recorder, error) {
	switch {
	case opts.REST == nil:
		return nil, errors.New("recorder needs a REST config")
	case opts.Run == "" || opts.Namespace == "":
		return nil, errors.New("recorder needs the run's id and a namespace of its own")
	case !plainName.MatchString(opts.Run):
		return nil, fmt.Errorf("run %q is not made of [a-z0-9-]", opts.Run)
	}
	if opts.Clock == nil {
		clock, err := NewClock()
		if err != nil {
			return nil, err
		}
		opts.Clock = clock
	}
	if opts.Heartbeat == 0 {
		opts.Heartbeat = DefaultHeartbeat
	}
	if opts.StartLimit == 0 {
		opts.StartLimit = DefaultStartLimit
	}
	if opts.MaxDuration == 0 {
		opts.MaxDuration = prober.DefaultMaxDuration
	}
	client, err := newClient(opts.REST, opts.Clock)
	if err != nil {
		return nil, err
	}
	r := &Recorder{opts: opts, client: client, store: newStore(opts.Clock, opts.Run, opts.Scenario), owners: newOwners()}
	r.beats = newHeartbeat(r.store, client, opts)
	return r, nil
}

// Clock is the run's clock.
func (r *Recorder) Clock() *Clock { return r.opts.Clock }

// Start begins to watch and returns once every watch has its first list (or with ErrNotSynced). Ending ctx later does
// not stop the recorder: what happens while a run is interrupted and healed is recorded too. Stop must be called, also
// after an error.
func (r *Recorder) Start(ctx context.Context) error {
	r.mu.Lock()
	if r.started {
		r.mu.Unlock()
		return ErrStarted
	}
	r.started = true
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.mu.Unlock()

	ctx, limit := context.WithTimeout(ctx, r.opts.StartLimit)
	defer limit()
	if err := r.ensureNamespace(ctx); err != nil {
		return err
	}
	if r.opts.Heartbeat > 0 {
		if err := r.beats.first(ctx); err != nil {
			return fmt.Errorf("make heartbeat: %w", err)
		}
		if err := r.beats.write(ctx); err != nil {
			return fmt.Errorf("first heartbeat: %w", err)
		}
		r.tasks.Go(func() { r.beats.run(background) })
	}
	watchers, err := r.watchers()
	if err != nil {
		return err
	}
	for _, w := range watchers {
		r.tasks.Go(func() { w.run(background) })
	}
	for _, w := range watchers {
		select {
		case <-w.synced:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: %w: %w", ErrNotSynced, w, ctx.Err(), w.lastError())
		}
	}
	return nil
}

// StartProbes puts a prober on each probe's node, all at once, and returns once the first sample of each has arrived.
func (r *Recorder) StartProbes(ctx context.Context, probes ...Probe) error {
	ctx, limit := context.WithTimeout(ctx, r.opts.StartLimit)
	defer limit()
	errs := make([]error, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() {
			if err := r.startProbe(ctx, p); err != nil {
				errs[i] = fmt.Errorf("probe %s: %w", p.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Stop reads the rest of each probe's file, removes probers, files and the heartbeat, and ends the watches. It returns
// what it could not clean up; the timeline is final either way. ctx bounds it. A second call does nothing.
func (r *Recorder) Stop(ctx context.Context) error {
	r.mu.Lock()
	if r.stopped || !r.started {
		r.stopped = true
		r.mu.Unlock()
		r.store.finish()
		return nil
	}
	r.stopped = true
	probes := r.probes
	r.mu.Unlock()

	r.store.finish()
	errs := make([]error, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() { errs[i] = r.stopProbe(ctx, p) })
	}
	wg.Wait()
	errs = append(errs, r.removeFiles(ctx, probes))
	r.cancel()
	r.tasks.Wait()
	errs = append(errs, r.removeObjects(ctx))
	r.client.close()
	return errors.Join(errs...)
}

// AddStep appends a step to the timeline.
func (r *Recorder) AddStep(step assertions.Step) { r.store.addStep(step) }

// UpdateStep changes the last step of that name; snapshots taken before keep the old one. The change must replace
// slices and pointers, not write through them.
func (r *Recorder) UpdateStep(name string, change func(*assertions.Step)) error {
	if !r.store.updateStep(name, change) {
		return fmt.Errorf("%w %q", ErrUnknownStep, name)
	}
	return nil
}

// Snapshot returns the timeline up to now. It is cheap and shares memory with the recorder: it must not be written to.
func (r *Recorder) Snapshot() assertions.Timeline { return r.store.snapshot() }

// Changed returns a channel that is closed when the timeline changes next. Take it before Snapshot to miss nothing.
func (r *Recorder) Changed() <-chan struct{} { return r.store.wait() }

// Timeline returns the whole timeline; it is final once Stop has returned.
func (r *Recorder) Timeline() assertions.Timeline { return r.store.snapshot() }
