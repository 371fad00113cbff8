package reports

import "github.com/rebound-chaos/rebound/assertions"

// The exit codes of `rebound`, as scripts see them.
const (
	ExitMet         = 0
	ExitMissed      = 1
	ExitUsage       = 2
	ExitNotInjected = 3
	ExitUnknown     = 4
	ExitLeftovers   = 5
	ExitInterrupted = 130
	ExitTerminated  = 143
)

// Conclude sets the report's verdict and exit code from what it holds. Where several codes apply: leftovers, then the
// signal, then missed, then nothing injected, then unknown. Scenarios that are not applicable do not count; if none was
// applicable, nothing was injected.
func (r *Report) Conclude() {
	verdicts := make([]assertions.Verdict, 0, len(r.Scenarios))
	for _, s := range r.Scenarios {
		verdicts = append(verdicts, s.Verdict)
	}
	r.Verdict, _ = assertions.Combine(verdicts...)
	r.ExitCode = r.code()
}

func (r *Report) code() int {
	switch {
	case len(r.Leftovers) > 0:
		return ExitLeftovers
	case r.Run.Interrupted == "interrupt":
		return ExitInterrupted
	case r.Run.Interrupted != "":
		return ExitTerminated
	case r.Verdict == assertions.Met:
		return ExitMet
	case r.Verdict == assertions.Missed:
		return ExitMissed
	case r.Verdict == assertions.NotApplicable || r.lacksInjection():
		return ExitNotInjected
	default:
		return ExitUnknown
	}
}

// lacksInjection tells whether some applicable scenario, or one of its runs, never got as far as breaking something.
func (r *Report) lacksInjection() bool {
	for _, s := range r.Scenarios {
		if s.Verdict != assertions.Unknown {
			continue
		}
		if len(s.Runs) == 0 {
			return true
		}
		for _, run := range s.Runs {
			if run.Verdict == assertions.Unknown && len(run.Steps) == 0 {
				return true
			}
		}
	}
	return false
}
