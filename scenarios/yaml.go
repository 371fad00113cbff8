package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// This is the only file that knows the YAML library: it turns a file into nodes of our own, with everything refused
// that a scenario file may not contain, and nodes back into YAML.

// The limits of one file. Beyond them lies no scenario, only an attack or an accident.
const (
	maxFileBytes = 1 << 20
	maxDepth     = 100
	maxAliases   = 1000
	// maxParts is how many lines and commas a file may have: the parser needs a second for half a million.
	maxParts = 20_000
	// maxExpanded is how many nodes all aliases together may stand for.
	maxExpanded = 100_000
)

// parse fills in the document's lines and root. Root stays nil where a problem leaves nothing to go on with; after the
// others (a key that stands twice, say) the rest can still be checked.
func (d *document) parse(data []byte) []Problem {
	if len(data) > maxFileBytes {
		return []Problem{d.problem(1, 1, "the file is larger than %d MiB", maxFileBytes>>20)}
	}
	if bytes.Count(data, []byte("\n"))+bytes.Count(data, []byte(",")) > maxParts {
		return []Problem{d.problem(1, 1, "the file has more than %d lines and commas", maxParts)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	d.lines = splitLines(strings.ToValidUTF8(string(data), "\uFFFD"))
	if problem := d.checkBytes(data); problem != nil {
		return []Problem{*problem}
	}
	root, problem := d.decode(data)
	if problem != nil {
		return []Problem{*problem}
	}
	b := &builder{doc: d, data: data}
	built := b.build(root, 0)
	if built.kind != mapNode && !b.stopped {
		b.stop(built, "a scenario is a map that begins with apiVersion: %s", APIVersion)
	}
	if !b.stopped {
		d.root = built
	}
	return b.problems
}

// foreign says that a file found in a folder is none of ours (a manifest, say): its first document names another API.
func foreign(data []byte) bool {
	doc := &document{}
	var first yaml.Node
	if len(data) > maxFileBytes || doc.checkBytes(data) != nil ||
		decodeNext(yaml.NewDecoder(bytes.NewReader(data)), &first) != nil {
		return false // the loader says what is wrong
	}
	if len(first.Content) != 1 || first.Content[0].Kind != yaml.MappingNode {
		return false
	}
	pairs := first.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i].Value == "apiVersion" {
			return !strings.HasPrefix(strings.ToLower(pairs[i+1].Value), "rebound")
		}
	}
	return false
}

// checkBytes refuses what is no text: NUL bytes, broken UTF-8 and control characters.
func (d *document) checkBytes(data []byte) *Problem {
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, width := utf8.DecodeRune(data[i:])
		reason := ""
		switch {
		case r == 0:
			reason = "a NUL byte: this is no text file"
		case r == utf8.RuneError && width == 1:
			reason = fmt.Sprintf("byte 0x%02x is not UTF-8", data[i])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r <= 0x9f && r != 0x85, r == 0xFFFE, r == 0xFFFF:
			reason = fmt.Sprintf("control character U+%04X", r)
		}
		if reason != "" {
			problem := d.problem(line, column, "%s", reason)
			return &problem
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		i += width
	}
	return nil
}

// decodeNext reads one document. The library is archived and its known panics are not all fixed: a file must not take
// the whole run down.
func decodeNext(decoder *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = fmt.Errorf("the YAML parser failed: %v", recovered)
		}
	}()
	return decoder.Decode(into)
}

// decode reads exactly one YAML document.
func (d *document) decode(data []byte) (*yaml.Node, *Problem) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	err := decodeNext(decoder, &first)
	switch {
	case errors.Is(err, io.EOF):
		p := d.problem(1, 1, "the file is empty")
		return nil, &p
	case err != nil:
		return nil, d.syntaxProblem(err)
	case len(first.Content) != 1 || first.Content[0].ShortTag() == "!!null":
		p := d.problem(max(first.Line, 1), max(first.Column, 1), "the file is empty")
		return nil, &p
	}
	err = decodeNext(decoder, &second)
	switch {
	case errors.Is(err, io.EOF):
		return first.Content[0], nil
	case err != nil:
		return nil, d.syntaxProblem(err)
	}
	p := d.problem(max(second.Line, 1), max(second.Column, 1), "a second document: one file holds one scenario")
	return nil, &p
}

