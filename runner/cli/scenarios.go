package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/runner"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
	"github.com/rebound-chaos/rebound/scenarios"
	"github.com/rebound-chaos/rebound/scenarios/library"
)

// types lists what a scenario file may name: the registered faults and probes, the profiles and the shipped files.
func types(config *Config) scenarios.Types {
	t := scenarios.Types{Steps: map[string]scenarios.StepType{}, Probes: map[string]scenarios.ProbeType{}, Library: library.FS}
	for _, name := range config.Faults.Names() {
		fault, _ := config.Faults.Fault(name) // Names lists what is there
		step := scenarios.StepType{Fault: true, Doc: fault.Doc, New: func() any { return fault.New() }}
		for _, kind := range fault.Targets {
			step.Targets = append(step.Targets, string(kind))
		}
		t.Steps[name] = step
	}
	for _, probe := range prober.Types() {
		t.Probes[probe.Name] = scenarios.ProbeType{Doc: probe.Doc, New: func() any { return probe.New() }}
	}
	for _, profile := range clusters.Profiles() {
		t.Profiles = append(t.Profiles, profile.Name)
	}
	return t
}

func newLoader(config *Config) *scenarios.Loader {
	return scenarios.NewLoader(types(config))
}

// Shipped loads every shipped scenario, as `run` without names does.
func Shipped(ctx context.Context, faults injectors.Registry) ([]*scenarios.Scenario, error) {
	return newLoader(&Config{Faults: faults}).Load(ctx, sources(nil, nil), scenarios.Options{})
}

// sources lists what to load: files, shipped scenarios by name, or every shipped one where neither is named.
func sources(files, names []string) []scenarios.Source {
	var out []scenarios.Source
	for _, file := range files {
		out = append(out, scenarios.Source(file))
	}
	for _, name := range names {
		out = append(out, scenarios.Source("library:"+name))
	}
	if len(out) == 0 {
		out = append(out, scenarios.Source("library:"))
	}
	return out
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// newPlanner is a runner that can plan but not run: it has no provider.
func newPlanner(config *Config) *runner.Runner {
	return &runner.Runner{Faults: config.Faults, Requirements: runner.Requirements()}
}

func newValidate(config *Config) *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use:   "validate [NAME...]",
		Short: "Check scenario files, all problems in one pass, without a cluster",
		RunE: func(cmd *cobra.Command, names []string) error {
			loaded, err := s.load(cmd, config, names)
			if err != nil {
				return err
			}
			r := newPlanner(config)
			for _, scenario := range loaded {
				if _, err := r.Plan(scenario, ""); err != nil {
					return err
				}
				fmt.Fprintf(config.Stdout, "%s: valid (%s)\n", scenario.File, scenario.Metadata.Name)
			}
			return nil
		},
	}
	s.flags(cmd)
	return cmd
}

func newPlan(config *Config) *cobra.Command {
	var s selection
	var profile, format string
	var merged bool
	cmd := &cobra.Command{
		Use:   "plan [NAME...]",
		Short: "Show what scenarios would do: victims by rule, changes, undos, deadlines; changes nothing",
		RunE: func(cmd *cobra.Command, names []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("-o %q: want text or json", format)
			}
			loaded, err := s.load(cmd, config, names)
			if err != nil {
				return err
			}
			if merged {
				return printMerged(config, loaded)
			}
			r := newPlanner(config)
			for _, scenario := range loaded {
				plan, err := r.Plan(scenario, profile)
				if err != nil {
					return err
				}
				if format == "json" {
					err = json.NewEncoder(config.Stdout).Encode(plan)
				} else {
					err = plan.WriteText(config.Stdout)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&profile, "profile", "", "plan for this profile instead of the scenario's own")
	cmd.Flags().StringVarP(&format, "output", "o", "text", "what to print: text or json")
	cmd.Flags().BoolVar(&merged, "show-merged", false, "print the merged file instead")
	return cmd
}

func printMerged(config *Config, loaded []*scenarios.Scenario) error {
	for _, s := range loaded {
		if _, err := config.Stdout.Write(s.Merged); err != nil {
			return err
		}
	}
	return nil
}

func newList(config *Config) *cobra.Command {
	var s selection
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the shipped scenarios, or those of -f",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "name" {
				return fmt.Errorf("-o %q: want table or name", format)
			}
			loaded, err := s.load(cmd, config, nil)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(config.Stdout, 0, 8, 2, ' ', 0)
			if format == "table" {
				fmt.Fprintln(w, "NAME\tMECHANISM\tPROFILE\tTITLE")
			}
			for _, scenario := range loaded {
				if format == "name" {
					fmt.Fprintln(w, scenario.Metadata.Name)
					continue
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", scenario.Metadata.Name, scenario.Metadata.Mechanism,
					scenario.Spec.Cluster.Profile, scenario.Metadata.Title)
			}
			return w.Flush()
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVarP(&format, "output", "o", "table", "what to print: table, or name for bare names")
	return cmd
}

func newSchema(config *Config) *cobra.Command {
	return &cobra.Command{
		Use:       "schema [scenario]",
		Short:     "Print the JSON Schema (draft-07) of scenario files",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"scenario"},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] != "scenario" {
				return fmt.Errorf("no schema is called %q (there is: scenario)", args[0])
			}
			schema, err := scenarios.Schema(types(config))
			if err != nil {
				return fmt.Errorf("schema: %w", err)
			}
			encoder := json.NewEncoder(config.Stdout)
			encoder.SetIndent("", "  ")
			return encoder.Encode(schema)
		},
	}
}
