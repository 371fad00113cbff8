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

// repairDead takes back what dead runs still owe on this cluster, before anything new is broken.
func repairDead(ctx context.Context, dir, cluster string, faults injectors.Registry, w injectors.World, out *progress) (
	err error) {
	dead, err := injectors.Dead(dir)
	for _, ledger := range dead {
		if ledger.Header().Cluster == cluster {
			out.say("cluster %s: repairing what run %s left behind (%d undos)", cluster, ledger.Header().Run,
				len(ledger.Owed()))
			for _, left := range injectors.ReplayLedger(ctx, ledger, faults, w) {
				err = errors.Join(err, fmt.Errorf("still owed by run %s: %v", ledger.Header().Run, left))
			}
		}
		err = errors.Join(err, ledger.Close())
	}
	if err != nil {
		return fmt.Errorf("repair of dead runs: %w", err)
	}
	return nil
}
