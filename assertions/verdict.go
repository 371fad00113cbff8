package assertions

// Combine folds the verdicts of objectives into that of a run, of runs into that of a scenario, and of scenarios into
// that of a report. The answer is the verdict and the index of the first one that it came from, -1 where none counted.
//
// Rule: missed beats unknown beats met; not-applicable does not count; where nothing counts the whole is
// not-applicable. A verdict that is none of the four is unknown: silence is never a pass.
func Combine(verdicts ...Verdict) (Verdict, int) {
	whole, from := NotApplicable, -1
	for i, v := range verdicts {
		if weight(v) > weight(whole) {
			whole, from = v, i
		}
	}
	if weight(whole) == weight(Unknown) {
		whole = Unknown
	}
	return whole, from
}

// CombineResults folds the results of one run's objectives into its verdict, with the reason of the one that decided.
// A run without objectives has shown nothing: unknown.
func CombineResults(results []Result) (Verdict, string) {
	verdicts := make([]Verdict, len(results))
	for i, r := range results {
		verdicts[i] = r.Verdict
	}
	whole, from := Combine(verdicts...)
	switch {
	case len(results) == 0:
		return Unknown, "no objective was judged"
	case from < 0:
		return whole, "no objective was applicable"
	case whole == Met:
		return whole, "every objective was met"
	}
	return whole, results[from].Objective + ": " + results[from].Reason
}

func weight(v Verdict) int {
	switch v {
	case NotApplicable:
		return 0
	case Met:
		return 1
	case Missed:
		return 3
	default:
		return 2
	}
}
