package runner

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/scenarios"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// undoMargin is added to the largest objective to give the deadline of a fault that has no `for:`.
const undoMargin = 30 * time.Second

// Plan is what a scenario will do, worked out without a cluster: victims that do not exist yet are given by their rule.
type Plan struct {
	Scenario string        `json:"scenario"`
	File     string        `json:"file"`
	Repeat   int           `json:"repeat"`
	Cluster  clusters.Spec `json:"cluster"`
	Requires []string      `json:"requires,omitempty"`
	Steps    []PlannedStep `json:"steps"`
	// LongestSeconds bounds one repeat from the steady state to its end, deploying and cleaning up not counted.
	LongestSeconds float64 `json:"longestSeconds"`

	scenario *scenarios.Scenario
	twin     *scenarios.Twin
}

// PlannedStep is one step as it will go.
type PlannedStep struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Starts  string `json:"starts"`
	Target  string `json:"target,omitempty"`
	Changes string `json:"changes"`
	Undo    string `json:"undo"`
	// DeadlineSeconds is when the undo is due at the latest, from the step's start.
	DeadlineSeconds float64 `json:"deadlineSeconds"`

	fault    injectors.Fault
	duration time.Duration // of `for:`; zero where there is none
	deadline time.Duration
	within   time.Duration // of `when:`
	// watch is the longest that an objective of the step is watched for, from the step's start.
	watch time.Duration
}

// Plan works out what a scenario will do under a profile ("" means the scenario's own). It touches nothing.
func (r *Runner) Plan(s *scenarios.Scenario, profile string) (*Plan, error) {
	if profile == "" {
		profile = s.Spec.Cluster.Profile
	}
	if _, err := clusters.ProfileByName(profile); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Metadata.Name, err)
	}
	p := &Plan{Scenario: s.Metadata.Name, File: s.File, Repeat: s.Spec.Repeat, Cluster: clusterSpec(s, profile),
		Requires: s.Spec.Requires, scenario: s}
	for _, requirement := range s.Spec.Requires {
		if _, ok := r.Requirements[requirement]; !ok {
			return nil, fmt.Errorf("scenario %s: requires %q, which nothing here provides (known: %s)",
				s.Metadata.Name, requirement, strings.Join(sortedKeys(r.Requirements), ", "))
		}
	}
	limit, err := longestObjective(s, profile)
	if err != nil {
		return nil, err
	}
	var longest time.Duration
	for i, step := range s.Spec.Steps {
		planned, err := r.planStep(s, i, step, profile, limit)
		if err != nil {
			return nil, fmt.Errorf("scenario %s, step %s: %w", s.Metadata.Name, step.Name, err)
		}
		p.Steps = append(p.Steps, planned)
		longest += planned.watch + planned.within
		for _, wait := range []*values.Duration{step.At, step.Delay} {
			if wait != nil {
				longest += time.Duration(*wait)
			}
		}
	}
	p.LongestSeconds = longest.Seconds()
	return p, nil
}

func (r *Runner) planStep(s *scenarios.Scenario, i int, step scenarios.Step, profile string, limit time.Duration) (
	PlannedStep, error) {
	fault, ok := r.Faults.Fault(step.Type)
	if !ok {
		return PlannedStep{}, fmt.Errorf("no fault or action is called %q", step.Type)
	}
	planned := PlannedStep{Name: step.Name, Type: step.Type, Starts: describeStart(s, i), Target: describeTarget(step.Target),
		Changes: fault.Changes, Undo: fault.Undoes, fault: fault, deadline: limit + undoMargin}
	planned.watch = planned.deadline
	if step.For != nil {
		duration, ok := step.For.For(profile)
		if !ok {
			return PlannedStep{}, fmt.Errorf("for: has no value for profile %s", profile)
		}
		planned.duration = time.Duration(duration)
		planned.deadline = planned.duration
		planned.watch += planned.duration // objectives may count from its end
	}
	if step.Within != nil {
		within, ok := step.Within.For(profile)
		if !ok {
			return PlannedStep{}, fmt.Errorf("within: has no value for profile %s", profile)
		}
		planned.within = time.Duration(within)
	}
	planned.DeadlineSeconds = planned.deadline.Seconds()
	return planned, nil
}

// longestObjective is the longest that any objective may take, its hold included.
func longestObjective(s *scenarios.Scenario, profile string) (time.Duration, error) {
	var longest time.Duration
	for _, o := range s.Spec.Objectives {
		if o.Within == nil {
			continue
		}
		within, ok := o.Within.For(profile)
		if !ok {
			return 0, fmt.Errorf("scenario %s, objective %s: within: has no value for profile %s", s.Metadata.Name, o.Name,
				profile)
		}
		longest = max(longest, time.Duration(within)+time.Duration(o.Hold))
	}
	return longest, nil
}

func describeStart(s *scenarios.Scenario, i int) string {
	step := s.Spec.Steps[i]
	var text string
	switch {
	case step.At != nil:
		return step.At.String() + " after the steady state"
	case step.When != nil:
		text = "when its condition is true"
	case step.After != "":
		text = "after " + step.After
	case i == 0:
		return "once steady"
	default:
		text = "after " + s.Spec.Steps[i-1].Name
	}
	if step.Delay != nil {
		text += " + " + step.Delay.String()
	}
	return text
}

func describeTarget(t *scenarios.Target) string {
	switch {
	case t == nil:
		return ""
	case t.Name != "":
		return t.Name
	case t.SameAs != "":
		return "the same as " + t.SameAs
	}
	return describeRule(t.Rule)
}

func describeRule(rule scenarios.Rule) string {
	switch {
	case rule.Object != "":
		return rule.Object
	case len(rule.Objects) > 0:
		return strings.Join(rule.Objects, ", ")
	}
	kind, selector := "pods", rule.Pods
	if rule.Nodes != nil {
		kind, selector = "nodes", rule.Nodes
	}
	return fmt.Sprintf("%s of the %s %s", describeTake(rule.Take), kind, describeSelector(selector))
}

func describeTake(take *values.Take) string {
	if take == nil {
		return "all"
	}
	return take.String()
}

func describeSelector(s *values.Selector) string {
	if s == nil {
		return ""
	}
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("in namespace", s.Namespace)
	add("named", strings.Join(s.Names, ", "))
	add("owned by", s.Owner)
	add("hosting", s.Hosting)
	add("with role", s.Role)
	for _, key := range sortedKeys(s.Labels) {
		add("labelled", key+"="+s.Labels[key])
	}
	add("except", s.Except)
	return strings.Join(parts, ", ")
}

// WriteText prints the plan for a person.
func (p *Plan) WriteText(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "scenario %s (%s), %d repeat(s)\n", p.Scenario, p.File, p.Repeat)
	fmt.Fprintf(&b, "  cluster  %d control plane(s), %d worker(s), profile %s\n", p.Cluster.ControlPlanes,
		countWorkers(p.Cluster), p.Cluster.Profile)
	if len(p.Requires) > 0 {
		fmt.Fprintf(&b, "  requires %s\n", strings.Join(p.Requires, ", "))
	}
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "  %d. %s: %s\n     starts   %s\n", i+1, s.Name, s.Type, s.Starts)
		if s.Target != "" {
			fmt.Fprintf(&b, "     target   %s\n", s.Target)
		}
		fmt.Fprintf(&b, "     changes  %s\n     undo     %s, by %.0f s after its start\n", s.Changes, s.Undo,
			s.DeadlineSeconds)
	}
	fmt.Fprintf(&b, "  longest  %.0f s from the steady state to the end\n", p.LongestSeconds)
	_, err := io.WriteString(out, b.String())
	return err
}
