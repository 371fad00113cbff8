// Package kindcluster makes clusters with kind, in the containers of a Docker engine.
//
// What is ours can be told from what is not at any time, without a file: each cluster has a node image of its own (the
// given one and two labels), a network of its own, and containers that inherit the image's labels, LabelManaged and
// LabelCluster. Only what carries both is ever changed or removed, so that kind clusters of the user's are safe even
// under a name of ours. The user's kubeconfig is neither read nor written. Beside the engine there is one folder for
// each cluster (its kubeconfig, spec and fingerprint), whose lock keeps two processes off one name.
//
// Make one Provider a process: kind takes the network's name from the environment, so that one Provider makes its
// clusters one after the other. Faults are left to the injectors, and "as before" to package clusters.
package kindcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/rebound-chaos/rebound/clusters"
)

// Name is the provider's name, as `--provider` and reports spell it.
const Name = "kind"

const labelTrue = "true"

// Provider makes, finds and removes kind clusters.
type Provider struct {
	engine   engine
	host     surroundings
	store    store
	progress io.Writer
	ready    time.Duration
	kind     kindCreator

	// creating is held while kind reads the name of its network from the environment: see the package comment.
	creating chan struct{}
}

var (
	_ clusters.Provider    = (*Provider)(nil)
	_ clusters.Lister      = (*Provider)(nil)
	_ clusters.ImageSource = (*Provider)(nil)
)

// Option changes a new Provider.
type Option func(*Provider)

// WithProgress has the steps of a creation written to w, a line each, with the seconds since its beginning; when it
// fails, the end of kind's log as well. w is written to from one goroutine at a time.
func WithProgress(w io.Writer) Option { return func(p *Provider) { p.progress = w } }

// WithState keeps the clusters' folders below dir, not in clusters.StateDir.
func WithState(dir string) Option {
	return func(p *Provider) { p.store.root = filepath.Join(dir, "clusters") }
}

// WithReadyLimit sets how long a new cluster may take, after kind is done with it, to become usable; 3 minutes by
// default.
func WithReadyLimit(limit time.Duration) Option { return func(p *Provider) { p.ready = limit } }

// defaultReadyLimit is generous: on two busy cores the last pod is ready after half a minute.
const defaultReadyLimit = 3 * time.Minute

// New returns a provider; it touches nothing yet. An error means that there is no place for the state folder.
func New(options ...Option) (*Provider, error) {
	p := &Provider{engine: engine{run: runDocker}, host: here(), ready: defaultReadyLimit, kind: createWithKind,
		creating: make(chan struct{}, 1)}
	for _, option := range options {
		option(p)
	}
	if p.store.root == "" {
		dir, err := clusters.StateDir()
		if err != nil {
			return nil, err
		}
		WithState(dir)(p)
	}
	return p, nil
}

// SaveImage writes a local image of the engine as an archive; clusters.ErrNoImage where there is none of that name.
func (p *Provider) SaveImage(ctx context.Context, ref string, out io.Writer) error {
	err := p.engine.run(ctx, nil, out, "image", "save", ref)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if _, missing := p.engine.output(ctx, "image", "inspect", "--format", "{{.Id}}", ref); missing != nil {
		return fmt.Errorf("%w: %s is no image of this engine (build it, or pull it, first)", clusters.ErrNoImage, ref)
	}
	return err
}

// Engine names the container engine and its version, for reports.
func (p *Provider) Engine(ctx context.Context) (string, error) {
	info, err := p.engine.info(ctx)
	if err != nil {
		return "", err
	}
	return "docker " + info.ServerVersion, nil
}

// ours lists the containers of one of our clusters, in the order of their names.
func (p *Provider) ours(ctx context.Context, name string) ([]container, error) {
	found, err := p.containers(ctx, marks(name)...)
	slices.SortFunc(found, func(a, b container) int { return strings.Compare(a.name, b.name) })
	return found, err
}

// containers is engine.containers, which says ErrNoEngine where that is the reason.
func (p *Provider) containers(ctx context.Context, labels ...string) ([]container, error) {
	found, err := p.engine.containers(ctx, labels...)
	if err == nil || ctx.Err() != nil {
		return found, err
	}
	if _, failed := p.engine.info(ctx); failed != nil {
		return nil, failed
	}
	return nil, err
}

// marks are the labels, as a filter writes them, of everything that belongs to one of our clusters.
func marks(name string) []string {
	return []string{clusters.LabelManaged + "=" + labelTrue, clusters.LabelCluster + "=" + name}
}

// Get returns the named cluster: ErrNotFound where Rebound made none of that name. Where its nodes or its API server do
// not answer, the error is ErrUnreachable, with the next step, and the cluster is returned beside it.
func (p *Provider) Get(ctx context.Context, name string) (*clusters.Cluster, error) {
	cluster, err := p.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return cluster, cluster.Problem
}

