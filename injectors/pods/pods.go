// Package pods is the family of faults that strike pods and their containers.
//
// It kills; choosing the pods, waiting for their successors and measuring how long that takes are left to others.
package pods

import (
	"errors"

	"github.com/rebound-chaos/rebound/injectors"
)

// Errors that callers decide on.
var (
	// ErrBare: no controller would bring the pod back.
	ErrBare = errors.New("no controller would bring the pod back (bare: true kills it all the same)")
	// ErrStatic: the pod is the kubelet's mirror of a static one; deleting the mirror stops no container.
	ErrStatic = errors.New("static pod: deleting its mirror stops nothing")
)

// Faults lists the faults of the family.
func Faults() []injectors.Fault {
	return []injectors.Fault{
		killPod(),
	}
}
