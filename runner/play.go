package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

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
	// effectLimit is how long a fault may take to prove its effect.
	effectLimit = 30 * time.Second
	// cleanLimit bounds what is done on a detached context after an interruption, beside the undos' own limits.
	cleanLimit = 30 * time.Second
	// patience is the longest a run watches on for a recovery whose limit is over: a late value says more than none.
	patience = 30 * time.Second
)

// Reasons for which a run is unknown.
var (
	errNotSteady = errors.New("no steady state, so nothing was injected")
	errNoEffect  = errors.New("no proof of effect")
	errAborted   = errors.New("aborted by the scenario's abort condition")
)

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
	w := &world{kube: k, cluster: cluster}
	if err := repairDead(ctx, dir, cluster.Name, c.runner.Faults, w, c.progress); err != nil {
		return nil, err
	}
	ledger, err := injectors.CreateLedger(ctx, dir, injectors.Header{Run: id, Cluster: cluster.Name,
		Kubeconfig: cluster.Kubeconfig, Version: c.runner.Version})
	if err != nil {
		return nil, err
	}
	p := &play{plan: plan, provider: c.runner.Provider, cluster: cluster, kube: k, world: w, ledger: ledger, faults: c.runner.Faults, id: id,
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
	out.failure = p.attempt(ctx, out)
	healing := time.Now()
	p.heal(ctx, out)
	out.spent["heal"] = time.Since(healing)
	if out.failure == nil && len(p.steps) > 0 && len(out.leftovers) == 0 {
		again := time.Now()
		if _, err := p.awaitSteady(ctx); err != nil {
			out.relapse = err
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
		return err
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

// vantage chooses the node that a probe asks from: the one of its `from:`, else the first node that no step can target,
// workers first.
func (p *play) vantage(ctx context.Context, probe scenarios.Probe) (string, error) {
	if probe.From != nil {
		objects, err := p.binder.choose(ctx, probe.Name, *probe.From)
		if err != nil {
			return "", fmt.Errorf("from: %w", err)
		}
		if len(objects) != 1 || objects[0].Node == "" {
			return "", fmt.Errorf("from: has to select one node, selects %d objects", len(objects))
		}
		return objects[0].Node, nil
	}
	hit, err := p.targetableNodes(ctx)
	if err != nil {
		return "", err
	}
	list, err := p.kube.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list nodes: %w", err)
	}
	for _, role := range []string{"worker", "control-plane"} {
		for i := range list.Items {
			if node := &list.Items[i]; nodeRole(node) == role && !hit[node.Name] {
				return node.Name, nil
			}
		}
	}
	return "", errors.New("every node can be the target of a step: name a vantage with from")
}

// targetableNodes names the nodes that any step may hit, whatever it takes of them.
func (p *play) targetableNodes(ctx context.Context) (map[string]bool, error) {
	hit := map[string]bool{}
	for _, step := range p.plan.scenario.Spec.Steps {
		if step.Target == nil || step.Target.SameAs != "" {
			continue
		}
		rule, err := p.binder.rule(step.Target)
		if err != nil {
			return nil, err
		}
		if rule.Nodes == nil {
			continue
		}
		nodes, err := p.binder.nodes(ctx, *rule.Nodes)
		if err != nil {
			return nil, fmt.Errorf("step %s: %w", step.Name, err)
		}
		for _, node := range nodes {
			hit[node.Name] = true
		}
	}
	return hit, nil
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
	if objects, ok := p.binder.bound[name]; ok {
		return nodeNames(objects), nil
	}
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

// awaitSteady returns the moment since which the steady state has held for its whole hold.
func (p *play) awaitSteady(ctx context.Context) (time.Duration, error) {
	steady := p.plan.scenario.Spec.Steady
	if steady == nil {
		return p.now(), nil
	}
	condition, err := steady.Condition.Compile(resolver{ctx, p})
	if err != nil {
		return 0, fmt.Errorf("steady: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(steady.Within),
		fmt.Errorf("%w: not within %s", errNotSteady, steady.Within))
	defer cancel()
	err = p.watch(ctx, func(tl assertions.Timeline) bool {
		since, ok := trueSince(tl, condition)
		return ok && tl.End-since >= time.Duration(steady.Hold)
	})
	return p.now(), err
}

// trueSince is the moment from which a condition has surely held without a break; false where it does not hold now.
func trueSince(tl assertions.Timeline, condition assertions.Condition) (time.Duration, bool) {
	var since time.Duration
	for _, dip := range assertions.Dips(tl, condition, nil) {
		if dip.Open {
			return 0, false
		}
		since = max(since, dip.Ended.Hi)
	}
	return since, true
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
			if err := p.perform(ctx, s); err != nil {
				s.fail(err)
				cancel(err)
			}
		})
	}
	go func() {
		steps.Wait()
		close(finished)
	}()
	return p.watch(ctx, func(tl assertions.Timeline) bool {
		// The condition is a limit that has to hold; what is not known breaks off nothing.
		if abort != nil && assertions.Evaluate(tl, *abort, nil, tl.End) == assertions.False {
			cancel(errAborted)
			return false
		}
		select {
		case <-finished:
			return p.settled(tl, objectives)
		default:
			return false
		}
	})
}

// settled tells whether watching on can add nothing: every verdict stands, and no recovery is still worth waiting for.
// Objectives that only bound what happens meanwhile (keeps, lost requests) are watched until the others are settled, or
// until the last deadline where there are no others.
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
		result := assertions.Judge(tl, o)
		if !result.Settled {
			return false
		}
		late := result.Verdict == assertions.Missed && result.Censored && o.Reach != nil
		if late && p.plan.twin == nil && tl.End < last+o.Within+min(o.Within, patience) {
			return false
		}
	}
	return ends
}

