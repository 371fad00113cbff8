package scenarios

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// reserved is what probes fill in themselves: the number of a sample.
const reserved = "seq"

// maxSubstituted bounds how many bytes parameters may put into one document.
const maxSubstituted = 4 << 20

// reference is `$(name)`; `$$(` is a literal `$(`.
var reference = regexp.MustCompile(`\$?\$\(([^()]*)\)?`)

var parameterName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

// substitution fills one document's parameters in.
type substitution struct {
	session *session
	values  map[string]string
	bytes   int
	stopped bool
	refused []spot
}

// substitute fills the parameters in and returns the document with every parameter written as text.
func (s *session) substitute(tree *node) *node {
	sub := &substitution{session: s, values: map[string]string{}}
	spec := tree.get("spec")
	params := spec.get("params")
	if params != nil && params.kind == mapNode {
		texts := *params
		texts.entries = nil
		for _, e := range params.entries {
			texts.entries = append(texts.entries, entry{e.key, sub.declare(e)})
		}
		spec = spec.with("params", &texts)
		params = &texts
	}
	if spec == nil || spec.kind != mapNode {
		return tree
	}
	filled := *spec
	filled.entries = slices.Clone(spec.entries)
	for i, e := range filled.entries {
		if e.key.text != "params" && e.key.text != "use" { // files are found before parameters are known
			filled.entries[i].value = sub.fill(e.value, e.key.text == "probes")
		}
	}
	tree = tree.with("spec", &filled)
	if metadata := tree.get("metadata"); metadata != nil {
		tree = tree.with("metadata", sub.fill(metadata, false))
	}
	for _, place := range sub.refused {
		s.unreadable[place] = true
	}
	return tree
}

// declare notes one parameter, overridden by Options.Set, and returns its value as text.
func (sub *substitution) declare(e entry) *node {
	name := e.key.text
	switch {
	case name == reserved:
		sub.session.report(e.key.problem("$(%s) is filled in by probes: call the parameter something else", reserved))
	case !parameterName.MatchString(name):
		sub.session.report(e.key.problem("%q can't be the name of a parameter: letters, digits, '_', '.' and '-'", name))
	}
	sub.session.declared[name] = true
	if e.value.kind != scalarNode || e.value.value == nil {
		sub.values[name] = ""
		return e.value // the schema says so
	}
	if strings.Contains(e.value.text, "$(") {
		sub.session.report(e.value.problem("the value of a parameter can't refer to another one"))
	}
	text := *e.value
	if set, ok := sub.session.opts.Set[name]; ok {
		text.text = set
	}
	text.value = text.text // 1.10 stays 1.10, and true a word
	sub.values[name] = text.text
	return &text
}

// fill replaces every reference in the strings at and below n.
func (sub *substitution) fill(n *node, inProbes bool) *node {
	switch {
	case n.kind == mapNode:
		filled := *n
		filled.entries = slices.Clone(n.entries)
		for i, e := range filled.entries {
			filled.entries[i].value = sub.fill(e.value, inProbes)
		}
		return &filled
	case n.kind == listNode:
		filled := *n
		filled.items = slices.Clone(n.items)
		for i, item := range filled.items {
			filled.items[i] = sub.fill(item, inProbes)
		}
		return &filled
	}
	text, ok := n.value.(string)
	if !ok || !strings.Contains(text, "$(") || sub.stopped {
		return n
	}
	return sub.fillText(n, text, inProbes)
}

func (sub *substitution) fillText(n *node, text string, inProbes bool) *node {
	filled := *n
	known := true
	result := reference.ReplaceAllStringFunc(text, func(match string) string {
		if strings.HasPrefix(match, "$$") {
			return match[1:]
		}
		name := strings.TrimSuffix(strings.TrimPrefix(match, "$("), ")")
		value, ok := sub.values[name]
		switch {
		case name == reserved && inProbes && strings.HasSuffix(match, ")"):
			return match
		case name == reserved && !inProbes:
			sub.refuse(n.problem("$(%s) is known to probes only", reserved))
			known = false
		case !ok || !strings.HasSuffix(match, ")"):
			problem := n.problem("unknown parameter %s: declare it under params:, or write $$( for a plain $(", match)
			problem.Hint = closest(name, slices.Collect(maps.Keys(sub.values)))
			sub.refuse(problem)
			known = false
		}
		sub.bytes += len(value)
		if sub.bytes > maxSubstituted {
			if !sub.stopped {
				sub.session.report(n.problem("parameters put more than %d MiB into the file", maxSubstituted>>20))
			}
			sub.stopped = true
			return ""
		}
		return value
	})
	filled.value = result
	// A bare `$(n)` stands for whatever its text is, a number as well; in quotes it stays text.
	if known && n.plain && strings.HasPrefix(text, "$(") && strings.IndexByte(text, ')') == len(text)-1 &&
		!strings.HasPrefix(text, "$("+reserved+")") {
		value, err := resolvePlain(result)
		if err != nil {
			sub.refuse(n.problem("%s, once it is filled in: %s", text, err))
		}
		filled.value = value
	}
	filled.text = result
	return &filled
}

// refuse reports a value that could not be filled in; what the schema says of the rest is no news.
func (sub *substitution) refuse(problem Problem) {
	sub.session.report(problem)
	sub.refused = append(sub.refused, problem.place())
}
