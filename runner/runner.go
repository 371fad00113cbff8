// Package runner plans and runs scenarios: it gets a cluster, deploys the workloads, waits for the steady state,
// performs the steps in their order, watches until every objective is settled, heals, has the timeline judged, and
// fills the report.
//
// It knows no concrete fault and no concrete provider: both are handed in. How things are watched is left to
// runner/recorder, what they mean to assertions, and flags and signals to runner/cli.
package runner

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/scenarios"
)

// ErrUsage: what was asked for cannot be done as it was asked; nothing was touched.
var ErrUsage = errors.New("cannot be run")

// Interruption is the cause with which a run's context is cancelled when a signal ends it: "interrupt" or "terminated".
type Interruption string

func (i Interruption) Error() string { return string(i) }

// errTimeout ends a call that took longer than its limit.
var errTimeout = errors.New("the limit of --timeout is over")

// Runner is what stays the same for every call. Provider and Reset are not needed for planning.
type Runner struct {
	Provider     clusters.Provider
	ProviderName string
	Faults       injectors.Registry
	// Reset brings a used cluster back to as it was before: clusters.Reset but in tests.
	Reset func(ctx context.Context, c *clusters.Cluster) error
	// Requirements are what `requires:` may name.
	Requirements map[string]Requirement
	// Progress gets one line for whatever a person waits for; nil is silent.
	Progress        io.Writer
	Version, Commit string
}

// Request is one call of Run.
type Request struct {
	Scenarios []*scenarios.Scenario
	// Out is the folder for timelines; the report is the caller's to write.
	Out string
	// Repeat overrides the scenarios' own where it is positive.
	Repeat int
	// Cluster names one that is up already; it is reset and left up. Empty: a throw-away one.
	Cluster string
	Profile string // overrides the scenarios' own
	Seed    *int64
	// Twins runs each scenario's twins too.
	Twins bool
	// Keep leaves the cluster up when the verdict is not met.
	Keep      bool
	Timeout   time.Duration
	Program   string // the Linux program for the nodes; empty: this one
	NodeImage string
}

// Run plays the scenarios one after the other and returns the report. An error means that there is none: what was asked
// for is not possible (ErrUsage), or its folder cannot be written. Whatever goes wrong later stands in the report.
func (r *Runner) Run(ctx context.Context, request Request) (*reports.Report, error) {
	plans, err := r.plans(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	program, err := programPath(request.Program)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if err := prepareOut(request.Out); err != nil {
		return nil, err
	}
	if request.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, request.Timeout, errTimeout)
		defer cancel()
	}
	id, seed := newRunID(), newSeed(request.Seed)
	c := &call{
		runner: r, request: request, id: id, seed: seed, program: program, progress: newProgress(r.Progress),
		report: &reports.Report{APIVersion: reports.APIVersion, Kind: reports.Kind, Run: reports.RunInfo{
			ID: id, StartedAt: time.Now().UTC(), Version: r.Version, Commit: r.Commit, Seed: seed, Host: host(ctx, r.Provider),
		}},
	}
	c.lease = &lease{provider: r.Provider, repair: c.repairDead, reset: r.Reset, progress: c.progress, given: request.Cluster,
		name: "run-" + id, image: request.NodeImage}
	c.play(ctx, plans)
	return c.finish(ctx), nil
}

// plans works out every scenario and, where asked for, its twins; clusters of one kind come one after the other, so
// that they are made as seldom as possible.
func (r *Runner) plans(request Request) ([]*Plan, error) {
	if len(request.Scenarios) == 0 {
		return nil, errors.New("no scenario is named")
	}
	var out []*Plan
	named := map[string]bool{}
	for _, s := range request.Scenarios {
		if named[s.Metadata.Name] {
			return nil, fmt.Errorf("two scenarios are called %s: their reports could not be told apart", s.Metadata.Name)
		}
		named[s.Metadata.Name] = true
		plan, err := r.Plan(s, request.Profile)
		if err != nil {
			return nil, err
		}
		if request.Repeat > 0 {
			plan.Repeat = request.Repeat
		}
		out = append(out, plan)
		if !request.Twins {
			continue
		}
		for i := range s.Spec.Twins {
			twin := *plan
			twin.twin, twin.Repeat = &s.Spec.Twins[i], 1
			twin.Scenario = plan.Scenario + "~" + twin.twin.Name
			out = append(out, &twin)
		}
	}
	slices.SortStableFunc(out, func(x, y *Plan) int {
		return strings.Compare(fmt.Sprint(x.Cluster), fmt.Sprint(y.Cluster))
	})
	return out, nil
}

// call is one Run in progress.
type call struct {
	runner   *Runner
	request  Request
	id       string
	seed     int64
	program  string
	progress *progress
	lease    *lease
	report   *reports.Report
	plays    int // repeats begun, over all scenarios
	// stopped says why nothing more is run; empty while the call goes on. keep leaves the cluster as it is.
	stopped string
	keep    bool
}

