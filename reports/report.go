// Package reports is what a run leaves behind: the Report (report.json, source of every other form), the exit code that
// follows from it, and its writers.
//
// It talks to no cluster and judges nothing; verdicts come from assertions, the facts from runner.
package reports

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
)

// APIVersion and Kind open every report.
const (
	APIVersion = "rebound/v1alpha1"
	Kind       = "Report"
)

// Report is one call of `rebound run`. Durations are in seconds and their names end in "Seconds"; a field that does not
// apply is absent, never zero.
type Report struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Verdict    assertions.Verdict `json:"verdict"`
	ExitCode   int                `json:"exitCode"`
	Run        RunInfo            `json:"run"`
	// Cluster is the cluster under test; with several, the one of the first scenario, and each scenario names its own.
	Cluster   *Cluster   `json:"cluster,omitempty"`
	Scenarios []Scenario `json:"scenarios"`
	Leftovers []Leftover `json:"leftovers,omitempty"`
}

// RunInfo says which call this was.
type RunInfo struct {
	ID         string    `json:"id"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	Version    string    `json:"version"`
	Commit     string    `json:"commit,omitempty"`
	Seed       int64     `json:"seed"`
	Host       Host      `json:"host"`
	// Interrupted is the signal that ended the call early ("interrupt", "terminated").
	Interrupted string `json:"interrupted,omitempty"`
}

// Host is the machine that ran the harness; timings of different host classes are not compared.
type Host struct {
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel,omitempty"`
	Engine string `json:"engine,omitempty"`
}

// Cluster is the cluster under test.
type Cluster struct {
	Provider          string            `json:"provider"`
	Name              string            `json:"name"`
	KubernetesVersion string            `json:"kubernetesVersion"`
	Profile           string            `json:"profile"`
	Timers            map[string]string `json:"timers"`
	Nodes             []string          `json:"nodes"`
}

// Scenario is one scenario with all its runs.
type Scenario struct {
	Name      string             `json:"name"`
	Title     string             `json:"title,omitempty"`
	File      string             `json:"file"`
	Hash      string             `json:"hash"`
	Mechanism string             `json:"mechanism"`
	Labels    map[string]string  `json:"labels,omitempty"`
	Verdict   assertions.Verdict `json:"verdict"`
	Reason    string             `json:"reason"`
	// Twin is set where this is a weak variant: the scenario it belongs to and the objective it has to miss. Its
	// verdict is met when it was caught.
	Twin *Twin `json:"twin,omitempty"`
	// Cluster is the cluster it ran on, where it is not the report's.
	Cluster    *Cluster          `json:"cluster,omitempty"`
	Images     map[string]string `json:"images,omitempty"` // image reference → digest or id in the nodes
	Runs       []Run             `json:"runs"`
	Statistics []Statistics      `json:"statistics,omitempty"`
}

// Twin says whose weak variant a scenario is.
type Twin struct {
	Of     string `json:"of"`
	Misses string `json:"misses"`
}

// Run is one repeat.
type Run struct {
	Index   int                `json:"index"`
	Verdict assertions.Verdict `json:"verdict"`
	Reason  string             `json:"reason"`
	// Broken is set where the run did not go as planned (interrupted, aborted, no effect, no steady state): its values, if
	// any, do not enter the statistics.
	Broken bool `json:"broken,omitempty"`
	// BlindSeconds is how long at least one observer saw nothing; absent where nothing was recorded.
	BlindSeconds *float64 `json:"blindSeconds,omitempty"`
	// SpentSeconds says where the run's own time went: deploy, steady, observe, heal, judge, and overhead, the rest.
	SpentSeconds map[string]float64 `json:"spentSeconds,omitempty"`
	Steps        []Step             `json:"steps,omitempty"`
	Chains       []Chain            `json:"chains,omitempty"`
	Probes       []Probe            `json:"probes,omitempty"`
	Objectives   []Objective        `json:"objectives,omitempty"`
	// Timeline is the path of the stored timeline, relative to the report.
	Timeline string `json:"timeline,omitempty"`
}

// Step is one step as it went; its times are offsets from the run's zero.
type Step struct {
	Name               string   `json:"name"`
	Type               string   `json:"type"`
	Targets            []Target `json:"targets,omitempty"`
	AtSeconds          float64  `json:"atSeconds"`
	EffectiveAtSeconds *float64 `json:"effectiveAtSeconds,omitempty"`
	HealedAtSeconds    *float64 `json:"healedAtSeconds,omitempty"`
	Undo               string   `json:"undo"` // "none owed", "done", "owed"
}

