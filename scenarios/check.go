package scenarios

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// checker holds a decoded scenario against the rules that a schema can't say: references, order, what excludes what.
type checker struct {
	session  *session
	tree     *node
	scenario Scenario
	// refused are the paths that the schema refused. What is wrong near them is a consequence, and not told.
	refused [][]string
}

// place is where something stands in the document: keys and indexes.
type place []string

// down is the path of something below.
func (p place) down(steps ...any) place {
	below := slices.Clone(p)
	for _, step := range steps {
		switch s := step.(type) {
		case string:
			below = append(below, s)
		case int:
			below = append(below, strconv.Itoa(s))
		}
	}
	return below
}

// spec is where a scenario's spec stands.
func spec(steps ...any) place { return place{"spec"}.down(steps...) }

// report notes a problem at a path: at the value, or the nearest one above it that is there.
func (c *checker) report(at place, format string, args ...any) { c.reportHint(at, "", format, args...) }

func (c *checker) reportHint(at place, hint, format string, args ...any) {
	for _, refused := range c.refused {
		shorter := min(len(refused), len(at))
		if slices.Equal(refused[:shorter], []string(at[:shorter])) {
			return
		}
	}
	_, value := c.tree.find(at)
	problem := value.problem(format, args...)
	problem.Hint = hint
	c.session.report(problem)
}

// unknown notes a reference to something that there is not.
func (c *checker) unknown(at place, what, name string, known []string) {
	c.reportHint(at, closest(name, known), "there is no %s %q", what, name)
}

// decodeParams decodes the parameters of steps and probes into the registered types.
func (c *checker) decodeParams() {
	for i := range c.scenario.Spec.Steps {
		step := &c.scenario.Spec.Steps[i]
		if t, ok := c.session.types.Steps[step.Type]; ok {
			step.Params = c.params(spec("steps", i, step.Type), t.New(), step.Params)
		}
	}
	for i := range c.scenario.Spec.Probes {
		probe := &c.scenario.Spec.Probes[i]
		if t, ok := c.session.types.Probes[probe.Type]; ok {
			probe.Params = c.params(spec("probes", i, probe.Type), t.New(), probe.Params)
		}
	}
}

// validates is implemented by parameters that check more than their types.
type validates interface{ Validate() error }

func (c *checker) params(at place, into, raw any) any {
	if data, ok := raw.(json.RawMessage); ok && !isNull(data) {
		if err := values.Strict(data, into); err != nil {
			c.report(at, "%s", err)
			return into
		}
	}
	if v, ok := into.(validates); ok {
		if err := v.Validate(); err != nil {
			c.report(at, "%s", err)
		}
	}
	return into
}

func (c *checker) run() {}
