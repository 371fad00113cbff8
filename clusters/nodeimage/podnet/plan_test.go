package podnet

import (
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func apiNode(name string, addresses []string, ranges ...string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: ranges}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, address := range addresses {
		node.Status.Addresses = append(node.Status.Addresses,
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
	}
	return node
}

func read(t *testing.T, list ...*corev1.Node) []Node {
	t.Helper()
	var nodes []Node
	for _, entry := range list {
		node, err := FromAPI(entry)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func route(destination, gateway string) Route {
	return Route{Destination: netip.MustParsePrefix(destination), Gateway: netip.MustParseAddr(gateway)}
}

func TestRoutes(t *testing.T) {
	for _, test := range []struct {
		name  string
		nodes []*corev1.Node
		want  []Route
	}{
		{"alone", []*corev1.Node{apiNode("me", []string{"172.18.0.2"}, "10.244.0.0/24")}, nil},
		{"sorted, and none to itself", []*corev1.Node{
			apiNode("c", []string{"172.18.0.4"}, "10.244.2.0/24"),
			apiNode("me", []string{"172.18.0.2"}, "10.244.0.0/24"),
			apiNode("b", []string{"172.18.0.3"}, "10.244.1.0/24"),
		}, []Route{route("10.244.1.0/24", "172.18.0.3"), route("10.244.2.0/24", "172.18.0.4")}},
		{"several ranges, each by an address of its family", []*corev1.Node{
			apiNode("b", []string{"fc00::3", "172.18.0.3"}, "10.244.1.0/24", "fd00:10:244:1::/64"),
		}, []Route{route("10.244.1.0/24", "172.18.0.3"), route("fd00:10:244:1::/64", "fc00::3")}},
		{"not ready to be routed to yet", []*corev1.Node{
			apiNode("b", nil, "10.244.1.0/24"), apiNode("c", []string{"172.18.0.4"}),
			apiNode("d", []string{"172.18.0.5"}, "fd00::/64"),
		}, nil},
	} {
		if got := Routes("me", read(t, test.nodes...)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestFromAPITakesTheSingleRangeToo(t *testing.T) {
	node := apiNode("b", []string{"172.18.0.3"})
	node.Spec.PodCIDR = "10.244.1.7/24"
	if got := read(t, node)[0].PodRanges; len(got) != 1 || got[0].String() != "10.244.1.0/24" {
		t.Errorf("got %v", got)
	}
	for _, broken := range []*corev1.Node{
		apiNode("x", []string{"not an address"}), apiNode("x", nil, "not a range"),
	} {
		if node, err := FromAPI(broken); err == nil {
			t.Errorf("got %v and no error", node)
		}
	}
}

func TestChanges(t *testing.T) {
	have := []Route{
		route("10.244.1.0/24", "172.18.0.3"), route("10.244.2.0/24", "172.18.0.4"),
		route("10.9.0.0/24", "172.18.0.9"),
	}
	want := []Route{
		route("10.244.1.0/24", "172.18.0.3"), route("10.244.2.0/24", "172.18.0.5"),
		route("10.244.3.0/24", "172.18.0.6"),
	}
	put, remove := Changes(have, want)
	if !reflect.DeepEqual(put, want[1:]) {
		t.Errorf("put %v", put)
	}
	if !reflect.DeepEqual(remove, have[2:]) {
		t.Errorf("remove %v", remove)
	}
	if put, remove := Changes(want, want); put != nil || remove != nil {
		t.Errorf("nothing to do, yet put %v and remove %v", put, remove)
	}
}

func TestParseSubnets(t *testing.T) {
	got, err := ParseSubnets("10.244.0.0/16, fd00:10:244::/56")
	if err != nil || len(got) != 2 || got[1].String() != "fd00:10:244::/56" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseSubnets(""); err == nil {
		t.Error("an empty subnet passed")
	}
}
