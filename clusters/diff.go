package clusters

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Diff says what differs between the fingerprint and a later one of the same cluster, a line each, in a stable order:
// what is new, what is gone, and which field was what and is what. No line holds a Secret's value.
func (f Fingerprint) Diff(now Fingerprint) []string {
	var d differ
	for _, key := range union(f.Objects, now.Objects) {
		before, was := f.Objects[key]
		after, is := now.Objects[key]
		d.presence(key, was, is)
		if was && is {
			d.value(key+":", "", before, after)
		}
	}
	for _, name := range union(f.Nodes, now.Nodes) {
		before, was := f.Nodes[name]
		after, is := now.Nodes[name]
		d.presence("node "+name, was, is)
		if was && is {
			d.node("node "+name, before, after)
		}
	}
	for _, name := range union(f.Machines, now.Machines) {
		d.machine("node "+name, f.Machines[name], now.Machines[name])
	}
	for _, group := range now.Silent { // one that answers by now only came up late
		if !slices.Contains(f.Silent, group) {
			d.add("API group %s does not answer", group)
		}
	}
	return d.lines
}

// differ gathers differences.
type differ struct{ lines []string }

func (d *differ) add(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *differ) presence(what string, was, is bool) {
	switch {
	case was && !is:
		d.add("%s is gone", what)
	case is && !was:
		d.add("%s is new", what)
	}
}

// value compares two values as JSON gives them, and names the deepest path at which they differ.
func (d *differ) value(what, path string, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}
	if old, ok := before.(map[string]any); ok {
		if new, ok := after.(map[string]any); ok {
			for _, key := range union(old, new) {
				d.value(what, path+"."+key, old[key], new[key])
			}
			return
		}
	}
	if old, ok := before.([]any); ok {
		if new, ok := after.([]any); ok && len(old) == len(new) {
			for i := range old {
				d.value(what, fmt.Sprintf("%s[%d]", path, i), old[i], new[i])
			}
			return
		}
	}
	d.add("%s %s was %s, is %s", what, path, short(before), short(after))
}

func (d *differ) node(what string, before, after NodePrint) {
	d.value(what+":", ".labels", anyValue(before.Labels), anyValue(after.Labels))
	d.list(what, "taint", before.Taints, after.Taints)
	if before.Unschedulable != after.Unschedulable {
		d.add("%s: .unschedulable was %v, is %v", what, before.Unschedulable, after.Unschedulable)
	}
}

func (d *differ) machine(what string, before, after MachinePrint) {
	d.list(what, "nft table", before.Tables, after.Tables)
	d.list(what, "queueing discipline", before.Qdiscs, after.Qdiscs)
	d.list(what, "route", before.Routes, after.Routes)
	d.list(what, "file", before.Files, after.Files)
	d.list(what, "process", before.Processes, after.Processes)
}

// list compares two lists whose order says nothing.
func (d *differ) list(what, kind string, before, after []string) {
	for _, item := range before {
		if !slices.Contains(after, item) {
			d.add("%s: %s %s is gone", what, kind, item)
		}
	}
	for _, item := range after {
		if !slices.Contains(before, item) {
			d.add("%s: %s %s is new", what, kind, item)
		}
	}
}

func anyValue(labels map[string]string) any { return anyMap(labels) }

// shortLimit keeps a difference on one line, in bytes of a value.
const shortLimit = 80

func short(value any) string {
	if value == nil {
		return "absent"
	}
	text := strings.ToValidUTF8(fmt.Sprintf("%v", value), "?")
	if len(text) > shortLimit {
		text = strings.ToValidUTF8(text[:shortLimit], "") + "..."
	}
	return text
}

// union returns the keys of both maps, sorted.
func union[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
