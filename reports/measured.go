package reports

import (
	"math"
	"slices"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
)

// StepsOf lists the steps of a timeline; undo says what became of each one's undo.
func StepsOf(tl assertions.Timeline, undo map[string]string) []Step {
	var out []Step
	for _, s := range tl.Steps {
		step := Step{Name: s.Name, Type: s.Type, AtSeconds: s.At.Seconds(), Undo: undo[s.Name]}
		for _, t := range s.Targets {
			step.Targets = append(step.Targets, Target{Kind: t.Kind, Namespace: t.Namespace, Name: t.Name, UID: t.UID})
		}
		if s.Effective != nil {
			step.EffectiveAtSeconds = secondsOf(s.Effective.Hi)
		}
		if s.Healed != nil {
			step.HealedAtSeconds = secondsOf(*s.Healed)
		}
		out = append(out, step)
	}
	return out
}

// ObjectivesOf lists what was measured against each limit; results stand in the order of their objectives.
func ObjectivesOf(objectives []assertions.Objective, results []assertions.Result) []Objective {
	var out []Objective
	for i, r := range results {
		o := Objective{Name: objectives[i].Name, Unit: string(r.Unit), Limit: r.Limit, Verdict: r.Verdict, Reason: r.Reason,
			Censored: r.Censored}
		if r.Known || r.Censored {
			o.Lo = &r.Lo
		}
		if r.Known && !r.Censored {
			o.Hi = &r.Hi
		}
		if r.Unit == assertions.Seconds {
			o.LimitSeconds, o.LoSeconds, o.HiSeconds = &o.Limit, o.Lo, o.Hi
		}
		out = append(out, o)
	}
	return out
}

// ResultOf is the way back: the result that an objective of a report stands for.
func ResultOf(o Objective) assertions.Result {
	r := assertions.Result{Objective: o.Name, Verdict: o.Verdict, Unit: assertions.Unit(o.Unit), Limit: o.Limit,
		Censored: o.Censored, Reason: o.Reason, Settled: true}
	if o.Lo != nil {
		r.Lo, r.Known = *o.Lo, true
	}
	if o.Hi != nil {
		r.Hi = *o.Hi
	}
	return r
}

// StatisticsOf is the entry for one objective over several runs.
func StatisticsOf(objective string, s assertions.Statistics) Statistics {
	return Statistics{Objective: objective, N: s.N, Censored: s.Censored, MinSeconds: s.Min, P50Seconds: s.P50,
		P95Seconds: s.P95, MaxSeconds: s.Max, CILoSeconds: s.CILo, CIHiSeconds: s.CIHi, Note: s.Note}
}

// ProbesOf sums up what each probe saw from the first step on: what it saw while the workload came up is no failure.
func ProbesOf(tl assertions.Timeline) []Probe {
	if len(tl.Steps) == 0 {
		return nil
	}
	first := firstStep(tl)
	var out []Probe
	for _, stream := range tl.Streams {
		p := Probe{Name: stream.Probe, Vantage: stream.Vantage, IntervalSeconds: stream.Interval.Seconds()}
		var lags, latencies []time.Duration
		for _, s := range stream.Samples {
			if s.Start < first {
				continue
			}
			p.Samples++
			lags = append(lags, s.Start-s.Due)
			if s.OK {
				latencies = append(latencies, s.End-s.Start)
			} else {
				p.Failed++
			}
		}
		if p.Samples > 0 {
			ratio := float64(p.Failed) / float64(p.Samples)
			p.LostRatio, p.LagP99Seconds = &ratio, secondsOf(percentile(lags, 0.99))
		}
		if len(latencies) > 0 {
			p.Latency = &Latency{P50Seconds: percentile(latencies, 0.5).Seconds(),
				P90Seconds: percentile(latencies, 0.9).Seconds(), P99Seconds: percentile(latencies, 0.99).Seconds(),
				MaxSeconds: percentile(latencies, 1).Seconds()}
		}
		p.Outages = outagesOf(tl, stream, first)
		out = append(out, p)
	}
	return out
}

// percentile sorts the values and returns the nearest rank; it is exact, not an estimate.
func percentile(values []time.Duration, p float64) time.Duration {
	slices.Sort(values)
	rank := int(math.Ceil(p*float64(len(values)))) - 1
	return values[max(0, min(rank, len(values)-1))]
}

// BlindSeconds is how long at least one observer saw nothing: the union of the timeline's gaps; nil where nothing was
// recorded at all.
func BlindSeconds(tl assertions.Timeline) *float64 {
	if tl.End == 0 {
		return nil
	}
	gaps := slices.Clone(tl.Gaps)
	slices.SortFunc(gaps, func(x, y assertions.Gap) int { return int(x.From - y.From) })
	var blind, until time.Duration
	for _, g := range gaps {
		from := max(g.From, until)
		if g.To > from {
			blind += g.To - from
			until = g.To
		}
	}
	return secondsOf(blind)
}

func secondsOf(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

// outagesOf lists a stream's outages from the first step on.
func outagesOf(tl assertions.Timeline, stream assertions.Stream, first time.Duration) []Outage {
	var out []Outage
	for _, o := range assertions.Outages(stream, tl.Gaps, outageHold, first, tl.End) {
		outage := Outage{StartSeconds: o.Start.Seconds(), LoSeconds: o.Lo.Seconds()}
		if !o.Open {
			outage.HiSeconds = secondsOf(o.Hi)
		}
		out = append(out, outage)
	}
	return out
}

// outageHold is how long a probe has to succeed before an outage counts as over, in the list of a probe's outages: the
// default hold of an objective.
const outageHold = 3 * time.Second

// firstStep is the beginning of the first step, or the end of the timeline where there was none.
func firstStep(tl assertions.Timeline) time.Duration {
	if len(tl.Steps) == 0 {
		return tl.End
	}
	first := tl.Steps[0].At
	for _, s := range tl.Steps {
		first = min(first, s.At)
	}
	return first
}

// ChainsOf splits the recovery from every fault into phases: for each fault the traffic and the redundancy chain that
// was restored last.
func ChainsOf(tl assertions.Timeline) []Chain {
	var out []Chain
	for _, step := range tl.Steps {
		if step.Kind != assertions.Fault {
			continue
		}
		chains := assertions.Chains(tl, step.Name, "")
		for _, name := range []string{assertions.Traffic, assertions.Redundancy} {
			last, ok := assertions.LastRestored(chains, name)
			if !ok {
				continue
			}
			chain := Chain{Name: name, Step: step.Name, Subject: last.Subject.Name, Phases: []Phase{}}
			for _, p := range last.Phases {
				phase := Phase{Name: p.Name, LoSeconds: p.Lo.Seconds()}
				if !p.Open {
					phase.HiSeconds = secondsOf(p.Hi)
				}
				chain.Phases = append(chain.Phases, phase)
			}
			out = append(out, chain)
		}
	}
	return out
}
