package recipe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

const (
	pullAnswer = 20 * time.Second // until the registry answers; without one the engine says so at once
	pullLimit  = 15 * time.Minute // the whole image, about 400 MB
)

// pull gets the image from its registry, where it is not here already. It gives up early where no registry answers.
func pull(ctx context.Context, out io.Writer, image string) error {
	if _, err := output(ctx, "docker", "image", "inspect", "--format", "{{.Id}}", image); err == nil {
		fmt.Fprintf(out, "node image: %s is here\n", image)
		return nil
	}
	fmt.Fprintf(out, "node image: trying to pull %s\n", image)
	ctx, cancel := context.WithTimeoutCause(ctx, pullLimit, fmt.Errorf("not done after %s", pullLimit))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	silent := time.AfterFunc(pullAnswer, func() { giveUp(fmt.Errorf("no registry answers within %s", pullAnswer)) })
	defer silent.Stop()

	command := exec.CommandContext(ctx, "docker", "pull", image)
	var complaint strings.Builder
	command.Stderr = &complaint
	lines, err := command.StdoutPipe()
	if err != nil {
		return fmt.Errorf("read the engine's answer: %w", err)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start docker pull: %w", err)
	}
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		// The first line only says what is asked for, unless it names a layer: then the registry has answered.
		if line := scanner.Text(); strings.Contains(line, ": Pull") || strings.Contains(line, "Digest:") {
			silent.Stop()
		}
	}
	if err := command.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return errors.New(lastOf(complaint.String()))
	}
	fmt.Fprintf(out, "node image: pulled %s\n", image)
	return nil
}

func lastOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