// Target is one object that a step acted on.
type Target struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// Chain is one recovery, phase by phase.
type Chain struct {
	Name    string  `json:"name"`
	Step    string  `json:"step"`
	Subject string  `json:"subject"`
	Phases  []Phase `json:"phases"`
}

// Phase is the stretch between two edges; the true length lies within [lo, hi]. hi is absent where it was not over
// when the run ended.
type Phase struct {
	Name      string   `json:"name"`
	LoSeconds float64  `json:"loSeconds"`
	HiSeconds *float64 `json:"hiSeconds,omitempty"`
}

// Probe is what one probe saw.
type Probe struct {
	Name            string   `json:"name"`
	Vantage         string   `json:"vantage"`
	IntervalSeconds float64  `json:"intervalSeconds,omitempty"`
	Samples         int      `json:"samples"`
	Failed          int      `json:"failed"`
	LostRatio       *float64 `json:"lostRatio,omitempty"`
	LagP99Seconds   *float64 `json:"lagP99Seconds,omitempty"`
	Outages         []Outage `json:"outages,omitempty"`
	Latency         *Latency `json:"latency,omitempty"`
}

// Outage is one stretch in which the workload did not serve.
type Outage struct {
	StartSeconds float64  `json:"startSeconds"`
	LoSeconds    float64  `json:"loSeconds"`
	HiSeconds    *float64 `json:"hiSeconds,omitempty"` // absent: not over when the run ended
}

// Latency is the distribution of the good samples' durations.
type Latency struct {
	P50Seconds float64 `json:"p50Seconds"`
	P90Seconds float64 `json:"p90Seconds"`
	P99Seconds float64 `json:"p99Seconds"`
	MaxSeconds float64 `json:"maxSeconds"`
}

// Objective is one limit and what was measured against it.
type Objective struct {
	Name    string             `json:"name"`
	Unit    string             `json:"unit"`
	Limit   float64            `json:"limit"`
	Lo      *float64           `json:"lo,omitempty"`
	Hi      *float64           `json:"hi,omitempty"`
	Verdict assertions.Verdict `json:"verdict"`
	Reason  string             `json:"reason"`
	// Censored: the run ended before the value was reached, so only lo is known.
	Censored bool `json:"censored,omitempty"`
	// The same in seconds, where the unit is seconds.
	LimitSeconds *float64 `json:"limitSeconds,omitempty"`
	LoSeconds    *float64 `json:"loSeconds,omitempty"`
	HiSeconds    *float64 `json:"hiSeconds,omitempty"`
}

// Statistics is one objective over the repeats of a scenario.
type Statistics struct {
	Objective string `json:"objective"`
	N         int    `json:"n"`
	Censored  int    `json:"censored"`
	// Each is absent where there are too few runs for it; Note says so.
	MinSeconds  *float64 `json:"minSeconds,omitempty"`
	P50Seconds  *float64 `json:"p50Seconds,omitempty"`
	P95Seconds  *float64 `json:"p95Seconds,omitempty"`
	MaxSeconds  *float64 `json:"maxSeconds,omitempty"`
	CILoSeconds *float64 `json:"ciLoSeconds,omitempty"`
	CIHiSeconds *float64 `json:"ciHiSeconds,omitempty"`
	Note        string   `json:"note,omitempty"`
}

// Leftover is an undo that failed and is still owed.
type Leftover struct {
	Step   string `json:"step"`
	Object string `json:"object"`
	Undo   string `json:"undo"`
	Error  string `json:"error"`
	Ledger string `json:"ledger"`
	Repair string `json:"repair"` // the command that takes it back
}

// Write puts the report into dir/report.json, whole or not at all: a reader never sees half a report.
func (r *Report) Write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("report folder: %w", err)
	}
	path := filepath.Join(dir, "report.json")
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode report: %w", err)
	}
	return path, writeWhole(path, append(data, '\n'))
}

// writeWhole writes a file by way of a temporary one beside it, so that it is there whole or not at all.
func writeWhole(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
			_ = os.Remove(tmp.Name()) // what failed to be written is of no use to anybody
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		_ = tmp.Close()
		return err
	}
	if err = tmp.Chmod(0o644); err != nil {
		_ = tmp.Close()
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Read decodes a report strictly: an unknown field is an error, so that a newer report is not half understood.
func Read(in io.Reader) (*Report, error) {
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	var r Report
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	if r.APIVersion != APIVersion || r.Kind != Kind {
		return nil, fmt.Errorf("read report: %s %s, want %s %s", r.APIVersion, r.Kind, APIVersion, Kind)
	}
	return &r, nil
}
