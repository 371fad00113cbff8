package scenarios

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// Formats of this package, beside those of values. Editors ignore them; the loader checks them by the parsers.
const (
	formatName  = "rebound-name"  // a DNS label
	formatShare = "rebound-share" // 5% or 0
	formatLoss  = "rebound-loss"  // 5% or a whole number
	formatCount = "rebound-count" // a whole number or all
	// The limits that are maps themselves: their own keys do not mix with profiles.
	formatTime    = "rebound-time-limit"    // 2s
	formatLatency = "rebound-latency-limit" // exactly one percentile
)

// markKeyword is a keyword of ours in the schema: it says what the keys of a map are, for the messages of the loader.
const markKeyword = "x-rebound"

const (
	markProfiled = "profile"
	markStep     = "step"
	markProbe    = "probe"
	markName     = "name"
)

// Schema is the JSON Schema (draft-07) of a scenario file, made from the Go types it is decoded into and from those of
// the registered steps and probes. The loader validates with this very schema. It describes one file before merging:
// what a file may leave to the files that it uses (its steps, say) is not required here.
func Schema(types Types) (json.RawMessage, error) {
	g := &generator{types: types, known: map[reflect.Type]*jsonschema.Schema{}}
	root, err := g.root()
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return append(data, '\n'), nil
}

// generator makes schemas of Go types.
type generator struct {
	types Types
	known map[reflect.Type]*jsonschema.Schema // types that are not described by their fields alone
}

// described is a type that knows its own schema, such as values.Duration.
type described interface{ JSONSchema() *jsonschema.Schema }

// profiled is values.Profiled of anything.
type profiled interface{ Element() any }

// never refuses everything: as additionalProperties it closes a map.
func never() *jsonschema.Schema { return &jsonschema.Schema{Not: &jsonschema.Schema{}} }

func (g *generator) root() (*jsonschema.Schema, error) {
	if err := g.registerUnions(); err != nil {
		return nil, err
	}
	root, err := g.of(reflect.TypeFor[Scenario](), true)
	if err != nil {
		return nil, err
	}
	root.Schema = "http://json-schema.org/draft-07/schema#"
	root.Title = "Rebound scenario"
	root.Required = []string{"apiVersion", "kind"}
	root.Properties["apiVersion"].Const = jsonschema.Ptr[any](APIVersion)
	root.Properties["kind"].Const = jsonschema.Ptr[any](Kind)
	spec := root.Properties["spec"].Properties
	for _, list := range []string{"probes", "steps", "objectives", "twins"} {
		spec[list].Items.Required = []string{"name"}
	}
	spec["cluster"].Properties["workers"].Items.Required = []string{"count"}
	g.tighten(root)
	condition, err := g.of(reflect.TypeFor[conditionFields](), true)
	if err != nil {
		return nil, err
	}
	condition.MinProperties = jsonschema.Ptr(1)
	tightenCondition(condition)
	tightenCondition(spec["steady"])
	root.Definitions = map[string]*jsonschema.Schema{"condition": condition}
	return root, nil
}

// tighten says what the Go types can't: which texts are names, and which are chosen from a list.
func (g *generator) tighten(root *jsonschema.Schema) {
	name := func(s *jsonschema.Schema) { s.Format, s.Pattern = formatName, namePattern.String() }
	atLeast := func(s *jsonschema.Schema, least float64) { s.Minimum = jsonschema.Ptr(least) }
	spec := root.Properties["spec"].Properties
	name(root.Properties["metadata"].Properties["name"])
	name(root.Properties["metadata"].Properties["mechanism"])
	for _, list := range []string{"probes", "steps", "objectives", "twins"} {
		name(spec[list].Items.Properties["name"])
	}
	spec["params"].AdditionalProperties.Type = ""
	spec["params"].AdditionalProperties.Types = []string{"string", "number", "boolean"}
	spec["probes"].Items.Properties["connections"].Enum = []any{ConnectionsNew, ConnectionsReused}
	for _, profile := range g.types.Profiles {
		spec["cluster"].Properties["profile"].Enum = append(spec["cluster"].Properties["profile"].Enum, profile)
	}
	atLeast(spec["repeat"], 1)
	spec["repeat"].Default = json.RawMessage(strconv.Itoa(DefaultRepeat))
	atLeast(spec["cluster"].Properties["controlPlanes"], 1)
	atLeast(spec["cluster"].Properties["workers"].Items.Properties["count"], 1)
	atLeast(spec["workloads"].AdditionalProperties.Properties["demo"].Properties["replicas"], 1)
	atLeast(spec["twins"].Items.Properties["patch"].Properties["demo"].Properties["replicas"], 0)
	objective := spec["objectives"].Items.Properties
	atLeast(objective["samples"].Properties["min"], 1)
	objective["samples"].MinProperties = jsonschema.Ptr(1)
	objective["phase"].Enum = anyOf(Phases())
	objective["chain"].Enum = anyOf(Chains())
	for _, names := range []string{"workloads", "targets"} { // by pattern: the validator misplaces errors of propertyNames
		spec[names].PatternProperties = map[string]*jsonschema.Schema{namePattern.String(): spec[names].AdditionalProperties}
		spec[names].AdditionalProperties = never()
		spec[names].Extra = map[string]any{markKeyword: markName}
	}
}

