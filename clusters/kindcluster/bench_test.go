//go:build cluster

package kindcluster

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/rebound-chaos/rebound/clusters"
)

// BenchmarkCreate makes a cluster with stock kind and one with Rebound, side by side: the same node image, the same
// configuration, and the same readiness check after both. It reports the seconds of each and their ratio.
func BenchmarkCreate(b *testing.B) {
	var stock, ours time.Duration
	for b.Loop() {
		stock += benchStock(b)
		ours += benchOurs(b)
	}
	b.ReportMetric(stock.Seconds()/float64(b.N), "stock-s/op")
	b.ReportMetric(ours.Seconds()/float64(b.N), "rebound-s/op")
	b.ReportMetric(ours.Seconds()/stock.Seconds(), "ratio")
}

func benchOurs(b *testing.B) time.Duration {
	p := newReal(b)
	started := time.Now()
	_, err := p.Create(b.Context(), twoWorkers("bench"))
	took := time.Since(started)
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Delete(b.Context(), "bench"); err != nil {
		b.Fatal(err)
	}
	b.Logf("rebound: %.1f s", took.Seconds())
	return took
}

func benchStock(b *testing.B) (took time.Duration) {
	const name = "stock-bench"
	p := newReal(b)
	b.Setenv(envNetwork, name)
	kind := cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(log.NoopLogger{}))
	kubeconfig := filepath.Join(b.TempDir(), "kubeconfig")
	cfg := stockConfig(b, p, name)
	defer func() {
		if err := kind.Delete(name, kubeconfig); err != nil {
			b.Error(err)
		}
		if _, err := p.engine.output(context.WithoutCancel(b.Context()), "network", "rm", name); err != nil {
			b.Error(err)
		}
	}()
	started := time.Now()
	if err := kind.Create(name, cluster.CreateWithV1Alpha4Config(cfg),
		cluster.CreateWithKubeconfigPath(kubeconfig)); err != nil {
		b.Fatal(err)
	}
	reach, err := (&clusters.Cluster{Name: name, Kubeconfig: kubeconfig}).RESTConfig()
	if err != nil {
		b.Fatal(err)
	}
	api, err := kubernetes.NewForConfig(clusters.Protobuf(reach))
	if err != nil {
		b.Fatal(err)
	}
	if err := (readiness{api: api, nodes: 3}).wait(b.Context(), defaultReadyLimit); err != nil {
		b.Fatal(err)
	}
	took = time.Since(started)
	b.Logf("stock kind: %.1f s", took.Seconds())
	return took
}

// stockConfig is what Rebound would give kind, with the node image as it was given.
func stockConfig(b *testing.B, p *Provider, name string) *v1alpha4.Cluster {
	spec, profile, err := normalise(twoWorkers(name))
	if err != nil {
		b.Fatal(err)
	}
	info, infoErr := p.engine.info(b.Context())
	needs, needsErr := p.host.needs(info)
	c := &creation{Provider: p, spec: spec, log: newRecorder(nil)}
	image, imageErr := c.nodeImage(b.Context())
	cfg, err := kindConfig(spec, profile, image, needs)
	if err := errors.Join(infoErr, needsErr, imageErr, err); err != nil {
		b.Fatal(err)
	}
	return cfg
}
