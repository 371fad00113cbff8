package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"k8s.io/client-go/kubernetes"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
)

// world is what injectors may touch of one cluster.
type world struct {
	kube    *kube
	cluster *clusters.Cluster
}

// API returns the typed client of the cluster under test.
func (w *world) API() kubernetes.Interface { return w.kube.api }

// Node returns a machine of the cluster.
func (w *world) Node(name string) (injectors.Node, error) { return w.cluster.Node(name) }

// ledgerDir is where ledgers lie, beside the state of the clusters.
func ledgerDir() (string, error) {
	state, err := clusters.StateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(state, "ledgers"), nil
}

// repairDead takes back what dead runs still owe on a cluster, before anything new is broken on it. Ledgers that are about
// other clusters are let go at once; what is wrong with those is told, and is not this run's business.
func (c *call) repairDead(ctx context.Context, cluster *clusters.Cluster) (err error) {
	dir, err := ledgerDir()
	if err != nil {
		return err
	}
	dead, err := injectors.Dead(dir)
	if err != nil {
		c.progress.say("ledgers of dead runs: %v", err)
	}
	var own []*injectors.Ledger
	for _, ledger := range dead {
		if ledger.Header().Cluster == cluster.Name {
			own = append(own, ledger)
		} else if err := ledger.Close(); err != nil {
			c.progress.say("ledger of run %s: %v", ledger.Header().Run, err)
		}
	}
	if len(own) == 0 {
		return nil
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		return fmt.Errorf("repair of dead runs: %w", err)
	}
	k, err := newKube(config)
	if err != nil {
		return fmt.Errorf("repair of dead runs: %w", err)
	}
	var failed error
	for _, ledger := range own {
		run := ledger.Header().Run
		c.progress.say("cluster %s: repairing what run %s left behind (%d undos)", cluster.Name, run, len(ledger.Owed()))
		for _, left := range injectors.ReplayLedger(ctx, ledger, c.runner.Faults, &world{kube: k, cluster: cluster}) {
			failed = errors.Join(failed, fmt.Errorf("still owed by run %s: %v", run, left))
		}
		failed = errors.Join(failed, ledger.Close())
	}
	if failed != nil {
		return fmt.Errorf("repair of dead runs: %w", failed)
	}
	return nil
}
