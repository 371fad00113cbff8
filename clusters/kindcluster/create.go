package kindcluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/exec"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/rebound-chaos/rebound/clusters"
)

const (
	// EnvNodeImage names the node image where a spec does not.
	EnvNodeImage = "REBOUND_NODE_IMAGE"
	// LabelNodeImage is the label of a node image that was built on this machine; the newest is used where none is
	// named.
	LabelNodeImage = "dev.rebound.node-image"

	// imageName is what the clusters' own node images are called. Nothing is ever pulled from that name.
	imageName = "localhost/rebound-node"
	// envNetwork is where kind reads the name of the network to use.
	envNetwork = "KIND_EXPERIMENTAL_DOCKER_NETWORK"

	// groundLimit bounds a few small commands of the engine.
	groundLimit = time.Minute
	// cleanLimit bounds the removal of what a failed or cancelled creation has made.
	cleanLimit = 2 * time.Minute
	// logLines of kind's log are shown when it fails.
	logLines = 40
)

// kindCreator is kind's Create: it takes no context. It is a function so that tests can do without kind.
type kindCreator func(logger log.Logger, cfg *v1alpha4.Cluster, kubeconfig string) error

func createWithKind(logger log.Logger, cfg *v1alpha4.Cluster, kubeconfig string) error {
	provider := cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(logger))
	return provider.Create(cfg.Name,
		cluster.CreateWithV1Alpha4Config(cfg),
		cluster.CreateWithKubeconfigPath(kubeconfig),
		cluster.CreateWithRetain(true), // what failed is removed here, where a failure to do so is not lost
	)
}

// Create makes a cluster and returns once it is usable: every node Ready, CoreDNS, kube-proxy and the network up, the
// default service account there, and the fingerprint taken. An empty profile means fast, no control planes 1.
// When it fails or ctx ends, nothing of it is left behind; what could not be removed is part of the error.
func (p *Provider) Create(ctx context.Context, spec clusters.Spec) (made *clusters.Cluster, err error) {
	spec, profile, err := normalise(spec)
	if err != nil {
		return nil, err
	}
	info, err := p.engine.info(ctx)
	if err != nil {
		return nil, err
	}
	release, err := p.store.lock(spec.Name)
	if errors.Is(err, clusters.ErrBusy) {
		return nil, fmt.Errorf("%w: %w", clusters.ErrNameTaken, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	c := &creation{Provider: p, spec: spec, profile: profile, info: info, log: newRecorder(p.progress)}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(err, p.store.discard(spec.Name))
	}
	if made, err = c.run(ctx); err != nil {
		return nil, errors.Join(err, c.undo(ctx))
	}
	return made, nil
}

// creation is one cluster being made.
type creation struct {
	*Provider
	spec    clusters.Spec
	profile clusters.Profile
	info    engineInfo
	log     *recorder
	base    string // the node image that was asked for
	host    host
}

// prepare checks everything that can be checked beforehand and changes nothing but what a killed creation left behind.
func (c *creation) prepare(ctx context.Context) error {
	if err := c.nameIsFree(ctx); err != nil {
		return err
	}
	local, err := c.engine.localEngine(ctx)
	if err != nil {
		return err
	}
	around := c.Provider.host
	if !local {
		around = surroundings{}
	}
	if c.host, err = around.needs(c.info); err != nil {
		return err
	}
	if err := around.room(c.info, nodeCount(c.spec)); err != nil {
		return err
	}
	c.base, err = c.nodeImage(ctx)
	return err
}

// nameIsFree removes what is left of a creation that was killed: its lock is free, so that nobody is at work on it.
func (c *creation) nameIsFree(ctx context.Context) error {
	name := c.spec.Name
	taken, err := c.containers(ctx, kindLabelCluster+"="+kindName(name))
	if err != nil {
		return err
	}
	for _, container := range taken {
		if !container.managed {
			return fmt.Errorf("%w: a kind cluster %q that Rebound did not make has container %s: choose another name, or "+
				"`kind delete cluster --name %s`", clusters.ErrNameTaken, kindName(name), container.name, kindName(name))
		}
	}
	_, finished, err := c.store.readRecord(name)
	if err != nil {
		return err
	}
	if finished && len(taken) > 0 {
		return fmt.Errorf("%w: Rebound has a cluster %q: use it, or `rebound cluster delete %s`",
			clusters.ErrNameTaken, name, name)
	}
	left, err := c.sweepOnce(ctx, name)
	if left || err != nil {
		err = c.sweep(ctx, name)
	}
	return errors.Join(err, c.emptyState())
}

// emptyState removes the files of a cluster whose containers are gone, and keeps the folder, which is the lock.
func (c *creation) emptyState() error {
	var errs []error
	for _, file := range []string{clusters.FileKubeconfig, clusters.FileKubeconfig + ".lock", clusters.FileSpec,
		clusters.FileFingerprint} {
		errs = append(errs, os.RemoveAll(filepath.Join(c.store.dir(c.spec.Name), file)))
	}
	return errors.Join(errs...)
}

// nodeImage chooses the node image and makes sure that the engine has it.
func (c *creation) nodeImage(ctx context.Context) (string, error) {
	ref := c.spec.Image
	if ref == "" {
		ref = os.Getenv(EnvNodeImage)
	}
	if ref == "" {
		local, err := c.builtImage(ctx)
		if err != nil || local != "" {
			return local, err
		}
		ref = defaults.Image
	}
	if _, err := c.engine.output(ctx, "image", "inspect", "--format", "{{.Id}}", ref); err == nil {
		return ref, nil
	}
	c.log.step("pulling node image %s", ref)
	if _, err := c.engine.output(ctx, "pull", "--quiet", ref); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%w: %s: `make node-image` builds one on a machine that cannot pull: %w",
			clusters.ErrNoImage, ref, err)
	}
	return ref, nil
}

