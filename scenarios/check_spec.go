package scenarios

import (
	"maps"
	"slices"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// This file checks what a scenario works with: workloads, targets, probes, conditions.

func (c *checker) checkWorkloads() {
	for _, name := range slices.Sorted(maps.Keys(c.scenario.Spec.Workloads)) {
		workload := c.scenario.Spec.Workloads[name]
		at := spec("workloads", name)
		c.exactlyOne(at, "a workload", "manifests", "demo", "existing")
		c.onlyWith(at, "namespace", "manifests", "demo")
		c.onlyWith(at, "images", "manifests", "demo")
		c.checkNamespace(at.down("namespace"), workload.Namespace)
		if workload.Demo != nil && workload.Demo.Replicas == 0 {
			c.report(at.down("demo", "replicas"), "the demo needs replicas: how many pods")
		}
		if workload.Existing != nil {
			if workload.Existing.Namespace == "" {
				c.report(at.down("existing", "namespace"), "an existing workload needs its namespace")
			}
			c.checkNamespace(at.down("existing", "namespace"), workload.Existing.Namespace)
		}
		for i, manifest := range workload.Manifests {
			c.checkManifest(at.down("manifests", i), manifest)
		}
		if workload.Manifests != nil && len(workload.Manifests) == 0 {
			c.report(at.down("manifests"), `"manifests" is an empty list`)
		}
		for i, image := range workload.Images {
			if image == "" {
				c.report(at.down("images", i), "the name of an image is empty")
			}
		}
	}
}

func (c *checker) checkNamespace(at place, namespace string) {
	if namespace == "" {
		return
	}
	if err := checkName(namespace); err != nil {
		c.report(at, "%s", err)
	}
}

func (c *checker) checkManifest(at place, manifest string) {
	doc := c.tree.doc
	if item := c.tree.lookup(at); doc.at.library || item != nil && item.doc.at.library {
		c.report(at, "a shipped scenario has no folder that manifests could lie in")
		return
	}
	if manifest == "" {
		c.report(at, "the path of a manifest is empty")
		return
	}
	if _, err := c.session.resolvePath(doc.at.dir(), manifest); err != nil {
		c.report(at, "%s", err)
	}
}

func (c *checker) checkTargets() {
	targets := c.scenario.Spec.Targets
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		c.checkRule(spec("targets", name), targets[name])
		c.checkExceptCycle(name)
	}
}

// checkExceptCycle refuses targets that leave each other out: neither could be bound first.
func (c *checker) checkExceptCycle(name string) {
	at, seen := name, map[string]bool{}
	for {
		rule, ok := c.scenario.Spec.Targets[at]
		if !ok || seen[at] {
			return
		}
		seen[at] = true
		selector := rule.selector()
		if selector == nil || selector.Except == "" {
			return
		}
		if selector.Except == name {
			c.report(spec("targets", name, rule.Kind(), "except"), "a cycle: target %q leaves itself out in the end", name)
			return
		}
		at = selector.Except
	}
}

// Kind is the kind of target that a rule selects: TargetPods, TargetNodes or TargetObjects; "" for an empty rule.
func (r Rule) Kind() string {
	switch {
	case r.Pods != nil:
		return TargetPods
	case r.Nodes != nil:
		return TargetNodes
	case r.Object != "" || len(r.Objects) > 0:
		return TargetObjects
	}
	return ""
}

// selector is that of a rule for pods or nodes, else nil.
func (r Rule) selector() *values.Selector {
	if r.Pods != nil {
		return r.Pods
	}
	return r.Nodes
}

// checkRule checks one rule, wherever it stands.
func (c *checker) checkRule(at place, rule Rule) {
	switch key := c.exactlyOne(at, "a rule", "pods", "nodes", "object", "objects"); key {
	case "pods", "nodes":
		if len(c.present(at, "take")) == 0 {
			c.report(at.down("take"), "%s needs take: how many of them (a number, a percentage or all)", key)
		}
		if selector := rule.selector(); selector != nil {
			c.checkSelector(at.down(key), key, *selector)
		}
	case "object":
		c.onlyWith(at, "take", "pods", "nodes")
		c.checkRef(at.down("object"), rule.Object)
	case "objects":
		c.onlyWith(at, "take", "pods", "nodes")
		if len(rule.Objects) == 0 {
			c.report(at.down("objects"), `"objects" is an empty list`)
		}
		for i, object := range rule.Objects {
			c.checkRef(at.down("objects", i), object)
		}
	}
}

// checkSelector demands that the criteria fit the kind, and that what they name is there.
func (c *checker) checkSelector(at place, kind string, selector values.Selector) {
	misplaced := []string{"hosting", "role"}
	if kind == "nodes" {
		misplaced = []string{"namespace", "owner"}
	}
	for _, key := range c.present(at, misplaced...) {
		c.report(at.down(key), "%q is no criterion for %s", key, kind)
	}
	if selector.Owner != "" {
		c.checkRef(at.down("owner"), selector.Owner, workloadKinds()...)
	}
	if selector.Hosting != "" {
		c.checkRef(at.down("hosting"), selector.Hosting, workloadKinds()...)
	}
	if selector.Except == "" || !c.checkName(at.down("except"), "target", "targets", selector.Except) {
		return
	}
	if other := c.scenario.Spec.Targets[selector.Except].Kind(); other != "" && other != kind {
		c.report(at.down("except"), "target %q selects %s, not %s", selector.Except, other, kind)
	}
}

