package assertions

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

func results(values ...float64) []Result {
	var out []Result
	for _, v := range values {
		r := Result{Objective: "traffic", Unit: Seconds, Known: true, Lo: v - 0.5, Hi: v}
		if math.IsInf(v, 1) {
			r = Result{Objective: "traffic", Unit: Seconds, Censored: true, Lo: 100, Hi: 101}
		}
		out = append(out, r)
	}
	return out
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	never := math.Inf(1)
	count := func(n int) (out []float64) {
		for i := range n {
			out = append(out, float64(n-i))
		}
		return out
	}
	for _, tc := range []struct {
		name string
		in   []Result
		want Statistics
	}{
		{"none", nil, Statistics{Note: "too few"}},
		{"three", results(3, 1, 2), Statistics{N: 3, Min: ptr(0.5), P50: ptr(2.0), Max: ptr(3.0), Note: "(3 of 6)"}},
		{"five: no interval", results(count(5)...), Statistics{N: 5, Min: ptr(0.5), P50: ptr(3.0), Max: ptr(5.0), Note: "(5 of 6)"}},
		{"six: an interval", results(count(6)...), Statistics{N: 6, Min: ptr(0.5), P50: ptr(3.5), Max: ptr(6.0), CILo: ptr(1.0),
			CIHi: ptr(6.0), Note: "p95 (6 of 20)"}},
		{"nine", results(count(9)...), Statistics{N: 9, Min: ptr(0.5), P50: ptr(5.0), Max: ptr(9.0), CILo: ptr(2.0), CIHi: ptr(8.0),
			Note: "(9 of 20)"}},
		{"nineteen: no p95", results(count(19)...), Statistics{N: 19, Min: ptr(0.5), P50: ptr(10.0), Max: ptr(19.0), CILo: ptr(5.0),
			CIHi: ptr(15.0), Note: "(19 of 20)"}},
		{"twenty: a p95", results(count(20)...), Statistics{N: 20, Min: ptr(0.5), P50: ptr(10.5), P95: ptr(19.0), Max: ptr(20.0),
			CILo: ptr(6.0), CIHi: ptr(15.0)}},
		{"censored runs are kept above all others", results(3, never, 1), Statistics{N: 3, Censored: 1, Min: ptr(0.5), P50: ptr(3.0),
			Note: "too few"}},
		{"a censored median is not known", results(3, never, never), Statistics{N: 3, Censored: 2, Min: ptr(2.5), Note: "too few"}},
		{"an interval that runs into the censored is open", results(1, 2, 3, 4, 5, never), Statistics{N: 6, Censored: 1, Min: ptr(0.5),
			P50: ptr(3.5), CILo: ptr(1.0), Note: "(6 of 20)"}},
		{"runs without a value are counted", append(results(1), Result{Verdict: Unknown}), Statistics{N: 1, Without: 1,
			Min: ptr(0.5), P50: ptr(1.0), Max: ptr(1.0), Note: "1 runs without a value"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := Summarize(tc.in)
			if !strings.Contains(got.Note, tc.want.Note) {
				t.Errorf("note %q lacks %q", got.Note, tc.want.Note)
			}
			if got.N > 0 && (got.Objective != "traffic" || got.Unit != Seconds) {
				t.Errorf("sums up %q in %q", got.Objective, got.Unit)
			}
			got.Note, tc.want.Note, got.Objective, got.Unit = "", "", "", ""
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestMedianRankCovers(t *testing.T) {
	t.Parallel()
	for n := 6; n <= 3000; n += 1 + n/7 {
		// The chance that the median lies below the k-th value, summed in logarithms.
		tail := func(k int) (p float64) {
			for i := 0; i <= k; i++ {
				a, _ := math.Lgamma(float64(n + 1))
				b, _ := math.Lgamma(float64(i + 1))
				c, _ := math.Lgamma(float64(n - i + 1))
				p += math.Exp(a - b - c - float64(n)*math.Ln2)
			}
			return p
		}
		k := medianRank(n)
		if tail(k) > 0.025 {
			t.Errorf("n = %d: rank %d leaves %g on one side", n, k, tail(k))
		}
		if n < 1000 && tail(k+1) <= 0.025 {
			t.Errorf("n = %d: rank %d is wider than it has to be", n, k)
		}
	}
}

func TestCombine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   []Verdict
		want Verdict
		from int
	}{
		{nil, NotApplicable, -1},
		{[]Verdict{NotApplicable}, NotApplicable, -1},
		{[]Verdict{NotApplicable, Met, Met}, Met, 1},
		{[]Verdict{Met, Unknown, Unknown}, Unknown, 1},
		{[]Verdict{Unknown, Met, Missed, Missed}, Missed, 2},
		{[]Verdict{Met, "", Met}, Unknown, 1},
	} {
		if got, from := Combine(tc.in...); got != tc.want || from != tc.from {
			t.Errorf("%v: %s from %d, want %s from %d", tc.in, got, from, tc.want, tc.from)
		}
	}
	if v, reason := CombineResults(nil); v != Unknown || reason == "" {
		t.Errorf("no objectives: %s %q", v, reason)
	}
	v, reason := CombineResults([]Result{{Verdict: Met}, {Objective: "traffic", Verdict: Missed, Reason: "late"}})
	if v != Missed || reason != "traffic: late" {
		t.Errorf("%s %q", v, reason)
	}
}
