package scenarios

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/rebound-chaos/rebound/assertions"
)

// namePattern is a DNS label: names become namespaces, labels, file names and the first part of STEP.healed.
var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

const maxNameLength = 63

func checkName(text string) error {
	switch {
	case text == "":
		return errors.New("a name is empty")
	case len(text) > maxNameLength:
		return fmt.Errorf("%q is longer than %d characters", text, maxNameLength)
	case !namePattern.MatchString(text):
		return fmt.Errorf("%q is not a name: lower-case letters, digits and '-', with a letter or digit at both ends", text)
	}
	return nil
}

// ObjectRef is one object of a workload, written WORKLOAD/KIND/NAME.
type ObjectRef struct{ Workload, Kind, Name string }

// String writes the reference as it stands in a file.
func (r ObjectRef) String() string { return r.Workload + "/" + r.Kind + "/" + r.Name }

// ParseRef reads WORKLOAD/KIND/NAME. Kinds are written in lower case: "shop/deployment/web".
func ParseRef(text string) (ObjectRef, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return ObjectRef{}, fmt.Errorf("%q is not WORKLOAD/KIND/NAME, such as shop/deployment/web", text)
	}
	if parts[1] != strings.ToLower(parts[1]) {
		return ObjectRef{}, fmt.Errorf("%q: kinds are written in lower case: %s", text, strings.ToLower(parts[1]))
	}
	return ObjectRef{Workload: parts[0], Kind: parts[1], Name: parts[2]}, nil
}

// workloadKinds are the kinds whose pods can be counted.
func workloadKinds() []string {
	return []string{"deployment", "statefulset", "daemonset", "replicaset", "job"}
}

// ParseEdge reads STEP[.effective|done|healed]; a bare STEP is the beginning of its injection.
func ParseEdge(text string) (assertions.Since, error) {
	step, edge, dotted := strings.Cut(text, ".")
	since := assertions.Since{Step: step, Edge: assertions.EdgeAt}
	if !dotted {
		return since, nil
	}
	since.Edge = assertions.Edge(edge)
	for _, known := range edges() {
		if edge == known {
			return since, nil
		}
	}
	return since, hinted{
		fmt.Errorf("%q is not an edge of a step: %s", edge, strings.Join(edges(), ", ")), closest(edge, edges()),
	}
}

func edges() []string {
	return []string{string(assertions.EdgeEffective), string(assertions.EdgeDone), string(assertions.EdgeHealed)}
}

// Chains are the names of the chains of phases that a recovery is split into.
func Chains() []string { return []string{"traffic", "redundancy"} }

// Phases are the names of all phases, of both chains, in the order in which they happen.
func Phases() []string {
	return []string{"detect", "withdraw", "serve", "taint", "evict", "replace", "schedule", "start", "ready", "publish"}
}

// The statuses of a node, as conditions name them, and as the API's Ready condition does.
func statuses() []string { return []string{"Ready", "NotReady", "Unknown"} }

func nodeReady(status string) string {
	switch status {
	case "Ready":
		return "True"
	case "NotReady":
		return "False"
	}
	return status
}
