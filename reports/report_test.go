package reports

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
)

func scenario(v assertions.Verdict, runs ...Run) Scenario {
	return Scenario{Name: "s", Verdict: v, Runs: runs}
}

func TestConclude(t *testing.T) {
	injected := Run{Verdict: assertions.Unknown, Steps: []Step{{Name: "kill"}}}
	notInjected := Run{Verdict: assertions.Unknown}
	for name, test := range map[string]struct {
		report Report
		want   int
	}{
		"met":                      {Report{Scenarios: []Scenario{scenario(assertions.Met)}}, ExitMet},
		"missed":                   {Report{Scenarios: []Scenario{scenario(assertions.Met), scenario(assertions.Missed)}}, ExitMissed},
		"unknown after injection":  {Report{Scenarios: []Scenario{scenario(assertions.Unknown, injected)}}, ExitUnknown},
		"no steady state":          {Report{Scenarios: []Scenario{scenario(assertions.Unknown, notInjected)}}, ExitNotInjected},
		"no cluster":               {Report{Scenarios: []Scenario{scenario(assertions.Unknown)}}, ExitNotInjected},
		"missed beats unknown":     {Report{Scenarios: []Scenario{scenario(assertions.Unknown), scenario(assertions.Missed)}}, ExitMissed},
		"nothing was applicable":   {Report{Scenarios: []Scenario{scenario(assertions.NotApplicable)}}, ExitNotInjected},
		"not applicable, and met":  {Report{Scenarios: []Scenario{scenario(assertions.NotApplicable), scenario(assertions.Met)}}, ExitMet},
		"no scenario at all":       {Report{}, ExitNotInjected},
		"interrupted beats missed": {Report{Run: RunInfo{Interrupted: "interrupt"}, Scenarios: []Scenario{scenario(assertions.Missed)}}, ExitInterrupted},
		"terminated":               {Report{Run: RunInfo{Interrupted: "terminated"}}, ExitTerminated},
		"leftovers beat all":       {Report{Run: RunInfo{Interrupted: "interrupt"}, Leftovers: []Leftover{{}}}, ExitLeftovers},
	} {
		t.Run(name, func(t *testing.T) {
			test.report.Conclude()
			if test.report.ExitCode != test.want {
				t.Errorf("exit code %d (verdict %s), want %d", test.report.ExitCode, test.report.Verdict, test.want)
			}
		})
	}
}

func TestWriteAndReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	r := &Report{APIVersion: APIVersion, Kind: Kind, Scenarios: []Scenario{scenario(assertions.Met)},
		Run: RunInfo{ID: "1", StartedAt: time.Unix(5, 0).UTC()}}
	r.Conclude()
	path, err := r.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Read(bytes.NewReader(data))
	if err != nil || back.Run.ID != "1" || back.Verdict != assertions.Met {
		t.Fatalf("read back: %+v, %v", back, err)
	}
	if bytes.Contains(data, []byte(`"leftovers"`)) {
		t.Error("a field that does not apply is there")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files in the folder, want report.json alone", len(entries))
	}
	if _, err := Read(strings.NewReader(strings.Replace(string(data), `"seed"`, `"sead"`, 1))); err == nil {
		t.Error("a report with an unknown field was read")
	}
}

func TestTableShowsLimitsIntervalsAndReasons(t *testing.T) {
	lo, hi := 1.53, 1.5504
	r := &Report{Verdict: assertions.Missed, ExitCode: 1, Scenarios: []Scenario{{Name: "pod-kill", Verdict: assertions.Missed,
		Runs: []Run{{Index: 1, Verdict: assertions.Missed, Objectives: []Objective{
			{Name: "traffic", Unit: "seconds", Limit: 1, Lo: &lo, Hi: &hi, Verdict: assertions.Missed, Reason: "too slow"},
			{Name: "open", Unit: "seconds", Limit: 2, Lo: &lo, Verdict: assertions.Missed},
			{Name: "loss", Unit: "ratio", Limit: 0.05, Lo: &lo, Hi: &lo, Verdict: assertions.Met}}}}}}}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pod-kill", "1 s", "[1.53, 1.55] s", "[1.53, …] s", "5 %", "[153, 153] %",
		"traffic missed: too slow", "verdict: missed (exit code 1)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestBlindSecondsCountsOverlapsOnce(t *testing.T) {
	s := time.Second
	tl := assertions.Timeline{End: 9 * s, Gaps: []assertions.Gap{{From: 5 * s, To: 7 * s}, {From: 1 * s, To: 3 * s}, {From: 2 * s, To: 4 * s}}}
	if got := BlindSeconds(tl); got == nil || *got != 5 {
		t.Errorf("blind for %v s, want 5", got)
	}
	if got := BlindSeconds(assertions.Timeline{}); got != nil {
		t.Errorf("blind for %v s where nothing was recorded, want nothing", *got)
	}
}

func TestProbesCountFromTheFirstStep(t *testing.T) {
	ms := time.Millisecond
	stream := assertions.Stream{Probe: "front", Interval: 20 * ms, Timeout: 100 * ms}
	// Down until 1 s (it comes up), up, down from 2 s to 2.5 s (the outage), up until 6 s.
	for at := time.Duration(0); at < 6*time.Second; at += 20 * ms {
		up := at >= time.Second && (at < 2*time.Second || at >= 2500*ms)
		stream.Samples = append(stream.Samples, assertions.Sample{Due: at, Start: at, End: at + 5*ms, OK: up})
	}
	tl := assertions.Timeline{End: 6 * time.Second, Streams: []assertions.Stream{stream},
		Steps: []assertions.Step{{Name: "kill", At: 1900 * ms}}}
	p := ProbesOf(tl)[0]
	if p.Failed != 25 || p.Samples != 205 {
		t.Errorf("%d of %d failed, want 25 of 205", p.Failed, p.Samples)
	}
	if len(p.Outages) != 1 || p.Outages[0].LoSeconds > 0.5 || p.Outages[0].HiSeconds == nil || *p.Outages[0].HiSeconds < 0.5 ||
		*p.Outages[0].HiSeconds > 0.6 {
		t.Errorf("outages %+v, want one that holds 0.5 s", p.Outages)
	}
}
