// Package main is an OCI runtime that asks the host for nothing it cannot give, and is runc in everything else.
//
// A container engine that makes a privileged container asks for every capability the kernel knows. Where the bounding
// set lacks one of them, runc refuses the container. Registered as the engine's runtime, this program takes out what
// cannot be had and then becomes runc. What is taken out is package ocishim's to decide.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/capability"
	"github.com/rebound-chaos/rebound/clusters/nodeimage/ocishim"
)

func main() {
	// The engine tries a privileged container with this program inside it: getting this far is the whole answer.
	if len(os.Args) == 2 && os.Args[1] == "trial" {
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rebound-oci:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if file, ok := ocishim.FileOf(args); ok {
		host, err := thisHost()
		if err != nil {
			return err
		}
		if _, err := ocishim.Rewrite(file, host); err != nil {
			return err
		}
	}
	runtime, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("find the real runtime: %w", err)
	}
	if err := syscall.Exec(runtime, append([]string{runtime}, args...), os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", runtime, err)
	}
	return nil
}

// limits are the resource limits an OCI config can name.
var limits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func thisHost() (ocishim.Host, error) {
	bounding, err := capability.Bounding()
	if err != nil {
		return ocishim.Host{}, err
	}
	host := ocishim.Host{Bounding: bounding, HardLimits: map[string]uint64{}}
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return ocishim.Host{}, fmt.Errorf("read the out-of-memory score: %w", err)
	}
	if host.OOMScoreAdj, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
		return ocishim.Host{}, fmt.Errorf("read the out-of-memory score: %w", err)
	}
	for name, number := range limits {
		var limit unix.Rlimit
		if err := unix.Prlimit(0, number, nil, &limit); err != nil {
			return ocishim.Host{}, fmt.Errorf("read %s: %w", name, err)
		}
		host.HardLimits[name] = limit.Max
	}
	return host, nil
}
