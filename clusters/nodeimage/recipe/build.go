package recipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/apt"
	"github.com/rebound-chaos/rebound/clusters/nodeimage/progress"
)

// build is the making of one node image.
type build struct {
	options Options
	pins    pins
	hash    string
	image   string
	release apt.Release

	report *progress.Reporter
	temp   string // everything unfinished lies below it
}

// step is one part of a build whose result is a directory that is kept.
type step struct {
	number int
	name   string // of its directory and its log
	key    string // hash of what it depends on
	make   func(ctx context.Context, log *stepLog, dir string, status *progress.Status) error
}

const (
	stepBase = iota
	stepKubernetes
	stepContainerd
	stepOwn
	stepImages
	stepNode
)

var titles = []string{
	stepBase:       "base system (debootstrap)",
	stepKubernetes: "Kubernetes, CoreDNS, etcd, metrics-server and the pod network",
	stepContainerd: "containerd and the CNI plugins",
	stepOwn:        "our own small programs",
	stepImages:     "container images",
	stepNode:       "the node image itself",
}

// run makes the image. Only one build runs at a time; finished steps are kept, unfinished ones leave nothing behind.
func (b *build) run(ctx context.Context) (err error) {
	if err := b.possible(); err != nil {
		return err
	}
	if err := os.MkdirAll(b.options.Cache, 0o755); err != nil {
		return fmt.Errorf("make the cache directory: %w", err)
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if label(ctx, b.image) == b.hash { // somebody else built it while we waited
		return nil
	}
	b.temp = filepath.Join(b.options.Cache, "unfinished")
	if err := sweep(b.temp); err != nil { // what a killed build left
		return err
	}
	if err := b.space(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sweep(b.temp)) }()
	b.report = progress.New(b.options.Out, "node image", titles...)
	b.report.Say("building %s; finished steps are kept in %s", b.image, b.options.Cache)
	if err := b.steps(ctx); err != nil {
		return err
	}
	b.report.Say("%s is ready after %s", b.image, b.report.Elapsed())
	return b.tidy(ctx)
}

// possible says what a build needs and this machine does not have.
func (b *build) possible() error {
	switch {
	case os.Geteuid() != 0:
		return errors.New("building a node image needs root, for debootstrap; run this as root, or where a registry answers")
	case !b.release.Known():
		return errors.New("building a node image needs Debian or Ubuntu, whose packages it is made of; run this on one, " +
			"or where a registry answers")
	}
	return nil
}

// steps runs the base system beside the compilers: the one waits for the disk and the mirror, the others use the cores.
func (b *build) steps(ctx context.Context) error {
	recipes, err := b.plan()
	if err != nil {
		return err
	}
	dirs := make([]string, len(recipes))
	do := func(ctx context.Context, numbers ...int) error {
		for _, number := range numbers {
			dir, err := b.finished(ctx, recipes[number])
			if err != nil {
				return fmt.Errorf("%s: %w", titles[number], err)
			}
			dirs[number] = dir
		}
		return nil
	}
	lanes, laneContext := errgroup.WithContext(ctx)
	lanes.Go(func() error { return do(laneContext, stepBase) })
	lanes.Go(func() error { return do(laneContext, stepKubernetes, stepContainerd, stepOwn) })
	if err := lanes.Wait(); err != nil {
		return err
	}
	parts := parts{
		base: dirs[stepBase], kubernetes: dirs[stepKubernetes], containerd: dirs[stepContainerd], own: dirs[stepOwn],
	}
	recipes[stepImages].make = func(ctx context.Context, log *stepLog, dir string, status *progress.Status) error {
		return b.makeImages(ctx, log, dir, parts, status)
	}
	if err := do(ctx, stepImages); err != nil {
		return err
	}
	parts.images = dirs[stepImages]
	return b.report.Run(ctx, stepNode, func(ctx context.Context, status *progress.Status) error {
		if err := b.makeNode(ctx, parts, status); err != nil {
			return fmt.Errorf("%s: %w", titles[stepNode], err)
		}
		return nil
	})
}

