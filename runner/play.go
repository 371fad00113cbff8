package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/clusters/image"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/runner/recorder"
	"github.com/rebound-chaos/rebound/scenarios"
)

const (
	// tick is how often a growing timeline is looked at; it bounds what looking costs, not what is measured.
	tick = 50 * time.Millisecond
	// cleanLimit bounds what is done on a detached context after an interruption, beside the undos' own limits.
	cleanLimit = 30 * time.Second
)

// errAborted: the scenario's own limit on the damage no longer held, so everything was healed at once.
var errAborted = errors.New("aborted by the scenario's abort condition")

// play is one repeat of one scenario in progress.
type play struct {
	plan     *Plan
	provider clusters.Provider
	cluster  *clusters.Cluster
	kube     *kube
	world    *world
	ledger   *injectors.Ledger
	faults   injectors.Registry
	// id names the repeat in labels and names: the call's id and the repeat's number.
	id       string
	index    int
	progress *progress
	program  string

	recorder *recorder.Recorder
	deployed *deployment
	binder   *binder
	bindMu   sync.Mutex
	steps    []*stepRun
	steadyAt time.Duration
}

// outcome is what a repeat left behind.
type outcome struct {
	timeline   assertions.Timeline
	objectives []assertions.Objective
	results    []assertions.Result
	undo       map[string]string // step → what became of its undo
	spent      map[string]time.Duration
	images     map[string]string
	leftovers  []reports.Leftover
	// failure is why the run is unknown whatever was measured; nil where it went as planned.
	failure error
	// relapse is set when the steady state did not come back after everything was healed.
	relapse error
}

func (c *call) newPlay(ctx context.Context, plan *Plan, cluster *clusters.Cluster, index int) (*play, error) {
	config, err := cluster.RESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reach cluster %s: %w", cluster.Name, err)
	}
	k, err := newKube(config)
	if err != nil {
		return nil, fmt.Errorf("reach cluster %s: %w", cluster.Name, err)
	}
	c.plays++
	id := fmt.Sprintf("%s-%d", c.id, c.plays)
	dir, err := ledgerDir()
	if err != nil {
		return nil, err
	}
	ledger, err := injectors.CreateLedger(ctx, dir, injectors.Header{Run: id, Cluster: cluster.Name,
		Provider: c.runner.ProviderName, Kubeconfig: cluster.Kubeconfig, Version: c.runner.Version})
	if err != nil {
		return nil, err
	}
	p := &play{plan: plan, provider: c.runner.Provider, cluster: cluster, kube: k, world: &world{kube: k, cluster: cluster}, ledger: ledger, faults: c.runner.Faults, id: id,
		index: index, progress: c.progress, program: c.program}
	for i, planned := range plan.Steps {
		p.steps = append(p.steps, newStepRun(planned, i))
	}
	p.binder = &binder{kube: k, rules: plan.scenario.Spec.Targets, bound: map[string][]injectors.Object{},
		seed: c.seed + int64(index), capShare: 1}
	return p, nil
}

// do plays the repeat from deployment to the last undo. It always returns an outcome; what went wrong stands in it.
func (p *play) do(ctx context.Context) *outcome {
	out := &outcome{spent: map[string]time.Duration{}, undo: map[string]string{}}
	began := time.Now()
	out.failure = shielded(func() error { return p.attempt(ctx, out) })
	healing := time.Now()
	p.heal(ctx, out)
	out.spent["heal"] = time.Since(healing)
	// A twin is missed on purpose: whether it comes back shows nothing.
	if out.failure == nil && p.plan.twin == nil && len(out.leftovers) == 0 {
		again := time.Now()
		_, err := p.awaitSteady(ctx)
		switch {
		case errors.Is(err, errNotSteady):
			out.relapse = err
		case err != nil:
			out.failure = fmt.Errorf("steady again: %w", err)
		}
		out.spent["steadyAgain"] = time.Since(again)
	}
	collecting := time.Now()
	p.collect(ctx, out)
	out.spent["collect"] = time.Since(collecting)
	out.spent["total"] = time.Since(began)
	return out
}

