package scenarios

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// This file checks what a scenario does and demands: steps, their order, objectives, twins.

func (c *checker) checkSteps() {
	known := slices.Sorted(maps.Keys(c.session.types.Steps))
	for i := range c.scenario.Spec.Steps {
		step := &c.scenario.Spec.Steps[i]
		at := spec("steps", i)
		kind := c.exactlyOneType(at, known)
		t, registered := c.session.types.Steps[kind]
		if registered {
			c.checkStepTarget(at, step, t)
		}
		if registered && !t.Fault && step.For != nil {
			c.report(at.down("for"), "%s is an action: only a fault is healed after a time", kind)
		}
		c.checkStart(at, step)
		everyProfile(c, at.down("for"), step.For)
		everyProfile(c, at.down("within"), step.Within)
	}
}

// exactlyOneType demands one key that names a registered type. The list of types is long, so it is not printed.
func (c *checker) exactlyOneType(at place, known []string) string {
	found := c.present(at, known...)
	switch len(found) {
	case 0:
		c.report(at, "the step does nothing: add the fault or action as a key, such as kill-pod: {}")
		return ""
	case 1:
		return found[0]
	}
	c.report(at.down(found[1]), "a step does one thing: %s and %s need a step each", found[0], found[1])
	return ""
}

// checkStepTarget demands a target of a kind that the step accepts, or none where it takes none.
func (c *checker) checkStepTarget(at place, step *Step, t StepType) {
	if step.Target == nil {
		if len(t.Targets) > 0 {
			c.report(at.down("target"), "%s needs a target: %s", step.Type, listed(t.Targets))
		}
		return
	}
	target := at.down("target")
	if len(t.Targets) == 0 {
		c.report(target, "%s takes no target", step.Type)
		return
	}
	switch {
	case step.Target.Name != "":
		if !c.checkName(target, "target", "targets", step.Target.Name) {
			return
		}
	case step.Target.SameAs != "":
		if len(c.present(target, "pods", "nodes", "object", "objects", "take")) > 0 {
			c.report(target, "same-as stands by itself: the other step's rule holds")
		}
		if !c.checkName(target.down("same-as"), "step", "steps", step.Target.SameAs) {
			return
		}
		if other := c.step(step.Target.SameAs); other != nil && other.Target == nil {
			c.report(target.down("same-as"), "step %q has no target", step.Target.SameAs)
		}
	default:
		c.checkRule(target, step.Target.Rule)
	}
	if kind := c.targetKind(step.Target, len(c.scenario.Spec.Steps)); kind != "" && !slices.Contains(t.Targets, kind) {
		c.report(target, "%s acts on %s, not on %s", step.Type, listed(t.Targets), kind)
	}
}

// targetKind follows names and same-as, at most hops times: a cycle is reported elsewhere.
func (c *checker) targetKind(target *Target, hops int) string {
	switch {
	case target == nil || hops < 0:
		return ""
	case target.Name != "":
		return c.scenario.Spec.Targets[target.Name].Kind()
	case target.SameAs != "":
		if other := c.step(target.SameAs); other != nil {
			return c.targetKind(other.Target, hops-1)
		}
		return ""
	}
	return target.Rule.Kind()
}

// step is the first step of a name; nil where there is none.
func (c *checker) step(name string) *Step {
	for i := range c.scenario.Spec.Steps {
		if c.scenario.Spec.Steps[i].Name == name {
			return &c.scenario.Spec.Steps[i]
		}
	}
	return nil
}

// checkStart checks what decides when a step starts.
func (c *checker) checkStart(at place, step *Step) {
	if starts := c.present(at, "at", "after", "when"); len(starts) > 1 {
		c.report(at.down(starts[1]), "%s and %s exclude each other", starts[0], starts[1])
	}
	c.onlyWith(at, "delay", "after", "when")
	c.onlyWith(at, "within", "when")
	if step.When != nil {
		c.checkCondition(at.down("when"), step.When, "")
		if len(c.present(at, "within")) == 0 {
			c.report(at.down("within"), `"when" needs within: how long to wait for it`)
		}
	}
	if step.After != "" {
		c.checkEdge(at.down("after"), step.After)
	}
}

