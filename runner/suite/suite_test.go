//go:build cluster

package suite

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/clusters/kindcluster"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/pods"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/runner"
	"github.com/rebound-chaos/rebound/runner/cli"
	"github.com/rebound-chaos/rebound/scenarios"
)

// grace is longer than everything that a run does after it was interrupted: a shorter one would start the next spec
// with the fault still on.
const grace = 3 * time.Minute

func TestSuite(t *testing.T) {
	RegisterFailHandler(Fail)
	suiteConfig, reporterConfig := GinkgoConfiguration()
	suiteConfig.GracePeriod = grace
	RunSpecs(t, "scenarios on a real cluster", suiteConfig, reporterConfig)
}

var (
	faults   injectors.Registry
	provider clusters.Provider
	cluster  *clusters.Cluster
)

var _ = BeforeSuite(func(ctx SpecContext) {
	Expect(os.Getenv("REBOUND_PROGRAM")).To(BeAnExistingFile(), "make test-real names the program for the nodes")
	var err error
	provider, err = kindcluster.New(kindcluster.WithProgress(GinkgoWriter))
	Expect(err).NotTo(HaveOccurred())
	cluster, err = provider.Create(ctx, clusters.Spec{Name: fmt.Sprintf("suite-%d", os.Getpid()), Profile: clusters.ProfileFast,
		ControlPlanes: 1, Workers: []clusters.NodeGroup{{Count: 2}}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) {
		Expect(provider.Delete(ctx, cluster.Name)).To(Succeed())
	}, NodeTimeout(2*time.Minute))
}, NodeTimeout(10*time.Minute))

// shipped loads every shipped scenario, when the tree of specs is built.
func shipped() []*scenarios.Scenario {
	registry, err := injectors.NewRegistry(pods.Faults()...)
	if err != nil {
		panic(err) // a defect of the build, before any spec can fail
	}
	faults = registry
	loaded, err := cli.Shipped(context.Background(), registry)
	if err != nil {
		panic(err)
	}
	return loaded
}

func newRunner(progress *progressWriter) *runner.Runner {
	return &runner.Runner{Provider: provider, ProviderName: "kind", Faults: faults, Reset: clusters.Reset,
		Requirements: runner.Requirements(), Progress: progress, Version: "suite"}
}

// progressWriter passes what the runner says on to Ginkgo, and calls seen with each line.
type progressWriter struct{ seen func(line string) }

func (w *progressWriter) Write(text []byte) (int, error) {
	if w.seen != nil {
		w.seen(string(text))
	}
	return GinkgoWriter.Write(text)
}

var _ = Describe("the library", func() {
	for _, scenario := range shipped() {
		It(scenario.Metadata.Name+" is met, and its twins are caught", Label(labels(scenario)...), func(ctx SpecContext) {
			out := GinkgoT().TempDir()
			report, err := newRunner(&progressWriter{}).Run(ctx, runner.Request{
				Scenarios: []*scenarios.Scenario{scenario}, Out: out, Cluster: cluster.Name, Twins: true,
			})
			Expect(err).NotTo(HaveOccurred())
			Expect(report.WriteTable(GinkgoWriter)).To(Succeed())
			Expect(report.ExitCode).To(Equal(reports.ExitMet), "verdict %s", report.Verdict)
			Expect(report.Scenarios).To(HaveLen(1 + len(scenario.Spec.Twins)))
			for _, s := range report.Scenarios {
				Expect(s.Verdict).To(Equal(assertions.Met), "%s: %s", s.Name, s.Reason)
			}
			expectSound(report.Scenarios[0], out)
			Expect(clusters.Reset(ctx, cluster)).To(Succeed(), "the cluster is as before")
		}, SpecTimeout(15*time.Minute))
	}
})

// expectSound checks what holds for every scenario that was met, by physics and not by timing.
func expectSound(s reports.Scenario, out string) {
	GinkgoHelper()
	for _, run := range s.Runs {
		Expect(run.Steps).NotTo(BeEmpty())
		for _, step := range run.Steps {
			Expect(step.Targets).NotTo(BeEmpty())
			Expect(step.EffectiveAtSeconds).NotTo(BeNil(), "effect of %s is proven", step.Name)
			Expect(*step.EffectiveAtSeconds).To(BeNumerically(">=", step.AtSeconds))
		}
		for _, o := range run.Objectives {
			Expect(o.Lo).NotTo(BeNil(), o.Name)
			Expect(*o.Lo).To(BeNumerically(">=", 0), o.Name)
			Expect(o.Hi).NotTo(BeNil(), o.Name)
			Expect(*o.Hi).To(BeNumerically(">=", *o.Lo), o.Name)
		}
		Expect(run.Probes).NotTo(BeEmpty())
		Expect(out + "/" + run.Timeline).To(BeAnExistingFile())
	}
}

func labels(s *scenarios.Scenario) []string {
	var out []string
	for key, value := range s.Metadata.Labels {
		out = append(out, key+"="+value)
	}
	return out
}

var _ = Describe("an interruption", func() {
	DescribeTable("heals, cleans up and writes a valid partial report", func(ctx SpecContext, when string) {
		ctx2, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		scenario := shipped()[0]
		report, err := newRunner(&progressWriter{seen: func(line string) {
			if strings.Contains(line, when) {
				cancel(runner.Interruption("interrupt"))
			}
		}}).Run(ctx2, runner.Request{Scenarios: []*scenarios.Scenario{scenario}, Out: GinkgoT().TempDir(),
			Cluster: cluster.Name, Repeat: 2})
		Expect(err).NotTo(HaveOccurred())
		Expect(report.ExitCode).To(Equal(reports.ExitInterrupted))
		Expect(report.Leftovers).To(BeEmpty())
		Expect(report.Scenarios).To(HaveLen(1))
		Expect(report.Scenarios[0].Verdict).To(Equal(assertions.Unknown))
		before := time.Now()
		Expect(clusters.Reset(ctx, cluster)).To(Succeed())
		AddReportEntry("reset after the interruption", time.Since(before).String())
	},
		Entry("once the cluster is reset", "as before after", SpecTimeout(5*time.Minute)),
		Entry("once it is steady", "steady after", SpecTimeout(5*time.Minute)),
		Entry("once a pod is killed", "kill: kill-pod", SpecTimeout(5*time.Minute)),
	)
})