func anyOf(names []string) []any {
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = name
	}
	return list
}

func tightenCondition(condition *jsonschema.Schema) {
	condition.Properties["status"].Enum = anyOf(statuses())
	condition.Properties["event"].MinProperties = jsonschema.Ptr(1)
	for _, list := range []string{"all", "any"} {
		condition.Properties[list].MinItems = jsonschema.Ptr(1)
	}
}

// conditionFields is Condition by its fields; Condition itself is a reference, since it holds conditions. steadyFields
// are those that Steady has beside them.
type (
	conditionFields Condition
	steadyFields    struct {
		Hold   values.Duration `json:"hold,omitempty"`
		Within values.Duration `json:"within,omitempty"`
	}
)

// registerUnions describes the types that are written in more than one way.
func (g *generator) registerUnions() error {
	share := func(description string) *jsonschema.Schema {
		return &jsonschema.Schema{
			Types: []string{"string", "integer"}, Format: formatShare,
			Maximum: jsonschema.Ptr(0.0), Minimum: jsonschema.Ptr(0.0),
			Pattern: `^([0-9]+(\.[0-9]+)?%|0)$`, Description: description, Examples: []any{"5%", 0},
		}
	}
	number := func(description string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(0.0), Description: description}
	}
	closed := func(s *jsonschema.Schema, properties map[string]*jsonschema.Schema) *jsonschema.Schema {
		s.Properties, s.AdditionalProperties = properties, never()
		s.MinProperties = jsonschema.Ptr(1)
		return s
	}
	g.known[reflect.TypeFor[Condition]()] = &jsonschema.Schema{Ref: "#/definitions/condition"}
	g.known[reflect.TypeFor[Count]()] = closed(&jsonschema.Schema{
		Types: []string{"integer", "string", "object"}, Format: formatCount, Pattern: "^all$", Minimum: jsonschema.Ptr(0.0),
		Description: "A number (exactly that many), {min, max}, or all: at least as many as the object asks for.",
		Examples:    []any{6, map[string]any{"min": 2}, "all"},
	}, map[string]*jsonschema.Schema{"min": number("At least."), "max": number("At most.")})
	g.known[reflect.TypeFor[Ratio]()] = closed(&jsonschema.Schema{
		Types: []string{"string", "integer", "object"}, Format: formatShare, Maximum: jsonschema.Ptr(0.0),
		Minimum: jsonschema.Ptr(0.0), Pattern: `^([0-9]+(\.[0-9]+)?%|0)$`,
		Description: "A share: at most this (5% or 0), or {min, max}.", Examples: []any{"5%", map[string]any{"max": "5%"}},
	}, map[string]*jsonschema.Schema{"min": share("At least."), "max": share("At most.")})
	loss := func() *jsonschema.Schema {
		return &jsonschema.Schema{
			Types: []string{"string", "integer"}, Format: formatLoss, Minimum: jsonschema.Ptr(0.0),
			Pattern: `^([0-9]+(\.[0-9]+)?%|[0-9]+)$`, Description: "The most that may be lost.", Examples: []any{"5%", 0},
		}
	}
	limit := closed(loss(), map[string]*jsonschema.Schema{"max": loss()})
	limit.Types = append(limit.Types, "object")
	limit.Description = "The most that may be lost: a share with probes (5%), a number with writes (0), or {max: ...}."
	g.known[reflect.TypeFor[LossLimit]()] = limit
	duration := values.Duration(0).JSONSchema
	longest := closed(duration(), map[string]*jsonschema.Schema{"max": duration()})
	longest.Format = formatTime
	longest.Type, longest.Types = "", []string{"string", "object"}
	longest.Description = "The longest time allowed: 2s or {max: 2s}."
	g.known[reflect.TypeFor[TimeLimit]()] = longest
	g.known[reflect.TypeFor[LatencyLimit]()] = &jsonschema.Schema{
		Type: "object", Format: formatLatency, MinProperties: jsonschema.Ptr(1), AdditionalProperties: never(),
		PatternProperties: map[string]*jsonschema.Schema{percentileKey.String(): values.Duration(0).JSONSchema()},
		Description:       "A limit on one percentile of the answer times.", Examples: []any{map[string]any{"p99": "200ms"}},
	}
	return g.registerStructs()
}

