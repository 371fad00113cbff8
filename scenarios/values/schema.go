package values

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"
)

// The formats that the types' schemas name. Editors ignore them; the loader checks them with CheckFormat, so that the
// message is that of the parser itself.
const (
	FormatDuration = "rebound-duration"
	FormatPercent  = "rebound-percent"
	FormatRate     = "rebound-rate"
	FormatTake     = "rebound-take"
)

// CheckFormat holds a plain value (string, number) against one of the formats above. Maps and lists pass: whether they
// may stand there is the schema's own business. Formats that are not ours pass too.
func CheckFormat(format string, value any) error {
	text, ok := ScalarText(value)
	if !ok {
		return nil
	}
	var err error
	switch format {
	case FormatDuration:
		_, err = ParseDuration(text)
	case FormatPercent:
		_, err = ParsePercent(text)
	case FormatRate:
		_, err = ParseRate(text)
	case FormatTake:
		_, err = ParseTake(text)
	}
	return err
}

// ScalarText is the text of a string or number as it came from a file; false for anything else.
func ScalarText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case int:
		return strconv.Itoa(v), true
	case int64, uint64:
		return fmt.Sprint(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// JSONSchema describes how a duration is written.
func (Duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:        "string",
		Format:      FormatDuration,
		Pattern:     durationPattern.String(),
		Description: "A length of time with its unit (us, ms, s, m, h).",
		Examples:    []any{"500ms", "3s", "1h30m"},
	}
}

// JSONSchema describes how a share is written.
func (Percent) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:        "string",
		Format:      FormatPercent,
		Pattern:     `^[0-9]+(\.[0-9]+)?%$`,
		Description: "A share from 0% to 100%.",
		Examples:    []any{"5%", "0.5%"},
	}
}

// JSONSchema describes how a rate is written.
func (Rate) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:        "string",
		Format:      FormatRate,
		Pattern:     `^[0-9]+(\.[0-9]+)?/[sm]$`,
		Description: "A number of samples a second (/s) or a minute (/m).",
		Examples:    []any{"50/s", "30/m"},
	}
}

// JSONSchema describes how many of the selected objects are taken.
func (Take) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Types:       []string{"integer", "string"},
		Format:      FormatTake,
		Minimum:     jsonschema.Ptr(1.0),
		Pattern:     `^([0-9]+(\.[0-9]+)?%|[0-9]+|all)$`,
		Description: "How many of the selected objects are taken: a number, a percentage (rounded up) or all.",
		Examples:    []any{1, "50%", "all"},
	}
}

// JSONSchema describes the criteria. That at least one is there, and which fit pods or nodes, the loader checks.
func (Selector) JSONSchema() *jsonschema.Schema {
	text := func(description string, examples ...any) *jsonschema.Schema {
		return &jsonschema.Schema{
			Type: "string", MinLength: jsonschema.Ptr(1), Description: description, Examples: examples,
		}
	}
	return &jsonschema.Schema{
		Type:                 "object",
		MinProperties:        jsonschema.Ptr(1),
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
		Description:          "Chooses objects of one kind; at least one criterion, all of which must hold.",
		Properties: map[string]*jsonschema.Schema{
			"namespace": text("Pods: a workload of the scenario (meaning its namespace) or a real namespace.", "shop"),
			"labels": {
				Type: "object", AdditionalProperties: &jsonschema.Schema{Type: "string"}, MinProperties: jsonschema.Ptr(1),
				Description: "Labels that the object carries.",
				Examples:    []any{map[string]any{"app": "web"}},
			},
			"names": {
				Type: "array", Items: text("A name."), MinItems: jsonschema.Ptr(1), Description: "Names of objects.",
			},
			"owner":   text("Pods: those of a workload object, WORKLOAD/KIND/NAME.", "shop/deployment/web"),
			"hosting": text("Nodes: those on which pods of a workload object run, WORKLOAD/KIND/NAME.", "shop/deployment/web"),
			"role": {
				Type: "string", Enum: []any{"control-plane", "worker"}, Description: "Nodes: their role.",
			},
			"except": text("A target of the scenario whose members are left out.", "zone-b"),
		},
	}
}

// Element is the zero value of what is profiled: from it the schema of a Profiled value is made.
func (Profiled[T]) Element() any {
	var zero T
	return zero
}