// builtImage returns the newest node image that was built here, or "".
func (c *creation) builtImage(ctx context.Context) (string, error) {
	refs, err := c.engine.lines(ctx, "image", "ls", "--filter", "label="+LabelNodeImage,
		"--format", "{{.Repository}}:{{.Tag}}")
	if err != nil {
		return "", fmt.Errorf("look for node images: %w", err)
	}
	for _, ref := range refs { // newest first
		if !strings.HasPrefix(ref, imageName+":") && !strings.Contains(ref, "<none>") {
			return ref, nil
		}
	}
	return "", nil
}

// run makes the cluster.
func (c *creation) run(ctx context.Context) (*clusters.Cluster, error) {
	image := imageName + ":" + c.spec.Name
	c.log.step("preparing network and node image from %s", c.base)
	if err := c.makeGround(ctx, image); err != nil {
		return nil, err
	}
	cfg, err := kindConfig(c.spec, c.profile, image, c.host)
	if err != nil {
		return nil, err
	}
	if err := c.runKind(ctx, cfg); err != nil {
		return nil, err
	}
	found, err := c.ours(ctx, c.spec.Name)
	if err != nil {
		return nil, err
	}
	if err := c.checkNetworks(found); err != nil {
		return nil, err
	}
	made := c.describe(c.spec.Name, record{Spec: c.spec}, found)
	made.Profile = c.profile
	if err := c.settle(ctx, made); err != nil {
		return nil, err
	}
	if err := c.store.writeRecord(record{Spec: c.spec, Image: c.base}); err != nil {
		return nil, err
	}
	c.log.step("cluster %s is usable", c.spec.Name)
	return made, nil
}

// settle waits for a new cluster to become usable, and takes its fingerprint.
func (c *creation) settle(ctx context.Context, made *clusters.Cluster) error {
	cfg, err := made.RESTConfig()
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(clusters.Protobuf(cfg))
	if err != nil {
		return fmt.Errorf("client of cluster %q: %w", made.Name, err)
	}
	c.log.step("waiting for nodes, network, DNS")
	waiting := readiness{api: api, nodes: nodeCount(c.spec), labels: apiLabels(c.spec)}
	if err := waiting.wait(ctx, c.ready); err != nil {
		return err
	}
	if made.KubernetesVersion, err = answers(ctx, api); err != nil {
		return err
	}
	return clusters.SaveFingerprint(ctx, made)
}

// makeGround makes the network and the node image, in less than a second. It sees that through even when ctx ends: the
// engine finishes a command whose client is gone, and whoever cleans up could not know when.
func (c *creation) makeGround(ctx context.Context, image string) error {
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), groundLimit)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error { return c.makeNetwork(whole) })
	group.Go(func() error { return c.makeImage(whole, image) })
	err := group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// makeNetwork makes the cluster's own network as kind makes its one: a bridge with the MTU of the default one, IPv6
