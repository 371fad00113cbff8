package kindcluster

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rebound-chaos/rebound/clusters"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestKindConfig(t *testing.T) {
	for name, c := range map[string]struct {
		spec clusters.Spec
		host host
	}{
		"default-single": {spec: clusters.Spec{Name: "single", Profile: clusters.ProfileDefault}},
		"fast-zones":     {spec: zones},
		"fast-limited-host": {spec: clusters.Spec{Name: "ci", Workers: []clusters.NodeGroup{{Count: 2}}},
			host: host{cgroup1: true, noResources: true}},
	} {
		t.Run(name, func(t *testing.T) {
			spec, profile, err := normalise(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := kindConfig(spec, profile, "node:v1", c.host)
			if err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-update writes the golden file anew)\n%s", diff)
			}
		})
	}
}

var zones = clusters.Spec{Name: "zones", Workers: []clusters.NodeGroup{
	{Count: 2, Labels: map[string]string{"topology.kubernetes.io/zone": "a", "example.k8s.io/disk": "fast"}, Role: "edge"},
	{Count: 1, Labels: map[string]string{"topology.kubernetes.io/zone": "b"}},
}}

func TestAPILabels(t *testing.T) {
	edge := map[string]string{"example.k8s.io/disk": "fast", "node-role.kubernetes.io/edge": ""}
	want := map[string]map[string]string{"rebound-zones-worker": edge, "rebound-zones-worker2": edge}
	if diff := cmp.Diff(want, apiLabels(zones)); diff != "" {
		t.Error(diff)
	}
}

func TestSelfLabel(t *testing.T) {
	for key, want := range map[string]bool{
		"tier": true, "example.org/tier": true, "rebound.dev/managed": true,
		"topology.kubernetes.io/zone": true, "node.kubernetes.io/pool": true, "x.kubelet.kubernetes.io/y": true,
		"node-role.kubernetes.io/edge": false, "kubernetes.io/role": false, "example.k8s.io/disk": false,
		"node-restriction.kubernetes.io/x": false,
	} {
		if got := selfLabel(key); got != want {
			t.Errorf("selfLabel(%q) = %v", key, got)
		}
	}
}

func TestNormaliseRefuses(t *testing.T) {
	group := func(g clusters.NodeGroup) clusters.Spec {
		return clusters.Spec{Name: "a", Workers: []clusters.NodeGroup{g}}
	}
	for name, spec := range map[string]clusters.Spec{
		"no name":            {},
		"name too long":      {Name: strings.Repeat("a", nameLimit+1)},
		"name ends in dash":  {Name: "a-"},
		"dot in name":        {Name: "a.b"},
		"path in name":       {Name: "../a"},
		"role control-plane": group(clusters.NodeGroup{Count: 1, Role: "control-plane"}),
		"role with a space":  group(clusters.NodeGroup{Count: 1, Role: "a b"}),
		"bad label":          group(clusters.NodeGroup{Count: 1, Labels: map[string]string{"a b": "c"}}),
		"value with a comma": group(clusters.NodeGroup{Count: 1, Labels: map[string]string{"a": "b,c=d"}}),
		"our own label":      group(clusters.NodeGroup{Count: 1, Labels: map[string]string{clusters.LabelManaged: "false"}}),
	} {
		if _, _, err := normalise(spec); !errors.Is(err, clusters.ErrBadSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	spec, profile, err := normalise(clusters.Spec{Name: strings.Repeat("a", nameLimit)})
	if err != nil || spec.ControlPlanes != 1 || profile.Name != clusters.ProfileFast || nodeCount(spec) != 1 {
		t.Errorf("the least spec: %+v, %s, %v", spec, profile.Name, err)
	}
}

func TestFullRef(t *testing.T) {
	for ref, want := range map[string]string{
		"shop":                      "docker.io/library/shop:latest",
		"shop:v2":                   "docker.io/library/shop:v2",
		"team/shop:v2":              "docker.io/team/shop:v2",
		"rebound.dev/rebound:abc":   "rebound.dev/rebound:abc",
		"localhost/shop":            "localhost/shop:latest",
		"localhost:5000/shop":       "localhost:5000/shop:latest",
		"shop@sha256:0123":          "docker.io/library/shop@sha256:0123",
		"registry.k8s.io/pause:3.1": "registry.k8s.io/pause:3.1",
	} {
		if got := fullRef(ref); got != want {
			t.Errorf("fullRef(%q) = %q, want %q", ref, got, want)
		}
	}
}

func TestUniqueSubnet(t *testing.T) {
	if a, b := uniqueSubnet("rebound-a"), uniqueSubnet("rebound-b"); a == b || !strings.HasPrefix(a, "fd") {
		t.Errorf("%s and %s", a, b)
	}
}
