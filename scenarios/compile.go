package scenarios

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// Resolver binds names of the file to the cluster under test.
type Resolver interface {
	// NodeNames are the nodes behind a name in a condition: the members of a target, or the node of that name itself.
	NodeNames(name string) ([]string, error)
}

// ErrNoLimit: a limit has no value under the profile that the scenario runs with.
var ErrNoLimit = errors.New("no limit for this profile")

// Compile turns a condition of the file into one that can be judged. Node names are bound now: resolve is asked for
// them, and may be nil where no condition names a node.
func (c Condition) Compile(resolve Resolver) (assertions.Condition, error) {
	compiled := assertions.Condition{
		Workload: c.Workload, Ready: c.Ready.compile(), Updated: c.Updated.compile(), RolledOut: c.RolledOut,
		Probe: c.Probe, OK: c.OK, Tag: c.Tag, Lost: c.Lost.compile(),
		NodeReady: nodeReady(c.Status), NodeTaint: c.Taint, Unschedulable: c.Unschedulable,
	}
	if c.Over != nil {
		compiled.Over = time.Duration(*c.Over)
	}
	if c.Node != "" {
		if resolve == nil {
			return compiled, fmt.Errorf("node %q: nobody can say which nodes these are", c.Node)
		}
		nodes, err := resolve.NodeNames(c.Node)
		if err != nil {
			return compiled, fmt.Errorf("node %q: %w", c.Node, err)
		}
		if len(nodes) == 0 {
			return compiled, fmt.Errorf("node %q: no such node", c.Node)
		}
		compiled.Nodes = slices.Clone(nodes)
	}
	if c.Event != nil {
		event := assertions.EventMatch(*c.Event)
		compiled.Event = &event
	}
	if c.Object != "" {
		compiled.Object = &assertions.FieldMatch{Object: c.Object, Path: c.Field, Equals: c.Equals, Present: c.Exists}
	}
	for _, group := range []struct {
		from []Condition
		to   *[]assertions.Condition
	}{{c.All, &compiled.All}, {c.Any, &compiled.Any}} {
		for _, part := range group.from {
			inner, err := part.Compile(resolve)
			if err != nil {
				return compiled, err
			}
			*group.to = append(*group.to, inner)
		}
	}
	return compiled, nil
}

func (c *Count) compile() *assertions.Count {
	if c == nil {
		return nil
	}
	return &assertions.Count{All: c.All, Min: c.Min, Max: c.Max}
}

func (r *Ratio) compile() *assertions.Range {
	if r == nil {
		return nil
	}
	return &assertions.Range{Min: ratioOf(r.Min), Max: ratioOf(r.Max)}
}

func ratioOf(p *values.Percent) *float64 {
	if p == nil {
		return nil
	}
	ratio := float64(*p)
	return &ratio
}

// Compile turns an objective of a loaded scenario into one that can be judged, with the limits of one profile. The
// error is ErrNoLimit where the profile has none.
func (o Objective) Compile(profile string, resolve Resolver) (assertions.Objective, error) {
	since, err := ParseEdge(o.Since)
	if err != nil {
		return assertions.Objective{}, fmt.Errorf("objective %q: %w", o.Name, err)
	}
	compiled := assertions.Objective{
		Name: o.Name, Since: since, Phase: o.Phase, Chain: o.Chain, Probe: o.Probe, Writes: o.Writes,
	}
	if o.Reach != nil {
		compiled.Hold = time.Duration(o.Hold)
	}
	if o.Samples != nil {
		compiled.Samples = o.Samples.Min
	}
	err = errors.Join(
		compileCondition(&compiled.Reach, o.Reach, resolve),
		compileCondition(&compiled.Keeps, o.Keeps, resolve),
		o.compileLimits(&compiled, profile),
	)
	if err != nil {
		return compiled, fmt.Errorf("objective %q: %w", o.Name, err)
	}
	return compiled, nil
}

func compileCondition(into **assertions.Condition, from *Condition, resolve Resolver) error {
	if from == nil {
		return nil
	}
	compiled, err := from.Compile(resolve)
	*into = &compiled
	return err
}

// compileLimits fills in the limits that hold under a profile. Ranges are in the unit of what they bound: seconds, or a
// ratio from 0 to 1.
func (o Objective) compileLimits(into *assertions.Objective, profile string) error {
	within, err := limitOf("within", o.Within, profile)
	if within != nil {
		into.Within = time.Duration(*within)
	}
	lost, lostErr := limitOf("lost", o.Lost, profile)
	switch {
	case lost == nil:
	case o.Writes != "":
		into.LostMax = lost.MaxCount
	default:
		into.Lost = &assertions.Range{Max: lost.share()}
	}
	duplicated, duplicatedErr := limitOf("duplicated", o.Duplicated, profile)
	if duplicated != nil {
		into.DuplicatedMax = duplicated.MaxCount
	}
	outage, outageErr := limitOf("outage", o.Outage, profile)
	if outage != nil {
		into.Outage = atMost(outage.Max)
	}
	latency, latencyErr := limitOf("latency", o.Latency, profile)
	if latency != nil {
		into.Latency, into.Percentile = atMost(latency.Max), latency.Percentile
	}
	return errors.Join(err, lostErr, duplicatedErr, outageErr, latencyErr)
}

// limitOf is the value of a limit under a profile; nil where there is no such limit at all.
func limitOf[T any](key string, limit *values.Profiled[T], profile string) (*T, error) {
	if limit == nil {
		return nil, nil
	}
	value, ok := limit.For(profile)
	if !ok {
		return nil, fmt.Errorf("%s, profile %q: %w", key, profile, ErrNoLimit)
	}
	return &value, nil
}

// share is the bound on a share; a bare 0 is as good as 0%.
func (l LossLimit) share() *float64 {
	if l.MaxShare != nil {
		return ratioOf(l.MaxShare)
	}
	if l.MaxCount != nil && *l.MaxCount == 0 {
		return new(float64)
	}
	return nil
}

func atMost(d values.Duration) *assertions.Range {
	seconds := time.Duration(d).Seconds()
	return &assertions.Range{Max: &seconds}
}