// where the engine can.
func (c *creation) makeNetwork(ctx context.Context) error {
	args := []string{"network", "create", "--driver=bridge", "--opt=com.docker.network.bridge.enable_ip_masquerade=true"}
	mtu, err := c.engine.output(ctx, "network", "inspect", "bridge",
		"--format", `{{index .Options "com.docker.network.driver.mtu"}}`)
	if size := strings.TrimSpace(string(mtu)); err == nil && size != "" {
		args = append(args, "--opt=com.docker.network.driver.mtu="+size)
	}
	for _, mark := range marks(c.spec.Name) {
		args = append(args, "--label="+mark)
	}
	name := kindName(c.spec.Name)
	with6 := append(append([]string{}, args...), "--ipv6", "--subnet="+uniqueSubnet(name), name)
	_, first := c.engine.output(ctx, with6...)
	if first == nil || ctx.Err() != nil {
		return first
	}
	if _, err := c.engine.output(ctx, append(args, name)...); err != nil {
		return fmt.Errorf("network: %w", errors.Join(first, err))
	}
	return nil
}

// uniqueSubnet derives a /64 of the unique local addresses (RFC 4193) from the network's name.
func uniqueSubnet(name string) string {
	hash := sha256.Sum256([]byte(name))
	return fmt.Sprintf("fd%02x:%02x%02x:%02x%02x:%02x%02x::/64",
		hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6])
}

// makeImage makes the cluster's own node image: the given one and our labels, which its containers inherit. kind has no
// other way to label a container. It adds an empty layer, in a few tenths of a second.
func (c *creation) makeImage(ctx context.Context, image string) error {
	args := []string{"create", "--pull=never"}
	for _, mark := range marks(c.spec.Name) {
		args = append(args, "--label="+mark)
	}
	out, err := c.engine.output(ctx, append(args, c.base)...)
	if err != nil {
		return fmt.Errorf("label the node image: %w", err)
	}
	id := strings.TrimSpace(string(out))
	_, err = c.engine.output(ctx, "commit", "--pause=false", id, image)
	if err != nil {
		return fmt.Errorf("label the node image: %w", err) // sweep removes the container
	}
	if _, err = c.engine.output(ctx, "rm", "--volumes", id); err != nil {
		return fmt.Errorf("label the node image: %w", err)
	}
	return nil
}

// runKind has kind make the cluster. kind cannot be cancelled: when ctx ends, its containers are taken from under it,
// so that it fails within a moment.
func (c *creation) runKind(ctx context.Context, cfg *v1alpha4.Cluster) error {
	select {
	case c.creating <- struct{}{}:
		defer func() { <-c.creating }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := os.Setenv(envNetwork, kindName(c.spec.Name)); err != nil {
		return fmt.Errorf("name kind's network: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		done <- c.kind(c.log, cfg, filepath.Join(c.store.dir(c.spec.Name), clusters.FileKubeconfig))
	}()
	select {
	case err := <-done:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return c.explain(err)
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), c.stopKind(ctx, done))
	}
}

func (c *creation) stopKind(ctx context.Context, done <-chan error) error {
	c.log.step("interrupted: taking the cluster down")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		// The network and the image stay until kind has returned: it would make an unlabelled network instead.
		_, failed := c.removeContainers(ctx, c.spec.Name)
		select {
		case <-done: // how it failed does not matter: we made it fail
			return nil
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("kind has not stopped within %v", cleanLimit), failed)
		case <-ticker.C:
		}
	}
}

// explain adds to kind's error what kind kept to itself.
func (c *creation) explain(err error) error {
	if err == nil {
		return nil
	}
	c.log.step("kind failed; the end of its log:\n%s", c.log.lastLines(logLines))
	failed := fmt.Errorf("kind: %w", err)
	if command := exec.RunErrorForError(err); command != nil {
		tail := tailWriter{limit: stderrLimit}
		_, _ = tail.Write(command.Output) // never fails
		failed = fmt.Errorf("kind: %w: %s", err, strings.TrimSpace(tail.String()))
	}
	if c.Provider.host.free == nil {
		return failed
	}
	// A disk that has filled up shows as any error at all.
	if free, err := c.Provider.host.free(c.info.DockerRootDir); err == nil && free < diskBaseBytes/4 {
		return fmt.Errorf("%w: %s has %d MiB of disk space left: %w",
			clusters.ErrHostLimit, c.info.DockerRootDir, free>>20, failed)
	}
	return failed
}

// checkNetworks makes sure that the nodes are where they belong: kind took the name from the environment.
func (c *creation) checkNetworks(found []container) error {
	for _, container := range found {
		if len(container.networks) != 1 || container.networks[0] != kindName(c.spec.Name) {
			return fmt.Errorf("container %s is in network %s, not %s: another Provider of this process makes a cluster",
				container.name, strings.Join(container.networks, ","), kindName(c.spec.Name))
		}
	}
	return nil
}

// undo removes what the creation has made; ctx may have ended.
func (c *creation) undo(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // sweep has a limit of its own
	if err := c.sweep(ctx, c.spec.Name); err != nil {
		return err
	}
	return c.store.remove(c.spec.Name)
}
