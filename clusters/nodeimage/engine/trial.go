package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	trialImage = "rebound.local/trial:latest"
	trialLabel = "dev.rebound.trial=yes"
)

// try runs one privileged container with the daemon's default runtime. The image holds nothing but our own static
// program, so it needs no registry; it is removed again.
func (o Options) try(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	if _, err := os.Stat(o.runtimePath()); err != nil {
		if err := o.buildRuntime(ctx); err != nil {
			return err
		}
	}
	program, err := os.ReadFile(o.runtimePath())
	if err != nil {
		return fmt.Errorf("read our runtime: %w", err)
	}
	var image bytes.Buffer
	archive := tar.NewWriter(&image)
	header := &tar.Header{Name: "trial", Mode: 0o755, Size: int64(len(program))}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write the trial image: %w", err)
	}
	if _, err := archive.Write(program); err != nil {
		return fmt.Errorf("write the trial image: %w", err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("write the trial image: %w", err)
	}
	if _, err := docker(ctx, &image, "import", "-", trialImage); err != nil {
		return fmt.Errorf("import the trial image: %w", err)
	}
	defer func() {
		_, removal := docker(context.WithoutCancel(ctx), nil, "image", "rm", "--force", trialImage)
		err = errors.Join(err, removal)
	}()
	_, err = docker(ctx, nil, "run", "--rm", "--privileged", "--network=none", "--label", trialLabel,
		trialImage, "/trial", "trial")
	if err != nil {
		return fmt.Errorf("run a privileged container: %w", err)
	}
	return nil
}

func (o Options) runtimePath() string { return filepath.Join(o.StateDir, RuntimeName) }

// buildRuntime builds our runtime from today's sources. The old one is replaced whole: containers may be using it.
func (o Options) buildRuntime(ctx context.Context) error {
	if err := os.MkdirAll(o.StateDir, 0o755); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	temporary := o.runtimePath() + ".new"
	if err := o.BuildRuntime(ctx, temporary); err != nil {
		return fmt.Errorf("build our OCI runtime: %w", err)
	}
	if err := os.Rename(temporary, o.runtimePath()); err != nil {
		return fmt.Errorf("install our OCI runtime: %w", err)
	}
	return nil
}
