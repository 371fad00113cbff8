package scenarios

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxFiles bounds how many files one Load reads.
const maxFiles = 1000

// location is where a document is kept; it can be compared.
type location struct {
	// path is absolute on disk, relative in the library, and "-" for standard input.
	path    string
	library bool
}

// dir is the folder that relative paths start from: "" for standard input (the working folder) and shipped files.
func (l location) dir() string {
	if l.library || l.path == "-" {
		return ""
	}
	return filepath.Dir(l.path)
}

// source is one file that a Source led to.
type source struct {
	location
	name     string
	inFolder bool // found by looking: a file that is no scenario is skipped
}

// expand finds the files of a Source.
func (s *session) expand(from Source) []source {
	name := string(from)
	if name == "-" {
		return []source{{location: location{path: "-"}, name: "-"}}
	}
	if shipped, ok := strings.CutPrefix(name, LibraryPrefix); ok {
		return s.expandLibrary(shipped)
	}
	absolute, err := filepath.Abs(name)
	if err != nil {
		s.report(Problem{File: name, Message: err.Error()})
		return nil
	}
	info, err := os.Stat(absolute)
	if err != nil {
		s.report(fileProblem(name, err))
		return nil
	}
	if !info.IsDir() {
		return []source{{location: location{path: absolute}, name: name}}
	}
	var found []source
	err = filepath.WalkDir(absolute, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != absolute && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !isYAML(file):
			return nil
		case len(found) == maxFiles:
			return fmt.Errorf("more than %d files", maxFiles)
		}
		relative, err := filepath.Rel(absolute, file)
		found = append(found, source{location: location{path: file}, name: filepath.Join(name, relative), inFolder: true})
		return err
	})
	if err != nil {
		s.report(fileProblem(name, err))
	} else if len(found) == 0 {
		s.report(Problem{File: name, Message: "no *.yaml file in this folder"})
	}
	return found
}

func (s *session) expandLibrary(name string) []source {
	files, err := libraryFiles(s.types.Library)
	if err != nil {
		s.report(Problem{File: LibraryPrefix + name, Message: err.Error()})
		return nil
	}
	var found []source
	for _, file := range files {
		if name == "" || libraryMatch(file, name) {
			found = append(found, source{
				location: location{path: file, library: true}, name: LibraryPrefix + shortName(file), inFolder: name == "",
			})
		}
	}
	if len(found) == 0 {
		s.report(Problem{
			File: LibraryPrefix + name, Message: "there is no such shipped scenario (rebound list names them)", Hint: closestFile(name, files),
		})
	}
	return found
}

// LibraryNames are the names of the shipped files, sorted, as they follow "library:".
func (l *Loader) LibraryNames() ([]string, error) {
	files, err := libraryFiles(l.types.Library)
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = shortName(file)
	}
	slices.Sort(names)
	return names, err
}

// libraryFiles are the paths of all shipped files.
func libraryFiles(library fs.FS) ([]string, error) {
	if library == nil {
		return nil, nil
	}
	var files []string
	err := fs.WalkDir(library, ".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && isYAML(file) {
			files = append(files, file)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list shipped scenarios: %w", err)
	}
	return files, nil
}

func isYAML(file string) bool { return path.Ext(file) == ".yaml" || path.Ext(file) == ".yml" }

// shortName is the name of a shipped file: its base without the extension.
func shortName(file string) string { return strings.TrimSuffix(path.Base(file), path.Ext(file)) }

func libraryMatch(file, name string) bool {
	return name == shortName(file) || name == file || name == strings.TrimSuffix(file, path.Ext(file))
}

func closestFile(name string, files []string) string {
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = shortName(file)
	}
	return closest(name, names)
}

// fileProblem says in the operating system's words why a file can't be read, without repeating its name.
func fileProblem(name string, err error) Problem {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return Problem{File: name, Message: err.Error()}
}

