package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-chaos/rebound/runner/demo"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

// What runs inside the cluster is this same program: the demo workload and the prober.

func newDemo(config *Config) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Serve the demo workload (runs inside the cluster)",
		Long:  "Serves the demo workload over HTTP. Its switches are environment variables:\n\n" + demoVariables(),
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := demo.Environment(os.Getenv)
			if err != nil {
				return err
			}
			err = demo.Run(cmd.Context(), options, config.Stdout)
			var crash *demo.CrashError
			if errors.As(err, &crash) {
				return exit(crash.Code, err)
			}
			return err
		},
	}
}

func demoVariables() string {
	var b strings.Builder
	for _, v := range demo.Variables() {
		fmt.Fprintf(&b, "  %-28s %s\n", v.Name, v.Doc)
	}
	return b.String()
}

func newProber(config *Config) *cobra.Command {
	var text, out string
	cmd := &cobra.Command{
		Use:   "prober",
		Short: "Ask a workload in an open loop and write down the samples (runs inside the cluster)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var c prober.Config
			if err := json.Unmarshal([]byte(text), &c); err != nil {
				return fmt.Errorf("--config: %w", err)
			}
			var w io.Writer = config.Stdout
			if out != "" {
				file, err := prober.OpenLog(out)
				if err != nil {
					return fmt.Errorf("--out: %w", err)
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				w = file
			}
			return prober.Run(cmd.Context(), c, w)
		},
	}
	cmd.Flags().StringVar(&text, "config", "", "what to ask, how often and from where, as JSON")
	cmd.Flags().StringVar(&out, "out", "", "append-only file for the samples (default: standard output)")
	return cmd
}
