package apt

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// Install brings the package lists up to date once and installs the packages, without a question and without
// starting any service; what the package manager says goes to log.
func Install(ctx context.Context, log io.Writer, packages ...string) error {
	if err := run(ctx, log, "update", "-q"); err != nil {
		return fmt.Errorf("bring the package lists up to date: %w", err)
	}
	arguments := append([]string{
		"install", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120",
	}, packages...)
	if err := run(ctx, log, arguments...); err != nil {
		return fmt.Errorf("install %v: %w", packages, err)
	}
	return nil
}

func run(ctx context.Context, log io.Writer, arguments ...string) error {
	command := exec.CommandContext(ctx, "apt-get", arguments...)
	// Run level 1 keeps Debian's maintainer scripts from starting the service on a machine without systemd: the
	// daemon would inherit our descriptors and none of our settings.
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "LC_ALL=C")
	command.Stdout, command.Stderr = log, log
	// Interrupted, not killed: a killed dpkg leaves packages half configured.
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return command.Run()
}
