package kindcluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/rebound-chaos/rebound/clusters"
)

// runner runs the engine's command line with args. It is a function so that tests can put an engine of their own in its
// place. The error is an *engineError.
type runner func(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error

// engineError is a docker command that failed.
type engineError struct {
	args   []string
	code   int // -1 where the command did not start or was ended by a signal
	stderr string
	err    error
}

func (e *engineError) Error() string {
	text := "docker " + strings.Join(e.args, " ") + ": " + e.err.Error()
	if e.stderr != "" {
		text += ": " + e.stderr
	}
	return text
}

func (e *engineError) Unwrap() error { return e.err }

// stderrLimit bounds what is kept of a command's standard error, in bytes; the tail says what went wrong.
const stderrLimit = 4 << 10

// waitDelay bounds the wait for a command's pipes once the command itself has ended or ctx has.
const waitDelay = 2 * time.Second

// runDocker is the runner of a real engine: the docker command, without a shell.
func runDocker(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", args...)
	tail := &tailWriter{limit: stderrLimit}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, tail
	cmd.WaitDelay = waitDelay
	// A group of its own: Ctrl-C on a terminal reaches the whole foreground group, and would end the commands that heal
	// and clean up as well. ctx ends those that should.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	failed := &engineError{args: args, code: -1, stderr: strings.TrimSpace(tail.String()), err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		failed.code = exit.ExitCode()
	}
	if ctx.Err() != nil {
		failed.err = context.Cause(ctx)
	}
	return failed
}

// engine is the container engine, spoken to through its command line, as kind does.
type engine struct{ run runner }

func (e engine) output(ctx context.Context, args ...string) ([]byte, error) {
	var out bytes.Buffer
	if err := e.run(ctx, nil, &out, args...); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (e engine) lines(ctx context.Context, args ...string) ([]string, error) {
	out, err := e.output(ctx, args...)
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' || r == '\r' }), nil
}

// engineInfo is the part of `docker info` that decides something here.
type engineInfo struct {
	ServerVersion   string
	CgroupVersion   string // "1" or "2"
	DockerRootDir   string
	SecurityOptions []string
	// ServerErrors is set, with an exit code of 0 in some versions, where no daemon answers.
	ServerErrors []string
}

// infoLimit bounds the first word with the engine; a daemon that is up answers in tens of milliseconds.
const infoLimit = 20 * time.Second

// info asks the engine about itself. An engine that does not answer is ErrNoEngine.
func (e engine) info(ctx context.Context) (engineInfo, error) {
	limited, cancel := context.WithTimeout(ctx, infoLimit)
	defer cancel()
	var info engineInfo
	out, err := e.output(limited, "info", "--format", "{{json .}}")
	if ctx.Err() != nil {
		return info, context.Cause(ctx)
	}
	if err != nil {
		return info, noEngine(err)
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return info, fmt.Errorf("docker info: %w", err)
	}
	if len(info.ServerErrors) > 0 || info.ServerVersion == "" {
		return info, noEngine(errors.New(strings.Join(info.ServerErrors, "; ")))
	}
	return info, nil
}

func noEngine(cause error) error {
	if errors.Is(cause, exec.ErrNotFound) {
		return fmt.Errorf("%w: no docker command in PATH: install Docker, or run `make engine`", clusters.ErrNoEngine)
	}
	return fmt.Errorf("%w: start Docker, or run `make engine`: %w", clusters.ErrNoEngine, cause)
}

// container is one container of a kind cluster.
type container struct {
	id, name, state string
	cluster         string // kind's name for the cluster
	role            string // control-plane or worker
	managed         bool   // carries our label
	networks        []string
}

func (c container) running() bool { return c.state == "running" }

// kind's own labels.
const (
	kindLabelCluster = "io.x-k8s.kind.cluster"
	kindLabelRole    = "io.x-k8s.kind.role"
)

// containers lists the containers, in any state, that carry every one of the given labels ("key" or "key=value").
func (e engine) containers(ctx context.Context, labels ...string) ([]container, error) {
	args := []string{"ps", "--all", "--no-trunc"}
	for _, label := range labels {
		args = append(args, "--filter", "label="+label)
	}
	format := strings.Join([]string{"{{.ID}}", "{{.Names}}", "{{.State}}", label(kindLabelCluster), label(kindLabelRole),
		label(clusters.LabelManaged), "{{.Networks}}"}, "\t")
	lines, err := e.lines(ctx, append(args, "--format", format)...)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	found := make([]container, 0, len(lines))
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 7 {
			return nil, fmt.Errorf("list containers: %d columns in %q, want 7", len(f), line)
		}
		found = append(found, container{id: f[0], name: f[1], state: f[2], cluster: f[3], role: f[4],
			managed: f[5] == labelTrue, networks: strings.Split(f[6], ",")})
	}
	return found, nil
}

func label(key string) string { return fmt.Sprintf("{{.Label %q}}", key) }

// ids lists the ids of a kind of resource ("network", "image") that carries the labels.
func (e engine) ids(ctx context.Context, resource string, labels ...string) ([]string, error) {
	args := []string{resource, "ls", "--quiet", "--no-trunc"}
	for _, label := range labels {
		args = append(args, "--filter", "label="+label)
	}
	lines, err := e.lines(ctx, args...)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", resource, err)
	}
	return lines, nil
}

// tailWriter keeps the last limit bytes of what is written to it. It is not for concurrent use.
type tailWriter struct {
	limit int
	data  []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.data = append(w.data, p...)
	if over := len(w.data) - w.limit; over > 0 {
		w.data = append(w.data[:0], w.data[over:]...)
	}
	return len(p), nil
}

func (w *tailWriter) String() string { return string(w.data) }
