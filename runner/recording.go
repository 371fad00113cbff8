package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/runner/recorder"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
	"github.com/rebound-chaos/rebound/scenarios"
)

// startRecorder begins to watch the run's namespaces, before the first object is made in them.
func (p *play) startRecorder(ctx context.Context, programImage string) (*recorder.Recorder, error) {
	config, err := p.cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	watched := map[string]string{}
	for workload, namespace := range p.binder.namespaces {
		watched[namespace] = workload
	}
	watchedFields, err := p.watchedFields()
	if err != nil {
		return nil, err
	}
	rec, err := recorder.New(recorder.Options{
		Run: p.id, Scenario: p.plan.Scenario, REST: config, Namespace: "rebound-" + p.id + "-recorder", Workloads: watched,
		Nodes: recorderNodes(p.cluster.Nodes), Fields: watchedFields, Image: programImage,
	})
	if err != nil {
		return nil, fmt.Errorf("recorder: %w", err)
	}
	if err := rec.Start(ctx); err != nil {
		return rec, fmt.Errorf("recorder: %w", err)
	}
	return rec, nil
}

// recorderNodes hands the cluster's nodes down as the recorder's own, narrower interface.
func recorderNodes(nodes []clusters.Node) []recorder.Node {
	out := make([]recorder.Node, 0, len(nodes))
	for _, node := range nodes {
		out = append(out, node)
	}
	return out
}

// startProbes puts every prober onto its vantage, and returns once each has delivered a sample.
func (p *play) startProbes(ctx context.Context) error {
	var probes []recorder.Probe
	for _, probe := range p.plan.scenario.Spec.Probes {
		node, err := p.vantage(ctx, probe)
		if err != nil {
			return fmt.Errorf("probe %s: %w", probe.Name, err)
		}
		params, ok := probe.Params.(prober.Params)
		if !ok {
			return fmt.Errorf("probe %s: %s is not a probe type", probe.Name, probe.Type)
		}
		probes = append(probes, recorder.Probe{Name: probe.Name, Type: probe.Type, Params: params, Node: node,
			Interval: time.Duration(float64(time.Second) / float64(probe.Rate)), Timeout: time.Duration(probe.Timeout),
			Connections: prober.Connections(probe.Connections)})
	}
	return p.recorder.StartProbes(ctx, probes...)
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
		anywhere := *rule.Nodes
		anywhere.Hosting = "" // where pods will be is not known yet
		nodes, err := p.binder.nodes(ctx, anywhere)
		if err != nil {
			return nil, fmt.Errorf("step %s: %w", step.Name, err)
		}
		for _, node := range nodes {
			hit[node.Name] = true
		}
	}
	return hit, nil
}

// watchedFields lists the fields that the scenario's `object` conditions look at.
func (p *play) watchedFields() ([]recorder.Field, error) {
	var out []recorder.Field
	for _, c := range conditionsOf(&p.plan.scenario.Spec) {
		if c.Object == "" {
			continue
		}
		ref, err := parseRef(c.Object)
		if err != nil {
			return nil, err
		}
		resource, err := p.kube.mapper.ResourceFor(schema.GroupVersionResource{Resource: strings.ToLower(ref.kind)})
		if err != nil {
			return nil, fmt.Errorf("condition on %s: %w", c.Object, err)
		}
		out = append(out, recorder.Field{Resource: resource, Namespace: p.binder.namespace(ref.workload), Name: ref.name,
			Path: c.Field, Ref: c.Object})
	}
	return out, nil
}

// conditionsOf lists every condition of a scenario, those inside `all` and `any` too.
func conditionsOf(spec *scenarios.Spec) []scenarios.Condition {
	var out []scenarios.Condition
	var walk func(c *scenarios.Condition)
	walk = func(c *scenarios.Condition) {
		if c == nil {
			return
		}
		out = append(out, *c)
		for i := range c.All {
			walk(&c.All[i])
		}
		for i := range c.Any {
			walk(&c.Any[i])
		}
	}
	if spec.Steady != nil {
		walk(&spec.Steady.Condition)
	}
	for i := range spec.Steps {
		walk(spec.Steps[i].When)
	}
	for i := range spec.Objectives {
		walk(spec.Objectives[i].Reach)
		walk(spec.Objectives[i].Keeps)
	}
	walk(spec.Abort)
	return out
}