// registerStructs describes the structs that have more to them than their fields.
func (g *generator) registerStructs() error {
	group, err := g.of(reflect.TypeFor[WorkerGroup](), true)
	if err != nil {
		return err
	}
	g.known[reflect.TypeFor[Workers]()] = &jsonschema.Schema{
		Types: []string{"integer", "array"}, Minimum: jsonschema.Ptr(0.0), Maximum: jsonschema.Ptr(100.0), Items: group,
		MinItems: jsonschema.Ptr(1), Description: docs["Cluster.workers"],
		Examples: []any{3, []any{map[string]any{"count": 2, "labels": map[string]any{"zone": "a"}}}},
	}
	target, err := g.of(reflect.TypeFor[targetFields](), true)
	if err != nil {
		return err
	}
	target.Type, target.Types = "", []string{"string", "object"}
	target.MinLength, target.MinProperties = jsonschema.Ptr(1), jsonschema.Ptr(1)
	g.known[reflect.TypeFor[Target]()] = target

	steady, err := g.of(reflect.TypeFor[steadyFields](), true)
	if err != nil {
		return err
	}
	condition, err := g.of(reflect.TypeFor[conditionFields](), true)
	if err != nil {
		return err
	}
	maps.Copy(steady.Properties, condition.Properties)
	g.known[reflect.TypeFor[Steady]()] = steady

	steps := make(map[string]typeDoc, len(g.types.Steps))
	for name, t := range g.types.Steps {
		kind := "An action"
		if t.Fault {
			kind = "A fault"
		}
		steps[name] = typeDoc{fmt.Sprintf("%s: %s", kind, t.Doc), t.New}
	}
	if err := g.registerTyped(reflect.TypeFor[Step](), reflect.TypeFor[stepFields](), markStep, steps); err != nil {
		return err
	}
	probes := make(map[string]typeDoc, len(g.types.Probes))
	for name, t := range g.types.Probes {
		probes[name] = typeDoc{t.Doc, t.New}
	}
	return g.registerTyped(reflect.TypeFor[Probe](), reflect.TypeFor[probeFields](), markProbe, probes)
}

type typeDoc struct {
	doc string
	new func() any
}

// registerTyped describes Step or Probe: the common keys, and one key for each registered type.
func (g *generator) registerTyped(t, fields reflect.Type, mark string, types map[string]typeDoc) error {
	s, err := g.of(fields, true)
	if err != nil {
		return err
	}
	s.Extra = map[string]any{markKeyword: mark}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if s.Properties[name] != nil {
			return fmt.Errorf("%s %q is called like a common key", mark, name)
		}
		params, err := g.params(types[name].new())
		if err != nil {
			return fmt.Errorf("%s %q: %w", mark, name, err)
		}
		params.Description = types[name].doc
		s.Properties[name] = params
	}
	g.known[t] = s
	return nil
}

// params describes the parameters of a registered type: no field is required, since New fills in defaults and Validate
// demands the rest.
func (g *generator) params(prototype any) (*jsonschema.Schema, error) {
	t := reflect.TypeOf(prototype)
	if t == nil || t.Kind() != reflect.Pointer {
		return nil, fmt.Errorf("parameters must be a pointer, not %v", t)
	}
	s, err := g.of(t.Elem(), false)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(prototype)
	if err != nil {
		return nil, fmt.Errorf("defaults: %w", err)
	}
	var defaults map[string]json.RawMessage
	if json.Unmarshal(data, &defaults) != nil {
		return s, nil // not a map: nothing to show by key
	}
	for name, value := range defaults {
		if property := s.Properties[name]; property != nil && !isNull(value) {
			property.Default = value
		}
	}
	return s, nil
}

