package assertions

import (
	"strings"
	"testing"
	"time"
)

func TestEvaluate(t *testing.T) {
	t.Parallel()
	step := fault(victim("a"))
	tl := Timeline{
		End: 30 * s,
		Facts: []Fact{
			desired(s, 2), pod(2*s, "a"), pod(3*s, "b"), node(4*s, "n1", "True"), node(4*s, "n2", "True"),
			{At: 5 * s, NotBefore: 5 * s, Source: "events", Event: &EventState{Reason: "Early"}},
			{At: 6 * s, NotBefore: 6 * s, Source: "objects", Field: &FieldState{Object: "o", Path: ".p", Value: "1", Present: true}},
			pod(12*s, "a", gone), node(13*s, "n2", "Unknown", "k=v:NoExecute"), pod(14*s, "c"),
			{At: 15 * s, NotBefore: 15 * s, Source: "events", Event: &EventState{Reason: "Late", Kind: "Pod"}},
			{At: 16 * s, NotBefore: 16 * s, Source: "objects", Gone: true, Field: &FieldState{Object: "o", Path: ".p", Value: "1", Present: true}},
			{At: 17 * s, NotBefore: 17 * s, Source: "workloads", Workload: &WorkloadState{Workload: web, Desired: 3, Updated: 2, RolledOut: true}},
		},
		Streams: []Stream{answers(100*ms, pad(101)+strings.Repeat("x", 100)+pad(100))},
		Gaps:    []Gap{{Source: "nodes", From: 20 * s, To: 21 * s}},
	}
	all, ready2 := Condition{Workload: web, Ready: &Count{All: true}}, Condition{Workload: web, Ready: &Count{Min: ptr(2)}}
	front := Condition{Probe: "front", OK: ptr(true)}
	n1, n2 := Condition{Nodes: []string{"n1"}, NodeReady: "True"}, Condition{Nodes: []string{"n1", "n2"}, NodeReady: "True"}
	lost := Condition{Probe: "front", Lost: &Range{Max: ptr(0.6)}, Over: 2 * s}
	for _, tc := range []struct {
		name string
		c    Condition
		step *Step
		at   time.Duration
		want Truth
	}{
		{"nothing seen yet", all, nil, 500 * ms, Unclear},
		{"not yet all", all, nil, 2500 * ms, False},
		{"within the edge", all, nil, 2950 * ms, Unclear},
		{"all", all, nil, 9 * s, True},
		{"a victim that shows ready is trusted without a step", all, nil, 11 * s, True},
		{"and not with one", all, &step, 11 * s, False},
		{"all again", all, &step, 16 * s, True},
		{"more are asked for", all, &step, 18 * s, False},
		{"another workload was never seen", Condition{Workload: "x/deployment/y", Ready: &Count{Min: ptr(0)}}, nil, 9 * s, Unclear},
		{"at most", Condition{Workload: web, Ready: &Count{Max: ptr(1)}}, nil, 9 * s, False},
		{"updated", Condition{Workload: web, Updated: &Count{Min: ptr(2)}}, nil, 18 * s, True},
		{"rolled out", Condition{Workload: web, RolledOut: ptr(true)}, nil, 18 * s, True},
		{"a workload asked nothing", Condition{Workload: web}, nil, 18 * s, Unclear},
		{"probe good", front, nil, 9 * s, True},
		{"probe bad", front, nil, 15 * s, False},
		{"probe bad is asked for", Condition{Probe: "front", OK: ptr(false)}, nil, 15 * s, True},
		{"probe good again", front, nil, 29 * s, True},
		{"no probe", Condition{Probe: "none", OK: ptr(true)}, nil, 9 * s, Unclear},
		{"another tag", Condition{Probe: "front", OK: ptr(true), Tag: "v2"}, nil, 9 * s, False},
		{"lost little, window not full", lost, nil, s, Unclear},
		{"lost little", lost, nil, 9 * s, True},
		{"lost half", lost, nil, 11 * s, True},
		{"lost much", lost, nil, 15 * s, False},
		{"lost little again", lost, nil, 25 * s, True},
		{"node", n1, nil, 9 * s, True},
		{"nodes disagree", n2, nil, 15 * s, False},
		{"blind for nodes", n1, nil, 20500 * ms, Unclear},
		{"not blind any more", n1, nil, 22 * s, True},
		{"a node that was never seen", Condition{Nodes: []string{"n1", "n3"}, NodeReady: "True"}, nil, 9 * s, Unclear},
		{"taint", Condition{Nodes: []string{"n2"}, NodeTaint: "k"}, nil, 15 * s, True},
		{"no taint", Condition{Nodes: []string{"n1"}, NodeTaint: "k"}, nil, 15 * s, False},
		{"cordon", Condition{Nodes: []string{"n1"}, Unschedulable: ptr(true)}, nil, 15 * s, False},
		{"event", Condition{Event: &EventMatch{Reason: "Early"}}, nil, 6 * s, True},
		{"event before it was asked about", Condition{Event: &EventMatch{Reason: "Early"}}, &step, 29 * s, False},
		{"event to come", Condition{Event: &EventMatch{Reason: "Late"}}, &step, 14 * s, False},
		{"event came", Condition{Event: &EventMatch{Reason: "Late", Kind: "Pod"}}, &step, 29 * s, True},
		{"field equals", Condition{Object: &FieldMatch{Object: "o", Path: ".p", Equals: ptr("1")}}, nil, 9 * s, True},
		{"field differs", Condition{Object: &FieldMatch{Object: "o", Path: ".p", Equals: ptr("2")}}, nil, 9 * s, False},
		{"field gone", Condition{Object: &FieldMatch{Object: "o", Path: ".p", Present: ptr(false)}}, nil, 17 * s, True},
		{"field never seen", Condition{Object: &FieldMatch{Object: "o", Path: ".q", Present: ptr(false)}}, nil, 17 * s, Unclear},
		{"all of", Condition{All: []Condition{ready2, front}}, nil, 9 * s, True},
		{"all of, one false", Condition{All: []Condition{ready2, front}}, nil, 17 * s, False},
		{"all of, one unclear", Condition{All: []Condition{ready2, {Probe: "none"}}}, nil, 9 * s, Unclear},
		{"any of, one true", Condition{Any: []Condition{ready2, front}}, nil, 17 * s, True},
		{"any of, both false", Condition{Any: []Condition{ready2, front}}, nil, 13 * s, False},
		{"any of, one unclear", Condition{Any: []Condition{{Probe: "none"}, front}}, nil, 13 * s, Unclear},
		{"any of, one unclear and one true", Condition{Any: []Condition{{Probe: "none"}, front}}, nil, 9 * s, True},
		{"nothing asked", Condition{}, nil, 9 * s, Unclear},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := Evaluate(tl, tc.c, tc.step, tc.at); got != tc.want {
				t.Errorf("%v, want %v (dips %+v)", got, tc.want, Dips(tl, tc.c, tc.step))
			}
		})
	}
}