// read parses a file once. A file that can't be read is reported at by, the place that names it (nil: the command
// line).
func (s *session) read(at location, name string, by *node) *document {
	if doc, ok := s.documents[at]; ok {
		return doc
	}
	s.documents[at] = nil
	data, err := s.readBytes(at)
	if err == nil && len(s.documents) > maxFiles {
		err = fmt.Errorf("more than %d files", maxFiles)
	}
	if err != nil {
		problem := fileProblem(name, err)
		if by != nil {
			problem = by.problem("%s: %s", name, problem.Message)
		}
		s.report(problem)
		return nil
	}
	doc := &document{name: name, at: at}
	for _, problem := range doc.parse(data) {
		s.report(problem)
		s.unreadable[problem.place()] = true
	}
	if doc.root == nil {
		return nil
	}
	s.documents[at] = doc
	return doc
}

// readBytes reads no more than one byte beyond the limit, so that a huge file costs nothing.
func (s *session) readBytes(at location) (data []byte, err error) {
	var reader io.Reader
	switch {
	case at.library:
		file, err := s.types.Library.Open(at.path)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		reader = file
	case at.path == "-":
		if s.opts.Stdin == nil {
			return nil, errors.New("there is no standard input to read")
		}
		reader = s.opts.Stdin
	default:
		if info, err := os.Stat(at.path); err == nil && !info.Mode().IsRegular() {
			return nil, errors.New("not a regular file") // a pipe or a device may never end
		}
		file, err := os.Open(at.path)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		reader = file
	}
	return io.ReadAll(io.LimitReader(reader, maxFileBytes+1))
}

// merged is a document with everything it uses laid below it. above are the files that led here, outermost first.
func (s *session) merged(doc *document, above []location) *node {
	if tree, ok := s.merges[doc.at]; ok {
		return tree
	}
	s.checkHeader(doc)
	problem := len(s.problems)
	tree := doc.root
	above = append(slices.Clone(above), doc.at)
	var base *node
	if use := doc.root.get("spec", "use"); use != nil && use.kind == listNode {
		for _, item := range use.items {
			used := s.used(doc, item, above)
			if used != nil {
				base = merge(base, used)
			}
		}
	}
	if base != nil {
		tree = merge(base, tree)
	}
	if problem == len(s.problems) && s.tooLarge(tree, doc) {
		tree = nil
	}
	if problem != len(s.problems) {
		tree = nil
	}
	s.merges[doc.at] = tree
	return tree
}

// maxMerged is how many values a merged document may have.
const maxMerged = 1_000_000

func (s *session) tooLarge(tree *node, doc *document) bool {
	if tree.size() <= maxMerged {
		return false
	}
	s.report(doc.problem(1, 1, "merged with what it uses, the file has more than %d values", maxMerged))
	return true
}

// used is the merged tree of one entry of `use:`, ready to lie below doc: without a name of its own, and with the paths
// in it relative to doc.
func (s *session) used(doc *document, item *node, above []location) *node {
	name, ok := item.value.(string)
	switch {
	case !ok:
		return nil // the schema says so
	case name == "":
		s.report(item.problem("the name of a used file is empty"))
		return nil
	}
	at, err := s.resolveUse(doc, name)
	if err != nil {
		s.report(withHint(item.problem("%s", err), err))
		return nil
	}
	if slices.Contains(above, at) {
		s.report(item.problem("a cycle: %s uses this file in its turn", name))
		return nil
	}
	display := name
	if !at.library {
		display = displayPath(doc, at)
	}
	other := s.read(at, display, item)
	if other == nil {
		return nil
	}
	tree := s.merged(other, above)
	if tree == nil {
		return nil
	}
	if metadata := tree.get("metadata"); metadata != nil && metadata.kind == mapNode {
		tree = tree.with("metadata", metadata.with("name", nil))
	}
	if spec := tree.get("spec"); spec != nil && spec.kind == mapNode {
		tree = tree.with("spec", rebase(spec.with("use", nil), other.at.dir(), doc.at.dir()))
	}
	return tree
}

// displayPath names a used file the way its user is named: relative to the same folder.
func displayPath(doc *document, at location) string {
	relative, err := filepath.Rel(doc.at.dir(), at.path)
	if err != nil || doc.at.dir() == "" {
		return at.path
	}
	return filepath.Join(filepath.Dir(doc.name), relative)
}

// hinted is an error that knows what was probably meant.
type hinted struct {
	error
	hint string
}

