package scenarios

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// document is one file as it was read: a display name, its text, and where relative paths in it start from.
type document struct {
	name  string   // as the user knows it
	lines []string // for the caret
	at    location
	root  *node
}

// line is the text of a line, counted from 1; "" where there is none.
func (d *document) line(n int) string {
	if n < 1 || n > len(d.lines) {
		return ""
	}
	return d.lines[n-1]
}

// problem is a problem at a place of the document.
func (d *document) problem(line, column int, format string, args ...any) Problem {
	return Problem{
		File: d.name, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Source: d.line(line),
	}
}

// nodeKind says which field of a node holds its content.
type nodeKind int

const (
	scalarNode nodeKind = iota
	listNode
	mapNode
)

// node is one value of a document. It keeps its own document and place through merging, so that a problem in a merged
// scenario is shown where it was written. Nodes are never changed once they are built.
type node struct {
	kind         nodeKind
	doc          *document
	line, column int

	text    string // scalars: as written, without quotes
	plain   bool   // scalars: written without quotes
	value   any    // scalars: string, bool, int, uint64, float64 or nil
	entries []entry
	items   []*node
}

// entry is one key of a map with its value, in the order of the file.
type entry struct{ key, value *node }

func (n *node) problem(format string, args ...any) Problem {
	return n.doc.problem(n.line, n.column, format, args...)
}

// get is the value of a key; nil where n is no map or has no such key.
func (n *node) get(keys ...string) *node {
	for _, key := range keys {
		if n == nil {
			return nil
		}
		var found *node
		for _, e := range n.entries {
			if e.key.text == key {
				found = e.value
			}
		}
		n = found
	}
	return n
}

// with is a copy of a map in which key has a value; nil removes the key.
func (n *node) with(key string, value *node) *node {
	changed := *n
	changed.entries = slices.Clone(n.entries)
	for i, e := range changed.entries {
		if e.key.text != key {
			continue
		}
		if value == nil {
			changed.entries = slices.Delete(changed.entries, i, i+1)
		} else {
			changed.entries[i].value = value
		}
		return &changed
	}
	if value != nil {
		keyNode := &node{doc: value.doc, line: value.line, column: value.column, text: key, value: key}
		changed.entries = append(changed.entries, entry{keyNode, value})
	}
	return &changed
}

// lookup follows a path of keys and indexes to its end; nil where it leads nowhere.
func (n *node) lookup(path []string) *node {
	_, value, rest := n.walk(path)
	if rest > 0 {
		return nil
	}
	return value
}

// find follows a path of keys and indexes as far as it leads. It returns the key node of the last step (nil for list
// items and the root) and the value it ended at.
func (n *node) find(path []string) (key, value *node) {
	key, value, _ = n.walk(path)
	return key, value
}

// walk is find, and tells how many steps of the path are left.
func (n *node) walk(path []string) (key, value *node, rest int) {
	value = n
	for done, step := range path {
		next, nextKey := (*node)(nil), (*node)(nil)
		switch value.kind {
		case mapNode:
			for _, e := range value.entries {
				if e.key.text == step {
					nextKey, next = e.key, e.value
				}
			}
		case listNode:
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(value.items) {
				next = value.items[i]
			}
		}
		if next == nil {
			return key, value, len(path) - done
		}
		key, value = nextKey, next
	}
	return key, value, 0
}

// plainValue is the node as maps, lists and scalars, as encoding/json would have made them.
func (n *node) plainValue() any {
	switch n.kind {
	case mapNode:
		m := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			m[e.key.text] = e.value.plainValue()
		}
		return m
	case listNode:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.plainValue()
		}
		return list
	}
	return n.value
}

// merge lays over on base: maps deeply, lists of named maps by name, everything else replaced.
func merge(base, over *node) *node {
	switch {
	case base == nil:
		return over
	case over == nil:
		return base
	case base.kind == mapNode && over.kind == mapNode:
		return mergeMaps(base, over)
	case base.kind == listNode && over.kind == listNode && named(base) && named(over):
		return mergeNamed(base, over)
	}
	return over
}

func mergeMaps(base, over *node) *node {
	merged := *over
	merged.entries = nil
	index := make(map[string]int, len(base.entries))
	for i, e := range base.entries {
		index[e.key.text] = i
		merged.entries = append(merged.entries, e)
	}
	for _, e := range over.entries {
		if i, ok := index[e.key.text]; ok {
			merged.entries[i] = entry{e.key, merge(merged.entries[i].value, e.value)}
		} else {
			merged.entries = append(merged.entries, e)
		}
	}
	return &merged
}

func mergeNamed(base, over *node) *node {
	merged := *over
	merged.items = slices.Clone(base.items)
	index := make(map[string]int, len(base.items))
	for i, item := range base.items {
		index[item.get("name").text] = i
	}
	for _, item := range over.items {
		name := item.get("name").text
		if i, ok := index[name]; ok && i < len(base.items) {
			merged.items[i] = merge(base.items[i], item)
		} else {
			merged.items = append(merged.items, item)
		}
	}
	return &merged
}

// named says that every item of a list is a map with a name: such lists merge by it.
func named(list *node) bool {
	for _, item := range list.items {
		if name := item.get("name"); name == nil || name.kind != scalarNode {
			return false
		}
	}
	return len(list.items) > 0
}

// size counts the nodes at and below n.
func (n *node) size() int {
	total := 1
	for _, e := range n.entries {
		total += e.value.size()
	}
	for _, item := range n.items {
		total += item.size()
	}
	return total
}

// splitLines is the text by lines, without their ends.
func splitLines(text string) []string {
	return strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
}
