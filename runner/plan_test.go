package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/scenarios"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// newPlanner knows one fault, "break", and one requirement, "node-access".
func newPlanner(t *testing.T) *Runner {
	t.Helper()
	faults, err := injectors.NewRegistry(injectors.Fault{Name: "break",
		New:     func() injectors.Injector { return &slowFault{} },
		Changes: "breaks it", Undoes: "mends it"})
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{Faults: faults, Requirements: Requirements()}
}

// byProfile is a limit that differs by profile, in seconds; a zero one is not there.
func byProfile(fast, slow int) *values.Profiled[values.Duration] {
	p := &values.Profiled[values.Duration]{ByProfile: map[string]values.Duration{}}
	for profile, seconds := range map[string]int{clusters.ProfileFast: fast, clusters.ProfileDefault: slow} {
		if seconds > 0 {
			p.ByProfile[profile] = *sec(seconds)
		}
	}
	return p
}

// planned is a scenario of one step and two objectives, whose limits differ by profile.
func planned(change func(*scenarios.Scenario)) *scenarios.Scenario {
	sc := &scenarios.Scenario{File: "cut.yaml", Metadata: scenarios.Metadata{Name: "cut"}, Spec: scenarios.Spec{
		Repeat:  3,
		Cluster: scenarios.Cluster{Profile: clusters.ProfileFast, ControlPlanes: 1, Workers: scenarios.Workers{{Count: 2}}},
		Steps:   []scenarios.Step{{Name: "cut", Type: "break"}},
		Objectives: []scenarios.Objective{
			{Name: "traffic", Within: byProfile(25, 65), Hold: *sec(5)},
			{Name: "redundancy", Within: byProfile(28, 390), Hold: *sec(1)},
			{Name: "loss", Probe: "front"},
		},
	}}
	if change != nil {
		change(sc)
	}
	return sc
}

func TestPlanDeadlines(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*scenarios.Scenario)
		profile  string
		deadline time.Duration
		within   time.Duration
	}{
		// The largest of 25 s + 5 s of hold and 28 s + 1 s, and the margin of 30 s.
		"the largest objective, its hold, and the margin": {nil, "", 60 * time.Second, 0},
		"of the profile that is asked for":                {nil, clusters.ProfileDefault, 421 * time.Second, 0},
		"the margin alone where no objective has a time": {
			func(sc *scenarios.Scenario) { sc.Spec.Objectives = sc.Spec.Objectives[2:] }, "", 30 * time.Second, 0},
		"its own for": {
			func(sc *scenarios.Scenario) { sc.Spec.Steps[0].For = byProfile(120, 480) }, "", 120 * time.Second, 0},
		"its own for, by profile": {
			func(sc *scenarios.Scenario) { sc.Spec.Steps[0].For = byProfile(120, 480) }, clusters.ProfileDefault,
			480 * time.Second, 0},
		"and the time that it waits": {
			func(sc *scenarios.Scenario) { sc.Spec.Steps[0].Within = byProfile(20, 200) }, "", 60 * time.Second,
			20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := newPlanner(t).Plan(planned(test.change), test.profile)
			if err != nil {
				t.Fatal(err)
			}
			step := plan.Steps[0]
			if step.deadline != test.deadline || step.DeadlineSeconds != test.deadline.Seconds() || step.within != test.within {
				t.Errorf("deadline %v (%v s), within %v; want %v, %v", step.deadline, step.DeadlineSeconds, step.within,
					test.deadline, test.within)
			}
			if want := (test.deadline + test.within).Seconds(); plan.LongestSeconds < want {
				t.Errorf("the longest is %v s, want %v s at least", plan.LongestSeconds, want)
			}
		})
	}
}

func TestPlanIsWatchedUntilEveryLimitIsOver(t *testing.T) {
	for name, test := range map[string]struct {
		step scenarios.Step
		want float64 // seconds; the objectives take 30 s at the most
	}{
		"the objectives":             {scenarios.Step{}, 30},
		"those after healing too":    {scenarios.Step{For: forSec(100)}, 130},
		"a short fault, all of them": {scenarios.Step{For: forSec(1)}, 31},
		"what it starts after":       {scenarios.Step{At: sec(500)}, 530},
		"and its delay":              {scenarios.Step{After: "cut", Delay: sec(50)}, 80},
		"and the condition's limit":  {scenarios.Step{When: &scenarios.Condition{}, Within: forSec(20)}, 50},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := newPlanner(t).Plan(planned(func(sc *scenarios.Scenario) {
				test.step.Name, test.step.Type = "cut", "break"
				sc.Spec.Steps[0] = test.step
			}), "")
			if err != nil || plan.LongestSeconds < test.want {
				t.Errorf("the longest is %v s (%v), want %v s at least", plan.LongestSeconds, err, test.want)
			}
		})
	}
}