// List returns every cluster that Rebound made here, by name; Problem is set on those that are dead or unfinished.
func (p *Provider) List(ctx context.Context) ([]*clusters.Cluster, error) {
	names, err := p.store.names()
	if err != nil {
		return nil, err
	}
	found, err := p.containers(ctx, clusters.LabelManaged+"="+labelTrue)
	if err != nil {
		return nil, err
	}
	for _, container := range found {
		// A container made by hand may carry the label without being a node of a cluster.
		if name, isOurs := strings.CutPrefix(container.cluster, prefix); isOurs {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	list := make([]*clusters.Cluster, len(names))
	group, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		group.Go(func() error {
			cluster, err := p.find(ctx, name)
			if errors.Is(err, clusters.ErrNotFound) {
				return nil // deleted at this moment
			}
			list[i] = cluster
			return err
		})
	}
	err = group.Wait()
	return slices.DeleteFunc(list, func(c *clusters.Cluster) bool { return c == nil }), err
}

// find returns the cluster, dead or alive.
func (p *Provider) find(ctx context.Context, name string) (*clusters.Cluster, error) {
	found, err := p.ours(ctx, name)
	if err != nil {
		return nil, err
	}
	kept, finished, err := p.store.readRecord(name)
	if err != nil {
		return nil, err
	}
	exists, err := p.store.exists(name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && !exists {
		return nil, fmt.Errorf("cluster %q: %w", name, clusters.ErrNotFound)
	}
	cluster := p.describe(name, kept, found)
	if !finished {
		cluster.Problem = dead(name, "it was never finished, or is being made at this moment")
		return cluster, nil
	}
	if cluster.Profile, err = clusters.ProfileByName(kept.Spec.Profile); err != nil {
		return nil, err
	}
	if problem := nodesProblem(kept.Spec, found); problem != "" {
		cluster.Problem = dead(name, problem)
		return cluster, nil
	}
	version, err := version(ctx, cluster)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		cluster.Problem = fmt.Errorf("%w (%w)", dead(name, "its nodes are running"), err)
	}
	cluster.KubernetesVersion = version
	return cluster, nil
}

func version(ctx context.Context, cluster *clusters.Cluster) (string, error) {
	cfg, err := cluster.RESTConfig()
	if err != nil {
		return "", err
	}
	api, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return "", err
	}
	return answers(ctx, api)
}

func dead(name, reason string) error {
	return fmt.Errorf("cluster %q: %w: %s: `rebound repair --cluster %s` heals what a run has left, `rebound cluster "+
		"delete %s` removes it", name, clusters.ErrUnreachable, reason, name, name)
}

// nodesProblem says which of the cluster's containers are not there or not running.
func nodesProblem(spec clusters.Spec, found []container) string {
	var stopped []string
	for _, container := range found {
		if !container.running() {
			stopped = append(stopped, container.name+" is "+container.state)
		}
	}
	if want := nodeCount(spec); len(found) < want {
		stopped = append(stopped, fmt.Sprintf("%d of %d containers are there", len(found), want))
	}
	return strings.Join(stopped, ", ")
}

// describe fills in what is known without asking the cluster.
func (p *Provider) describe(name string, kept record, found []container) *clusters.Cluster {
	kept.Spec.Name = name
	state := p.store.dir(name)
	cluster := &clusters.Cluster{Name: name, Provider: Name, Spec: kept.Spec, State: state,
		Kubeconfig: filepath.Join(state, clusters.FileKubeconfig)}
	for _, container := range found {
		if container.cluster == kindName(name) { // not the one that the node image is made with
			cluster.Nodes = append(cluster.Nodes, &Node{engine: p.engine, container: container.name, role: container.role})
		}
	}
	return cluster
}

// Delete removes the cluster, dead or alive: its containers, network, node image and files. Deleting what is not there
// is ErrNotFound, and what another process is making, ErrBusy.
func (p *Provider) Delete(ctx context.Context, name string) error {
	if err := validateName(name); err != nil {
		return err
	}
	exists, err := p.store.exists(name)
	if err != nil {
		return err
	}
	found, err := p.ours(ctx, name)
	if err != nil {
		return err
	}
	if !exists && len(found) == 0 {
		return fmt.Errorf("cluster %q: %w", name, clusters.ErrNotFound)
	}
	release, err := p.store.lock(name)
	if err != nil {
		return err
	}
	err = p.sweep(ctx, name)
	if err == nil {
		err = p.store.remove(name)
	}
	return errors.Join(err, release())
}

// sweepInterval is the pause between two tries to remove what the engine is still busy with.
const sweepInterval = 300 * time.Millisecond

// sweep removes all that the engine has of a cluster: containers, network, image. It comes back when nothing is left
// and nothing can follow: a `docker run` of kind's may still be under way when kind has given up, but once the
// cluster's own image is gone none can begin.
func (p *Provider) sweep(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanLimit)
	defer cancel()
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for clean := 0; ; {
		left, err := p.sweepOnce(ctx, name)
		if clean++; left || err != nil {
			clean = 0
		}
		// Twice in a row: the engine may have looked the image up just before it was removed.
		if clean == 2 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("remove cluster %q: %w: `rebound cluster delete %s` tries again",
				name, context.Cause(ctx), name), err)
		case <-ticker.C:
		}
	}
}

// sweepOnce reports whether it found something.
func (p *Provider) sweepOnce(ctx context.Context, name string) (left bool, err error) {
	found, err := p.removeContainers(ctx, name)
	if err != nil {
		return true, err
	}
	networks, err := p.engine.ids(ctx, "network", marks(name)...)
	if err != nil {
		return true, err
	}
	if len(networks) > 0 {
		if _, err := p.engine.output(ctx, append([]string{"network", "rm"}, networks...)...); err != nil {
			return true, err
		}
	}
	images, err := p.engine.ids(ctx, "image", marks(name)...)
	if err != nil {
		return true, err
	}
	if len(images) > 0 {
		args := append([]string{"image", "rm", "--no-prune"}, slices.Compact(images)...)
		if _, err := p.engine.output(ctx, args...); err != nil {
			return true, err
		}
	}
	return found+len(networks)+len(images) > 0, nil
}

// removeContainers removes the containers of a cluster, in any state, with their volumes; it returns how many it found.
func (p *Provider) removeContainers(ctx context.Context, name string) (int, error) {
	found, err := p.ours(ctx, name)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	args := []string{"rm", "--force", "--volumes"}
	for _, container := range found {
		args = append(args, container.id)
	}
	_, err = p.engine.output(ctx, args...)
	return len(found), err
}