func (c *checker) checkProbes() {
	known := slices.Sorted(maps.Keys(c.session.types.Probes))
	for i, probe := range c.scenario.Spec.Probes {
		at := spec("probes", i)
		c.exactlyOne(at, "a probe", known...)
		c.positive(at.down("timeout"), probe.Timeout)
		if probe.From == nil {
			continue
		}
		from := at.down("from")
		c.checkRule(from, *probe.From)
		if kind := probe.From.Kind(); kind != "" && kind != TargetNodes {
			c.report(from, "a probe asks from a node: write from: {nodes: ...}")
		}
		if take := probe.From.Take; take != nil && (take.All || take.Percent > 0 || take.Count != 1) {
			c.report(from.down("take"), "a probe asks from one node: write take: 1")
		}
	}
}

// checkConditions checks the conditions that stand by themselves.
func (c *checker) checkConditions() {
	if steady := c.scenario.Spec.Steady; steady != nil {
		c.checkCondition(spec("steady"), &steady.Condition, "")
		c.positive(spec("steady", "hold"), steady.Hold)
		c.positive(spec("steady", "within"), steady.Within)
	}
	if c.scenario.Spec.Abort != nil {
		c.checkCondition(spec("abort"), c.scenario.Spec.Abort, "abort")
	}
}

// conditionKeys are the kinds of condition, each with the keys that go with it; one of the first needed are demanded.
var conditionKeys = []struct {
	kind  string
	keys  []string
	needs []string
}{
	{"workload", []string{"ready", "updated", "rolledOut"}, []string{"ready", "updated", "rolledOut"}},
	{"probe", []string{"ok", "tag", "lost", "over"}, []string{"ok", "lost"}},
	{"node", []string{"status", "taint", "unschedulable"}, []string{"status", "taint", "unschedulable"}},
	{"object", []string{"field", "equals", "exists"}, []string{"field"}},
}

// checkCondition checks one condition and those within it. lasting is the key of a condition that has to hold all along
// ("keeps", "abort"), else "".
func (c *checker) checkCondition(at place, condition *Condition, lasting string) {
	kind := c.exactlyOne(at, "a condition", "workload", "probe", "node", "event", "object", "all", "any")
	for _, group := range conditionKeys {
		for _, key := range group.keys {
			c.onlyWith(at, key, group.kind)
		}
		if kind == group.kind && len(c.present(at, group.needs...)) == 0 {
			c.report(at.down(group.needs[0]), "%q says nothing by itself: add %s", kind, listed(group.needs))
		}
	}
	switch kind {
	case "workload":
		c.checkRef(at.down("workload"), condition.Workload, workloadKinds()...)
		c.checkCount(at.down("ready"), condition.Ready)
		c.checkCount(at.down("updated"), condition.Updated)
	case "probe":
		c.checkName(at.down("probe"), "probe", "probes", condition.Probe)
		c.onlyWith(at, "tag", "ok")
		c.onlyWith(at, "over", "lost")
		if condition.Lost != nil && len(c.present(at, "over")) == 0 {
			c.report(at.down("over"), `"lost" needs over: the window that it is counted in`)
		}
		if condition.Over != nil {
			c.positive(at.down("over"), *condition.Over)
		}
		c.checkRatio(at.down("lost"), condition.Lost)
	case "node":
		if rule, ok := c.scenario.Spec.Targets[condition.Node]; ok && rule.Kind() != TargetNodes && rule.Kind() != "" {
			c.report(at.down("node"), "target %q selects %s, not nodes", condition.Node, rule.Kind())
		}
	case "event":
		if lasting != "" {
			c.report(at.down("event"), "an event happens once: it can't hold all along, as %s demands", lasting)
		}
	case "object":
		c.checkRef(at.down("object"), condition.Object)
		if condition.Field != "" {
			c.exactlyOne(at, "a field", "equals", "exists")
		}
	}
	for key, parts := range map[string][]Condition{"all": condition.All, "any": condition.Any} {
		for i := range parts {
			c.checkCondition(at.down(key, i), &parts[i], lasting)
		}
	}
}

func (c *checker) checkCount(at place, count *Count) {
	if count != nil && count.Min != nil && count.Max != nil && *count.Min > *count.Max {
		c.report(at, "no number is at least %d and at most %d", *count.Min, *count.Max)
	}
}

func (c *checker) checkRatio(at place, ratio *Ratio) {
	if ratio != nil && ratio.Min != nil && ratio.Max != nil && *ratio.Min > *ratio.Max {
		c.report(at, "no share is at least %s and at most %s", ratio.Min, ratio.Max)
	}
}
