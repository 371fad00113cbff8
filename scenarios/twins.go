package scenarios

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// Weakened is the scenario with a twin's changes to the demo made: a copy, named SCENARIO/TWIN, without twins of its own.
// A patch of an object (Patch.Workload) is left to whoever deploys: it is the one twin that remains in Spec.Twins.
func (s *Scenario) Weakened(name string) (*Scenario, error) {
	i := slices.IndexFunc(s.Spec.Twins, func(t Twin) bool { return t.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("scenario %q has no twin %q", s.Metadata.Name, name)
	}
	twin := s.Spec.Twins[i]
	weak := *s
	weak.Metadata.Name = s.Metadata.Name + "/" + twin.Name
	weak.Spec.Twins = []Twin{twin}
	patch := twin.Patch.Demo
	if patch == nil {
		return &weak, nil
	}
	target, err := s.demoWorkload(patch.Workload)
	if err != nil {
		return nil, fmt.Errorf("twin %q: %w", name, err)
	}
	weak.Spec.Workloads = maps.Clone(s.Spec.Workloads)
	workload := weak.Spec.Workloads[target]
	demo := *workload.Demo
	if patch.Replicas != nil {
		demo.Replicas = *patch.Replicas
	}
	env := make(map[string]string, len(demo.Env)+len(patch.Env))
	maps.Copy(env, demo.Env)
	maps.Copy(env, patch.Env)
	demo.Env = env
	workload.Demo = &demo
	weak.Spec.Workloads[target] = workload
	return &weak, nil
}

// demoWorkload is the name of a demo workload; without a name, of the only one.
func (s *Scenario) demoWorkload(name string) (string, error) {
	if name != "" {
		workload, ok := s.Spec.Workloads[name]
		if !ok || workload.Demo == nil {
			return "", fmt.Errorf("there is no demo workload %q", name)
		}
		return name, nil
	}
	var demos []string
	for name, workload := range s.Spec.Workloads {
		if workload.Demo != nil {
			demos = append(demos, name)
		}
	}
	if len(demos) != 1 {
		return "", errors.New("which demo workload? Name it with workload:")
	}
	return demos[0], nil
}

// everyLoss is every value that a limit has under some profile.
func everyLoss(limit *values.Profiled[LossLimit]) []LossLimit {
	if limit == nil {
		return nil
	}
	all := slices.Collect(maps.Values(limit.ByProfile))
	if limit.Any != nil {
		all = append(all, *limit.Any)
	}
	return all
}