// checkEdge demands STEP[.EDGE] with a step that has that edge.
func (c *checker) checkEdge(at place, text string) {
	since, err := ParseEdge(text)
	if err != nil {
		problem := withHint(Problem{}, err)
		c.reportHint(at, problem.Hint, "%s", err)
		return
	}
	if !c.checkName(at, "step", "steps", since.Step) {
		return
	}
	step := c.step(since.Step)
	if step == nil {
		return
	}
	t, registered := c.session.types.Steps[step.Type]
	switch {
	case !registered || since.Edge == assertions.EdgeAt || since.Edge == assertions.EdgeDone:
	case !t.Fault:
		c.report(at, "%s is an action, which is only ever done: write %s.done", step.Type, since.Step)
	case since.Edge == assertions.EdgeHealed && step.For == nil:
		c.report(at, "step %q is not healed before the scenario ends: give it a time with for:", since.Step)
	}
}

// checkOrder refuses steps that wait for each other.
func (c *checker) checkOrder() {
	steps := c.scenario.Spec.Steps
	index := map[string]int{}
	for i, step := range slices.Backward(steps) {
		index[step.Name] = i
	}
	const (
		unseen = iota
		under
		finished
	)
	state := make([]int, len(steps))
	var visit func(i int)
	wait := func(i int, name, key string) {
		other, ok := index[name]
		if !ok {
			return // reported as unknown
		}
		if other == i {
			c.report(spec("steps", i, key), "a cycle: step %q waits for itself", name)
		} else if state[other] == under {
			c.report(spec("steps", i, key), "a cycle: step %q and step %q wait for each other", steps[i].Name, name)
		} else if state[other] == unseen {
			visit(other)
		}
	}
	visit = func(i int) {
		state[i] = under
		step := steps[i]
		if target := step.Target; target != nil && target.SameAs != "" {
			wait(i, target.SameAs, "target")
		}
		switch since, err := ParseEdge(step.After); {
		case step.After != "" && err == nil:
			wait(i, since.Step, "after")
		case step.After == "" && step.At == nil && step.When == nil && i > 0:
			if state[i-1] == under {
				c.report(spec("steps", i), "a cycle: step %q starts after step %q, which waits for it", step.Name, steps[i-1].Name)
			} else if state[i-1] == unseen {
				visit(i - 1)
			}
		}
		state[i] = finished
	}
	for i := range steps {
		if state[i] == unseen {
			visit(i)
		}
	}
}

func (c *checker) checkObjectives() {
	for i := range c.scenario.Spec.Objectives {
		objective := &c.scenario.Spec.Objectives[i]
		at := spec("objectives", i)
		kind := c.exactlyOne(at, "an objective", "reach", "keeps", "phase", "probe", "writes")
		if objective.Since != "" {
			c.checkEdge(at.down("since"), objective.Since)
		}
		c.onlyWith(at, "hold", "reach")
		c.onlyWith(at, "within", "reach", "phase")
		c.onlyWith(at, "chain", "phase")
		c.onlyWith(at, "lost", "probe", "writes")
		c.onlyWith(at, "duplicated", "writes")
		for _, key := range []string{"outage", "latency", "samples"} {
			c.onlyWith(at, key, "probe")
		}
		if (kind == "reach" || kind == "phase") && len(c.present(at, "within")) == 0 {
			c.report(at.down("within"), "%q needs within: the limit on the time", kind)
		}
		c.positive(at.down("hold"), objective.Hold)
		if objective.Reach != nil {
			c.checkCondition(at.down("reach"), objective.Reach, "")
		}
		if objective.Keeps != nil {
			c.checkCondition(at.down("keeps"), objective.Keeps, "keeps")
		}
		c.checkMeasured(at, kind, objective)
		everyProfile(c, at.down("within"), objective.Within)
		everyProfile(c, at.down("lost"), objective.Lost)
		everyProfile(c, at.down("duplicated"), objective.Duplicated)
		everyProfile(c, at.down("outage"), objective.Outage)
		everyProfile(c, at.down("latency"), objective.Latency)
	}
}