func TestSettled(t *testing.T) {
	reach := assertions.Objective{Name: "traffic", Since: assertions.Since{Step: "cut", Edge: assertions.EdgeAt},
		Reach: &assertions.Condition{Probe: "front"}, Hold: 2 * s, Within: 6 * s}
	keeps := assertions.Objective{Name: "quorum", Since: assertions.Since{Step: "cut", Edge: assertions.EdgeAt},
		Keeps: &assertions.Condition{Probe: "front"}}
	cut := assertions.Step{Name: "cut", Kind: assertions.Fault, At: 3 * s, Done: new(3 * s),
		Effective: &assertions.Interval{Lo: 3 * s, Hi: 3 * s}}
	for name, test := range map[string]struct {
		probe      string
		objectives []assertions.Objective
		want       bool
	}{
		"not back yet":                       {"....xx", []assertions.Objective{reach}, false},
		"back, but not for long enough":      {"....xx.", []assertions.Objective{reach}, false},
		"back for good":                      {"....xx......", []assertions.Objective{reach}, true},
		"too late":                           {"....xxxxxxxxxxx", []assertions.Objective{reach}, true},
		"one of them is not":                 {"....xx", []assertions.Objective{keeps, reach}, false},
		"a bound alone is watched on":        {"............", []assertions.Objective{keeps}, false},
		"nothing is demanded: watched on":    {"............", nil, false},
		"a bound alone until all limits end": {strings.Repeat(".", 40), []assertions.Objective{keeps}, true},
		"nothing is settled, all limits end": {strings.Repeat("-", 40), []assertions.Objective{reach}, true},
	} {
		t.Run(name, func(t *testing.T) {
			tl := assertions.Timeline{End: time.Duration(len(test.probe)) * s, Steps: []assertions.Step{cut}}
			if !strings.HasPrefix(test.probe, "-") {
				tl.Streams = []assertions.Stream{sampled(test.probe)}
			}
			p := &play{plan: &Plan{LongestSeconds: 30}}
			if got := p.settled(tl, test.objectives); got != test.want {
				t.Errorf("settled %v, want %v", got, test.want)
			}
		})
	}
}

func TestPlanSaysWhatWillHappen(t *testing.T) {
	sc := planned(func(sc *scenarios.Scenario) {
		sc.Spec.Requires = []string{"node-access"}
		sc.Spec.Cluster.Workers = scenarios.Workers{{Count: 2, Labels: map[string]string{"zone": "a"}}, {Count: 1,
			Role: "db"}}
		sc.Spec.Steps[0].For = forSec(90)
		sc.Spec.Steps[0].Target = &scenarios.Target{Name: "zone-b"}
	})
	plan, err := newPlanner(t).Plan(sc, clusters.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Scenario != "cut" || plan.File != "cut.yaml" || plan.Repeat != 3 || !slices.Equal(plan.Requires,
		sc.Spec.Requires) {
		t.Errorf("plan %+v", plan)
	}
	if c := plan.Cluster; c.Profile != clusters.ProfileDefault || c.ControlPlanes != 1 || countWorkers(c) != 3 ||
		c.Workers[0].Labels["zone"] != "a" || c.Workers[1].Role != "db" {
		t.Errorf("cluster %+v", c)
	}
	step := plan.Steps[0]
	step.fault = injectors.Fault{}
	want := PlannedStep{Name: "cut", Type: "break", Starts: "once steady", Target: "zone-b", Changes: "breaks it",
		Undo:            "mends it",
		DeadlineSeconds: 90, duration: 90 * time.Second, deadline: 90 * time.Second}
	if step.Name != want.Name || step.Starts != want.Starts || step.Target != want.Target ||
		step.Changes != want.Changes ||
		step.Undo != want.Undo || step.duration != want.duration || step.deadline != want.deadline {
		t.Errorf("step %+v, want %+v", step, want)
	}
	var b strings.Builder
	if err := plan.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"scenario cut (cut.yaml), 3 repeat(s)",
		"1 control plane(s), 3 worker(s), profile default",
		"requires node-access", "1. cut: break", "starts   once steady", "target   zone-b", "changes  breaks it",
		"undo     mends it, by 90 s after its start"} {
		if !strings.Contains(b.String(), text) {
			t.Errorf("the plan lacks %q:\n%s", text, b.String())
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*scenarios.Scenario)
		profile string
		want    []string
	}{
		"an unknown profile": {nil, "quick", []string{"scenario cut", `"quick"`, "fast", "default"}},
		"an unknown requirement": {func(sc *scenarios.Scenario) { sc.Spec.Requires = []string{"node-access", "gpu"} }, "",
			[]string{"scenario cut", `requires "gpu"`, "known: node-access"}},
		"an unknown fault": {func(sc *scenarios.Scenario) { sc.Spec.Steps[0].Type = "smash" }, "",
			[]string{"scenario cut, step cut", `"smash"`}},
		"an objective without a limit": {func(sc *scenarios.Scenario) { sc.Spec.Objectives[1].Within = byProfile(75, 0) },
			clusters.ProfileDefault, []string{"scenario cut, objective redundancy", "within", "profile default"}},
		"a step without a for": {func(sc *scenarios.Scenario) { sc.Spec.Steps[0].For = byProfile(0, 480) }, "",
			[]string{"scenario cut, step cut", "for", "profile fast"}},
		"a step without a within": {func(sc *scenarios.Scenario) { sc.Spec.Steps[0].Within = byProfile(20, 0) },
			clusters.ProfileDefault, []string{"scenario cut, step cut", "within", "profile default"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := newPlanner(t).Plan(planned(test.change), test.profile)
			if err == nil {
				t.Fatalf("planned %+v", plan)
			}
			for _, text := range test.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q lacks %q", err, text)
				}
			}
		})
	}
}

