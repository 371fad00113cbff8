package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// validator holds plain documents against the published schema, and tells what is wrong in words.
type validator struct {
	schema   *jsonschema.Schema
	plain    any // the schema as maps, to look into
	profiles []string
}

// schemaURL is only a name: nothing is fetched.
const schemaURL = "https://rebound.invalid/scenario.json"

func newValidator(types Types) (*validator, error) {
	data, err := Schema(types)
	if err != nil {
		return nil, err
	}
	plain, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	compiler.AssertFormat()
	for _, format := range formats() {
		compiler.RegisterFormat(&jsonschema.Format{
			Name: format, Validate: func(value any) error { return checkFormat(format, value) },
		})
	}
	if err := compiler.AddResource(schemaURL, plain); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	schema, err := compiler.Compile(schemaURL)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return &validator{schema: schema, plain: plain, profiles: types.Profiles}, nil
}

func formats() []string {
	return []string{
		values.FormatDuration, values.FormatPercent, values.FormatRate, values.FormatTake,
		formatName, formatShare, formatLoss, formatCount, formatTime, formatLatency,
	}
}

// checkFormat holds a scalar against a format by the parser that decodes it later, and the keys of a limit against each
// other.
func checkFormat(format string, value any) error {
	if m, ok := value.(map[string]any); ok {
		return checkLimit(format, m)
	}
	text, ok := values.ScalarText(value)
	if !ok {
		return nil
	}
	var err error
	switch format {
	case formatName:
		err = checkName(text)
	case formatShare:
		_, err = parseShare(text)
	case formatLoss:
		_, err = parseLoss(text)
	case formatCount:
		if n, notNumber := strconv.Atoi(text); text != "all" && (notNumber != nil || n < 0) {
			err = fmt.Errorf("%q is not a count: write a number, {min: N, max: N} or all", text)
		}
	case formatTime:
		_, err = values.ParseDuration(text)
	default:
		err = values.CheckFormat(format, value)
	}
	return err
}

// checkLimit refuses maps in which a limit's own keys stand beside profiles, or too many of them.
func checkLimit(format string, m map[string]any) error {
	owns := LossLimit{}.OwnsKey
	switch format {
	case formatLatency:
		owns = LatencyLimit{}.OwnsKey
	case formatLoss, formatTime:
	default:
		return nil
	}
	own := 0
	for key := range m {
		if owns(key) {
			own++
		}
	}
	switch {
	case own > 1:
		return errors.New("one percentile only: another one is another objective")
	case own == 1 && len(m) > 1:
		return errors.New("a limit by profile names profiles only: put the limit below each of them")
	}
	return nil
}

// finding is a problem with the path of what is wrong: that is cut out before the rest is decoded.
type finding struct {
	path    []string
	problem Problem
}

// check holds a document against the schema.
func (v *validator) check(tree *node) []finding {
	err := v.schema.Validate(tree.plainValue())
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []finding{{problem: tree.problem("%s", err)}}
	}
	return v.collect(tree, invalid, nil)
}

// collect turns the leaves of the error tree into findings.
func (v *validator) collect(tree *node, e *jsonschema.ValidationError, found []finding) []finding {
	for _, cause := range e.Causes {
		found = v.collect(tree, cause, found)
	}
	if len(e.Causes) > 0 {
		return found
	}
	return append(found, v.leaf(tree, e)...)
}

// leaf words one error of the schema.
func (v *validator) leaf(tree *node, e *jsonschema.ValidationError) []finding {
	path := e.InstanceLocation
	_, at := tree.find(path)
	name := describePath(path)
	one := func(format string, args ...any) []finding { return []finding{{path, at.problem(format, args...)}} }
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		return v.unknownKeys(tree, e, k.Properties)
	case *kind.Required:
		var found []finding
		for _, missing := range k.Missing {
			if len(path) == 0 && (missing == "apiVersion" || missing == "kind") {
				continue // every file is asked for these by itself
			}
			found = append(found, finding{slices.Concat(path, []string{missing}), at.problem("%s needs %q", name, missing)})
		}
		return found
	case *kind.Type:
		if at.value != nil {
			if format, ok := v.look(e.SchemaURL)["format"].(string); ok {
				if err := checkFormat(format, at.value); err != nil {
					return one("%s: %s", name, err)
				}
			}
		}
		if k.Got == "null" {
			return one("%s is empty: it must be %s", name, typeWords(k.Want))
		}
		return one("%s must be %s, not %s", name, typeWords(k.Want), typeWords([]string{k.Got}))
	case *kind.Format:
		return one("%s: %s", name, k.Err)
	case *kind.Enum:
		found := one("%s: %q is not one of %s", name, at.text, listWords(k.Want))
		found[0].problem.Hint = closest(at.text, textsOf(k.Want))
		return found
	case *kind.Const:
		if len(path) == 1 && (path[0] == "apiVersion" || path[0] == "kind") {
			return nil // told by file
		}
		return one("%s must be %v", name, k.Want)
	case *kind.Minimum:
		return one("%s must be at least %s", name, k.Want.RatString())
	case *kind.Maximum:
		return one("%s must be at most %s", name, k.Want.RatString())
	case *kind.MinItems:
		return one("%s is an empty list", name)
	case *kind.MinProperties:
		return one("%s is an empty map: it says nothing", name)
	case *kind.MinLength:
		return one("%s is empty", name)
	}
	return one("%s: %s", name, e)
}

