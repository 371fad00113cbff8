// Command rebound breaks a Kubernetes cluster on purpose and measures how fast it heals. All it does is build the
// registries and hand them down: a third party with faults of its own writes a main like this one.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/clusters/kindcluster"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/pods"
	"github.com/rebound-chaos/rebound/runner/cli"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	// client-go's own log would stand between our lines; what matters in it comes back as an error.
	klog.SetLogger(logr.Discard())
	faults, err := injectors.NewRegistry(pods.Faults()...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "rebound:", err)
		os.Exit(2)
	}
	os.Exit(cli.Main(context.Background(), &cli.Config{
		Version: version, Commit: commit, Faults: faults,
		Providers: map[string]func() (clusters.Provider, error){
			"kind": func() (clusters.Provider, error) { return kindcluster.New(kindcluster.WithProgress(os.Stderr)) },
		},
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals(),
	}, os.Args[1:]))
}

// signals turns Ctrl-C, SIGTERM and a terminal that goes away into words. A broken pipe on standard output must not end
// us in the middle of a fault, so SIGPIPE is ignored and the write's own error counts.
func signals() <-chan string {
	signal.Ignore(syscall.SIGPIPE)
	in := make(chan os.Signal, 2)
	signal.Notify(in, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	out := make(chan string)
	go func() {
		for s := range in {
			if s == os.Interrupt {
				out <- "interrupt"
			} else {
				out <- "terminated"
			}
		}
	}()
	return out
}