// attempt is all that may fail: deploy, steady, steps, observation.
func (p *play) attempt(ctx context.Context, out *outcome) error {
	began := time.Now()
	if err := p.deploy(ctx); err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	out.spent["deploy"] = time.Since(began)
	began = time.Now()
	at, err := p.awaitSteady(ctx)
	if err != nil {
		return fmt.Errorf("nothing was injected: %w", err)
	}
	p.steadyAt = at
	out.spent["steady"] = time.Since(began)
	p.progress.say("%s: run %d: steady after %.1f s", p.plan.Scenario, p.index, time.Since(began).Seconds())
	out.images = p.images(ctx)
	for _, o := range p.plan.scenario.Spec.Objectives {
		compiled, err := o.Compile(p.plan.Cluster.Profile, resolver{ctx, p})
		if err != nil {
			return fmt.Errorf("objective %s: %w", o.Name, err)
		}
		out.objectives = append(out.objectives, compiled)
	}
	began = time.Now()
	err = p.observe(ctx, out.objectives)
	out.spent["observe"] = time.Since(began)
	return err
}

// deploy starts the recorder, puts the workloads into fresh namespaces and the probers onto their nodes.
func (p *play) deploy(ctx context.Context) error {
	ref, err := image.Ensure(ctx, p.cluster.Nodes, p.program)
	if err != nil {
		return fmt.Errorf("load our own program into the nodes: %w", err)
	}
	scenario := p.plan.scenario
	if err := loadImages(ctx, p.provider, p.cluster.Nodes, scenario); err != nil {
		return err
	}
	var patch *scenarios.Patch
	if p.plan.twin != nil {
		patch = &p.plan.twin.Patch
	}
	p.binder.namespaces = namespacesOf(p.id, scenario)
	p.recorder, err = p.startRecorder(ctx, ref)
	if err != nil {
		return err
	}
	p.deployed, err = deploy(ctx, p.kube, p.id, scenario, ref, patch)
	if err != nil {
		return err
	}
	return p.startProbes(ctx)
}

// resolver finds the nodes that a condition names; conditions are compiled with it.
type resolver struct {
	ctx  context.Context // one compilation's, not kept
	play *play
}

// NodeNames returns the names of the nodes behind a node's or a target's name.
func (r resolver) NodeNames(name string) ([]string, error) {
	p := r.play
	p.bindMu.Lock()
	defer p.bindMu.Unlock()
	if rule, ok := p.plan.scenario.Spec.Targets[name]; ok {
		objects, err := p.binder.choose(r.ctx, name, rule)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		return nodeNames(objects), nil
	}
	if _, err := p.cluster.Node(name); err != nil {
		return nil, fmt.Errorf("%q is neither a target nor a node: %w", name, err)
	}
	return []string{name}, nil
}

func nodeNames(objects []injectors.Object) []string {
	var names []string
	for _, o := range objects {
		if o.Node != "" {
			names = append(names, o.Node)
		}
	}
	return names
}

// watch looks at the growing timeline until done says so, or ctx ends.
func (p *play) watch(ctx context.Context, done func(tl assertions.Timeline) bool) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for !done(p.recorder.Snapshot()) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *play) now() time.Duration { return p.recorder.Clock().Now() }