// perform waits for a step's time, binds its target, breaks it, proves the effect, and takes it back where it has a
// `for:`.
func (p *play) perform(ctx context.Context, s *stepRun) error {
	name := s.planned.Name
	if err := p.awaitStart(ctx, s); err != nil {
		return fmt.Errorf("step %s did not start: %w", name, err)
	}
	spec := p.plan.scenario.Spec.Steps[s.index]
	objects, err := p.bind(ctx, name, spec.Target)
	if err != nil {
		return err
	}
	victims, err := p.victims(ctx, objects)
	if err != nil {
		return fmt.Errorf("step %s: %w", name, err)
	}
	injector, ok := spec.Params.(injectors.Injector)
	if !ok {
		return fmt.Errorf("step %s: %s is not an injector", name, spec.Type)
	}
	target := injectors.Target{Objects: objects}
	at := p.now()
	p.recorder.AddStep(assertions.Step{Name: name, Type: spec.Type, Kind: assertions.Fault, Targets: refs(objects),
		Victims: victims, At: at})
	s.undo = injectors.NewUndo(p.ledger, p.faults, name)
	s.started.open(nil)
	if err := injector.Inject(ctx, p.world, target, s.undo); err != nil {
		return fmt.Errorf("step %s: %w", name, err)
	}
	done := p.now()
	if err := p.recorder.UpdateStep(name, func(step *assertions.Step) { step.Done = &done }); err != nil {
		return err
	}
	s.done.open(nil)
	p.progress.say("%s: run %d: %s: %s %s", p.plan.Scenario, p.index, name, spec.Type, describeObjects(objects))
	if err := p.prove(ctx, s, injector, target, at); err != nil {
		return fmt.Errorf("step %s: %w", name, err)
	}
	if s.planned.duration == 0 {
		return nil
	}
	if err := waitFor(ctx, at+s.planned.duration-p.now()); err != nil {
		return err
	}
	p.healStep(ctx, s)
	return nil
}

// prove has a fault show that it bit; one that cannot is left without proof, and Judge says so.
func (p *play) prove(ctx context.Context, s *stepRun, injector injectors.Injector, target injectors.Target,
	at time.Duration) error {
	effective, ok := injector.(injectors.Effective)
	if !ok {
		s.effective.open(nil)
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, effectLimit, errNoEffect)
	defer cancel()
	if err := effective.Effective(ctx, p.world, target); err != nil {
		return fmt.Errorf("%w: %w", errNoEffect, err)
	}
	proof := assertions.Interval{Lo: at, Hi: p.now()}
	s.effective.open(nil)
	return p.recorder.UpdateStep(s.planned.Name, func(step *assertions.Step) { step.Effective = &proof })
}

