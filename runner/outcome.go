package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/reports"
)

// reportRun turns what a repeat left behind into its entry of the report, and stores its timeline beside the report.
func (c *call) reportRun(p *play, out *outcome) reports.Run {
	run := reports.Run{Index: p.index, SpentSeconds: spent(out), Steps: reports.StepsOf(out.timeline, out.undo),
		Probes: reports.ProbesOf(out.timeline), Objectives: reports.ObjectivesOf(out.objectives, out.results),
		Chains: reports.ChainsOf(out.timeline), BlindSeconds: reports.BlindSeconds(out.timeline)}
	run.Verdict, run.Reason = judgeRun(out)
	run.Broken = out.failure != nil
	if out.relapse != nil {
		run.Objectives = append(run.Objectives, relapsed(p.plan, out.relapse))
	}
	path := filepath.Join("timelines", fmt.Sprintf("%s-%d.json", p.plan.Scenario, p.index))
	if err := writeTimeline(filepath.Join(c.request.Out, path), out.timeline); err != nil {
		c.progress.say("%s: run %d: %v", p.plan.Scenario, p.index, err)
	} else {
		run.Timeline = filepath.ToSlash(path)
	}
	return run
}

// judgeRun gives a repeat its verdict: unknown where it did not go as planned, whatever was measured; missed where the
// steady state did not come back; else that of its objectives.
func judgeRun(out *outcome) (assertions.Verdict, string) {
	if out.failure != nil {
		return assertions.Unknown, failureText(out)
	}
	verdict, reason := assertions.CombineResults(out.results)
	if out.relapse != nil {
		verdict, _ = assertions.Combine(verdict, assertions.Missed)
		reason = "the steady state did not come back: " + out.relapse.Error()
	}
	return verdict, reason
}

func failureText(out *outcome) string {
	var signal Interruption
	if !errors.As(out.failure, &signal) {
		return out.failure.Error()
	}
	if len(out.leftovers) > 0 {
		return "interrupted (" + string(signal) + "); what could not be healed is listed"
	}
	return "interrupted (" + string(signal) + "); what was broken is healed"
}

// relapsed is the objective that nobody has to write: after healing, the steady state comes back.
func relapsed(plan *Plan, cause error) reports.Objective {
	limit := time.Duration(plan.scenario.Spec.Steady.Within).Seconds()
	return reports.Objective{Name: "steady-again", Unit: string(assertions.Seconds), Limit: limit, LimitSeconds: &limit,
		Lo: &limit, LoSeconds: &limit, Censored: true, Verdict: assertions.Missed, Reason: cause.Error()}
}

// spent says where a repeat's time went. Overhead is what remains beside deploying, the steady state, and the time that
// the objectives themselves needed: from the first step to the last recovery, and its hold.
func spent(out *outcome) map[string]float64 {
	seconds := map[string]float64{}
	for name, d := range out.spent {
		seconds[name] = d.Seconds()
	}
	if out.failure != nil {
		return seconds
	}
	var recovery float64
	for i, o := range out.objectives {
		if o.Reach != nil && out.results[i].Known {
			recovery = max(recovery, out.results[i].Hi+o.Hold.Seconds())
		}
	}
	seconds["recovery"] = recovery
	seconds["overhead"] = seconds["total"] - seconds["deploy"] - seconds["steady"] - recovery
	return seconds
}

func writeTimeline(path string, tl assertions.Timeline) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("store timeline: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("store timeline: %w", err)
	}
	if err := errors.Join(assertions.WriteTimeline(file, tl), file.Close()); err != nil {
		return fmt.Errorf("store timeline %s: %w", path, err)
	}
	return nil
}

// statistics sums up each objective that is measured in seconds over a scenario's runs. A run that did not go as planned
// shows nothing; one whose value is not known counts as such.
func statistics(plan *Plan, runs []reports.Run) []reports.Statistics {
	var out []reports.Statistics
	for _, o := range plan.scenario.Spec.Objectives {
		var results []assertions.Result
		for _, run := range runs {
			if run.Broken {
				continue
			}
			for _, measured := range run.Objectives {
				if measured.Name == o.Name && measured.LimitSeconds != nil {
					results = append(results, reports.ResultOf(measured))
				}
			}
		}
		if len(results) > 0 {
			out = append(out, reports.StatisticsOf(o.Name, assertions.Summarize(results)))
		}
	}
	return out
}