// yamlErrorText takes the library's messages apart: it tells the line of a syntax error in text only.
var (
	yamlErrorText = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?((?s).*)$`)
	parserMessage = regexp.MustCompile(`^did not find expected (key|node content|<document start>|'-' indicator|',' or)`)
)

func (d *document) syntaxProblem(err error) *Problem {
	line, message := 1, err.Error()
	if match := yamlErrorText.FindStringSubmatch(message); match != nil {
		message = match[2]
		if n, err := strconv.Atoi(match[1]); err == nil {
			if parserMessage.MatchString(message) {
				n++ // the parser counts lines from 0, the scanner from 1
			}
			line = min(max(n, 1), len(d.lines))
		}
	}
	for line > 1 && strings.TrimSpace(d.line(line)) == "" { // the end of a file is told as the line behind it
		line--
	}
	text := d.line(line)
	indent := len(text) - len(strings.TrimLeft(text, " \t"))
	if tab := strings.IndexByte(text[:indent], '\t'); tab >= 0 {
		p := d.problem(line, tab+1, "a tab can't indent YAML: use spaces")
		return &p
	}
	p := d.problem(line, min(indent, max(len(text)-1, 0))+1, "not YAML: %s", message)
	return &p
}

// builder turns the library's nodes into ours.
type builder struct {
	doc      *document
	data     []byte
	problems []Problem
	aliases  int
	expanded int
	// within are the anchors that are being expanded, innermost last.
	within []*yaml.Node
	// stopped is set where a limit was reached: the rest of the file is not looked at.
	stopped bool
}

// build is nil-free: where something is refused, an empty scalar stands in its place and a problem is noted.
func (b *builder) build(y *yaml.Node, depth int) *node {
	n := &node{doc: b.doc, line: max(y.Line, 1), column: max(y.Column, 1)}
	if b.stopped {
		return n
	}
	if len(b.within) > 0 {
		if b.expanded++; b.expanded > maxExpanded {
			b.stop(n, "aliases stand for more than %d values", maxExpanded)
			return n
		}
	}
	if depth > maxDepth {
		b.stop(n, "nested deeper than %d levels", maxDepth)
		return n
	}
	switch y.Kind {
	case yaml.MappingNode:
		b.buildMap(y, n, depth)
	case yaml.SequenceNode:
		n.kind = listNode
		for _, item := range y.Content {
			n.items = append(n.items, b.build(item, depth+1))
		}
	case yaml.AliasNode:
		return b.buildAlias(y, n, depth)
	default:
		b.buildScalar(y, n)
	}
	return n
}

// stop notes a problem after which the rest of the file is not looked at.
func (b *builder) stop(n *node, format string, args ...any) {
	b.stopped = true
	b.problems = append(b.problems, n.problem(format, args...))
}

func (b *builder) refuse(n *node, format string, args ...any) {
	b.problems = append(b.problems, n.problem(format, args...))
}

func (b *builder) buildAlias(y *yaml.Node, n *node, depth int) *node {
	if len(b.within) == 0 { // those inside an anchor were counted where the anchor stands
		b.aliases++
	}
	switch {
	case b.aliases > maxAliases:
		b.stop(n, "more than %d aliases", maxAliases)
		return n
	case y.Alias == nil || slices.Contains(b.within, y.Alias):
		b.stop(n, "alias *%s stands inside its own anchor", y.Value)
		return n
	}
	b.within = append(b.within, y.Alias)
	target := b.build(y.Alias, depth)
	b.within = b.within[:len(b.within)-1]
	return target
}

func (b *builder) buildMap(y *yaml.Node, n *node, depth int) {
	n.kind = mapNode
	if tag := y.ShortTag(); tag != "!!map" {
		b.refuse(n, "tag %s is not allowed", tag)
	}
	seen := make(map[string]*node, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		yKey := y.Content[i]
		key := &node{doc: b.doc, line: max(yKey.Line, 1), column: max(yKey.Column, 1), text: yKey.Value, value: yKey.Value}
		value := b.build(y.Content[i+1], depth+1)
		switch {
		case b.stopped:
		case yKey.Kind != yaml.ScalarNode:
			b.stop(key, "a key must be a plain name")
		case yKey.ShortTag() == "!!merge":
			b.stop(key, "merge keys (<<) are not allowed: list the other file under use:, or write the keys out")
		case yKey.ShortTag() != "!!str":
			b.refuse(key, "key %q is not text: quote it", yKey.Value)
		case seen[yKey.Value] != nil:
			b.refuse(key, "key %q stands here twice: first on line %d", yKey.Value, seen[yKey.Value].line)
		default:
			seen[yKey.Value] = key
			n.entries = append(n.entries, entry{key, value})
		}
	}
}

// yaml11Words are read as booleans by YAML 1.1 and as text by YAML 1.2.
var yaml11Words = map[string]string{"yes": "true", "on": "true", "no": "false", "off": "false"}

// quotedStyles are the ways to write text that can't be taken for anything else.
const quotedStyles = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

func (b *builder) buildScalar(y *yaml.Node, n *node) {
	n.text = y.Value
	n.plain = y.Style&(quotedStyles|yaml.TaggedStyle) == 0
	value, err := scalarValue(y)
	if err != nil {
		b.refuse(n, "%s", err)
	}
	n.value = value
}

// resolvePlain gives a scalar that was written without quotes the type that YAML sees in its text.
func resolvePlain(text string) (any, error) {
	return scalarValue(&yaml.Node{Kind: yaml.ScalarNode, Value: text})
}

// scalarValue is the value of a scalar, or why such a scalar is refused.
func scalarValue(y *yaml.Node) (any, error) {
	switch tag := y.ShortTag(); tag {
	case "!!str", "!!timestamp":
		plain := y.Style&quotedStyles == 0
		word := strings.ToLower(y.Value)
		meant, ambiguous := yaml11Words[word]
		if plain && ambiguous { // in whatever case: nobody means text by it
			return y.Value, fmt.Errorf("%s is %s to YAML 1.1 and text to YAML 1.2: write %s, or quote it", y.Value, meant, meant)
		}
		return y.Value, nil
	case "!!null":
		return nil, nil
	case "!!bool", "!!int", "!!float":
		var value any
		if err := y.Decode(&value); err != nil {
			return nil, fmt.Errorf("%q is not a value of type %s", y.Value, strings.TrimPrefix(tag, "!!"))
		}
		if f, ok := value.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			return nil, fmt.Errorf("%s is no number that can be used here", y.Value)
		}
		if tag == "!!int" && fmt.Sprint(value) != y.Value {
			return value, fmt.Errorf("%s is a number in disguise (%v): write it in decimal, or quote it", y.Value, value)
		}
		return value, nil
	default:
		return nil, fmt.Errorf("tag %s is not allowed", tag)
	}
}

// render writes a node as YAML.
func render(n *node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(toYAML(n)); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}

func toYAML(n *node) *yaml.Node {
	switch n.kind {
	case mapNode:
		y := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range n.entries {
			y.Content = append(y.Content, toYAML(e.key), toYAML(e.value))
		}
		return y
	case listNode:
		y := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range n.items {
			y.Content = append(y.Content, toYAML(item))
		}
		return y
	}
	text, isText := n.value.(string)
	if !isText {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: n.text}
	}
	y := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if _, ambiguous := yaml11Words[strings.ToLower(text)]; ambiguous {
		y.Style = yaml.DoubleQuotedStyle
	}
	return y
}
