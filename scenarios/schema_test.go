package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// published compiles the schema as an editor does: without the formats that only the loader knows.
func published(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := Schema(testTypes())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("file:///scenario.json", plain); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("file:///scenario.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func plainFile(t *testing.T, file string) any {
	t.Helper()
	doc := &document{name: file}
	if problems := doc.parse([]byte(readFile(t, file))); len(problems) > 0 {
		t.Fatal(problems)
	}
	return doc.root.plainValue()
}

// TestSchemaAcceptsValid: what the loader accepts, and what valid files use, an editor accepts as well.
func TestSchemaAcceptsValid(t *testing.T) {
	schema := published(t)
	files := []string{"testdata/valid-base.yaml", "testdata/valid-zone-cut.yaml", "testdata/nested/valid-merged.yaml"}
	shipped, err := filepath.Glob("library/*/*.yaml")
	if err != nil || len(shipped) == 0 {
		t.Fatalf("no shipped files: %v", err)
	}
	for _, file := range append(files, shipped...) {
		if err := schema.Validate(plainFile(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// mutations yields every document that comes of replacing, removing or adding one value of a document.
func mutations(value any, yield func(what string, mutated any)) {
	replacements := []any{"text", "", 0, -1, 7, 1.5, 1e300, true, nil, []any{}, map[string]any{}, map[string]any{"x": 1},
		"5%", "3s", "all", map[string]any{"fast": "3s"}, map[string]any{"max": "3s"}, map[string]any{"max": "5%", "fast": 0},
		[]any{"x"}, []any{map[string]any{"name": "x"}}, map[string]any{"p99": "1s", "p50": "1s"}, uint64(1 << 63)}
	var walk func(at string, v any, put func(any) any)
	walk = func(at string, v any, put func(any) any) {
		for i, replacement := range replacements {
			yield(fmt.Sprintf("%s = %v (%d)", at, replacement, i), put(replacement))
		}
		switch v := v.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(func(yield func(string) bool) {
				for key := range v {
					if !yield(key) {
						return
					}
				}
			}) {
				without := copyMap(v)
				delete(without, key)
				yield(at+"."+key+" removed", put(without))
				walk(at+"."+key, v[key], func(inner any) any {
					changed := copyMap(v)
					changed[key] = inner
					return put(changed)
				})
			}
			added := copyMap(v)
			added["Unknown"] = 1
			yield(at+".Unknown added", put(added))
		case []any:
			for i := range v {
				walk(fmt.Sprintf("%s[%d]", at, i), v[i], func(inner any) any {
					changed := slices.Clone(v)
					changed[i] = inner
					return put(changed)
				})
			}
		}
	}
	walk("", value, func(v any) any { return v })
}

// decodePlain decodes a document strictly, the parameters of its steps and probes as well.
func decodePlain(document any) error {
	if root, ok := document.(map[string]any); ok {
		if spec, ok := root["spec"].(map[string]any); ok && spec["params"] != nil {
			params := map[string]any{} // the loader writes them as text
			for name, value := range spec["params"].(map[string]any) {
				params[name] = fmt.Sprint(value)
			}
			root, spec = copyMap(root), copyMap(spec)
			root["spec"], spec["params"] = spec, params
			document = root
		}
	}
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	var scenario Scenario
	if err := values.Strict(data, &scenario); err != nil {
		return err
	}
	types := testTypes()
	for _, step := range scenario.Spec.Steps {
		if raw, ok := step.Params.(json.RawMessage); ok {
			if err := values.Strict(raw, types.Steps[step.Type].New()); err != nil {
				return err
			}
		}
	}
	for _, probe := range scenario.Spec.Probes {
		if raw, ok := probe.Params.(json.RawMessage); ok {
			if err := values.Strict(raw, types.Probes[probe.Type].New()); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyMap(m map[string]any) map[string]any {
	copied := make(map[string]any, len(m)+1)
	for key, value := range m {
		copied[key] = value
	}
	return copied
}

// TestSchemaAgreesWithDecoder changes valid documents one value at a time. What the loader's schema accepts must
// decode: otherwise there would be an error without a position. What the published schema refuses, the loader must
// refuse.
func TestSchemaAgreesWithDecoder(t *testing.T) {
	validator, err := testLoader().validator()
	if err != nil {
		t.Fatal(err)
	}
	editor := published(t)
	accepted, refused := 0, 0
	for _, file := range []string{"testdata/valid-zone-cut.yaml", "testdata/nested/valid-merged.yaml"} {
		mutations(plainFile(t, file), func(what string, mutated any) {
			if validator.schema.Validate(mutated) != nil {
				refused++
				return
			}
			accepted++
			if err := editor.Validate(mutated); err != nil {
				t.Errorf("%s: the editor refuses what the loader accepts: %v", what, err)
			}
			if err := decodePlain(mutated); err != nil {
				t.Errorf("%s: the schema accepts what does not decode: %v", what, err)
			}
		})
	}
	if accepted < 100 || refused < 1000 {
		t.Errorf("%d accepted, %d refused: the mutations test nothing", accepted, refused)
	}
}

// TestDocs: every key is described, and every description belongs to a key.
func TestDocs(t *testing.T) {
	seen := map[string]bool{}
	var walk func(t reflect.Type)
	types := map[reflect.Type]bool{}
	walk = func(rt reflect.Type) {
		switch rt.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(rt.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if types[rt] {
			return
		}
		types[rt] = true
		if !strings.HasSuffix(rt.PkgPath(), "/scenarios") {
			return
		}
		for i := range rt.NumField() {
			field := rt.Field(i)
			walk(field.Type)
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
				seen[documentedName(rt)+"."+name] = true
			}
		}
	}
	walk(reflect.TypeFor[Scenario]())
	for key := range seen {
		if docs[key] == "" {
			t.Errorf("%s is not described", key)
		}
	}
	for key := range docs {
		if !seen[key] {
			t.Errorf("%s is described, but there is no such key", key)
		}
	}
}

// TestSchemaIsWhole: draft-07, with the registered types' parameters, descriptions, defaults and examples in it.
func TestSchemaIsWhole(t *testing.T) {
	data, err := Schema(testTypes())
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	if plain["$schema"] != "http://json-schema.org/draft-07/schema#" {
		t.Errorf("$schema %v", plain["$schema"])
	}
	look := func(path string) map[string]any {
		v := &validator{plain: plain}
		return v.look("#/properties/spec/properties/" + path)
	}
	kill := look("steps/items/properties/kill-pod")
	if kill["description"] != "A fault: Kills pods." {
		t.Errorf("kill-pod: %v", kill)
	}
	grace := look("steps/items/properties/kill-pod/properties/grace")
	if grace["description"] != "How long a pod may take to end." || grace["type"] != "string" || grace["default"] != "0s" {
		t.Errorf("grace: %v", grace)
	}
	if path := look("probes/items/properties/http/properties/path"); path["default"] != "/" {
		t.Errorf("path: %v", path)
	}
	within := look("objectives/items/properties/within/properties")
	if within["fast"] == nil || within["default"] == nil || len(within) != 2 {
		t.Errorf("within: %v", within)
	}
	if rate := look("probes/items/properties/rate"); rate["examples"] == nil || rate["pattern"] == nil {
		t.Errorf("rate: %v", rate)
	}
	undescribed := []string{}
	var walk func(at string, v map[string]any)
	walk = func(at string, v map[string]any) {
		properties, _ := v["properties"].(map[string]any)
		for key, property := range properties {
			p, ok := property.(map[string]any)
			if !ok {
				continue
			}
			if p["description"] == nil && p["$ref"] == nil && !strings.Contains(at, "kill-pod") &&
				!strings.Contains(at, "http") && !strings.Contains(at, "write") && !strings.Contains(at, "partition") {
				undescribed = append(undescribed, at+"."+key)
			}
			walk(at+"."+key, p)
		}
		if items, ok := v["items"].(map[string]any); ok {
			walk(at+"[]", items)
		}
	}
	walk("", plain)
	sort.Strings(undescribed)
	if len(undescribed) > 0 {
		t.Errorf("not described: %v", undescribed)
	}
}

func TestSchemaRefusesBadTypes(t *testing.T) {
	for name, change := range map[string]func(*Types){
		"a common key":  func(types *Types) { types.Steps["after"] = StepType{New: func() any { return &struct{}{} }} },
		"not a pointer": func(types *Types) { types.Steps["x"] = StepType{New: func() any { return struct{}{} }} },
		"nil":           func(types *Types) { types.Probes["x"] = ProbeType{New: func() any { return nil }} },
		"a channel": func(types *Types) {
			types.Probes["x"] = ProbeType{New: func() any { return &struct{ C chan int }{} }}
		},
	} {
		types := testTypes()
		change(&types)
		if _, err := Schema(types); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