// of makes the schema of one type. Documented types take their descriptions from the table of docs.
func (g *generator) of(t reflect.Type, documented bool) (*jsonschema.Schema, error) {
	if err := g.collect(t, map[reflect.Type]bool{}); err != nil {
		return nil, err
	}
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: g.known})
	if err != nil {
		return nil, err
	}
	tidy(s)
	if documented {
		describe(s, t)
	}
	return s, nil
}

// collect finds the types below t that describe themselves, and notes their schemas.
func (g *generator) collect(t reflect.Type, seen map[reflect.Type]bool) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if seen[t] || g.known[t] != nil {
		return nil
	}
	seen[t] = true
	zero := reflect.Zero(t).Interface()
	if p, ok := zero.(profiled); ok {
		element := reflect.TypeOf(p.Element())
		s, err := g.of(element, false)
		if err != nil {
			return err
		}
		g.known[t] = g.byProfile(s)
		return nil
	}
	if d, ok := zero.(described); ok {
		g.known[t] = d.JSONSchema()
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(t) {
			if !field.IsExported() || field.Tag.Get("json") == "-" {
				continue
			}
			if err := g.collect(field.Type, seen); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array, reflect.Map:
		return g.collect(t.Elem(), seen)
	}
	return nil
}

// byProfile lets a value be written by profile as well.
func (g *generator) byProfile(element *jsonschema.Schema) *jsonschema.Schema {
	s := element.CloneSchemas()
	if s.Type != "" {
		s.Types, s.Type = []string{s.Type}, ""
	}
	if !slices.Contains(s.Types, "object") {
		s.Types = append(slices.Clone(s.Types), "object")
	}
	s.Properties = maps.Clone(s.Properties)
	if s.Properties == nil {
		s.Properties = map[string]*jsonschema.Schema{}
	}
	for _, profile := range g.types.Profiles {
		s.Properties[profile] = element.CloneSchemas()
	}
	s.MinProperties, s.AdditionalProperties = jsonschema.Ptr(1), never()
	s.Extra = map[string]any{markKeyword: markProfiled}
	s.Description += " May differ by profile: {PROFILE: VALUE, ...}."
	return s
}

// tidy takes out what the reflection adds and files may not contain (null), and lets nothing be required: what is
// required is said by name in root.
func tidy(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	s.Required = nil
	s.Types = slices.DeleteFunc(slices.Clone(s.Types), func(t string) bool { return t == "null" })
	switch len(s.Types) {
	case 0:
		s.Types = nil
	case 1:
		s.Type, s.Types = s.Types[0], nil
	}
	if s.Maximum == nil && (s.Type == "integer" || slices.Contains(s.Types, "integer")) {
		s.Maximum = jsonschema.Ptr(float64(1 << 53)) // beyond it JSON numbers are not exact, and some are no int
	}
	for _, child := range s.Properties {
		tidy(child)
	}
	tidy(s.Items)
	tidy(s.AdditionalProperties)
}

// describe puts the sentences of the docs on the fields of t, at every depth. Fields of embedded structs are documented
// with the struct that they are written in.
func describe(s *jsonschema.Schema, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		describe(s, t.Elem())
	case reflect.Slice:
		if s.Items != nil {
			describe(s.Items, t.Elem())
		}
	case reflect.Map:
		if s.AdditionalProperties != nil {
			describe(s.AdditionalProperties, t.Elem())
		}
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			property := s.Properties[name]
			if property == nil {
				continue
			}
			owner := t
			for _, i := range field.Index[:len(field.Index)-1] {
				owner = owner.Field(i).Type
			}
			if doc, ok := docs[documentedName(owner)+"."+name]; ok {
				property.Description = doc
			}
			describe(property, field.Type)
		}
	}
}

// documentedName is the name that a type has in the docs: conditionFields is Condition.
func documentedName(t reflect.Type) string {
	name, aliased := strings.CutSuffix(t.Name(), "Fields")
	if aliased {
		name = strings.ToUpper(name[:1]) + name[1:]
	}
	return name
}
