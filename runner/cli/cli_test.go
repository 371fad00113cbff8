package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/pods"
	"github.com/rebound-chaos/rebound/reports"
)

// fakeProvider has no clusters; create decides what making one comes to.
type fakeProvider struct {
	create func(ctx context.Context) error
}

func (f fakeProvider) Create(ctx context.Context, _ clusters.Spec) (*clusters.Cluster, error) {
	return nil, f.create(ctx)
}
func (fakeProvider) Get(context.Context, string) (*clusters.Cluster, error) {
	return nil, clusters.ErrNotFound
}
func (fakeProvider) Delete(context.Context, string) error { return clusters.ErrNotFound }

// buffer can be written to by a command that goes on after Main has returned.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// outcome is what one command line came to.
type outcome struct {
	code           int
	stdout, stderr string
}

func command(t *testing.T, stdin string, signals <-chan string, create func(ctx context.Context) error, args ...string) outcome {
	t.Helper()
	faults, err := injectors.NewRegistry(pods.Faults()...)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr buffer
	code := Main(t.Context(), &Config{
		Version: "v1", Commit: "abc", Faults: faults, Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		Signals: signals,
		Providers: map[string]func() (clusters.Provider, error){
			"kind": func() (clusters.Provider, error) { return fakeProvider{create}, nil },
		},
	}, args)
	return outcome{code, stdout.String(), stderr.String()}
}

const valid = `apiVersion: rebound/v1alpha1
kind: Scenario
metadata: {name: mine, mechanism: replicaset, labels: {tier: nightly}}
spec:
  workloads: {web: {demo: {replicas: 1}}}
  probes: [{name: front, http: {service: web/demo, path: /}}]
  steady: {workload: web/deployment/demo, ready: all}
  steps: [{name: kill, kill-pod: {}, target: {pods: {owner: web/deployment/demo}, take: 1}}]
  objectives: [{name: traffic, reach: {probe: front, ok: true}, within: 10s}]
`

func TestCommands(t *testing.T) {
	for name, test := range map[string]struct {
		args   []string
		stdin  string
		code   int
		stdout string // a part of it
		stderr string
	}{
		"help":                    {[]string{"--help"}, "", 0, "Exit codes", ""},
		"version":                 {[]string{"version"}, "", 0, "rebound v1 (abc)", ""},
		"list by name":            {[]string{"list", "-o", "name"}, "", 0, "pod-kill-single\n", ""},
		"list of a format":        {[]string{"list", "-o", "xml"}, "", 2, "", "want table or name"},
		"validate from stdin":     {[]string{"validate", "-f", "-"}, valid, 0, "-: valid (mine)", ""},
		"plan":                    {[]string{"plan", "-f", "-"}, valid, 0, "1 of the pods owned by web/deployment/demo", ""},
		"plan of the merged file": {[]string{"plan", "-f", "-", "--show-merged"}, valid, 0, "name: mine", ""},
		"an invalid file names the place": {[]string{"run", "-f", "-"}, strings.Replace(valid, "take: 1", "tke: 1", 1), 2, "",
			`-:8:83: unknown key "tke"`},
		"an unknown scenario":       {[]string{"run", "pod-kil"}, "", 2, "", "pod-kill"},
		"an unknown file":           {[]string{"validate", "-f", "nowhere.yaml"}, "", 2, "", "nowhere.yaml"},
		"an unknown command":        {[]string{"brake"}, "", 2, "", "unknown command"},
		"an unknown provider":       {[]string{"run", "--provider", "cloud", "-f", "-"}, valid, 2, "", `"cloud"`},
		"no scenario with a label":  {[]string{"run", "-f", "-", "--label", "tier=smoke"}, valid, 2, "", "tier=smoke"},
		"an unknown profile":        {[]string{"plan", "-f", "-", "--profile", "slow"}, valid, 2, "", "slow"},
		"a cluster that is not":     {[]string{"cluster", "kubeconfig", "gone"}, "", 3, "", "gone: not found"},
		"deleting what is not":      {[]string{"cluster", "delete", "gone"}, "", 3, "", "gone: not found"},
		"an unknown schema":         {[]string{"schema", "tapestry"}, "", 2, "", "tapestry"},
		"a negative repeat":         {[]string{"run", "-f", "-", "--repeat", "-1"}, valid, 2, "", "--repeat"},
		"a report that can't be":    {[]string{"run", "-f", "-", "--out", "/dev/null/x"}, valid, 3, "", "folder for reports"},
		"a program that can't be":   {[]string{"run", "-f", "-", "--program", "/nowhere"}, valid, 2, "", "/nowhere"},
		"a switch of the demo":      {[]string{"demo", "--help"}, "", 0, "REBOUND_DEMO_START_DELAY", ""},
		"a prober without a config": {[]string{"prober"}, "", 2, "", "--config"},
	} {
		t.Run(name, func(t *testing.T) {
			got := command(t, test.stdin, nil, nil, test.args...)
			if got.code != test.code || !strings.Contains(got.stdout, test.stdout) || !strings.Contains(got.stderr, test.stderr) {
				t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", got.code, test.code, got.stdout, got.stderr)
			}
		})
	}
}

