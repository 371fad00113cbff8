package kindcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/rebound-chaos/rebound/clusters"
)

// fakeEngine is a container engine in memory. It knows the commands that the provider gives, and refuses what a real
// one would refuse: a network or an image that is in use.
type fakeEngine struct {
	mu         sync.Mutex
	down       bool
	pulls      bool // a registry answers
	noIPv6     bool
	next       int
	containers []*thing
	networks   []*thing
	images     []*thing
	late       *thing // a container that appears once the cluster has looked clean
}

// thing is a container, network or image.
type thing struct {
	id, name, state string
	image, network  string // of a container
	labels          map[string]string
}

func (f *fakeEngine) run(ctx context.Context, _ io.Reader, stdout io.Writer, args ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return &engineError{args: args, code: -1, err: context.Cause(ctx)}
	}
	if f.down {
		return &engineError{args: args, code: 1, stderr: "Cannot connect to the Docker daemon",
			err: errors.New("exit status 1")}
	}
	out, err := f.command(args)
	if err != nil {
		return &engineError{args: args, code: 1, stderr: err.Error(), err: errors.New("exit status 1")}
	}
	if stdout != nil {
		_, err = io.WriteString(stdout, out)
	}
	return err
}

func (f *fakeEngine) command(args []string) (string, error) {
	flags, rest := split(args)
	switch verb := strings.Join(rest[:min(2, len(rest))], " "); {
	case args[0] == "info":
		return `{"ServerVersion":"1","CgroupVersion":"1","DockerRootDir":"/nowhere"}`, nil
	case verb == "context inspect":
		return "tcp://elsewhere:2375\n", nil
	case args[0] == "ps":
		return f.ps(flags), nil
	case verb == "network inspect":
		return "1400\n", nil
	case verb == "network create":
		if f.noIPv6 && slices.Contains(args, "--ipv6") {
			return "", errors.New("cannot read IPv6 setup")
		}
		return f.add(&f.networks, &thing{name: rest[2], labels: labelsOf(flags)}), nil
	case verb == "network ls":
		return ids(f.networks, flags), nil
	case verb == "network rm":
		return "", f.removeAll(&f.networks, rest[2:], func(n *thing, c *thing) bool { return c.network == n.name })
	case verb == "image ls":
		return f.imageList(args, flags), nil
	case verb == "image inspect":
		return f.inspectImage(rest[2])
	case verb == "image rm":
		return "", f.removeAll(&f.images, rest[2:], func(i *thing, c *thing) bool { return c.image == i.name })
	case args[0] == "pull":
		return f.pull(rest[1])
	case args[0] == "create":
		if _, err := f.inspectImage(rest[1]); err != nil {
			return "", err
		}
		return f.add(&f.containers, &thing{image: rest[1], state: "created", labels: labelsOf(flags)}), nil
	case args[0] == "commit":
		from := f.find(f.containers, rest[1])
		return f.add(&f.images, &thing{name: rest[2], labels: from.labels}), nil
	case args[0] == "rm":
		return "", f.removeAll(&f.containers, rest[1:], func(*thing, *thing) bool { return false })
	}
	return "", fmt.Errorf("unknown command %q", args)
}

// split separates flags, with their values, from the words.
func split(args []string) (flags, words []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--filter" || args[i] == "--format":
			flags = append(flags, args[i]+"="+args[i+1])
			i++
		case strings.HasPrefix(args[i], "--"):
			flags = append(flags, args[i])
		default:
			words = append(words, args[i])
		}
	}
	return flags, words
}

func labelsOf(flags []string) map[string]string {
	labels := map[string]string{}
	for _, flag := range flags {
		if pair, found := strings.CutPrefix(flag, "--label="); found {
			key, value, _ := strings.Cut(pair, "=")
			labels[key] = value
		}
	}
	return labels
}

func matches(labels map[string]string, flags []string) bool {
	for _, flag := range flags {
		pair, found := strings.CutPrefix(flag, "--filter=label=")
		if !found {
			continue
		}
		key, value, exact := strings.Cut(pair, "=")
		if got, there := labels[key]; !there || exact && got != value {
			return false
		}
	}
	return true
}

func (f *fakeEngine) add(to *[]*thing, t *thing) string {
	f.next++
	t.id = fmt.Sprintf("id%d", f.next)
	*to = append(*to, t)
	return t.id + "\n"
}

func (f *fakeEngine) find(in []*thing, id string) *thing {
	for _, t := range in {
		if t.id == id {
			return t
		}
	}
	return nil
}

