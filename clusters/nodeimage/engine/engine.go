// Package engine sees to it that a Docker answers on this machine: it uses one that does, and where none does it
// installs and starts one.
//
// A daemon started here outlives the program that started it. Building images and making clusters is left to others,
// and so is every daemon that somebody else started: of those it only says what they lack.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/apt"
	"github.com/rebound-chaos/rebound/clusters/nodeimage/capability"
)

// RuntimeName is the name under which our OCI runtime is registered with the daemon.
const RuntimeName = "rebound-oci"

const (
	answerLimit = 10 * time.Second // one question to a daemon that is there
	startLimit  = 60 * time.Second // a daemon's first answer after its start; 3 s on 2 cores
	trialLimit  = 60 * time.Second // importing a small image and running it once; 1 s on 2 cores
)

// Options are what Ensure needs to know about its surroundings.
type Options struct {
	// Out gets one line for every thing done or found.
	Out io.Writer
	// StateDir keeps the daemon's log, its configuration and our runtime.
	StateDir string
	// BuildRuntime writes our OCI runtime, as a static binary, to the path.
	BuildRuntime func(ctx context.Context, path string) error
}

// Ensure returns as soon as a Docker answers that can run privileged containers.
func Ensure(ctx context.Context, options Options) error {
	found, err := ask(ctx)
	if err == nil {
		return options.check(ctx, found)
	}
	if host := os.Getenv("DOCKER_HOST"); host != "" && host != "unix://"+socketPath {
		return fmt.Errorf("the Docker at DOCKER_HOST=%s does not answer; start it, or unset DOCKER_HOST: %w", host, err)
	}
	if err := options.install(ctx); err != nil {
		return err
	}
	if err := options.start(ctx); err != nil {
		return err
	}
	found, err = ask(ctx)
	if err != nil {
		return fmt.Errorf("ask the daemon just started: %w", err)
	}
	return options.check(ctx, found)
}

func (o Options) say(format string, arguments ...any) {
	fmt.Fprintf(o.Out, "engine: "+format+"\n", arguments...)
}

// daemon is what a Docker says of itself.
type daemon struct {
	id, version, runtime string
}

// ask puts one question to whatever Docker the client is set up for.
func ask(ctx context.Context) (daemon, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	out, err := docker(ctx, nil, "info", "--format", "{{.ID}}\t{{.ServerVersion}}\t{{.DefaultRuntime}}")
	if err != nil {
		return daemon{}, err
	}
	fields := strings.Split(strings.TrimSpace(out), "\t")
	// A client without a daemon prints the format with empty fields, and some versions exit with 0.
	if len(fields) != 3 || fields[1] == "" {
		return daemon{}, errors.New("no daemon behind the client")
	}
	return daemon{id: fields[0], version: fields[1], runtime: fields[2]}, nil
}

// docker runs the client and returns what it printed; an error carries what it printed of it.
func docker(ctx context.Context, input io.Reader, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, "docker", arguments...)
	var out, complaint strings.Builder
	command.Stdin, command.Stdout, command.Stderr = input, &out, &complaint
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("docker %s: %w: %s", arguments[0], err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// install makes sure that a daemon's program is there, or says in one line what would be.
func (o Options) install(ctx context.Context) error {
	if _, err := exec.LookPath("dockerd"); err == nil && os.Geteuid() == 0 {
		return nil
	}
	release, _ := apt.ReadRelease("/") // an unreadable release is an unknown one
	switch {
	case os.Geteuid() != 0:
		return errors.New("no Docker answers and this is not root: start Docker (or install it), or run this as root")
	case !release.Known():
		return errors.New("no Docker answers: install Docker with your system's package manager and start it")
	}
	if err := os.MkdirAll(o.StateDir, 0o755); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	logPath := filepath.Join(o.StateDir, "install.log")
	log, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("make the install log: %w", err)
	}
	defer log.Close()
	o.say("no Docker here; installing docker.io and iptables from this machine's package mirror (log: %s)", logPath)
	began := time.Now()
	if err := apt.Install(ctx, log, "docker.io", "iptables"); err != nil {
		return fmt.Errorf("%w; the full log is %s", err, logPath)
	}
	if _, err := exec.LookPath("docker"); err != nil { // newer releases package the client on its own
		if err := apt.Install(ctx, log, "docker-cli"); err != nil {
			return fmt.Errorf("%w; the full log is %s", err, logPath)
		}
	}
	o.say("installed in %s", time.Since(began).Round(time.Second))
	return nil
}

// check sees to it that the daemon can run privileged containers, which every kind node is.
func (o Options) check(ctx context.Context, found daemon) error {
	missing, err := capability.Missing()
	if err != nil {
		return err
	}
	if missing == 0 || found.runtime == RuntimeName {
		o.say("Docker %s answers", found.version)
		return nil
	}
	stamp := filepath.Join(o.StateDir, "tried")
	mark := strings.Join([]string{found.id, found.version, found.runtime}, " ")
	if text, err := os.ReadFile(stamp); err == nil && string(text) == mark {
		o.say("Docker %s answers", found.version)
		return nil
	}
	refusal := o.try(ctx)
	if refusal == nil {
		o.say("Docker %s answers, and copes with the missing %v", found.version, missing.Names())
		// Only saves the trial next time; a machine where it can't be written tries again.
		_ = errors.Join(os.MkdirAll(o.StateDir, 0o755), os.WriteFile(stamp, []byte(mark), 0o600))
		return nil
	}
	lacks := fmt.Sprintf("Docker %s refuses privileged containers, because %v cannot be had here",
		found.version, missing.Names())
	if !o.ours() {
		return fmt.Errorf("%s, and it was not started by us: stop it and run this again, or register a default "+
			"runtime with it that drops those capabilities: %w", lacks, refusal)
	}
	o.say("%s; making %s its default runtime, which asks for what there is", lacks, RuntimeName)
	if err := o.switchRuntime(ctx); err != nil {
		return err
	}
	if err := o.try(ctx); err != nil {
		return fmt.Errorf("run a privileged container with %s: %w; the daemon's log is %s", RuntimeName, err, o.logPath())
	}
	o.say("privileged containers work")
	return nil
}
