package assertions

import (
	"fmt"
	"math"
	"sort"
)

// The least number of runs from which a figure is shown: fewer hold no such figure. The 95 % interval of a median from
// order statistics covers 1 - 2/2^n: 93.75 % for five runs, 96.9 % for six.
const (
	minRunsInterval = 6
	minRunsP95      = 20
)

// Statistics sums up the results of one objective over the repeats of a scenario, in the objective's unit. A figure
// that the runs cannot carry is nil. Where an order statistic falls on a run that never recovered it is nil too: it
// is not known, only that it is greater than every value below it.
type Statistics struct {
	Objective string `json:"objective"`
	Unit      Unit   `json:"unit"`
	// N counts the runs with a value, those that never recovered (Censored) among them. Without counts runs with no
	// value.
	N        int `json:"n"`
	Censored int `json:"censored"`
	Without  int `json:"without,omitempty"`

	Min  *float64 `json:"min,omitempty"`
	P50  *float64 `json:"p50,omitempty"`
	P95  *float64 `json:"p95,omitempty"`
	Max  *float64 `json:"max,omitempty"`
	CILo *float64 `json:"ciLo,omitempty"`
	CIHi *float64 `json:"ciHi,omitempty"`
	// Note says what is missing and why ("too few runs for a 95 % interval (3 of 6) and for a p95 (3 of 20)").
	Note string `json:"note,omitempty"`
}

// Summarize sums up the results of one objective, one a run.
//
// Rules: a run stands for its Hi, the time by which it had surely recovered (so that no figure flatters); Min is the
// least Lo. A run that never recovered is right-censored: it is kept, and sorts above every other (+inf above its Lo);
// Max is absent then. The median's interval is that of the order statistics: the widest pair of ranks that leaves no
// more than 2.5 % on either side. A run without a value is counted apart, not dropped in silence.
func Summarize(results []Result) Statistics {
	var s Statistics
	values := make([]float64, 0, len(results))
	least := math.Inf(1)
	for _, r := range results {
		if s.Objective == "" {
			s.Objective, s.Unit = r.Objective, r.Unit
		}
		switch {
		case r.Censored:
			s.Censored++
			values = append(values, math.Inf(1))
			least = min(least, r.Lo)
		case r.Known:
			values = append(values, r.Hi)
			least = min(least, r.Lo)
		default:
			s.Without++
		}
	}
	s.N = len(values)
	if s.N > 0 {
		sort.Float64s(values)
		s.Min = known(least)
		s.P50 = known((values[(s.N-1)/2] + values[s.N/2]) / 2)
		s.Max = known(values[s.N-1])
	}
	if s.N >= minRunsP95 {
		s.P95 = known(values[nearestRank(s.N, 0.95)])
	}
	if s.N >= minRunsInterval {
		k := medianRank(s.N)
		s.CILo, s.CIHi = known(values[k]), known(values[s.N-1-k])
	}
	s.Note = s.note()
	return s
}

func (s Statistics) note() string {
	var note string
	switch {
	case s.N < minRunsInterval:
		note = fmt.Sprintf("too few runs for a 95 %% interval (%d of %d) and for a p95 (%d of %d)",
			s.N, minRunsInterval, s.N, minRunsP95)
	case s.N < minRunsP95:
		note = fmt.Sprintf("too few runs for a p95 (%d of %d)", s.N, minRunsP95)
	}
	if s.Without > 0 {
		if note != "" {
			note += "; "
		}
		note += fmt.Sprintf("%d runs without a value", s.Without)
	}
	return note
}

// known gives a figure, or nil where it is that of a run that never recovered.
func known(v float64) *float64 {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return nil
	}
	return &v
}

// nearestRank is the index of the p-quantile among n sorted values: the least one with at least p*n values up to it.
func nearestRank(n int, p float64) int {
	// A hair is taken off before rounding up: 0.95*20 is 19.000000000000004 in floating point.
	return min(n-1, max(0, int(math.Ceil(p*float64(n)-1e-9))-1))
}

// medianRank is the largest k (from zero) for which values[k] and values[n-1-k] hold the median with at least 95 %: the
// chance that the median lies below values[k] is that of at most k heads in n throws.
func medianRank(n int) int {
	below, term, k := 0.0, math.Pow(0.5, float64(n)), 0
	if term == 0 { // more runs than floating point can count this way: the normal approximation is exact enough
		return int(float64(n)/2 - 0.98*math.Sqrt(float64(n)) - 1)
	}
	for ; k < n/2; k++ {
		below += term
		if below > 0.025 {
			break
		}
		term *= float64(n-k) / float64(k+1)
	}
	return max(0, k-1)
}
