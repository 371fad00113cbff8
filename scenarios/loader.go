package scenarios

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// Types is everything the file format does not know by itself: it is handed in by the program, never registered.
type Types struct {
	// Steps and Probes map the type's key in a file to the type.
	Steps  map[string]StepType
	Probes map[string]ProbeType
	// Profiles are the names of the profiles that there are.
	Profiles []string
	// Library holds the shipped files; nil where there is none.
	Library fs.FS
}

// StepType is a kind of fault or action.
type StepType struct {
	// Fault is true for faults and false for actions: only a fault can carry `for:`.
	Fault bool
	// Doc is one sentence for the schema.
	Doc string
	// New returns a pointer to fresh parameters, defaults filled in. Parameters are decoded by their json tags; a
	// `jsonschema:"..."` tag describes a field; a method Validate() error is called once they are decoded.
	New func() any
	// Targets are the kinds of target the step accepts: TargetPods, TargetNodes, TargetObjects. Empty: it takes none.
	Targets []string
}

// The kinds of target, as in StepType.Targets.
const (
	TargetPods    = "pods"
	TargetNodes   = "nodes"
	TargetObjects = "objects"
)

// ProbeType is a kind of probe.
type ProbeType struct {
	// Doc is one sentence for the schema.
	Doc string
	// New returns a pointer to fresh parameters, as StepType.New does.
	New func() any
	// Writes is true where the probe keeps account of records: `writes:` objectives need one.
	Writes bool
}

// Source says where to read scenarios from: a file, a folder (every *.yaml and *.yml below it), "-" for Options.Stdin,
// "library:NAME" for a shipped scenario, or "library:" for all of them.
type Source string

// LibraryPrefix opens the name of a shipped scenario, as a Source and in `use:`.
const LibraryPrefix = "library:"

// Options are what the command line adds to the files.
type Options struct {
	// Set overrides parameters by name.
	Set map[string]string
	// Root is the folder that manifests and used files have to lie in. Empty: the repository (nearest parent with .git)
	// of the file that names them, or its folder where there is no repository.
	Root string
	// Stdin is what the source "-" reads.
	Stdin io.Reader
}

// Loader loads scenario files. It is safe for concurrent use.
type Loader struct {
	types     Types
	validator func() (*validator, error)
}

// NewLoader makes a loader that knows the given steps and probes. Types that no schema can be made of fail the first
// Load.
func NewLoader(types Types) *Loader {
	return &Loader{types: types, validator: sync.OnceValues(func() (*validator, error) { return newValidator(types) })}
}

// Load reads, merges, checks and decodes the scenarios of all sources, defaults filled in, in the order of the sources.
// The error is of type Problems where files are wrong: all problems of all files at once.
func (l *Loader) Load(ctx context.Context, sources []Source, opts Options) ([]*Scenario, error) {
	validator, err := l.validator()
	if err != nil {
		return nil, err
	}
	s := &session{
		types: l.types, opts: opts, validator: validator,
		documents: map[location]*document{}, merges: map[location]*node{}, declared: map[string]bool{},
		unreadable: map[spot]bool{}, trees: map[*Scenario]*node{},
	}
	var loaded []*Scenario
	done := map[location]bool{}
	for _, source := range sources {
		for _, found := range s.expand(source) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if done[found.location] {
				continue
			}
			done[found.location] = true
			if scenario := s.load(found); scenario != nil {
				loaded = append(loaded, scenario)
			}
		}
	}
	s.checkNames(loaded)
	s.checkSet()
	if len(s.problems) > 0 {
		return nil, sorted(s.problems)
	}
	return loaded, nil
}

// session is one call of Load.
type session struct {
	types     Types
	opts      Options
	validator *validator
	problems  []Problem
	documents map[location]*document // nil where a file could not be read
	merges    map[location]*node     // nil while a merge is under way, and where it failed
	declared  map[string]bool        // every parameter that any scenario has
	// unreadable are the places of what is no good YAML: what the schema says of them is no news.
	unreadable map[spot]bool
	trees      map[*Scenario]*node
}

func (s *session) report(problem Problem) {
	if !s.unreadable[problem.place()] {
		s.problems = append(s.problems, problem)
	}
}