// play runs every plan. Once ctx has ended the rest is reported as not run.
func (c *call) play(ctx context.Context, plans []*Plan) {
	for _, plan := range plans {
		scenario := c.newScenario(plan)
		for index := 1; index <= plan.Repeat; index++ {
			if ctx.Err() != nil {
				scenario.Reason = "not run: " + context.Cause(ctx).Error()
				break
			}
			if c.stopped != "" {
				scenario.Reason = "not run: " + c.stopped
				break
			}
			done := c.repeat(ctx, plan, index, &scenario)
			if done {
				break
			}
		}
		c.conclude(plan, &scenario)
		c.report.Scenarios = append(c.report.Scenarios, scenario)
	}
}

func (c *call) newScenario(plan *Plan) reports.Scenario {
	meta := plan.scenario.Metadata
	s := reports.Scenario{Name: plan.Scenario, Title: meta.Title, File: plan.File, Hash: plan.scenario.Hash,
		Mechanism: meta.Mechanism, Labels: meta.Labels, Verdict: assertions.Unknown, Runs: []reports.Run{}}
	if plan.twin != nil {
		s.Twin = &reports.Twin{Of: meta.Name, Misses: plan.twin.Misses}
	}
	return s
}

// repeat plays one repeat and adds it to the scenario's runs; it reports true when further repeats make no sense.
func (c *call) repeat(ctx context.Context, plan *Plan, index int, scenario *reports.Scenario) (done bool) {
	cluster, err := c.lease.get(ctx, plan.Cluster)
	if err != nil {
		scenario.Reason = err.Error()
		c.progress.say("%s: %v", plan.Scenario, err)
		if c.request.Cluster == "" { // what kept this one from being made keeps the next one too
			c.stopped = "no cluster could be had"
		}
		return true
	}
	c.describeCluster(cluster, scenario)
	if err := c.missing(ctx, plan, cluster); err != nil {
		scenario.Reason = err.Error()
		if errors.Is(err, ErrMissing) {
			scenario.Verdict = assertions.NotApplicable
		}
		c.progress.say("%s: %v", plan.Scenario, err)
		return true
	}
	c.lease.dirty = true
	played, err := c.newPlay(ctx, plan, cluster, index)
	if err != nil {
		scenario.Reason = err.Error()
		c.progress.say("%s: %v", plan.Scenario, err)
		return true
	}
	outcome := played.do(ctx)
	run := c.reportRun(played, outcome)
	scenario.Runs = append(scenario.Runs, run)
	if outcome.images != nil {
		scenario.Images = outcome.images
	}
	c.report.Leftovers = append(c.report.Leftovers, outcome.leftovers...)
	c.progress.say("%s: run %d: %s%s", plan.Scenario, index, run.Verdict, parenthesis(run.Reason))
	if c.request.Keep && (run.Verdict != assertions.Met) == (plan.twin == nil) {
		c.stopped, c.keep = "the run before is kept to be looked into", true
	}
	if len(outcome.leftovers) > 0 { // nothing more is broken where something is still owed
		c.stopped, c.keep = "an undo is still owed", true
	}
	return c.stopped != ""
}

// conclude gives a scenario its verdict and, over several runs, its statistics.
func (c *call) conclude(plan *Plan, s *reports.Scenario) {
	if len(s.Runs) == 0 {
		return
	}
	verdicts := make([]assertions.Verdict, 0, len(s.Runs))
	for _, run := range s.Runs {
		verdicts = append(verdicts, run.Verdict)
	}
	verdict, from := assertions.Combine(verdicts...)
	s.Verdict, s.Statistics = verdict, statistics(plan, s.Runs)
	why := s.Reason // why repeats are missing, where they are
	if from >= 0 {
		s.Reason = s.Runs[from].Reason
	}
	if missing := plan.Repeat - len(s.Runs); missing > 0 { // repeats that never ran are no pass
		s.Verdict, _ = assertions.Combine(verdict, assertions.Unknown)
		s.Reason += fmt.Sprintf("; only %d of %d runs%s", len(s.Runs), plan.Repeat, parenthesis(why))
	}
	if plan.twin != nil {
		s.Verdict, s.Reason = judgeTwin(plan.twin, s.Runs)
	}
}

// judgeTwin turns a twin's outcome round: it is met when the weak variant was caught missing the objective it should.
func judgeTwin(twin *scenarios.Twin, runs []reports.Run) (assertions.Verdict, string) {
	for _, run := range runs {
		if run.Broken {
			return assertions.Unknown, run.Reason
		}
		for _, o := range run.Objectives {
			if o.Name != twin.Misses {
				continue
			}
			switch o.Verdict {
			case assertions.Missed:
				return assertions.Met, fmt.Sprintf("caught: %s was missed, as it has to be", o.Name)
			case assertions.Met:
				return assertions.Missed, fmt.Sprintf("not caught: %s was met on a weak variant", o.Name)
			default:
				return assertions.Unknown, fmt.Sprintf("%s: %s", o.Name, o.Reason)
			}
		}
	}
	return assertions.Unknown, "the objective it has to miss was not judged"
}

