package recipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	containerdStart = 30 * time.Second // until it answers; under a second on 2 cores
	containerdLook  = 100 * time.Millisecond
)

// sideloadConfig switches off what reaches out of the given directories, and what importing images does not need.
const sideloadConfig = `version = 3
root = %q
state = %q
disabled_plugins = [
  "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs",
]
[grpc]
  address = %q
[ttrpc]
  address = %q
[debug]
  address = ""
`

// sideload imports the images into a store as a node's containerd keeps it, below root. The containerd that does it is
// the node's own program, run here for the purpose; it ends with this function.
func (b *build) sideload(ctx context.Context, log *stepLog, containerdDir, images, root string) (err error) {
	// The socket's path has to be short: 108 bytes are all the kernel takes.
	state, err := os.MkdirTemp("", "rebound-ctd-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, sweep(state)) }()
	socket, config := filepath.Join(state, "s"), filepath.Join(state, "config.toml")
	text := fmt.Sprintf(sideloadConfig, root, filepath.Join(state, "run"), socket, socket+".ttrpc")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write containerd's configuration: %w", err)
	}
	daemonContext, stop := context.WithCancel(ctx)
	defer stop()
	daemon := exec.CommandContext(daemonContext, filepath.Join(containerdDir, "containerd"), "--config", config)
	daemon.Stdout, daemon.Stderr = log.file, log.file
	group(daemon)
	if err := daemon.Start(); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	client := filepath.Join(containerdDir, "ctr")
	if err := awaitContainerd(ctx, client, socket, ended); err != nil {
		return fmt.Errorf("%w (full log: %s)", err, log.file.Name())
	}
	load := exec.CommandContext(ctx, client, "--address", socket, "--namespace", "k8s.io", "images", "import", "--local",
		"--label", "io.cri-containerd.pinned=pinned", "--all-platforms", "--no-unpack", images)
	loadErr := log.run(load, nil, nil)
	stop()
	<-ended // told to end, so how it ended says nothing; its database is closed now
	if loadErr != nil {
		return fmt.Errorf("import the images: %w", loadErr)
	}
	return nil
}

func awaitContainerd(ctx context.Context, client, socket string, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, containerdStart)
	defer cancel()
	tick := time.NewTicker(containerdLook)
	defer tick.Stop()
	for {
		_, err := output(ctx, client, "--address", socket, "version")
		if err == nil {
			return nil
		}
		select {
		case end := <-ended:
			return fmt.Errorf("containerd ended at once (%v)", end)
		case <-ctx.Done():
			return fmt.Errorf("containerd does not answer: %w", err)
		case <-tick.C:
		}
	}
}
