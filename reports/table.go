package reports

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/rebound-chaos/rebound/assertions"
)

// WriteTable prints what a person wants to know at a glance: one line an objective and run, then where the time went
// for whatever was not met, then the verdict.
func (r *Report) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tRUN\tOBJECTIVE\tLIMIT\tMEASURED\tVERDICT")
	for _, s := range r.Scenarios {
		writeScenarioRows(w, s)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for _, s := range r.Scenarios {
		writeScenarioNotes(&b, s)
	}
	for _, l := range r.Leftovers {
		fmt.Fprintf(&b, "\nSTILL OWED: %s of %s (%s): %s\n  take it back: %s\n", l.Undo, l.Object, l.Step, l.Error, l.Repair)
	}
	fmt.Fprintf(&b, "\nverdict: %s (exit code %d)\n", r.Verdict, r.ExitCode)
	_, err := io.WriteString(out, b.String())
	return err
}

func writeScenarioRows(w io.Writer, s Scenario) {
	if len(s.Runs) == 0 {
		fmt.Fprintf(w, "%s\t-\t-\t-\t-\t%s\n", s.Name, s.Verdict)
		return
	}
	for _, run := range s.Runs {
		if len(run.Objectives) == 0 {
			fmt.Fprintf(w, "%s\t%d\t-\t-\t-\t%s\n", s.Name, run.Index, run.Verdict)
		}
		for _, o := range run.Objectives {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.Name, run.Index, o.Name, formatLimit(o), formatMeasured(o), o.Verdict)
		}
	}
}

// writeScenarioNotes explains a scenario below the table: the reasons of what was not met, and each chain's phases.
func writeScenarioNotes(b *strings.Builder, s Scenario) {
	for _, run := range s.Runs {
		fmt.Fprintf(b, "\n%s, run %d: %s", s.Name, run.Index, run.Verdict)
		if run.Reason != "" {
			fmt.Fprintf(b, " (%s)", run.Reason)
		}
		b.WriteByte('\n')
		for _, o := range run.Objectives {
			if o.Verdict != assertions.Met {
				fmt.Fprintf(b, "  %s %s: %s\n", o.Name, o.Verdict, o.Reason)
			}
		}
		for _, c := range run.Chains {
			fmt.Fprintf(b, "  %-10s %s\n", c.Name, formatPhases(c.Phases))
		}
		for _, p := range run.Probes {
			fmt.Fprintf(b, "  probe %-4s %s\n", p.Name, formatProbe(p))
		}
	}
	if len(s.Runs) == 0 || s.Twin != nil {
		fmt.Fprintf(b, "\n%s: %s (%s)\n", s.Name, s.Verdict, s.Reason)
	}
	for _, st := range s.Statistics {
		if st.N > 1 {
			fmt.Fprintf(b, "  %s over %d runs: %s\n", st.Objective, st.N, formatStatistics(st))
		}
	}
}

func formatPhases(phases []Phase) string {
	parts := make([]string, 0, len(phases))
	for _, p := range phases {
		parts = append(parts, p.Name+" "+formatInterval(&p.LoSeconds, p.HiSeconds, "s"))
	}
	return strings.Join(parts, " → ")
}

func formatProbe(p Probe) string {
	text := fmt.Sprintf("from %s: %d samples, %d failed", p.Vantage, p.Samples, p.Failed)
	for _, o := range p.Outages {
		text += ", outage " + formatInterval(&o.LoSeconds, o.HiSeconds, "s")
	}
	if p.Latency != nil {
		text += fmt.Sprintf(", p99 %s s", formatNumber(p.Latency.P99Seconds))
	}
	return text
}

func formatStatistics(st Statistics) string {
	var parts []string
	add := func(name string, value *float64) {
		if value != nil {
			parts = append(parts, fmt.Sprintf("%s %s s", name, formatNumber(*value)))
		}
	}
	add("min", st.MinSeconds)
	add("median", st.P50Seconds)
	add("p95", st.P95Seconds)
	add("max", st.MaxSeconds)
	if st.CILoSeconds != nil && st.CIHiSeconds != nil {
		parts = append(parts, "95 % interval of the median "+formatInterval(st.CILoSeconds, st.CIHiSeconds, "s"))
	}
	if st.Censored > 0 {
		parts = append(parts, fmt.Sprintf("%d never recovered", st.Censored))
	}
	if st.Note != "" {
		parts = append(parts, st.Note)
	}
	return strings.Join(parts, ", ")
}

func formatLimit(o Objective) string {
	switch assertions.Unit(o.Unit) {
	case assertions.Seconds:
		return formatNumber(o.Limit) + " s"
	case assertions.Ratio:
		return formatNumber(o.Limit*100) + " %"
	default:
		return formatNumber(o.Limit)
	}
}

func formatMeasured(o Objective) string {
	switch {
	case o.Lo == nil:
		return "-"
	case assertions.Unit(o.Unit) == assertions.Ratio:
		lo, hi := *o.Lo*100, *o.Lo*100
		if o.Hi != nil {
			hi = *o.Hi * 100
		}
		return formatInterval(&lo, &hi, "%")
	case assertions.Unit(o.Unit) == assertions.Seconds:
		return formatInterval(o.Lo, o.Hi, "s")
	default:
		return formatInterval(o.Lo, o.Hi, "")
	}
}

// formatInterval prints [lo, hi] with its unit; an absent hi means that the value was not reached while we watched.
func formatInterval(lo, hi *float64, unit string) string {
	end := "…"
	if hi != nil {
		end = formatNumber(*hi)
	}
	return strings.TrimSpace("[" + formatNumber(*lo) + ", " + end + "] " + unit)
}

// formatNumber keeps three digits after the point, which is a millisecond, and no trailing zeros.
func formatNumber(v float64) string {
	text := strconv.FormatFloat(v, 'f', 3, 64)
	text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	if text == "" || text == "-0" {
		return "0"
	}
	return text
}