// checkMeasured checks the objectives on probes: what they limit, and in which unit.
func (c *checker) checkMeasured(at place, kind string, objective *Objective) {
	switch kind {
	case "probe":
		c.checkName(at.down("probe"), "probe", "probes", objective.Probe)
		if len(c.present(at, "lost", "outage", "latency")) == 0 {
			c.report(at.down("lost"), `"probe" sets no limit by itself: add lost, outage or latency`)
		}
		for _, limit := range everyLoss(objective.Lost) {
			if limit.share() == nil {
				c.report(at.down("lost"), "what a probe loses is a share: write it with a percent sign, such as 5%%")
			}
		}
	case "writes":
		if c.checkName(at.down("writes"), "probe", "probes", objective.Writes) {
			c.checkWrites(at.down("writes"), objective.Writes)
		}
		if len(c.present(at, "lost", "duplicated")) == 0 {
			c.report(at.down("lost"), `"writes" sets no limit by itself: add lost or duplicated`)
		}
		for _, limit := range everyLoss(objective.Lost) {
			if limit.MaxShare != nil {
				c.report(at.down("lost"), "lost writes are counted: write a whole number")
			}
		}
		for _, limit := range everyLoss(objective.Duplicated) {
			if limit.MaxShare != nil {
				c.report(at.down("duplicated"), "duplicated writes are counted: write a whole number")
			}
		}
	}
}

// checkWrites demands a probe that keeps account of what it wrote.
func (c *checker) checkWrites(at place, name string) {
	for _, probe := range c.scenario.Spec.Probes {
		t, registered := c.session.types.Probes[probe.Type]
		if probe.Name == name && registered && !t.Writes {
			c.report(at, "probe %q writes nothing: it is of kind %s", name, probe.Type)
		}
	}
}

func (c *checker) checkTwins() {
	for i, twin := range c.scenario.Spec.Twins {
		at := spec("twins", i)
		if len(c.present(at, "misses")) == 0 {
			c.report(at.down("misses"), "a twin needs misses: the objective that it must miss")
		} else {
			c.checkName(at.down("misses"), "objective", "objectives", twin.Misses)
		}
		if len(c.present(at, "patch")) == 0 {
			c.report(at.down("patch"), "a twin needs a patch: what is weakened")
			continue
		}
		patch := at.down("patch")
		kind := c.exactlyOne(patch, "a patch", "workload", "demo")
		c.onlyWith(patch, "merge", "workload")
		switch kind {
		case "workload":
			c.checkRef(patch.down("workload"), twin.Patch.Workload)
			if len(twin.Patch.Merge) == 0 {
				c.report(patch.down("merge"), "the patch changes nothing: add merge")
			}
			ref, err := ParseRef(twin.Patch.Workload)
			if err == nil && c.scenario.Spec.Workloads[ref.Workload].Existing != nil {
				c.report(patch.down("workload"), "workload %q was there before: it is not ours to weaken", ref.Workload)
			}
		case "demo":
			c.checkDemoPatch(patch.down("demo"), twin.Patch.Demo)
		}
	}
}

func (c *checker) checkDemoPatch(at place, patch *DemoPatch) {
	if patch == nil {
		return
	}
	if patch.Replicas == nil && len(patch.Env) == 0 {
		c.report(at, "the patch changes nothing: add replicas or env")
	}
	if _, err := c.scenario.demoWorkload(patch.Workload); err != nil {
		c.report(at.down("workload"), "%s", err)
	}
}

// demoWorkload is the name of a demo workload; without a name, of the only one.
func (s *Scenario) demoWorkload(name string) (string, error) {
	if name != "" {
		workload, ok := s.Spec.Workloads[name]
		if !ok || workload.Demo == nil {
			return "", fmt.Errorf("there is no demo workload %q", name)
		}
		return name, nil
	}
	var demos []string
	for name, workload := range s.Spec.Workloads {
		if workload.Demo != nil {
			demos = append(demos, name)
		}
	}
	if len(demos) != 1 {
		return "", errors.New("there are several demo workloads, or none: say which with workload")
	}
	return demos[0], nil
}

// everyLoss is every value that a limit has under some profile.
func everyLoss(limit *values.Profiled[LossLimit]) []LossLimit {
	if limit == nil {
		return nil
	}
	all := slices.Collect(maps.Values(limit.ByProfile))
	if limit.Any != nil {
		all = append(all, *limit.Any)
	}
	return all
}
