// Package prober is the open-loop sampler: it asks a workload one question a tick, whether or not the last one has been
// answered, and writes down when each question was due, sent and settled.
//
// It runs in a pod on the vantage node (Run, `rebound prober`), or on the host (`rebound probe`). It knows the kinds of
// questions (Type, HTTP) and the file that samples are kept in (Record, Decode). Where probers run, how their files are
// followed and what the samples mean is left to runner/recorder and assertions.
package prober

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Connections says whether each sample opens a connection of its own.
type Connections string

// The two ways to connect. New is the default: it sees what a client that arrives now would see.
const (
	New    Connections = "new"
	Reused Connections = "reused"
)

// The defaults of a probe: 50 samples a second, a second for each, and a life that no run exceeds.
const (
	DefaultInterval    = 20 * time.Millisecond
	DefaultTimeout     = time.Second
	DefaultMaxDuration = 2 * time.Hour
)

// Errors that callers decide on.
var (
	// ErrUnknownType: no probe type of that name is registered.
	ErrUnknownType = errors.New("unknown probe type")
	// ErrInvalid: the configuration cannot be used.
	ErrInvalid = errors.New("invalid probe")
)

// Type is one kind of probe, registered by value.
type Type struct {
	// Name is the key that selects it in a scenario file.
	Name string
	// Doc is one sentence for `rebound explain`.
	Doc string
	// New returns a pointer to the type's parameters with nothing set; scenario files are decoded into it.
	New func() Params
}

// Params are the decoded parameters of one probe type, marshalled as JSON on their way into the prober's pod.
type Params interface {
	// Validate returns what makes the parameters unusable; it reads nothing but the parameters.
	Validate() error
	// Target is the service that is asked, WORKLOAD/SERVICE or WORKLOAD/SERVICE:PORT.
	Target() string
	// Asker binds the parameters to an address, IP:port, that was resolved once.
	Asker(address string, connections Connections) (Asker, error)
}

// Asker asks one question. It is called concurrently, and ctx carries the sample's whole time limit. An Asker that is
// an io.Closer is closed when the sampler ends.
type Asker interface {
	// Ask asks once; seq is the number of the tick, from 0.
	Ask(ctx context.Context, seq uint64) Answer
}

// Answer is the outcome of one question.
type Answer struct {
	// Status is the protocol's own code, 0 where none came.
	Status int
	// Error is the class of the failure as in assertions.Sample; empty means that all was as expected.
	Error string
	// Tag is what the workload said of itself.
	Tag string
}

// Types returns the probe types that Rebound ships.
func Types() []Type {
	return []Type{{
		Name: "http",
		Doc:  "Asks a Service over HTTP and expects a status and, if given, a text in the body.",
		New:  func() Params { return &HTTP{} },
	}}
}

// Config is everything a sampler needs; it is handed to `rebound prober --config` as JSON.
type Config struct {
	// Probe is the probe's name, Vantage where it asks from; both are only written into the header.
	Probe   string `json:"probe"`
	Vantage string `json:"vantage"`
	// Type names the probe type, Params are its parameters.
	Type   string          `json:"type"`
	Params json.RawMessage `json:"params"`
	// Address is the IP:port that is asked.
	Address     string      `json:"address"`
	Connections Connections `json:"connections,omitempty"` // New where absent
	// Interval is the time between two ticks, Timeout the longest that a sample may take; defaults where zero.
	Interval time.Duration `json:"intervalNanos,omitempty"`
	Timeout  time.Duration `json:"timeoutNanos,omitempty"`
	// MaxDuration ends the sampler by itself, so that no orphan asks for ever; DefaultMaxDuration where zero.
	MaxDuration time.Duration `json:"maxDurationNanos,omitempty"`

	// Types are the known probe types; the shipped ones where nil.
	Types []Type `json:"-"`
	// Clock is read and waited on; the machine's monotonic clock where nil.
	Clock Clock `json:"-"`
}

// withDefaults fills in what is absent and refuses what cannot be used.
func (c Config) withDefaults() (Config, error) {
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxDuration == 0 {
		c.MaxDuration = DefaultMaxDuration
	}
	if c.Connections == "" {
		c.Connections = New
	}
	if c.Types == nil {
		c.Types = Types()
	}
	switch {
	case c.Interval < 0 || c.Timeout < 0 || c.MaxDuration < 0:
		return c, fmt.Errorf("%w: negative interval, timeout or duration", ErrInvalid)
	case c.Connections != New && c.Connections != Reused:
		return c, fmt.Errorf("%w: connections are %q or %q, not %q", ErrInvalid, New, Reused, c.Connections)
	case c.Address == "":
		return c, fmt.Errorf("%w: no address", ErrInvalid)
	}
	return c, nil
}

// asker builds the question from the type's parameters; unknown parameters are an error.
func (c Config) asker() (Asker, error) {
	i := slices.IndexFunc(c.Types, func(t Type) bool { return t.Name == c.Type })
	if i < 0 {
		return nil, fmt.Errorf("%w %q", ErrUnknownType, c.Type)
	}
	params := c.Types[i].New()
	if len(c.Params) > 0 {
		dec := json.NewDecoder(strings.NewReader(string(c.Params)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(params); err != nil {
			return nil, fmt.Errorf("parameters of %s probe: %w", c.Type, err)
		}
	}
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("parameters of %s probe: %w", c.Type, err)
	}
	return params.Asker(c.Address, c.Connections)
}

// Run samples until ctx ends or MaxDuration is over, and writes one line a record to out: the header first, then each
// sample in one Write as soon as it ends. It returns nil when it ended as asked, and the first error of out otherwise.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	return Sample(ctx, cfg, func(r Record) error {
		line, err := r.Encode()
		if err != nil {
			return fmt.Errorf("encode record: %w", err)
		}
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("write record: %w", err)
		}
		return nil
	})
}
