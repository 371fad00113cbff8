package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/reports"
	"github.com/rebound-chaos/rebound/runner"
	"github.com/rebound-chaos/rebound/scenarios"
)

// selection is the flags that say which scenarios are meant; run, plan, validate and list share them.
type selection struct {
	files  []string
	labels []string
	set    []string
	root   string
}

func (s *selection) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&s.files, "file", "f", nil, "scenario file, folder, or - for standard input (repeatable)")
	cmd.Flags().StringArrayVar(&s.labels, "label", nil, "only scenarios with this label, KEY=VALUE (repeatable: all of them)")
	cmd.Flags().StringArrayVar(&s.set, "set", nil, "value of a scenario's parameter, NAME=VALUE (repeatable)")
	cmd.Flags().StringVar(&s.root, "root", "", "folder that manifests must lie in (default: the repository that holds the file)")
}

// load reads the named shipped scenarios and the files; with neither, every shipped one.
func (s *selection) load(cmd *cobra.Command, config *Config, names []string) ([]*scenarios.Scenario, error) {
	set, err := pairs("--set", s.set)
	if err != nil {
		return nil, err
	}
	labels, err := pairs("--label", s.labels)
	if err != nil {
		return nil, err
	}
	loaded, err := newLoader(config).Load(cmd.Context(), sources(s.files, names),
		scenarios.Options{Set: set, Root: s.root, Stdin: config.Stdin})
	if err != nil {
		return nil, err
	}
	chosen := filterByLabels(loaded, labels)
	if len(chosen) == 0 {
		return nil, fmt.Errorf("none of the %d scenarios has label %s (rebound list shows them)", len(loaded),
			strings.Join(s.labels, ","))
	}
	return chosen, nil
}

func filterByLabels(all []*scenarios.Scenario, labels map[string]string) []*scenarios.Scenario {
	var chosen []*scenarios.Scenario
	for _, s := range all {
		matches := true
		for key, value := range labels {
			matches = matches && s.Metadata.Labels[key] == value
		}
		if matches {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func pairs(flag string, texts []string) (map[string]string, error) {
	out := make(map[string]string, len(texts))
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%s %q: want NAME=VALUE", flag, text)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("%s %s is given twice", flag, key)
		}
		out[key] = value
	}
	return out, nil
}

// runFlags is what only `run` takes.
type runFlags struct {
	selection
	repeat                                                  int
	out, provider, cluster, profile, program, image, format string
	seed                                                    int64
	twins, keep                                             bool
	timeout                                                 time.Duration
}

func newRun(config *Config) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [NAME...]",
		Short: "Run scenarios: break, measure, heal, judge",
		Long: "Runs the named shipped scenarios, the files given with -f, or, with neither, every shipped scenario.\n" +
			"Makes a throw-away cluster unless --cluster names one that is up, and writes report.json into --out.",
		RunE: func(cmd *cobra.Command, names []string) error { return f.run(cmd, config, names) },
	}
	f.flags(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.repeat, "repeat", 0, "runs of each scenario, each with fresh workloads (default: the scenario's own)")
	flags.StringVar(&f.out, "out", "out", "folder for report.json and the timelines")
	flags.StringVar(&f.provider, "provider", "kind", "where clusters come from: "+strings.Join(sortedNames(config.Providers), ", "))
	flags.StringVar(&f.cluster, "cluster", "", "use this cluster (rebound cluster create), and leave it up")
	flags.StringVar(&f.profile, "profile", "", "run under this profile instead of the scenario's own")
	flags.StringVar(&f.program, "program", "", "Linux program that runs in the nodes (default: this one)")
	flags.StringVar(&f.image, "node-image", "", "node image of new clusters (default: the provider's choice)")
	flags.Int64Var(&f.seed, "seed", 0, "seed of every random choice (default: a new one, which the report names)")
	flags.BoolVar(&f.twins, "twins", false, "also run each scenario's twins, which have to be missed")
	flags.BoolVar(&f.keep, "keep", false, "leave the cluster of a run that was not met up, to look into it")
	flags.DurationVar(&f.timeout, "timeout", time.Hour, "end the whole call after this long, healing first")
	flags.StringVarP(&f.format, "output", "o", "table", "what to print: table or json")
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, config *Config, names []string) error {
	ctx := cmd.Context()
	if f.format != "table" && f.format != "json" {
		return fmt.Errorf("-o %q: want table or json", f.format)
	}
	if f.repeat < 0 {
		return fmt.Errorf("--repeat %d: want a number of runs", f.repeat)
	}
	loaded, err := f.load(cmd, config, names)
	if err != nil {
		return err
	}
	r, err := newRunner(config, f.provider)
	if err != nil {
		return err
	}
	request := runner.Request{
		Scenarios: loaded, Out: f.out, Repeat: f.repeat, Cluster: f.cluster, Profile: f.profile, Twins: f.twins,
		Keep: f.keep, Timeout: f.timeout, Program: f.program, NodeImage: f.image,
	}
	if cmd.Flags().Changed("seed") {
		request.Seed = &f.seed
	}
	config.heals.Store(true)
	report, err := r.Run(ctx, request)
	if err != nil {
		return exit(codeOfRun(err), err)
	}
	path, err := report.Write(f.out)
	if err != nil {
		return exit(untold(report), err)
	}
	if err := f.print(config, report); err != nil {
		return exit(untold(report), err)
	}
	fmt.Fprintf(config.Stderr, "report: %s\n", filepath.Clean(path))
	if report.ExitCode != reports.ExitMet {
		return exit(report.ExitCode, nil)
	}
	return nil
}

// untold is the exit code of a run whose report could not be delivered: its own, but never a pass.
func untold(report *reports.Report) int {
	if report.ExitCode == reports.ExitMet {
		return reports.ExitUnknown
	}
	return report.ExitCode
}

// codeOfRun is the exit code of a run without a report: a scenario that cannot be planned is the user's, the rest means
// that nothing was injected.
func codeOfRun(err error) int {
	if errors.Is(err, runner.ErrUsage) {
		return reports.ExitUsage
	}
	return reports.ExitNotInjected
}

func (f *runFlags) print(config *Config, report *reports.Report) error {
	if f.format == "json" {
		encoder := json.NewEncoder(config.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	return report.WriteTable(config.Stdout)
}

func newRunner(config *Config, name string) (*runner.Runner, error) {
	build, ok := config.Providers[name]
	if !ok {
		return nil, fmt.Errorf("no provider is called %q (there are: %s)", name,
			strings.Join(sortedNames(config.Providers), ", "))
	}
	provider, err := build()
	if err != nil {
		return nil, exit(reports.ExitNotInjected, fmt.Errorf("provider %s: %w", name, err))
	}
	return &runner.Runner{
		Provider: provider, ProviderName: name, Faults: config.Faults, Reset: clusters.Reset,
		Requirements: runner.Requirements(), Progress: config.Stderr, Version: config.Version, Commit: config.Commit,
	}, nil
}
