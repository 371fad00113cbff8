// Package values holds the small typed values of the scenario file: durations, percentages, rates, selectors. It is a
// leaf: scenarios and injectors share it, and it knows neither.
//
// Every type reads one YAML scalar (through encoding/json, since the loader turns YAML into plain values first), insists
// on its unit, and prints itself the way it is written in a file.
package values

import "time"

// Duration is a length of time written with its unit: "500ms", "3s", "2m", "1h30m". A bare number is an error.
type Duration time.Duration

// Percent is a share, written "5%" and kept as a ratio (0.05).
type Percent float64

// Rate is a number of samples a second, written "50/s" ("30/m" is allowed) and kept per second.
type Rate float64

// Take says how many of the selected objects are taken: a number, a percentage (rounded up), or all of them.
type Take struct {
	All     bool
	Count   int
	Percent Percent
}

// Profiled is a value that may differ by profile: written as the value itself, or as a map from profile to value.
type Profiled[T any] struct {
	// Any holds for profiles that ByProfile does not name; nil where there is no such value.
	Any       *T
	ByProfile map[string]T
}

// Selector chooses objects of one kind. An empty selector is an error: everything has to be asked for by `take: all` and
// at least one criterion.
type Selector struct {
	// Namespace is the name of a workload of the scenario (meaning its namespace) or of a real namespace.
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Names     []string          `json:"names,omitempty"`
	// Owner is a workload object, WORKLOAD/KIND/NAME: its pods.
	Owner string `json:"owner,omitempty"`
	// Hosting is a workload object whose pods run on the nodes that are meant.
	Hosting string `json:"hosting,omitempty"`
	// Role is a node role: control-plane or worker.
	Role string `json:"role,omitempty"`
	// Except is the name of a target whose members are left out.
	Except string `json:"except,omitempty"`
}