// parts are the directories with the results of the steps before the last.
type parts struct {
	base, kubernetes, containerd, own, images string
}

// plan computes what each step depends on. A later step depends on the earlier ones by their keys.
func (b *build) plan() ([]step, error) {
	recipes := []step{
		{number: stepBase, name: "base", make: b.makeBase},
		{number: stepKubernetes, name: "kubernetes", make: b.makeKubernetes},
		{number: stepContainerd, name: "containerd", make: b.makeContainerd},
		{number: stepOwn, name: "own", make: b.makeOwn},
		{number: stepImages, name: "images"},
	}
	paths := [][]string{
		stepBase:       {"recipe/base.go", "recipe/libraries.go", "recipe/layer.go"},
		stepKubernetes: {kubernetesBuild, "recipe/programs.go", "go.mod", "go.sum", "podnet", "cmd/podnet"},
		stepContainerd: {containerdBuild, "recipe/programs.go"},
		stepOwn:        {"recipe/programs.go", "go.mod", "go.sum", "nodestart", "capability", "cmd/nodestart", "cmd/pause"},
		stepImages:     {"recipe/images.go", "recipe/layer.go"},
	}
	earlier := ""
	for i := range recipes {
		facts := []string{version, architecture(), b.release.ID, b.release.Codename}
		if i == stepImages {
			facts = append(facts, earlier)
		}
		key, err := hashOf(b.options.Module, paths[i], facts...)
		if err != nil {
			return nil, err
		}
		recipes[i].key = key[:12]
		earlier += key
	}
	return recipes, nil
}

// finished returns the directory of the step's result, and makes it first where it is not there.
func (b *build) finished(ctx context.Context, s step) (string, error) {
	final := filepath.Join(b.options.Cache, "steps", s.name+"-"+s.key)
	if _, err := os.Stat(final); err == nil {
		b.report.Say("step %d/%d %s: kept from an earlier build", s.number+1, len(titles), titles[s.number])
		return final, nil
	}
	log, err := openLog(filepath.Join(b.options.Cache, "logs"), s.name)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.temp, s.name)
	err = b.report.Run(ctx, s.number, func(ctx context.Context, status *progress.Status) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
		if err := s.make(ctx, log, dir, status); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
		return os.Rename(dir, final)
	})
	return final, errors.Join(err, log.close())
}

// lock keeps a second build of the same cache waiting until the first is done.
func (b *build) lock(ctx context.Context) (func(), error) {
	file, err := os.OpenFile(filepath.Join(b.options.Cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	unlock := func() { _ = file.Close() } // closing releases it; there is nothing left to do about an error
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return unlock, nil
	}
	fmt.Fprintln(b.options.Out, "node image: another build is running; waiting for it")
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(file.Fd()), syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			unlock()
			return nil, fmt.Errorf("wait for the other build: %w", err)
		}
		return unlock, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx) // the process ends, and with it the wait
	}
}

// tidy removes results that this image does not use, and older images of ours. A container that still uses one of
// them keeps it: that is said, and is no failure.
func (b *build) tidy(ctx context.Context) error {
	recipes, err := b.plan()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, s := range recipes {
		keep[s.name+"-"+s.key] = true
	}
	entries, err := os.ReadDir(filepath.Join(b.options.Cache, "steps"))
	if err != nil {
		return fmt.Errorf("list the kept steps: %w", err)
	}
	for _, entry := range entries {
		if keep[entry.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(b.options.Cache, "steps", entry.Name())); err != nil {
			return fmt.Errorf("remove an old step: %w", err)
		}
	}
	list, err := output(ctx, "docker", "image", "ls", "--filter", "label="+Label, "--format", "{{.Repository}}:{{.Tag}}")
	if err != nil {
		return err
	}
	for _, old := range strings.Fields(list) {
		if old == b.image || !strings.HasPrefix(old, repository+":") {
			continue
		}
		if _, err := output(ctx, "docker", "image", "rm", old); err != nil {
			b.report.Say("the older %s stays, because something uses it (%v)", old, err)
			continue
		}
		b.report.Say("removed the older %s", old)
	}
	return nil
}
