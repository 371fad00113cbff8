// Package podnet is the pod network of a Rebound cluster: on every node it writes the CNI configuration with the
// node's own pod ranges, keeps a route to the pods of every other node, and hides pod addresses from the world
// outside the pod subnet.
//
// Pods are plugged in by the standard CNI plugins (ptp, host-local, portmap); services are kube-proxy's. Nodes are
// expected to reach each other directly, as the containers of one engine's network do: nothing is encapsulated.
package podnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Node is what the pod network has to know of a node.
type Node struct {
	Name      string
	Addresses []netip.Addr   // its internal addresses, the preferred one of a family first
	PodRanges []netip.Prefix // one a family at most
}

// Route leads to the pods of another node.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr
}

// FromAPI reads a node as the API gives it. Ranges that are not there yet are no error: they come later.
func FromAPI(node *corev1.Node) (Node, error) {
	result := Node{Name: node.Name}
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		parsed, err := netip.ParseAddr(address.Address)
		if err != nil {
			return Node{}, fmt.Errorf("node %s: %w", node.Name, err)
		}
		result.Addresses = append(result.Addresses, parsed.Unmap())
	}
	ranges := node.Spec.PodCIDRs
	if len(ranges) == 0 && node.Spec.PodCIDR != "" {
		ranges = []string{node.Spec.PodCIDR}
	}
	for _, text := range ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return Node{}, fmt.Errorf("node %s: %w", node.Name, err)
		}
		result.PodRanges = append(result.PodRanges, prefix.Masked())
	}
	return result, nil
}

// ParseSubnets reads the cluster's pod subnet: one range, or one a family with a comma between them.
func ParseSubnets(text string) ([]netip.Prefix, error) {
	var subnets []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		subnet, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("read the pod subnet %q: %w", text, err)
		}
		subnets = append(subnets, subnet.Masked())
	}
	return subnets, nil
}

// Routes are the routes that the node of this name needs, in a fixed order. A range is left out while its node has no
// address of the same family.
func Routes(self string, nodes []Node) []Route {
	var routes []Route
	for _, node := range nodes {
		if node.Name == self {
			continue
		}
		for _, destination := range node.PodRanges {
			at := slices.IndexFunc(node.Addresses, func(address netip.Addr) bool {
				return address.Is4() == destination.Addr().Is4()
			})
			if at >= 0 {
				routes = append(routes, Route{Destination: destination, Gateway: node.Addresses[at]})
			}
		}
	}
	slices.SortFunc(routes, func(a, b Route) int {
		return strings.Compare(a.Destination.String(), b.Destination.String())
	})
	return routes
}

// Changes tells which routes to put in place and which to take away. A destination whose gateway changed is only put:
// putting replaces, and leaves no moment without a route.
func Changes(have, want []Route) (put, remove []Route) {
	for _, route := range want {
		if !slices.Contains(have, route) {
			put = append(put, route)
		}
	}
	for _, route := range have {
		wanted := slices.ContainsFunc(want, func(w Route) bool { return w.Destination == route.Destination })
		if !wanted {
			remove = append(remove, route)
		}
	}
	return put, remove
}
