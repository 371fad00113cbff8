package scenarios

import (
	"time"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

// What holds where a file is silent. This is the only place that knows.
const (
	DefaultProfile       = "fast"
	DefaultControlPlanes = 1
	DefaultWorkers       = 2
	DefaultRepeat        = 1

	DefaultRate        = values.Rate(50) // a sample every 20 ms
	DefaultTimeout     = values.Duration(time.Second)
	DefaultConnections = ConnectionsNew

	// DefaultHold is how long a state must last to count as reached, in `steady` and in `reach` objectives.
	DefaultHold         = values.Duration(3 * time.Second)
	DefaultSteadyWithin = values.Duration(90 * time.Second)
)

// How a probe connects: once a sample, or once for all of them.
const (
	ConnectionsNew    = "new"
	ConnectionsReused = "reused"
)

// setDefaults fills in what the file left out. An objective without `since` counts from the first step.
func (s *Scenario) setDefaults() {
	spec := &s.Spec
	setDefault(&spec.Cluster.Profile, DefaultProfile)
	setDefault(&spec.Cluster.ControlPlanes, DefaultControlPlanes)
	setDefault(&spec.Repeat, DefaultRepeat)
	if spec.Cluster.Workers == nil {
		spec.Cluster.Workers = Workers{{Count: DefaultWorkers}}
	}
	for i := range spec.Probes {
		setDefault(&spec.Probes[i].Rate, DefaultRate)
		setDefault(&spec.Probes[i].Timeout, DefaultTimeout)
		setDefault(&spec.Probes[i].Connections, DefaultConnections)
	}
	if spec.Steady != nil {
		setDefault(&spec.Steady.Hold, DefaultHold)
		setDefault(&spec.Steady.Within, DefaultSteadyWithin)
	}
	for i := range spec.Objectives {
		objective := &spec.Objectives[i]
		if len(spec.Steps) > 0 {
			setDefault(&objective.Since, spec.Steps[0].Name)
		}
		if objective.Reach != nil {
			setDefault(&objective.Hold, DefaultHold)
		}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
