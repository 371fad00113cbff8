package recipe

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/progress"
)

// Programs that are named otherwise than their packages' last element.
const (
	kubernetesProgram = "kubernetes" // all seven commands
	etcdProgram       = "etcd"
)

func architecture() string { return runtime.GOARCH }

func (b *build) makeKubernetes(ctx context.Context, log *stepLog, dir string, status *progress.Status) error {
	module := filepath.Join(b.options.Module, kubernetesBuild)
	packages := []string{
		"./node", "./coredns", "go.etcd.io/etcd/server/v3", "sigs.k8s.io/metrics-server/cmd/metrics-server",
		"github.com/rebound-chaos/rebound/clusters/nodeimage/cmd/podnet",
	}
	flags := "-s -w " + strings.Join(kubernetesVersion(b.pins.kubernetes), " ")
	if err := b.compile(ctx, log, status, module, dir, flags, "", packages...); err != nil {
		return err
	}
	// On its own: it uses an old spelling of a module's path that must not meet the new one in one command.
	localPath := "github.com/rancher/local-path-provisioner"
	if err := b.compile(ctx, log, status, module, dir, "-s -w", "", localPath); err != nil {
		return err
	}
	for from, to := range map[string]string{"node": kubernetesProgram, "server": etcdProgram} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			return fmt.Errorf("name a program: %w", err)
		}
	}
	return nil
}

// kubernetesVersion are the linker flags with which Kubernetes' own build tells the commands their version.
func kubernetesVersion(tag string) []string {
	parts := strings.SplitN(strings.TrimPrefix(tag, "v"), ".", 3)
	values := map[string]string{
		"gitVersion": tag, "gitTreeState": "clean", "gitCommit": "", "buildDate": "1970-01-01T00:00:00Z",
		"gitMajor": parts[0],
	}
	if len(parts) > 1 {
		values["gitMinor"] = parts[1]
	}
	var flags []string
	for _, name := range []string{"gitVersion", "gitMajor", "gitMinor", "gitTreeState", "gitCommit", "buildDate"} {
		for _, module := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
			flags = append(flags, "-X "+module+"."+name+"="+values[name])
		}
	}
	return flags
}

func (b *build) makeContainerd(ctx context.Context, log *stepLog, dir string, status *progress.Status) error {
	// The snapshotters left out need a C compiler or file systems that nodes do not use.
	module := filepath.Join(b.options.Module, containerdBuild)
	return b.compile(ctx, log, status, module, dir, "-s -w", "no_btrfs,no_zfs,no_devmapper", "tool")
}

func (b *build) makeOwn(ctx context.Context, log *stepLog, dir string, status *progress.Status) error {
	return b.compile(ctx, log, status, b.options.Module, dir, "-s -w", "", "./cmd/pause", "./cmd/nodestart")
}

// compile builds the packages as static programs into dir, in one go command: it keeps every core busy while a large
// program is linked.
func (b *build) compile(
	ctx context.Context, log *stepLog, status *progress.Status, module, dir, linker, tags string, packages ...string,
) error {
	environment := append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	status.Set("downloading modules")
	var list bytes.Buffer
	count := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-tags", tags, "-f", "."}, packages...)...)
	count.Dir, count.Env = module, environment
	if err := log.run(count, &list, nil); err != nil {
		return fmt.Errorf("find the packages: %w", err)
	}
	total := bytes.Count(list.Bytes(), []byte("\n"))

	arguments := []string{"build", "-v", "-trimpath", "-tags", tags, "-ldflags", linker, "-o", dir + "/"}
	command := exec.CommandContext(ctx, "go", append(arguments, packages...)...)
	command.Dir, command.Env = module, environment
	status.Set("compiling, at most %d packages", total)
	counter := &compileCounter{status: status, total: total}
	return log.run(command, nil, counter)
}

// compileCounter counts the packages that go names as it compiles them.
type compileCounter struct {
	status      *progress.Status
	done, total int
}

func (c *compileCounter) Write(text []byte) (int, error) {
	c.done += bytes.Count(text, []byte("\n"))
	c.status.Set("%d packages compiled, of at most %d", c.done, c.total)
	return len(text), nil
}
