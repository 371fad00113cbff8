package scenarios

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// checker holds a decoded scenario against the rules that a schema can't say: references, order, what excludes what.
type checker struct {
	session  *session
	tree     *node
	scenario Scenario
	// names are all names that the file gives, by the key they stand under: also those of things that are wrong
	// otherwise.
	names map[string][]string
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

// run checks everything. What is reported is reported once, and nothing stops the rest.
func (c *checker) run() {
	c.collectNames()
	c.checkComplete()
	c.checkWorkloads()
	c.checkTargets()
	c.checkProbes()
	c.checkConditions()
	c.checkSteps()
	c.checkOrder()
	c.checkObjectives()
	c.checkTwins()
}

// collectNames reads the names off the tree, and refuses those that stand twice in one list.
func (c *checker) collectNames() {
	c.names = map[string][]string{}
	for _, key := range []string{"workloads", "targets"} {
		if named := c.tree.get("spec", key); named != nil {
			for _, e := range named.entries {
				c.names[key] = append(c.names[key], e.key.text)
			}
		}
	}
	for _, key := range []string{"probes", "steps", "objectives", "twins"} {
		list := c.tree.get("spec", key)
		if list == nil {
			continue
		}
		for i, item := range list.items {
			name := item.get("name")
			if name == nil {
				continue
			}
			if slices.Contains(c.names[key], name.text) {
				c.report(spec(key, i, "name"), "the name %q stands twice in %s", name.text, key)
			}
			c.names[key] = append(c.names[key], name.text)
		}
	}
}

// checkComplete demands what the schema leaves to the files that are used.
func (c *checker) checkComplete() {
	s := &c.scenario
	if s.Metadata.Name == "" {
		c.report(place{"metadata", "name"}, "metadata needs a name")
	}
	if s.Metadata.Mechanism == "" {
		c.report(place{"metadata", "mechanism"}, "metadata needs a mechanism: the self-healing behaviour put to the test")
	}
	if len(s.Spec.Steps) == 0 {
		c.report(spec("steps"), "at least one step is needed: nothing would be broken")
	}
	if len(s.Spec.Objectives) == 0 {
		c.report(spec("objectives"), "at least one objective is needed: nothing would be judged")
	}
	if s.Spec.Steady == nil {
		c.report(spec("steady"), "a steady state is needed: without it nothing is injected")
	}
}

// present are those of the keys that stand in the map at a place, refused or not.
func (c *checker) present(at place, keys ...string) []string {
	var found []string
	for _, key := range keys {
		if c.tree.lookup(at.down(key)) != nil {
			found = append(found, key)
		}
	}
	return found
}

// exactlyOne demands one of the keys, and returns it; "" where there is none or more than one.
func (c *checker) exactlyOne(at place, what string, keys ...string) string {
	found := c.present(at, keys...)
	switch len(found) {
	case 0:
		c.report(at, "%s needs exactly one of %s", what, listed(keys))
		return ""
	case 1:
		return found[0]
	}
	c.report(at.down(found[1]), "%s and %s exclude each other", found[0], found[1])
	return ""
}

// onlyWith refuses a key that means nothing without one of the others.
func (c *checker) onlyWith(at place, key string, others ...string) {
	if len(c.present(at, key)) > 0 && len(c.present(at, others...)) == 0 {
		c.report(at.down(key), "%q goes with %s only", key, listed(others))
	}
}

// listed writes "a, b or c".
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// positive refuses zero where it would mean nothing.
func (c *checker) positive(at place, d values.Duration) {
	if len(c.present(at[:len(at)-1], at[len(at)-1])) > 0 && d == 0 {
		c.report(at, "%q must be longer than nothing", at[len(at)-1])
	}
}

// everyProfile demands a value for each profile that the scenario may run under.
func everyProfile[T any](c *checker, at place, value *values.Profiled[T]) {
	if value == nil {
		return
	}
	for _, profile := range c.session.types.Profiles {
		if _, ok := value.For(profile); !ok {
			c.report(at, "%q has no value for profile %s: the scenario may run under any", at[len(at)-1], profile)
		}
	}
}

// checkRef demands WORKLOAD/KIND/NAME with a workload that there is.
func (c *checker) checkRef(at place, text string, kinds ...string) {
	ref, err := ParseRef(text)
	switch {
	case err != nil:
		c.report(at, "%s", err)
	case !slices.Contains(c.names["workloads"], ref.Workload) && !c.listRefused("workloads"):
		c.unknown(at, "workload", ref.Workload, c.names["workloads"])
	case len(kinds) > 0 && !slices.Contains(kinds, ref.Kind):
		c.reportHint(at, closest(ref.Kind, kinds), "a %s has no pods to count: use %s", ref.Kind, listed(kinds))
	}
}

// checkName demands that a name of a list is there.
func (c *checker) checkName(at place, what, list, name string) bool {
	if !slices.Contains(c.names[list], name) && !c.listRefused(list) {
		c.unknown(at, what, name, c.names[list])
		return false
	}
	return true
}

// listRefused says that a whole list of names is missing because it was written wrong.
func (c *checker) listRefused(list string) bool {
	return slices.ContainsFunc(c.refused, func(path []string) bool { return slices.Equal(path, []string(spec(list))) })
}