// load makes one scenario of one file; nil where the file is a partial one, or wrong.
func (s *session) load(found source) *Scenario {
	if found.inFolder {
		if data, err := s.readBytes(found.location); err == nil && foreign(data) {
			return nil
		}
	}
	doc := s.read(found.location, found.name, nil)
	if doc == nil {
		return nil
	}
	merged := s.merged(doc, nil)
	if merged == nil { // what it uses is broken: only what stands in the file itself can be told
		s.checkPartial(doc.root)
		return nil
	}
	if found.inFolder && doc.root.get("metadata", "name") == nil && doc.root.get("spec", "steps") == nil {
		s.checkPartial(merged)
		return nil
	}
	before := len(s.problems)
	tree := s.substitute(merged)
	scenario := s.decode(tree)
	if scenario == nil || len(s.problems) > before {
		return nil
	}
	scenario.File, scenario.Dir = doc.name, doc.at.dir()
	if err := scenario.fingerprint(tree); err != nil {
		s.report(tree.problem("%s", err))
		return nil
	}
	scenario.setDefaults()
	s.trees[scenario] = tree
	return scenario
}

// checkPartial checks what can be checked of a file that only others use.
func (s *session) checkPartial(tree *node) {
	for _, finding := range s.validator.check(tree) {
		_, at := tree.find(finding.path)
		if !strings.Contains(at.text, "$(") { // parameters are filled in where the file is used
			s.report(finding.problem)
		}
	}
}

// decode checks a merged document and makes a Scenario of it. What the schema refuses is cut out, so that the rest can
// be decoded and checked as well, and every problem is told in one pass.
func (s *session) decode(tree *node) *Scenario {
	findings := s.validator.check(tree)
	for _, finding := range findings {
		s.report(finding.problem)
	}
	// A value that makes no sense without the part that was cut out goes as a whole: one level more each time.
	for level := 0; ; level++ {
		c := &checker{session: s, tree: tree}
		data, err := json.Marshal(c.prune(findings, level))
		if err == nil {
			err = values.Strict(data, &c.scenario)
		}
		switch {
		case err == nil:
			c.decodeParams()
			c.run()
			return &c.scenario
		case len(findings) == 0: // the schema and the decoder disagree, which must not pass
			s.report(tree.problem("%s", err))
			return nil
		case level == maxDepth:
			return nil
		}
	}
}

// prune is the plain document without what was found, and so many levels above it. What it cuts out is noted as
// refused.
func (c *checker) prune(findings []finding, levels int) any {
	plain := c.tree.plainValue()
	for _, finding := range findings {
		path := finding.path[:max(len(finding.path)-levels, min(len(finding.path), 1))]
		plain = prune(plain, path)
		c.refused = append(c.refused, path)
		if hint := finding.problem.Hint; hint != "" && len(path) > 0 { // the key that was meant is not missed
			c.refused = append(c.refused, append(slices.Clone(path[:len(path)-1]), hint))
		}
	}
	return plain
}

// prune cuts the value at path out of a plain document: from maps it is deleted, in lists null takes its place.
func prune(value any, path []string) any {
	if len(path) == 0 {
		return map[string]any{}
	}
	switch v := value.(type) {
	case map[string]any:
		if len(path) == 1 {
			delete(v, path[0])
		} else if inner, ok := v[path[0]]; ok {
			v[path[0]] = prune(inner, path[1:])
		}
	case []any:
		for i := range v {
			if path[0] != fmt.Sprint(i) {
				continue
			}
			if len(path) == 1 {
				v[i] = nil
			} else {
				v[i] = prune(v[i], path[1:])
			}
		}
	}
	return value
}

// fingerprint fills in Merged and Hash.
func (s *Scenario) fingerprint(tree *node) error {
	data, err := json.Marshal(tree.plainValue()) // maps come out sorted: formatting does not change the hash
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	s.Hash = hex.EncodeToString(sum[:])
	s.Merged, err = render(tree)
	return err
}

// checkNames demands that scenario names are unique.
func (s *session) checkNames(loaded []*Scenario) {
	first := map[string]*Scenario{}
	for _, scenario := range loaded {
		if other := first[scenario.Metadata.Name]; other != nil {
			s.report(s.trees[scenario].get("metadata", "name").problem("the name %q is taken by %s",
				scenario.Metadata.Name, other.File))
			continue
		}
		first[scenario.Metadata.Name] = scenario
	}
}

// checkSet refuses parameters from the command line that no file declares.
func (s *session) checkSet() {
	for _, name := range slices.Sorted(maps.Keys(s.opts.Set)) {
		if !s.declared[name] && len(s.documents) > 0 {
			s.report(Problem{
				File: "--set", Line: 1, Column: 1, Source: name + "=" + s.opts.Set[name],
				Message: fmt.Sprintf("no scenario has a parameter %q", name),
				Hint:    closest(name, slices.Collect(maps.Keys(s.declared))),
			})
		}
	}
}