func TestSchemaIsJSON(t *testing.T) {
	got := command(t, "", nil, nil, "schema")
	var schema map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &schema); err != nil || schema["$schema"] != "http://json-schema.org/draft-07/schema#" {
		t.Errorf("schema: %v, $schema %v", err, schema["$schema"])
	}
}

// readReport reads what a run left in its folder.
func readReport(t *testing.T, out string) *reports.Report {
	t.Helper()
	file, err := os.Open(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	report, err := reports.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestRunWithoutAnEngineReportsIt(t *testing.T) {
	out := t.TempDir()
	got := command(t, valid, nil, func(context.Context) error { return clusters.ErrNoEngine }, "run", "-f", "-", "--out", out)
	if got.code != reports.ExitNotInjected || !strings.Contains(got.stdout, clusters.ErrNoEngine.Error()) {
		t.Errorf("exit code %d, want 3 and the reason\n%s%s", got.code, got.stdout, got.stderr)
	}
	if report := readReport(t, out); report.ExitCode != reports.ExitNotInjected || len(report.Scenarios) != 1 {
		t.Errorf("report: exit code %d, %d scenarios", report.ExitCode, len(report.Scenarios))
	}
}

func TestSignals(t *testing.T) {
	began := make(chan struct{})
	create := func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	signals, out := make(chan string), t.TempDir()
	go func() {
		<-began
		signals <- "interrupt"
	}()
	got := command(t, valid, signals, create, "run", "-f", "-", "--out", out)
	if got.code != reports.ExitInterrupted || !strings.Contains(got.stderr, "healing and cleaning up") {
		t.Errorf("exit code %d, want 130\n%s", got.code, got.stderr)
	}
	if report := readReport(t, out); report.Run.Interrupted != "interrupt" || report.ExitCode != reports.ExitInterrupted {
		t.Errorf("report: interrupted %q, exit code %d", report.Run.Interrupted, report.ExitCode)
	}
}

func TestASecondSignalLeavesAtOnce(t *testing.T) {
	began, release, out := make(chan struct{}), make(chan struct{}), t.TempDir()
	create := func(context.Context) error {
		close(began)
		<-release // an engine that hangs
		return errors.New("too late")
	}
	signals := make(chan string)
	go func() {
		<-began
		signals <- "terminated"
		signals <- "terminated"
	}()
	done := make(chan outcome, 1)
	go func() { done <- command(t, valid, signals, create, "run", "-f", "-", "--out", out) }()
	select {
	case got := <-done:
		if got.code != reports.ExitTerminated {
			t.Errorf("exit code %d, want 143", got.code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the second signal did not end the command")
	}
	close(release)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(out, "report.json")); err == nil {
			return // what was left behind has ended too, and lets go of the folder
		}
	}
	t.Error("the abandoned command did not end")
}

// TestReadmeScenarioIsValid holds the README to what the program accepts.
func TestReadmeScenarioIsValid(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("the README shows no scenario")
	}
	if got := command(t, string(block[1]), nil, nil, "validate", "-f", "-"); got.code != 0 {
		t.Errorf("the README's scenario is invalid:\n%s", got.stderr)
	}
}
