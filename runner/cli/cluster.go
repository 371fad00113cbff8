package cli

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/reports"
)

func newCluster(config *Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Make, list and delete clusters to run scenarios on",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newClusterCreate(config), newClusterList(config), newClusterKubeconfig(config), newClusterDelete(config))
	return cmd
}

func provider(config *Config) (clusters.Provider, error) {
	const name = "kind" // the only provider that makes clusters
	build, ok := config.Providers[name]
	if !ok {
		return nil, fmt.Errorf("no provider is called %q", name)
	}
	p, err := build()
	if err != nil {
		return nil, exit(reports.ExitNotInjected, fmt.Errorf("provider %s: %w", name, err))
	}
	return p, nil
}

func newClusterCreate(config *Config) *cobra.Command {
	var workers int
	var profile, image string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a cluster, and return once it is usable",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if workers < 0 {
				return fmt.Errorf("--workers %d: want a number of nodes", workers)
			}
			p, err := provider(config)
			if err != nil {
				return err
			}
			chosen, err := clusters.ProfileByName(profile)
			if err != nil {
				return err
			}
			spec := clusters.Spec{Name: args[0], Profile: profile, ControlPlanes: 1, Image: image}
			if workers > 0 {
				spec.Workers = []clusters.NodeGroup{{Count: workers}}
			}
			for _, timer := range chosen.Timers() {
				fmt.Fprintf(config.Stderr, "  %-36s %s\n", timer.Name, timer.Value)
			}
			config.heals.Store(true)
			began := time.Now()
			cluster, err := p.Create(cmd.Context(), spec)
			if err != nil {
				return exit(reports.ExitNotInjected, fmt.Errorf("cluster %s: %w", args[0], err))
			}
			_, err = fmt.Fprintf(config.Stdout, "cluster %s is usable after %.1f s (Kubernetes %s, profile %s)\n  kubeconfig: %s\n",
				cluster.Name, time.Since(began).Seconds(), cluster.KubernetesVersion, profile, cluster.Kubeconfig)
			return err
		},
	}
	cmd.Flags().IntVar(&workers, "workers", 2, "number of workers")
	cmd.Flags().StringVar(&profile, "profile", "fast", "named set of Kubernetes timers")
	cmd.Flags().StringVar(&image, "node-image", "", "node image (default: the provider's choice)")
	return cmd
}

func newClusterList(config *Config) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the clusters that Rebound made",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := provider(config)
			if err != nil {
				return err
			}
			lister, ok := p.(clusters.Lister)
			if !ok {
				return errors.New("this provider cannot list its clusters")
			}
			all, err := lister.List(cmd.Context())
			if err != nil {
				return exit(reports.ExitNotInjected, fmt.Errorf("list clusters: %w", err))
			}
			w := tabwriter.NewWriter(config.Stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tVERSION\tPROFILE\tNODES\tKUBECONFIG")
			for _, c := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", c.Name, c.KubernetesVersion, c.Spec.Profile, len(c.Nodes), c.Kubeconfig)
			}
			return w.Flush()
		},
	}
}

func newClusterKubeconfig(config *Config) *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig NAME",
		Short: "Print the path of a cluster's kubeconfig file",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := provider(config)
			if err != nil {
				return err
			}
			cluster, err := p.Get(cmd.Context(), args[0])
			if err != nil {
				return exit(reports.ExitNotInjected, fmt.Errorf("cluster %s: %w", args[0], err))
			}
			_, err = fmt.Fprintln(config.Stdout, cluster.Kubeconfig)
			return err
		},
	}
}

func newClusterDelete(config *Config) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete clusters that Rebound made, and their files",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := provider(config)
			if err != nil {
				return err
			}
			var failed error
			for _, name := range args {
				if err := p.Delete(cmd.Context(), name); err != nil {
					failed = errors.Join(failed, fmt.Errorf("cluster %s: %w", name, err))
					continue
				}
				fmt.Fprintf(config.Stdout, "cluster %s is deleted\n", name)
			}
			if failed != nil {
				return exit(reports.ExitNotInjected, failed)
			}
			return nil
		},
	}
}