// observe performs the steps in their order and watches until every objective is settled.
func (p *play) observe(ctx context.Context, objectives []assertions.Objective) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var abort *assertions.Condition
	if p.plan.scenario.Spec.Abort != nil {
		condition, err := p.plan.scenario.Spec.Abort.Compile(resolver{ctx, p})
		if err != nil {
			return fmt.Errorf("abort: %w", err)
		}
		abort = &condition
	}
	var steps sync.WaitGroup
	defer steps.Wait() // after cancel: no step goes on behind our back
	defer cancel(nil)
	finished := make(chan struct{})
	for _, s := range p.steps {
		steps.Go(func() {
			if err := shielded(func() error { return p.perform(ctx, s) }); err != nil {
				cancel(err) // before those that wait for this step learn of it: the first cause is the one that is told
				s.fail(err)
			}
		})
	}
	go func() {
		steps.Wait()
		close(finished)
	}()
	err := p.watch(ctx, func(tl assertions.Timeline) bool {
		// The condition is a limit that has to hold; what is not known breaks off nothing.
		if abort != nil && assertions.Evaluate(tl, *abort, nil, tl.End) == assertions.False {
			cancel(errAborted)
			return false
		}
		select {
		case <-finished:
			return ctx.Err() == nil && p.settled(tl, objectives)
		default:
			return false
		}
	})
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// shielded turns a panic into an error: whatever an injector or a judgement does, what is owed is healed.
func shielded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// settled tells whether watching on can change no verdict. Objectives that only bound what happens meanwhile (keeps,
// lost requests) are watched until the others are settled, or until the last deadline where there are no others.
func (p *play) settled(tl assertions.Timeline, objectives []assertions.Objective) bool {
	var last time.Duration
	for _, s := range tl.Steps {
		last = max(last, s.At)
	}
	if tl.End > last+time.Duration(p.plan.LongestSeconds*float64(time.Second)) {
		return true // every deadline is over: what is not settled by now stays so
	}
	ends := false
	for _, o := range objectives {
		ends = ends || o.Reach != nil || o.Phase != ""
		if !assertions.Judge(tl, o).Settled {
			return false
		}
	}
	return ends
}

// collect ends the recording, judges the timeline, and closes the ledger.
func (p *play) collect(ctx context.Context, out *outcome) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	if p.recorder != nil {
		// What Stop could not clean up is the next reset's; what it could not read is a gap in the timeline.
		if err := p.recorder.Stop(ctx); err != nil {
			p.note(fmt.Errorf("stop the recorder: %w", err))
		}
		out.timeline = p.recorder.Timeline()
		out.timeline.Run, out.timeline.Scenario = p.id, p.plan.Scenario
	}
	for _, o := range out.objectives {
		out.results = append(out.results, assertions.Judge(out.timeline, o))
	}
	if err := p.ledger.Close(); err != nil {
		p.note(fmt.Errorf("close the ledger: %w", err))
	}
}

// images lists what runs: image reference → image id, of the pods of our namespaces.
func (p *play) images(ctx context.Context) map[string]string {
	out := map[string]string{}
	for _, namespace := range p.binder.namespaces {
		pods, err := p.kube.api.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			p.progress.say("%s: images are not known: %v", p.plan.Scenario, err)
			return nil
		}
		for i := range pods.Items {
			addImages(out, &pods.Items[i])
		}
	}
	return out
}

func addImages(out map[string]string, pod *corev1.Pod) {
	for _, container := range pod.Spec.Containers {
		for _, status := range pod.Status.ContainerStatuses {
			if status.Name == container.Name && status.ImageID != "" {
				out[container.Image] = status.ImageID
			}
		}
	}
}

// namespacesOf maps a scenario's workloads to the namespaces they will have.
func namespacesOf(run string, s *scenarios.Scenario) map[string]string {
	out := map[string]string{}
	for name, w := range s.Spec.Workloads {
		switch {
		case w.Existing != nil:
			out[name] = w.Existing.Namespace
		case w.Namespace != "":
			out[name] = w.Namespace
		default:
			out[name] = "rebound-" + run + "-" + name
		}
	}
	return out
}

func refs(objects []injectors.Object) []assertions.Ref {
	out := make([]assertions.Ref, 0, len(objects))
	for _, o := range objects {
		out = append(out, assertions.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, UID: o.UID,
			Containers: o.Containers})
	}
	return out
}

func describeObjects(objects []injectors.Object) string {
	names := make([]string, 0, len(objects))
	for _, o := range objects {
		name := o.Name
		if o.Node != "" && o.Node != o.Name {
			name += " on " + o.Node
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
