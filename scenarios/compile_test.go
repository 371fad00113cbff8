package scenarios

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rebound-chaos/rebound/assertions"
)

// nodesOf is a Resolver that knows some targets.
type nodesOf map[string][]string

func (n nodesOf) NodeNames(name string) ([]string, error) {
	nodes, ok := n[name]
	if !ok {
		return nil, errors.New("not bound")
	}
	return nodes, nil
}

func pointer[T any](value T) *T { return &value }

func TestCompileObjectives(t *testing.T) {
	zone := loadOne(t, Options{}, "testdata/valid-zone-cut.yaml").Spec
	merged := loadOne(t, Options{}, "testdata/nested/valid-merged.yaml").Spec
	cut := assertions.Since{Step: "cut", Edge: assertions.EdgeAt}
	for _, test := range []struct {
		profile   string
		objective Objective
		want      assertions.Objective
	}{
		{"fast", zone.Objectives[0], assertions.Objective{
			Name: "traffic", Since: cut, Reach: &assertions.Condition{Probe: "front", OK: pointer(true)},
			Hold: 5 * time.Second, Within: 25 * time.Second,
		}},
		{"default", zone.Objectives[1], assertions.Objective{
			Name: "redundancy", Since: cut, Hold: 3 * time.Second, Within: 390 * time.Second,
			Reach: &assertions.Condition{
				Workload: "shop/deployment/web", Ready: &assertions.Count{Min: pointer(6), Max: pointer(6)},
			},
		}},
		{"fast", zone.Objectives[2], assertions.Objective{
			Name: "detected", Since: cut, Phase: "detect", Within: 15 * time.Second,
		}},
		{"fast", zone.Objectives[3], assertions.Objective{
			Name: "quorum", Since: cut,
			Keeps: &assertions.Condition{Workload: "db/statefulset/pg", Ready: &assertions.Count{Min: pointer(2)}},
		}},
		{"fast", zone.Objectives[4], assertions.Objective{
			Name: "loss", Since: cut, Probe: "front", Lost: &assertions.Range{Max: pointer(0.05)}, Samples: 1000,
		}},
		{"fast", zone.Objectives[5], assertions.Objective{
			Name: "durable", Since: cut, Writes: "ledger", LostMax: pointer(0), DuplicatedMax: pointer(0),
		}},
		{"default", merged.Objectives[1], assertions.Objective{
			Name: "loss", Since: assertions.Since{Step: "kill", Edge: assertions.EdgeAt}, Probe: "front",
			Lost: &assertions.Range{Max: pointer(0.075)}, Outage: &assertions.Range{Max: pointer(2.0)},
			Latency: &assertions.Range{Max: pointer(0.2)}, Percentile: 99.9,
		}},
		{"default", merged.Objectives[2], assertions.Objective{
			Name: "durable", Since: assertions.Since{Step: "again", Edge: assertions.EdgeEffective}, Writes: "records",
			LostMax: pointer(0), DuplicatedMax: pointer(2),
		}},
	} {
		got, err := test.objective.Compile(test.profile, nil)
		if err != nil {
			t.Errorf("%s: %v", test.objective.Name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s, %s: %s", test.objective.Name, test.profile, diff)
		}
	}
	if _, err := zone.Objectives[0].Compile("slow", nil); !errors.Is(err, ErrNoLimit) {
		t.Errorf("error %v", err)
	}
}

func TestCompileConditions(t *testing.T) {
	resolve := nodesOf{"zone-b": {"w4", "w5"}, "empty": nil}
	for _, test := range []struct {
		text string
		want assertions.Condition
		fail bool
	}{
		{`{workload: web/deployment/demo, ready: all, rolledOut: true}`, assertions.Condition{
			Workload: "web/deployment/demo", Ready: &assertions.Count{All: true}, RolledOut: pointer(true),
		}, false},
		{`{workload: web/deployment/demo, updated: {min: 2, max: 4}}`, assertions.Condition{
			Workload: "web/deployment/demo", Updated: &assertions.Count{Min: pointer(2), Max: pointer(4)},
		}, false},
		{`{probe: front, lost: {max: 60%}, over: 10s}`, assertions.Condition{
			Probe: "front", Lost: &assertions.Range{Max: pointer(0.6)}, Over: 10 * time.Second,
		}, false},
		{`{probe: front, lost: 0, over: 10s}`, assertions.Condition{
			Probe: "front", Lost: &assertions.Range{Max: pointer(0.0)}, Over: 10 * time.Second,
		}, false},
		{`{probe: front, ok: false, tag: v2}`, assertions.Condition{Probe: "front", OK: pointer(false), Tag: "v2"}, false},
		{`{node: zone-b, status: NotReady}`, assertions.Condition{Nodes: []string{"w4", "w5"}, NodeReady: "False"}, false},
		{`{node: zone-b, status: Ready, taint: gone, unschedulable: false}`, assertions.Condition{
			Nodes: []string{"w4", "w5"}, NodeReady: "True", NodeTaint: "gone", Unschedulable: pointer(false),
		}, false},
		{`{node: zone-b, status: Unknown}`, assertions.Condition{Nodes: []string{"w4", "w5"}, NodeReady: "Unknown"}, false},
		{`{node: nowhere, status: Ready}`, assertions.Condition{}, true},
		{`{node: empty, status: Ready}`, assertions.Condition{}, true},
		{`{any: [{all: [{node: nowhere, status: Ready}]}]}`, assertions.Condition{}, true},
		{`{event: {reason: Killing, kind: Pod}}`, assertions.Condition{
			Event: &assertions.EventMatch{Reason: "Killing", Kind: "Pod"},
		}, false},
		{`{object: web/deployment/demo, field: .spec.replicas, equals: "3"}`, assertions.Condition{
			Object: &assertions.FieldMatch{Object: "web/deployment/demo", Path: ".spec.replicas", Equals: pointer("3")},
		}, false},
		{`{any: [{probe: front, ok: true}, {all: [{object: web/deployment/demo, field: .x, exists: false}]}]}`,
			assertions.Condition{Any: []assertions.Condition{
				{Probe: "front", OK: pointer(true)},
				{All: []assertions.Condition{{
					Object: &assertions.FieldMatch{Object: "web/deployment/demo", Path: ".x", Present: pointer(false)},
				}}},
			}}, false},
	} {
		scenario := conditionFile(t, test.text)
		got, err := scenario.Spec.Steady.Condition.Compile(resolve)
		if test.fail {
			if err == nil {
				t.Errorf("%s compiled to %+v", test.text, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.text, diff)
		}
	}
	if _, err := (Condition{Node: "x", Status: "Ready"}).Compile(nil); err == nil {
		t.Error("a node was bound by nobody")
	}
}

// conditionFile loads a scenario whose steady state is the condition.
func conditionFile(t *testing.T, condition string) *Scenario {
	t.Helper()
	text := fmt.Sprintf(`apiVersion: rebound/v1alpha1
kind: Scenario
metadata: {name: x, mechanism: replicaset}
spec:
  workloads: {web: {demo: {replicas: 3}}}
  targets: {zone-b: {nodes: {role: worker}, take: all}}
  probes: [{name: front, http: {service: web/demo}}]
  steady: %s
  steps: [{name: kill, kill-pod: {}, target: {pods: {namespace: web}, take: 1}}]
  objectives: [{name: o, keeps: {probe: front, ok: true}}]
`, condition)
	loaded, err := loadText(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}
