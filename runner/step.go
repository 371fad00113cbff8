package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/scenarios"
)

// effectLimit is how long a fault may take to prove its effect, where its deadline is not later: an injector's own limit
// should come first, for it says what was missing.
const effectLimit = 2 * time.Minute

// errNoEffect: a fault could not show that it bit.
var errNoEffect = errors.New("no proof of effect")

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
	if err := p.inject(ctx, s, injector, target); err != nil {
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
	if left := p.healStep(ctx, s); len(left) > 0 {
		return fmt.Errorf("step %s is not healed: %w", name, left[0].Err)
	}
	return nil
}

// errInjectLimit: an injector did not return in time.
var errInjectLimit = errors.New("the injection took too long")

// inject makes the change, within the time that its effect may take to show.
func (p *play) inject(ctx context.Context, s *stepRun, injector injectors.Injector, target injectors.Target) error {
	ctx, cancel := context.WithTimeoutCause(ctx, max(effectLimit, s.planned.deadline), errInjectLimit)
	defer cancel()
	return injector.Inject(ctx, p.world, target, s.undo)
}

// prove has a fault show that it bit; one that cannot is left without proof, and Judge says so.
func (p *play) prove(ctx context.Context, s *stepRun, injector injectors.Injector, target injectors.Target,
	at time.Duration) error {
	effective, ok := injector.(injectors.Effective)
	if !ok {
		s.effective.open(nil)
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, max(effectLimit, s.planned.deadline), errNoEffect)
	defer cancel()
	if err := effective.Effective(ctx, p.world, target); err != nil {
		return fmt.Errorf("%w: %w", errNoEffect, err)
	}
	proof := assertions.Interval{Lo: at, Hi: p.now()}
	err := p.recorder.UpdateStep(s.planned.Name, func(step *assertions.Step) { step.Effective = &proof })
	s.effective.open(err)
	return err
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
				Undo: l.Step.Kind, Error: l.Err.Error(), Ledger: l.Ledger, Repair: p.repairCommand()})
		}
	}
}

// repairCommand is what takes back what is still owed: the next run on the cluster does so before anything else.
func (p *play) repairCommand() string {
	scenario := "-f " + p.plan.scenario.File
	if name, shipped := strings.CutPrefix(p.plan.scenario.File, scenarios.LibraryPrefix); shipped {
		scenario = name
	}
	return fmt.Sprintf("rebound run %s --cluster %s", scenario, p.cluster.Name)
}
