package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	socketPath     = "/var/run/docker.sock"
	pidPath        = "/var/run/docker.pid"
	containerdPid  = "/var/run/docker/containerd/containerd.pid"
	userConfigPath = "/etc/docker/daemon.json"
)

func (o Options) logPath() string    { return filepath.Join(o.StateDir, "dockerd.log") }
func (o Options) configPath() string { return filepath.Join(o.StateDir, "daemon.json") }

// start starts the daemon and returns when it answers. Where systemd runs the machine the daemon is its to start.
func (o Options) start(ctx context.Context) error {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		if out, err := exec.CommandContext(ctx, "systemctl", "start", "docker").CombinedOutput(); err != nil {
			return fmt.Errorf("start the docker service: %w: %s (journalctl -u docker)", err, bytes.TrimSpace(out))
		}
		return o.await(ctx, nil, "journalctl -u docker")
	}
	running, err := clearStale(pidPath, "dockerd")
	if err != nil {
		return err
	}
	if running != 0 {
		o.say("a Docker daemon (process %d) is there and does not answer yet; waiting for it", running)
		return o.await(ctx, nil, "that of process "+strconv.Itoa(running))
	}
	if _, err := clearStale(containerdPid, "containerd"); err != nil {
		return err
	}
	if err := o.buildRuntime(ctx); err != nil {
		return err
	}
	if err := o.writeConfig(false); err != nil {
		return err
	}
	ended, err := o.launch()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := o.await(ctx, ended, o.logPath()); err != nil {
		return err
	}
	o.say("started Docker in %s; its log is %s", time.Since(began).Round(100*time.Millisecond), o.logPath())
	return nil
}

// launch starts the daemon in a session of its own, with no descriptor of ours: whoever waits for the end of our
// output must not wait for the daemon's. The channel yields when the daemon ends while we watch.
func (o Options) launch() (<-chan error, error) {
	log, err := os.OpenFile(o.logPath(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's log: %w", err)
	}
	defer log.Close()
	command := exec.Command("dockerd", "--config-file", o.configPath())
	command.Dir = "/"
	command.Stdout, command.Stderr = log, log // standard input is /dev/null unless set
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start dockerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	return ended, nil
}

// await asks until the daemon answers, for as long as startLimit.
func (o Options) await(ctx context.Context, ended <-chan error, logPlace string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case end := <-ended:
			return fmt.Errorf("dockerd ended as soon as it was started (%v): %s; its log is %s",
				end, lastLine(logPlace), logPlace)
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer after %s: %w; its log is %s", startLimit, err, logPlace)
		case <-tick.C:
		}
	}
}

// writeConfig writes our daemon's configuration: the administrator's own where there is one, and our runtime added.
func (o Options) writeConfig(asDefault bool) error {
	config, err := os.ReadFile(userConfigPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the daemon's configuration: %w", err)
	}
	text, err := withRuntime(config, o.runtimePath(), asDefault)
	if err != nil {
		return fmt.Errorf("read %s: %w", userConfigPath, err)
	}
	if err := os.WriteFile(o.configPath(), text, 0o644); err != nil {
		return fmt.Errorf("write the daemon's configuration: %w", err)
	}
	return nil
}

// withRuntime adds our runtime to a daemon configuration, which may be empty.
func withRuntime(config []byte, path string, asDefault bool) ([]byte, error) {
	document := map[string]any{}
	if len(bytes.TrimSpace(config)) > 0 {
		if err := json.Unmarshal(config, &document); err != nil {
			return nil, fmt.Errorf("decode the configuration: %w", err)
		}
	}
	runtimes, _ := document["runtimes"].(map[string]any)
	if runtimes == nil {
		runtimes = map[string]any{}
	}
	runtimes[RuntimeName] = map[string]any{"path": path}
	document["runtimes"] = runtimes
	if asDefault {
		document["default-runtime"] = RuntimeName
	}
	return json.MarshalIndent(document, "", "  ")
}

// ours reports whether the daemon that answers was started here: its command line names our configuration.
func (o Options) ours() bool {
	process, err := readPid(pidPath)
	if err != nil {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", process))
	return err == nil && bytes.Contains(line, []byte(o.configPath()))
}

// switchRuntime makes our runtime the default of our running daemon, which rereads its configuration on SIGHUP.
func (o Options) switchRuntime(ctx context.Context) error {
	if err := o.writeConfig(true); err != nil {
		return err
	}
	process, err := readPid(pidPath)
	if err != nil {
		return err
	}
	if err := syscall.Kill(process, syscall.SIGHUP); err != nil {
		return fmt.Errorf("tell the daemon to reread its configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := ask(ctx)
		if err == nil && found.runtime == RuntimeName {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemon kept its old default runtime; its log is %s", o.logPath())
		case <-tick.C:
		}
	}
}

// clearStale removes the pid file of a daemon that is gone, also where its number went to another program since. It
// returns the process where the daemon is there, and 0 where it is not.
func clearStale(path, name string) (int, error) {
	process, err := readPid(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err == nil {
		running, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", process))
		if err == nil && strings.TrimSpace(string(running)) == name && !zombie(process) {
			return process, nil
		}
	}
	if err := os.Remove(path); err != nil {
		return 0, fmt.Errorf("remove the stale pid file: %w", err)
	}
	return 0, nil
}

// zombie reports whether the process has ended and only waits to be collected.
func zombie(process int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process))
	return err == nil && bytes.Contains(text, []byte("State:\tZ"))
}

func readPid(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read the pid file: %w", err)
	}
	process, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || process <= 0 {
		return 0, fmt.Errorf("no process number in %s", path)
	}
	return process, nil
}

func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "no log"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
