package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/scenarios"
)

// deleteLimit bounds the deletion of a cluster, so that an engine that hangs does not hold the command for ever.
const deleteLimit = 2 * time.Minute

// lease hands out one cluster at a time: the same one again after a reset where the next scenario asks for the same,
// a new one where it does not or where the reset could not bring it back. A cluster that somebody else made (given is
// set) is reset and never deleted.
type lease struct {
	provider clusters.Provider
	// repair takes back what dead runs still owe on a cluster; it comes before reset, which would find it not as before.
	repair   func(ctx context.Context, c *clusters.Cluster) error
	reset    func(ctx context.Context, c *clusters.Cluster) error
	progress *progress
	// given is the name of a cluster that is up already; name is what ours is called.
	given, name, image string

	current *clusters.Cluster
	key     string
	dirty   bool
	made    int // clusters, so far
}

// get returns a clean cluster of the given spec.
func (l *lease) get(ctx context.Context, spec clusters.Spec) (*clusters.Cluster, error) {
	spec.Image = l.image
	key, err := specKey(spec)
	if err != nil {
		return nil, err
	}
	if l.given != "" {
		return l.getGiven(ctx, spec)
	}
	if l.current != nil && l.key == key {
		err := l.clean(ctx)
		if err == nil {
			return l.current, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		l.progress.say("cluster %s: %v; making a new one", l.name, err)
	}
	if err := l.drop(ctx); err != nil {
		return nil, err
	}
	l.made++
	spec.Name = fmt.Sprintf("%s-%d", l.name, l.made) // a name of its own: ledgers know clusters by their names
	l.progress.say("cluster %s: creating (%d control plane, %d workers, profile %s)",
		spec.Name, spec.ControlPlanes, countWorkers(spec), spec.Profile)
	began := time.Now()
	cluster, err := l.provider.Create(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("create cluster %s: %w", spec.Name, err)
	}
	l.progress.say("cluster %s: usable after %.1f s (Kubernetes %s)", spec.Name, time.Since(began).Seconds(),
		cluster.KubernetesVersion)
	l.current, l.key, l.dirty = cluster, key, false
	return cluster, nil
}

// getGiven returns the cluster that the user named, if it can hold the scenario.
func (l *lease) getGiven(ctx context.Context, spec clusters.Spec) (*clusters.Cluster, error) {
	cluster := l.current
	if cluster == nil {
		var err error
		if cluster, err = l.provider.Get(ctx, l.given); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", l.given, err)
		}
	}
	have := cluster.Spec
	if have.Profile != spec.Profile {
		return nil, fmt.Errorf("cluster %s has profile %s, the scenario asks for %s (run with --profile %s, or make one: "+
			"rebound cluster create NAME --profile %s)", l.given, have.Profile, spec.Profile, have.Profile, spec.Profile)
	}
	if countWorkers(have) < countWorkers(spec) || have.ControlPlanes < spec.ControlPlanes {
		return nil, fmt.Errorf("cluster %s has %d workers and %d control planes, the scenario asks for %d and %d",
			l.given, countWorkers(have), have.ControlPlanes, countWorkers(spec), spec.ControlPlanes)
	}
	for _, group := range spec.Workers {
		if len(group.Labels) > 0 && countLabelled(have, group.Labels) < group.Count {
			return nil, fmt.Errorf("cluster %s lacks %d workers labelled %v", l.given, group.Count, group.Labels)
		}
	}
	if l.current == nil { // it fits: from here on it is ours to use, and what ran on it before is not known
		l.current, l.dirty = cluster, true
	}
	if err := l.clean(ctx); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", l.given, err)
	}
	return l.current, nil
}

// clean resets the cluster if something has run on it since the last time.
func (l *lease) clean(ctx context.Context) error {
	if !l.dirty {
		return nil
	}
	began := time.Now()
	if err := l.repair(ctx, l.current); err != nil {
		return err
	}
	if err := l.reset(ctx, l.current); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	l.dirty = false
	l.progress.say("cluster %s: as before after %.1f s of reset", l.current.Name, time.Since(began).Seconds())
	return nil
}

// release gives the cluster back: a given one is reset, ours is deleted, unless it is kept.
func (l *lease) release(ctx context.Context, keep bool) error {
	if l.current == nil || keep {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteLimit)
	defer cancel()
	if l.given != "" {
		return l.clean(ctx)
	}
	return l.drop(ctx)
}

func (l *lease) drop(ctx context.Context) error {
	if l.current == nil {
		return nil
	}
	// What we made goes, interrupted or not; release tries again what failed here.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteLimit)
	defer cancel()
	name := l.current.Name
	if err := l.provider.Delete(ctx, name); err != nil && !errors.Is(err, clusters.ErrNotFound) {
		return fmt.Errorf("delete cluster %s: %w (take it back: rebound cluster delete %s)", name, err, name)
	}
	l.current = nil
	l.progress.say("cluster %s: deleted", name)
	return nil
}

// specKey is equal for two specs exactly when one cluster serves both.
func specKey(spec clusters.Spec) (string, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("cluster spec: %w", err)
	}
	return string(data), nil
}

func countWorkers(spec clusters.Spec) int {
	n := 0
	for _, group := range spec.Workers {
		n += group.Count
	}
	return n
}

func countLabelled(spec clusters.Spec, labels map[string]string) int {
	n := 0
	for _, group := range spec.Workers {
		merged := maps.Clone(group.Labels)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, labels)
		if maps.Equal(merged, group.Labels) {
			n += group.Count
		}
	}
	return n
}

// clusterSpec is the cluster that a scenario asks for, under a profile that may override its own.
func clusterSpec(s *scenarios.Scenario, profile string) clusters.Spec {
	spec := clusters.Spec{Profile: profile, ControlPlanes: s.Spec.Cluster.ControlPlanes}
	for _, g := range s.Spec.Cluster.Workers {
		spec.Workers = append(spec.Workers, clusters.NodeGroup{Count: g.Count, Labels: g.Labels, Role: g.Role})
	}
	return spec
}