// finish gives the cluster back and closes the report.
func (c *call) finish(ctx context.Context) *reports.Report {
	c.report.Conclude()
	if err := c.lease.release(ctx, c.keep); err != nil {
		c.progress.say("%v", err)
	}
	if c.keep && c.lease.current != nil {
		name := c.lease.current.Name
		c.progress.say("cluster %s is kept: export KUBECONFIG=%s", name, c.lease.current.Kubeconfig)
		if c.request.Cluster == "" {
			c.progress.say("once you have looked: rebound cluster delete %s", name)
		}
	}
	var signal Interruption
	if errors.As(context.Cause(ctx), &signal) {
		c.report.Run.Interrupted = string(signal)
	}
	c.report.Run.FinishedAt = time.Now().UTC()
	c.report.Conclude()
	return c.report
}

func (c *call) describeCluster(cluster *clusters.Cluster, scenario *reports.Scenario) {
	described := &reports.Cluster{Provider: cluster.Provider, Name: cluster.Name, Profile: cluster.Profile.Name,
		KubernetesVersion: cluster.KubernetesVersion, Timers: map[string]string{}}
	for _, timer := range cluster.Profile.Timers() {
		described.Timers[timer.Name] = timer.Value
	}
	for _, node := range cluster.Nodes {
		described.Nodes = append(described.Nodes, node.Name())
	}
	if c.report.Cluster == nil {
		c.report.Cluster = described
	}
	if c.report.Cluster.Name != cluster.Name {
		scenario.Cluster = described
	}
}

// missing returns what a plan's requirements come to on a cluster: nil, ErrMissing, or that it could not be found out.
func (c *call) missing(ctx context.Context, plan *Plan, cluster *clusters.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, cleanLimit)
	defer cancel()
	for _, name := range plan.Requires {
		if err := c.runner.Requirements[name](ctx, cluster); err != nil {
			return fmt.Errorf("requires %s: %w", name, err)
		}
	}
	return nil
}

// ErrMissing: a cluster surely lacks what a scenario requires, so that it is not applicable there.
var ErrMissing = errors.New("not there")

// Requirement tells whether a cluster has what a scenario needs: nil, an ErrMissing that says what is not there, or any
// other error where that could not be found out.
type Requirement func(ctx context.Context, c *clusters.Cluster) error

// Requirements returns what `requires:` may name.
func Requirements() map[string]Requirement {
	return map[string]Requirement{
		"node-access": func(ctx context.Context, c *clusters.Cluster) error {
			if len(c.Nodes) == 0 {
				return fmt.Errorf("%w: its nodes cannot be entered", ErrMissing)
			}
			for _, node := range c.Nodes {
				if _, err := node.Exec(ctx, "true"); err != nil {
					return fmt.Errorf("enter node %s: %w", node.Name(), err)
				}
			}
			return nil
		},
	}
}

// programPath finds the Linux program that runs in the nodes: the named one, $REBOUND_PROGRAM, rebound-linux-ARCH
// beside this program, or this program itself.
func programPath(named string) (string, error) {
	if named == "" {
		named = os.Getenv("REBOUND_PROGRAM")
	}
	if named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", fmt.Errorf("program for the nodes: %w", err)
		}
		return named, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("program for the nodes: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), "rebound-linux-"+runtime.GOARCH)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	if runtime.GOOS != "linux" {
		return "", fmt.Errorf("program for the nodes: %s is not there (run make build, or name one with --program)", beside)
	}
	return self, nil
}

// prepareOut makes the folder for reports and proves that it can be written, before a cluster is made for nothing.
func prepareOut(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder for reports: %w", err)
	}
	probe, err := os.CreateTemp(dir, ".write-*")
	if err != nil {
		return fmt.Errorf("folder for reports: %w", err)
	}
	_, writeErr := probe.Write(make([]byte, 4096))
	if err := errors.Join(writeErr, probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("folder for reports %s: %w", dir, err)
	}
	return nil
}

func newRunID() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	return hex.EncodeToString(b[:])
}

func newSeed(given *int64) int64 {
	if given != nil {
		return *given
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	return int64(binary.LittleEndian.Uint64(b[:]) >> 1)
}

// describer is a provider that can name its container engine.
type describer interface {
	Engine(ctx context.Context) (string, error)
}

func host(ctx context.Context, provider clusters.Provider) reports.Host {
	h := reports.Host{Cores: runtime.NumCPU()}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(release))
	}
	if d, ok := provider.(describer); ok {
		ctx, cancel := context.WithTimeout(ctx, cleanLimit)
		defer cancel()
		if engine, err := d.Engine(ctx); err == nil {
			h.Engine = engine
		}
	}
	return h
}

func parenthesis(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
