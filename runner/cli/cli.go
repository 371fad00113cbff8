// Package cli is the command line of Rebound: flags, signals, what goes to standard output and what to standard error,
// and the exit codes of DESIGN. What a command does is left to runner and the packages below it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/runner"
)

// Config is what main hands down: there are no globals.
type Config struct {
	Version, Commit string
	Faults          injectors.Registry
	// Providers maps the names of `--provider` to what they stand for; the first use of one makes it.
	Providers map[string]func() (clusters.Provider, error)
	Stdin     io.Reader
	Stdout    io.Writer
	Stderr    io.Writer
	// Signals delivers the signals that end a run: "interrupt" or "terminated" for each.
	Signals <-chan string

	// heals is set by commands that take their time to heal and clean up once a signal came: a person is told so.
	heals atomic.Bool
}

// codeError carries an exit code to the end of the command; its error has been told already where it is nil.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// exit makes an error that ends the command with a code.
func exit(code int, err error) error { return &codeError{code: code, err: err} }

// Main runs one command line and returns the exit code. The first signal ends what runs, which then heals and cleans
// up; a second one returns at once, with what may still be owed left to the ledger.
func Main(ctx context.Context, config *Config, args []string) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	root := newRoot(config)
	root.SetArgs(args)
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	var first string
	for {
		select {
		case err := <-done:
			return config.conclude(err, first)
		case name := <-config.Signals:
			if first != "" {
				fmt.Fprintf(config.Stderr, "rebound: %s again: leaving at once; what is still owed stands in the ledger\n", name)
				return signalCode(first)
			}
			first = name
			if config.heals.Load() {
				fmt.Fprintf(config.Stderr, "rebound: %s: healing and cleaning up (once more to leave at once)\n", name)
			}
			cancel(runner.Interruption(name))
		}
	}
}

// conclude turns a command's error into the exit code, and tells it where nobody has yet. signal names the one that ended
// the command, if any: its code stands for every failure that has none of its own.
func (c *Config) conclude(err error, signal string) int {
	if err == nil {
		return reports.ExitMet
	}
	code := reports.ExitUsage
	if signal != "" {
		code = signalCode(signal)
	}
	var coded *codeError
	if errors.As(err, &coded) {
		if signal == "" || coded.err == nil { // a report's code has weighed the signal already
			code = coded.code
		}
		if coded.err == nil {
			return code
		}
	}
	fmt.Fprintf(c.Stderr, "rebound: %v\n", err)
	return code
}

func signalCode(name string) int {
	if name == "interrupt" {
		return reports.ExitInterrupted
	}
	return reports.ExitTerminated
}

func newRoot(config *Config) *cobra.Command {
	root := &cobra.Command{
		Use:   "rebound",
		Short: "Break a Kubernetes cluster on purpose, and measure how fast it heals",
		Long: "Rebound breaks a Kubernetes cluster on purpose, measures how fast it heals, and says whether that was fast\n" +
			"enough. A scenario file says what to break and what to demand.\n\n" +
			"Exit codes: 0 met; 1 missed; 2 usage or an invalid file; 3 nothing was injected; 4 unknown; 5 an undo is\n" +
			"still owed; 130 interrupted; 143 terminated.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       config.Version,
	}
	root.SetIn(config.Stdin)
	root.SetOut(config.Stdout)
	root.SetErr(config.Stderr)
	root.AddCommand(newRun(config), newPlan(config), newValidate(config), newList(config), newSchema(config),
		newCluster(config), newDemo(config), newProber(config), newVersion(config))
	return root
}

func newVersion(config *Config) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(config.Stdout, "rebound %s (%s)\n", config.Version, config.Commit)
			return err
		},
	}
}