func (p *play) bind(ctx context.Context, step string, target *scenarios.Target) ([]injectors.Object, error) {
	p.bindMu.Lock()
	defer p.bindMu.Unlock()
	return p.binder.bind(ctx, step, target)
}

// victims are the pods that a step makes untrustworthy: its target pods, and the workloads' pods on its target nodes.
func (p *play) victims(ctx context.Context, objects []injectors.Object) ([]assertions.Ref, error) {
	var out []assertions.Ref
	for _, o := range objects {
		switch o.Kind {
		case "Pod":
			out = append(out, refs([]injectors.Object{o})...)
		case "Node":
			for _, namespace := range p.binder.namespaces {
				pods, err := p.kube.api.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
					FieldSelector: fields.OneTermEqualSelector("spec.nodeName", o.Name).String(),
				})
				if err != nil {
					return nil, fmt.Errorf("list pods of node %s: %w", o.Name, err)
				}
				for i := range pods.Items {
					out = append(out, refs([]injectors.Object{podObject(&pods.Items[i])})...)
				}
			}
		}
	}
	workloads := map[string]string{}
	for _, fact := range p.recorder.Snapshot().Facts {
		if fact.Pod != nil {
			workloads[fact.Pod.UID] = fact.Pod.Workload
		}
	}
	for i := range out {
		out[i].Workload = workloads[out[i].UID]
	}
	return out, nil
}

// healStep takes back what one step owes. It is safe to be called again: what is done is not done twice.
func (p *play) healStep(ctx context.Context, s *stepRun) []injectors.Leftover {
	if s.undo == nil {
		return nil
	}
	s.undone = s.undone || len(s.undo.Owed()) > 0
	left := s.undo.Replay(ctx, p.world)
	if len(left) > 0 {
		return left
	}
	if s.undone || s.planned.duration > 0 { // a fault that owes nothing is not healed by us
		healed := p.now()
		p.note(p.recorder.UpdateStep(s.planned.Name, func(step *assertions.Step) {
			if step.Healed == nil {
				step.Healed = &healed
			}
		}))
	}
	s.healed.open(nil)
	return nil
}

// note says what went wrong where nothing depends on it.
func (p *play) note(err error) {
	if err != nil {
		p.progress.say("%s: run %d: %v", p.plan.Scenario, p.index, err)
	}
}

// heal takes back whatever is still owed, last step first, interrupted or not.
func (p *play) heal(ctx context.Context, out *outcome) {
	for i := len(p.steps) - 1; i >= 0; i-- {
		s := p.steps[i]
		left := p.healStep(ctx, s)
		switch {
		case len(left) > 0:
			out.undo[s.planned.Name] = "owed"
		case s.undone:
			out.undo[s.planned.Name] = "done"
		default:
			out.undo[s.planned.Name] = "none owed"
		}
		for _, l := range left {
			out.leftovers = append(out.leftovers, reports.Leftover{Step: s.planned.Name, Object: l.Step.Target.String(),
				Undo: l.Step.Kind, Error: l.Err.Error(), Ledger: l.Ledger, Repair: "rebound repair --cluster " + p.cluster.Name})
		}
	}
}

// collect ends the recording, judges the timeline, and closes the ledger.
func (p *play) collect(ctx context.Context, out *outcome) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	if p.recorder != nil {
		if err := p.recorder.Stop(ctx); err != nil && out.failure == nil {
			out.failure = fmt.Errorf("recorder: %w", err)
		}
		out.timeline = p.recorder.Timeline()
		out.timeline.Run, out.timeline.Scenario = p.id, p.plan.Scenario
	}
	for _, o := range out.objectives {
		out.results = append(out.results, assertions.Judge(out.timeline, o))
	}
	if err := p.ledger.Close(); err != nil && out.failure == nil {
		out.failure = fmt.Errorf("ledger: %w", err)
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
