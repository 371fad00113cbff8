package assertions

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// picture writes a chain as "name subject: phase lo-hi, ..." in seconds, with "+" for a phase that is open.
func picture(chains []Chain) string {
	var lines []string
	for _, c := range chains {
		var phases []string
		for _, p := range c.Phases {
			text := fmt.Sprintf("%s %g-%g", p.Name, p.Lo.Seconds(), p.Hi.Seconds())
			if p.Open {
				text = fmt.Sprintf("%s %g+", p.Name, p.Lo.Seconds())
			}
			phases = append(phases, text)
		}
		lines = append(lines, c.Name+" "+c.Subject.UID+": "+strings.Join(phases, ", "))
	}
	return strings.Join(lines, "\n")
}

func TestChains(t *testing.T) {
	t.Parallel()
	scene := []Fact{pod(s, "a"), pod(s, "b"), endpoint(2*s, "a", true), endpoint(2*s, "b", true), node(3*s, "n-a", "True")}
	served := answers(100*ms, pad(101)+strings.Repeat("x", 10)+pad(290))
	always := answers(100*ms, pad(401))
	for _, tc := range []struct {
		name   string
		step   Step
		facts  []Fact
		stream Stream
		want   []string
	}{
		{"a pod that was killed", fault(victim("a")), []Fact{
			pod(11*s, "a", deleting), endpoint(12*s, "a", false), pod(12*s, "c", pending), pod(13*s, "c", starting),
			pod(15*s, "c", unready), pod(16*s, "a", gone), pod(17*s, "c"), endpoint(18*s, "c", true),
		}, served, []string{
			"traffic a: detect 0.9-1, withdraw 0.9-1.1, serve 0-0.1",
			"redundancy a: detect 0.9-1, evict 0-0.1, replace 0.9-1.1, schedule 0.9-1.1, start 1.9-2.1, ready 1.9-2.1, publish 0.9-1.1",
		}},
		{"no outage: no serve", fault(victim("a")), []Fact{pod(11*s, "a", gone), endpoint(12*s, "a", false), pod(13*s, "c"),
			endpoint(14*s, "c", true)}, always, []string{
			"traffic a: detect 0.9-1, withdraw 0.9-1.1",
			"redundancy a: detect 0.9-1, evict 0-0.1, replace 1.9-2.1, schedule 0-0.1, start 0-0.1, ready 0-0.1, publish 0.9-1.1",
		}},
		{"restart in place: no evict, replace, schedule", fault(victim("a")), []Fact{pod(11*s, "a", stopped),
			endpoint(12*s, "a", false), pod(13*s, "a", renewed, unready), pod(14*s, "a", renewed), endpoint(15*s, "a", true)},
			always, []string{
				"traffic a: detect 0.9-1, withdraw 0.9-1.1",
				"redundancy a: detect 0.9-1, start 1.9-2.1, ready 0.9-1.1, publish 0.9-1.1",
			}},
		{"a node that died", fault(victim("a")), []Fact{node(15*s, "n-a", "Unknown"), pod(16*s, "a", unready),
			endpoint(17*s, "a", false), node(20*s, "n-a", "Unknown", "node.kubernetes.io/unreachable=:NoExecute"),
			pod(30*s, "a", deleting), pod(31*s, "c"), endpoint(32*s, "c", true)}, always, []string{
			"traffic a: detect 4.9-5, withdraw 1.9-2.1",
			"redundancy a: detect 4.9-5, taint 4.9-5.1, evict 9.9-10.1, replace 0.9-1.1, schedule 0-0.1, start 0-0.1, ready 0-0.1, publish 0.9-1.1",
		}},
		{"waiting for the eviction", fault(victim("a")), []Fact{node(15*s, "n-a", "Unknown"),
			node(20*s, "n-a", "Unknown", "x:NoExecute")}, always, []string{
			"traffic a: detect 4.9-5, withdraw 25+",
			"redundancy a: detect 4.9-5, taint 4.9-5.1, evict 20+",
		}},
		{"not detected", fault(victim("a")), nil, always, []string{"traffic a: detect 30+", "redundancy a: detect 30+"}},
		{"several victims are paired in order, the last restored comes last", fault(victim("b"), victim("a")), []Fact{
			pod(11*s, "a", gone), pod(12*s, "c", pending), pod(13*s, "b", gone), pod(14*s, "d"), endpoint(15*s, "d", true),
			pod(20*s, "c"), endpoint(21*s, "c", true)}, always, []string{
			"traffic b: detect 2.9-3, withdraw 27+",
			"traffic a: detect 0.9-1, withdraw 29+",
			"redundancy b: detect 2.9-3, evict 0-0.1, replace 0.9-1.1, schedule 0-0.1, start 0-0.1, ready 0-0.1, publish 0.9-1.1",
			"redundancy a: detect 0.9-1, evict 0-0.1, replace 0.9-1.1, schedule 7.9-8.1, start 0-0.1, ready 0-0.1, publish 0.9-1.1",
		}},
		{"a replacement that died replaced nothing", fault(victim("a")), []Fact{pod(11*s, "a", gone), pod(12*s, "c", pending),
			pod(13*s, "c", pending, gone), pod(14*s, "d"), endpoint(14*s, "a", false), endpoint(15*s, "d", true)}, always, []string{
			"traffic a: detect 0.9-1, withdraw 2.9-3.1",
			"redundancy a: detect 0.9-1, evict 0-0.1, replace 2.9-3.1, schedule 0-0.1, start 0-0.1, ready 0-0.1, publish 0.9-1.1",
		}},
		{"another workload's pod replaces nothing", fault(victim("a")), []Fact{pod(11*s, "a", gone),
			pod(12*s, "z", func(f *Fact) { f.Pod.Workload = "shop/deployment/other" }), endpoint(12*s, "a", false)}, always, []string{
			"traffic a: detect 0.9-1, withdraw 0.9-1.1",
			"redundancy a: detect 0.9-1, evict 0-0.1, replace 29+",
		}},
		{"no proof of effect", Step{Name: "cut", Kind: Fault, At: 10 * s, Victims: []Ref{victim("a")}},
			[]Fact{pod(11*s, "a", gone)}, always, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tl := Timeline{End: 40*s + 10*ms, Steps: []Step{tc.step}, Streams: []Stream{tc.stream},
				Facts: append(append([]Fact{}, scene...), tc.facts...)}
			tl.End = 40 * s
			if got, want := picture(Chains(tl, "cut", "")), strings.Join(tc.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestPhaseObjective(t *testing.T) {
	t.Parallel()
	tl := Timeline{End: 40 * s, Steps: []Step{fault(victim("a"), victim("b"))}, Facts: []Fact{pod(s, "a"), pod(s, "b"),
		pod(11*s, "a", gone), pod(13*s, "b", gone), pod(14*s, "c"), pod(15*s, "d")}}
	o := func(phase string, within time.Duration) Objective {
		return Objective{Since: Since{"cut", EdgeAt}, Phase: phase, Within: within}
	}
	want{Met, 2.9, 3, true, false, "detect"}.check(t, Judge(tl, o("detect", 5*s)))
	want{Missed, 2.9, 3, true, false, "beyond"}.check(t, Judge(tl, o("detect", 2*s)))
	want{Unknown, 2.9, 3, true, false, "too coarse"}.check(t, Judge(tl, o("detect", 2950*ms)))
	want{Unknown, 0, 0, false, false, "no victim"}.check(t, Judge(tl, o("taint", 2*s)))
	tl.Facts = tl.Facts[:5]
	want{Unknown, 27, 27.1, false, true, "not over"}.check(t, Judge(tl, o("replace", 50*s)))
	want{Missed, 27, 27.1, true, true, "longer"}.check(t, Judge(tl, o("replace", 20*s)))
}

func TestPublishedSpans(t *testing.T) {
	t.Parallel()
	tl := Timeline{End: 40 * s, Steps: []Step{fault(victim("a"))}, Streams: []Stream{answers(100*ms, pad(101)+strings.Repeat("x", 20)+pad(279))},
		Facts: []Fact{pod(s, "a"), pod(11*s, "a", stopped), pod(12*s, "a", renewed)}}
	spans := PublishedSpans(Chains(tl, "cut", "front"))
	if len(spans) != 1 {
		t.Fatalf("%d spans", len(spans))
	}
	for name, pair := range map[string][2]Interval{
		"reaction": {*spans[0].Reaction, {900 * ms, s}}, "repair": {*spans[0].Repair, {900 * ms, 1100 * ms}},
		"recovery": {*spans[0].Recovery, {s, 1210 * ms}}, "outage": {*spans[0].Outage, {2 * s, 2110 * ms}},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
}