func TestPlansOfACall(t *testing.T) {
	twins := func(name, profile string) *scenarios.Scenario {
		return planned(func(sc *scenarios.Scenario) {
			sc.Metadata.Name, sc.Spec.Cluster.Profile = name, profile
			sc.Spec.Twins = []scenarios.Twin{{Name: "weak", Misses: "traffic"}, {Name: "alone", Misses: "redundancy"}}
		})
	}
	for name, test := range map[string]struct {
		request Request
		want    []string
		repeats []int
	}{
		"as the scenarios say": {Request{Scenarios: []*scenarios.Scenario{twins("a", "fast")}}, []string{"a"}, []int{3}},
		"another number of repeats": {Request{Repeat: 5, Scenarios: []*scenarios.Scenario{twins("a", "fast")}},
			[]string{"a"}, []int{5}},
		"twins run once": {Request{Repeat: 5, Twins: true, Scenarios: []*scenarios.Scenario{twins("a", "fast")}},
			[]string{"a", "a~weak", "a~alone"}, []int{5, 1, 1}},
		"clusters of one kind in a row": {Request{Scenarios: []*scenarios.Scenario{twins("a", "fast"), twins("b", "default"),
			twins("c", "fast")}}, []string{"b", "a", "c"}, []int{3, 3, 3}},
		"one profile for all": {Request{Profile: "fast", Scenarios: []*scenarios.Scenario{twins("a", "fast"), twins("b",
			"default"),
			twins("c", "fast")}}, []string{"a", "b", "c"}, []int{3, 3, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			plans, err := newPlanner(t).plans(test.request)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			var repeats []int
			for _, p := range plans {
				got, repeats = append(got, p.Scenario), append(repeats, p.Repeat)
				if _, twin, is := strings.Cut(p.Scenario, "~"); is != (p.twin != nil) || is && p.twin.Name != twin {
					t.Errorf("%s: twin %+v", p.Scenario, p.twin)
				}
			}
			if !slices.Equal(got, test.want) || !slices.Equal(repeats, test.repeats) {
				t.Errorf("plans %q × %v, want %q × %v", got, repeats, test.want, test.repeats)
			}
		})
	}
	if _, err := newPlanner(t).plans(Request{}); err == nil {
		t.Error("no scenario at all was planned")
	}
	if _, err := newPlanner(t).plans(Request{Scenarios: []*scenarios.Scenario{twins("a", "fast"), twins("a",
		"default")}}); err == nil {
		t.Error("two scenarios of one name were planned")
	}
}

func TestDescribeStart(t *testing.T) {
	for want, step := range map[string]scenarios.Step{
		"1m30s after the steady state": {At: sec(90)},
		"after first":                  {},
		"after zero.healed":            {After: "zero.healed"},
		"after zero + 5s":              {After: "zero", Delay: sec(5)},
		"when its condition is true":   {When: &scenarios.Condition{}},
		"when its condition is true + 500ms": {When: &scenarios.Condition{},
			Delay: (*values.Duration)(new(500 * time.Millisecond))},
	} {
		sc := &scenarios.Scenario{Spec: scenarios.Spec{Steps: []scenarios.Step{{Name: "first"}, step}}}
		if got := describeStart(sc, 1); got != want {
			t.Errorf("starts %q, want %q", got, want)
		}
	}
}

func TestDescribeTarget(t *testing.T) {
	for name, test := range map[string]struct {
		target *scenarios.Target
		want   string
	}{
		"none":       {nil, ""},
		"by name":    {&scenarios.Target{Name: "zone-b"}, "zone-b"},
		"of another": {&scenarios.Target{SameAs: "cut"}, "the same as cut"},
		"an object":  {&scenarios.Target{Rule: scenarios.Rule{Object: web}}, web},
		"several": {&scenarios.Target{Rule: scenarios.Rule{Objects: []string{web, "shop/service/web"}}},
			web + ", shop/service/web"},
		"pods": {&scenarios.Target{Rule: scenarios.Rule{Take: &values.Take{Count: 2}, Pods: &values.Selector{
			Namespace: "shop", Labels: map[string]string{"tier": "front", "app": "web"}, Except: "rest"}}},
			"2 of the pods in namespace shop, labelled app=web, labelled tier=front, except rest"},
		"nodes": {&scenarios.Target{Rule: scenarios.Rule{Take: &values.Take{Percent: 0.5}, Nodes: &values.Selector{
			Hosting: web, Role: "worker"}}}, "50% of the nodes hosting shop/deployment/web, with role worker"},
	} {
		if got := describeTarget(test.target); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