// unknownKeys reports each key that the schema does not know where it stands.
func (v *validator) unknownKeys(tree *node, e *jsonschema.ValidationError, keys []string) []finding {
	schema := v.look(e.SchemaURL)
	properties, _ := schema["properties"].(map[string]any)
	known := make([]string, 0, len(properties))
	for key := range properties {
		known = append(known, key)
	}
	slices.Sort(known)
	found := make([]finding, 0, len(keys))
	for _, unknown := range keys {
		path := slices.Concat(e.InstanceLocation, []string{unknown})
		key, at := tree.find(path)
		if key != nil {
			at = key
		}
		message := fmt.Sprintf("unknown key %q in %s", unknown, describePath(e.InstanceLocation))
		switch schema[markKeyword] {
		case markProfiled:
			message = v.noProfile(unknown, known, schema["patternProperties"] != nil)
		case markName:
			if err := checkName(unknown); err != nil {
				message = err.Error()
			}
			known = nil
		case markStep:
			message = fmt.Sprintf("%q is neither a key of a step nor a fault or action that is known", unknown)
		case markProbe:
			message = fmt.Sprintf("%q is neither a key of a probe nor a kind of probe that is known", unknown)
		}
		problem := at.problem("%s", message)
		problem.Hint = closest(unknown, known)
		found = append(found, finding{path, problem})
	}
	return found
}

// noProfile words an unknown key of a value that may differ by profile. own are the keys that the value itself may
// have.
func (v *validator) noProfile(unknown string, known []string, percentiles bool) string {
	own := slices.DeleteFunc(slices.Clone(known), func(key string) bool { return slices.Contains(v.profiles, key) })
	if percentiles {
		own = append(own, "p50, p99 and the like")
	}
	profiles := strings.Join(v.profiles, ", ")
	if len(own) == 0 {
		return fmt.Sprintf("%q is no profile: a map here goes by profile (%s)", unknown, profiles)
	}
	return fmt.Sprintf("%q is neither a key of this limit (%s) nor a profile (%s)",
		unknown, strings.Join(own, ", "), profiles)
}

// look finds the part of the schema that an error's URL points to.
func (v *validator) look(location string) map[string]any {
	_, fragment, _ := strings.Cut(location, "#")
	value := v.plain
	for _, step := range strings.Split(strings.TrimPrefix(fragment, "/"), "/") {
		if step == "" {
			continue
		}
		if unescaped, err := url.PathUnescape(step); err == nil {
			step = unescaped
		}
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		inner, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = inner[step]
	}
	found, _ := value.(map[string]any)
	return found
}

// describePath names what a path leads to by its last key: `"rate"`, `item 2 of "steps"`.
func describePath(path []string) string {
	if len(path) == 0 {
		return "the file"
	}
	last := path[len(path)-1]
	index, err := strconv.Atoi(last)
	if err != nil {
		return strconv.Quote(last)
	}
	if len(path) == 1 {
		return fmt.Sprintf("item %d", index+1)
	}
	return fmt.Sprintf("item %d of %s", index+1, describePath(path[:len(path)-1]))
}

// typeWords says "text, a whole number or a map" of JSON Schema's types.
func typeWords(types []string) string {
	words := make([]string, len(types))
	for i, t := range types {
		switch t {
		case "string":
			words[i] = "text"
		case "integer":
			words[i] = "a whole number"
		case "number":
			words[i] = "a number"
		case "boolean":
			words[i] = "true or false"
		case "object":
			words[i] = "a map"
		case "array":
			words[i] = "a list"
		case "null":
			words[i] = "empty"
		}
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func textsOf(list []any) []string {
	texts := make([]string, len(list))
	for i, value := range list {
		texts[i] = fmt.Sprint(value)
	}
	return texts
}

func listWords(list []any) string { return strings.Join(textsOf(list), ", ") }