func ids(of []*thing, flags []string) string {
	var out strings.Builder
	for _, t := range of {
		if matches(t.labels, flags) {
			fmt.Fprintln(&out, t.id)
		}
	}
	return out.String()
}

func (f *fakeEngine) ps(flags []string) string {
	var out strings.Builder
	for _, c := range f.containers {
		if matches(c.labels, flags) {
			fmt.Fprintln(&out, strings.Join([]string{c.id, c.name, c.state, c.labels[kindLabelCluster],
				c.labels[kindLabelRole], c.labels[clusters.LabelManaged], c.network}, "\t"))
		}
	}
	return out.String()
}

func (f *fakeEngine) imageList(args, flags []string) string {
	if slices.Contains(args, "--quiet") {
		found := ids(f.images, flags)
		if found == "" && f.late != nil {
			f.add(&f.containers, f.late)
			f.late = nil
		}
		return found
	}
	var out strings.Builder
	for _, image := range f.images {
		if matches(image.labels, flags) {
			fmt.Fprintln(&out, image.name)
		}
	}
	return out.String()
}

func (f *fakeEngine) inspectImage(ref string) (string, error) {
	for _, image := range f.images {
		if image.name == ref {
			return image.id, nil
		}
	}
	return "", fmt.Errorf("No such image: %s", ref)
}

func (f *fakeEngine) pull(ref string) (string, error) {
	if !f.pulls {
		return "", errors.New("no such host")
	}
	return f.add(&f.images, &thing{name: ref}), nil
}

func (f *fakeEngine) removeAll(from *[]*thing, gone []string, used func(t, container *thing) bool) error {
	for _, t := range *from {
		if !slices.Contains(gone, t.id) {
			continue
		}
		for _, container := range f.containers {
			if used(t, container) {
				return fmt.Errorf("%s is in use", t.id)
			}
		}
	}
	*from = slices.DeleteFunc(*from, func(t *thing) bool { return slices.Contains(gone, t.id) })
	return nil
}

// kindRun makes the containers of a cluster, as kind does with `docker run`: they inherit the image's labels. It fails
// where network or image are not there.
func (f *fakeEngine) kindRun(cfg *v1alpha4.Cluster, node int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	image := slices.IndexFunc(f.images, func(t *thing) bool { return t.name == cfg.Nodes[node].Image })
	if image < 0 {
		return errors.New("no such image")
	}
	c := &thing{name: fmt.Sprintf("%s-%d", cfg.Name, node), state: "created", image: f.images[image].name,
		labels: map[string]string{kindLabelCluster: cfg.Name, kindLabelRole: string(cfg.Nodes[node].Role)}}
	for key, value := range f.images[image].labels {
		c.labels[key] = value
	}
	f.add(&f.containers, c)
	if !slices.ContainsFunc(f.networks, func(n *thing) bool { return n.name == cfg.Name }) {
		return errors.New("no such network")
	}
	c.network, c.state = cfg.Name, "running"
	return nil
}

// left counts what the engine has beside the images that a test put there.
func (f *fakeEngine) left() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, list := range [][]*thing{f.containers, f.networks} {
		for _, t := range list {
			names = append(names, t.id+" "+t.name)
		}
	}
	for _, image := range f.images {
		if strings.HasPrefix(image.name, imageName) {
			names = append(names, image.name)
		}
	}
	return strings.Join(names, ", ")
}

const baseImage = "example.org/node:v1"

// newFake returns a provider on a fake engine that holds one node image, built here.
func newFake(t *testing.T, kind kindCreator) (*Provider, *fakeEngine) {
	t.Helper()
	t.Setenv(EnvNodeImage, "")
	t.Setenv("DOCKER_HOST", "")
	f := &fakeEngine{}
	f.add(&f.images, &thing{name: baseImage, labels: map[string]string{LabelNodeImage: "hash"}})
	p, err := New(WithState(t.TempDir()), WithReadyLimit(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	p.engine, p.kind, p.host = engine{run: f.run}, kind, surroundings{}
	return p, f
}

// failingKind makes some nodes and fails.
func failingKind(f **fakeEngine, fail error) kindCreator {
	return func(logger log.Logger, cfg *v1alpha4.Cluster, _ string) error {
		logger.V(0).Infof(" • Preparing nodes 📦  ...\n")
		if err := (*f).kindRun(cfg, 0); err != nil {
			return err
		}
		return fail
	}
}
