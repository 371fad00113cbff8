// Package apt reads which Debian mirror a machine uses, and installs packages from it.
//
// No mirror is named here: it is always the machine's own. What to install is left to the callers.
package apt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// Source is one place that apt takes binary packages from.
type Source struct {
	URI        string
	Suites     []string
	Components []string
}

// ErrNoMirror says that no apt source of this machine offers the release.
var ErrNoMirror = errors.New("no apt source offers this release")

// ParseList reads a classic one-line sources file (*.list).
func ParseList(text string) []Source {
	var sources []Source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind != "deb" {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			if _, after, closed := strings.Cut(rest, "]"); closed {
				rest = after
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		sources = append(sources, Source{URI: fields[0], Suites: fields[1:2], Components: fields[2:]})
	}
	return sources
}

// ParseDeb822 reads a sources file of paragraphs (*.sources).
func ParseDeb822(text string) []Source {
	var sources []Source
	fields := map[string]string{}
	key := ""
	flush := func() {
		if slices.Contains(strings.Fields(fields["types"]), "deb") && fields["enabled"] != "no" {
			for _, uri := range strings.Fields(fields["uris"]) {
				sources = append(sources, Source{
					URI: uri, Suites: strings.Fields(fields["suites"]), Components: strings.Fields(fields["components"]),
				})
			}
		}
		fields, key = map[string]string{}, ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			fields[key] += " " + strings.TrimSpace(line)
		default:
			name, value, _ := strings.Cut(line, ":")
			key = strings.ToLower(strings.TrimSpace(name))
			fields[key] = strings.ToLower(strings.TrimSpace(value))
			if key != "enabled" && key != "types" {
				fields[key] = strings.TrimSpace(value)
			}
		}
	}
	flush()
	return sources
}

// Mirror picks the source to install a base system of this release from: the first that offers the release's own
// suite and its main component.
func Mirror(sources []Source, release string) (Source, error) {
	for _, source := range sources {
		if slices.Contains(source.Suites, release) && slices.Contains(source.Components, "main") {
			return Source{URI: source.URI, Suites: []string{release}, Components: source.Components}, nil
		}
	}
	return Source{}, fmt.Errorf("%w: %s", ErrNoMirror, release)
}

// Sources reads every apt source of the machine whose root directory this is.
func Sources(root string) ([]Source, error) {
	names, err := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*"))
	if err != nil {
		return nil, fmt.Errorf("list apt's sources: %w", err)
	}
	sort.Strings(names)
	var sources []Source
	for _, name := range append([]string{filepath.Join(root, "etc/apt/sources.list")}, names...) {
		parse := ParseList
		switch filepath.Ext(name) {
		case ".list":
		case ".sources":
			parse = ParseDeb822
		default:
			continue
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt's sources: %w", err)
		}
		sources = append(sources, parse(string(text))...)
	}
	return sources, nil
}
