package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/rebound-chaos/rebound/runner/demo"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

// What runs inside the cluster is this same program: the demo workload and the prober.

func newDemo(config *Config) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Serve the demo workload (runs inside the cluster)",
		Long:  demo.Help(),
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := demo.FromEnvironment(os.Environ())
			if err != nil {
				return err
			}
			return demo.Run(cmd.Context(), options, config.Stdout)
		},
	}
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
				file, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
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
