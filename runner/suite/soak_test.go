//go:build soak

package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/clusters/kindcluster"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/pods"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/runner"
	"github.com/rebound-chaos/rebound/runner/cli"
	"github.com/rebound-chaos/rebound/scenarios"
)

// soakRuns is how many outages the two samplers have to agree on, every one of them.
const soakRuns = 20

// TestOutageAgreesWithTheWitness plays pod-kill-single twenty times while an independent sampler asks from the same
// node: the interval of the one and that of the other must have a point in common, each time.
func TestOutageAgreesWithTheWitness(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	faults, err := injectors.NewRegistry(pods.Faults()...)
	must(t, err)
	provider, err := kindcluster.New()
	must(t, err)
	cluster, err := provider.Create(ctx, clusters.Spec{Name: fmt.Sprintf("soak-%d", os.Getpid()),
		Profile: clusters.ProfileFast, ControlPlanes: 1, Workers: []clusters.NodeGroup{{Count: 2}}})
	must(t, err)
	defer func() { must(t, provider.Delete(context.WithoutCancel(ctx), cluster.Name)) }()
	shipped, err := cli.Shipped(ctx, faults)
	must(t, err)
	var single []*scenarios.Scenario
	for _, s := range shipped {
		if s.Metadata.Name == "pod-kill-single" {
			single = append(single, s)
		}
	}
	r := &runner.Runner{Provider: provider, ProviderName: "kind", Faults: faults, Reset: clusters.Reset,
		Requirements: runner.Requirements(), Progress: io.Discard, Version: "soak"}
	program := buildWitness(t)
	agreed := 0
	for i := range soakRuns {
		seen := make(chan sighting, 1)
		watchCtx, stop := context.WithCancel(ctx)
		go func() { seen <- watch(watchCtx, cluster, program) }()
		report, err := r.Run(ctx, runner.Request{Scenarios: single, Out: t.TempDir(), Cluster: cluster.Name, Repeat: 1})
		stop()
		must(t, err)
		witness := <-seen
		must(t, witness.err)
		agreed += compare(t, i, report, witness)
	}
	t.Logf("%d of %d outages agree", agreed, soakRuns)
	if agreed != soakRuns {
		t.Fail()
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compare returns 1 where the longest outage of the report and the witness's have a point in common.
func compare(t *testing.T, i int, report *reports.Report, witness sighting) int {
	t.Helper()
	if report.ExitCode != reports.ExitMet {
		t.Errorf("run %d: %s: %s", i, report.Verdict, report.Scenarios[0].Reason)
		return 0
	}
	var longest reports.Outage
	for _, o := range report.Scenarios[0].Runs[0].Probes[0].Outages {
		if o.HiSeconds != nil && (longest.HiSeconds == nil || *o.HiSeconds > *longest.HiSeconds) {
			longest = o
		}
	}
	if longest.HiSeconds == nil {
		t.Errorf("run %d: the report shows no outage, the witness [%.3f, %.3f] s", i, witness.Lo, witness.Hi)
		return 0
	}
	t.Logf("run %2d: rebound [%.3f, %.3f] s, witness [%.3f, %.3f] s (%d of %d bad)", i, longest.LoSeconds,
		*longest.HiSeconds, witness.Lo, witness.Hi, witness.Bad, witness.Asked)
	if longest.LoSeconds > witness.Hi || witness.Lo > *longest.HiSeconds {
		t.Errorf("run %d: the intervals have no point in common", i)
		return 0
	}
	return 1
}

// sighting is what the witness printed.
type sighting struct {
	Lo, Hi     float64
	Bad, Asked int
	err        error
}

func buildWitness(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "witness")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./witness")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the witness: %v\n%s", err, out)
	}
	program, err := os.ReadFile(path)
	must(t, err)
	return program
}

// watch waits for the demo's service, then has the witness ask for it from the first worker until ctx ends.
func watch(ctx context.Context, cluster *clusters.Cluster, program []byte) sighting {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	address, err := demoAddress(ctx, cluster)
	if err != nil {
		return sighting{err: err}
	}
	node, err := cluster.Node(vantageOf(cluster))
	if err != nil {
		return sighting{err: err}
	}
	stream, ok := node.(clusters.Streamer)
	if !ok {
		return sighting{err: fmt.Errorf("node %s cannot be streamed to", node.Name())}
	}
	const path = "/usr/local/bin/rebound-witness" // /run is mounted noexec
	if err := stream.Stream(limit, bytes.NewReader(program), nil, "dd", "status=none", "of="+path); err != nil {
		return sighting{err: err}
	}
	defer func() { _, _ = node.Exec(limit, "rm", "-f", path) }() // the cluster is deleted anyway
	if _, err := node.Exec(limit, "chmod", "0755", path); err != nil {
		return sighting{err: err}
	}
	stdin, end := io.Pipe()
	context.AfterFunc(ctx, func() { _ = end.Close() })
	var out bytes.Buffer
	if err := stream.Stream(limit, stdin, &out, path, address); err != nil {
		return sighting{err: err}
	}
	var s sighting
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return sighting{err: fmt.Errorf("witness said %q: %w", out.String(), err)}
	}
	return s
}

// vantageOf is the node that Rebound asks from where a scenario names none: the first worker by name.
func vantageOf(cluster *clusters.Cluster) string {
	first := ""
	for _, node := range cluster.Nodes {
		if name := node.Name(); bytes.Contains([]byte(name), []byte("worker")) && (first == "" || name < first) {
			first = name
		}
	}
	return first
}

// demoAddress waits for the demo's service of the run that has just begun: the newest one, in a namespace that stays.
func demoAddress(ctx context.Context, cluster *clusters.Cluster) (string, error) {
	config, err := cluster.RESTConfig()
	if err != nil {
		return "", err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", err
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		namespaces, err := api.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: clusters.LabelManaged + "=true"})
		if err != nil {
			return "", err
		}
		for i := range namespaces.Items {
			if namespaces.Items[i].DeletionTimestamp != nil {
				continue
			}
			service, err := api.CoreV1().Services(namespaces.Items[i].Name).Get(ctx, "demo", metav1.GetOptions{})
			if err == nil && service.Spec.ClusterIP != "" {
				return service.Spec.ClusterIP + ":80", nil
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}