func withHint(problem Problem, err error) Problem {
	var h hinted
	if errors.As(err, &h) {
		problem.Hint = h.hint
	}
	return problem
}

// resolveUse finds the file that an entry of `use:` names.
func (s *session) resolveUse(doc *document, name string) (location, error) {
	if shipped, ok := strings.CutPrefix(name, LibraryPrefix); ok || doc.at.library {
		files, err := libraryFiles(s.types.Library)
		if err != nil {
			return location{}, err
		}
		wanted := shipped
		if !ok {
			wanted = path.Join(path.Dir(doc.at.path), name)
		}
		for _, file := range files {
			if ok && libraryMatch(file, wanted) || file == wanted {
				return location{path: file, library: true}, nil
			}
		}
		return location{}, hinted{fmt.Errorf("there is no shipped file %q", name), closestFile(shipped, files)}
	}
	resolved, err := s.resolvePath(doc.at.dir(), name)
	return location{path: resolved}, err
}

// checkHeader demands that every file says what it is, also those that are only used.
func (s *session) checkHeader(doc *document) {
	for _, line := range [][2]string{{"apiVersion", APIVersion}, {"kind", Kind}} {
		value := doc.root.get(line[0])
		switch {
		case value == nil:
			s.report(doc.root.problem("missing %s: %s", line[0], line[1]))
		case value.value != line[1]:
			s.report(value.problem("%s must be %s", line[0], line[1]))
		}
	}
}

// rebase rewrites the relative manifest paths of a used file so that they start from the folder of the one that uses
// it.
func rebase(spec *node, from, to string) *node {
	workloads := spec.get("workloads")
	if from == to || workloads == nil || workloads.kind != mapNode {
		return spec
	}
	rebased := *workloads
	rebased.entries = slices.Clone(workloads.entries)
	for i, e := range rebased.entries {
		manifests := e.value.get("manifests")
		if manifests == nil || manifests.kind != listNode {
			continue
		}
		list := *manifests
		list.items = slices.Clone(manifests.items)
		for j, item := range list.items {
			list.items[j] = rebaseItem(item, from, to)
		}
		rebased.entries[i].value = e.value.with("manifests", &list)
	}
	return spec.with("workloads", &rebased)
}

func rebaseItem(item *node, from, to string) *node {
	text, ok := item.value.(string)
	if !ok || filepath.IsAbs(text) || from == "" {
		return item
	}
	moved := *item
	absolute := filepath.Join(from, text)
	relative, err := filepath.Rel(to, absolute)
	if err != nil || to == "" {
		relative = absolute
	}
	moved.text, moved.value = relative, relative
	return &moved
}

// resolvePath makes a relative path absolute and demands that it exists and, links followed, lies in the repository.
func (s *session) resolvePath(dir, name string) (string, error) {
	if dir == "" {
		dir = "."
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	full := name
	if !filepath.IsAbs(name) {
		full = filepath.Join(dir, name)
	}
	root, err := s.root(dir)
	if err != nil {
		return "", err
	}
	if !inside(root, full) && !inside(mustResolve(root), full) {
		return "", fmt.Errorf("%s lies outside the repository of this file (--root names another folder)", name)
	}
	resolved, err := filepath.EvalSymlinks(full)
	if err != nil {
		problem := fileProblem(name, err)
		return "", fmt.Errorf("%s: %s", name, problem.Message)
	}
	if !inside(mustResolve(root), resolved) {
		return "", fmt.Errorf("%s leads out of the repository of this file by a symbolic link", name)
	}
	return full, nil
}

// mustResolve follows the links of a folder that is known to exist; where that fails the path itself has to do.
func mustResolve(dir string) string {
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		return resolved
	}
	return dir
}

// root is the folder that files named in a file of dir have to lie in.
func (s *session) root(dir string) (string, error) {
	if s.opts.Root != "" {
		return filepath.Abs(s.opts.Root)
	}
	for parent := dir; ; parent = filepath.Dir(parent) {
		if _, err := os.Stat(filepath.Join(parent, ".git")); err == nil {
			return parent, nil
		}
		if parent == filepath.Dir(parent) {
			return dir, nil
		}
	}
}

func inside(root, file string) bool {
	relative, err := filepath.Rel(root, file)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator))
}
