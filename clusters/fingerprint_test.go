package clusters

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

const asMade = `
{apiVersion: v1, kind: Namespace, metadata: {name: default, uid: n1}}
---
apiVersion: v1
kind: Node
metadata: {name: worker, uid: w1, labels: {zone: a, rebound.dev/managed: "true"}, annotations: {volatile: "yes"}}
spec: {podCIDR: 10.0.0.0/24}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default, uid: p1}, spec: {nodeName: worker}}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: default, uid: s1}
type: Opaque
data: {password: aHVudGVyMg==}
---
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abc, namespace: default, uid: s2}
type: bootstrap.kubernetes.io/token
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cluster-info, namespace: default, uid: c1}
data: {kubeconfig: x, jws-kubeconfig-abc: signature}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: d
  namespace: default
  uid: d1
  generation: 3
  resourceVersion: "17"
  labels: {app: d}
  annotations: {deployment.kubernetes.io/revision: "2", note: kept}
spec: {replicas: 2, template: {spec: {containers: [{name: main, image: a}]}}}
status: {readyReplicas: 2}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: d-1
  namespace: default
  uid: r1
  ownerReferences: [{kind: Deployment, name: d, uid: d1, controller: true}]
spec: {replicas: 2}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l, namespace: default, uid: l1}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: gathered, uid: cr1}
aggregationRule: {}
rules: [{verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: plain, uid: cr2}
rules: [{verbs: [get]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1., uid: a1, labels: {kube-aggregator.kubernetes.io/automanaged: onstart}}
spec: {version: v1}`

func take(t *testing.T, f *fakeCluster) Fingerprint {
	t.Helper()
	print, err := f.fingerprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return print
}

func TestFingerprintHoldsWhatCounts(t *testing.T) {
	print := take(t, newFakeCluster(t, asMade, &fakeMachine{name: "worker"}))
	want := map[string]map[string]any{
		"namespaces default":              {},
		"configmaps default/cluster-info": {"data": map[string]any{"kubeconfig": "x"}},
		"secrets default/s":               {"type": "Opaque", "data": map[string]any{"password": hashed("aHVudGVyMg==")}},
		"deployments.apps default/d": {
			"labels": map[string]any{"app": "d"}, "annotations": map[string]any{"note": "kept"},
			"spec": map[string]any{"replicas": 2.0, "template": map[string]any{"spec": map[string]any{
				"containers": []any{map[string]any{"name": "main", "image": "a"}}}}}},
		"clusterroles.rbac.authorization.k8s.io gathered": {"aggregationRule": map[string]any{}},
		"clusterroles.rbac.authorization.k8s.io plain":    {"rules": []any{map[string]any{"verbs": []any{"get"}}}},
	}
	if diff := cmp.Diff(want, print.Objects); diff != "" {
		t.Error(diff)
	}
	wantNodes := map[string]NodePrint{"worker": {Labels: map[string]string{"zone": "a", LabelManaged: "true"}}}
	if diff := cmp.Diff(wantNodes, print.Nodes); diff != "" {
		t.Error(diff)
	}
	data, err := json.Marshal(print)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "aHVudGVyMg") {
		t.Error("the fingerprint holds a secret")
	}
	var read Fingerprint
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	if diff := read.Diff(print); len(diff) > 0 {
		t.Errorf("what was read differs from what was written: %v", diff)
	}
}

func TestFingerprintOutlivesADeadAPIGroup(t *testing.T) {
	f := newFakeCluster(t, asMade)
	before := take(t, f)
	f.failed = &discovery.ErrGroupDiscoveryFailed{Groups: map[schema.GroupVersion]error{
		{Group: "metrics.k8s.io", Version: "v1beta1"}: errors.New("503")}}
	after := take(t, f)
	if diff, want := before.Diff(after), "API group metrics.k8s.io/v1beta1 does not answer"; !slices.Equal(diff,
		[]string{want}) {
		t.Errorf("Diff = %q, want %q", diff, want)
	}
	if diff := after.Diff(before); len(diff) > 0 {
		t.Errorf("a group that came up: %q", diff)
	}
	f.failed = errors.New("refused")
	if _, err := f.fingerprint(t.Context()); !errors.Is(err, f.failed) {
		t.Errorf("dead API server: %v", err)
	}
}

func TestDiff(t *testing.T) {
	base := func() Fingerprint { return take(t, newFakeCluster(t, asMade, &fakeMachine{name: "worker"})) }
	for name, c := range map[string]struct {
		change func(*Fingerprint)
		want   string
	}{
		"nothing": {func(*Fingerprint) {}, ""},
		"field": {func(f *Fingerprint) {
			f.Objects["deployments.apps default/d"]["spec"].(map[string]any)["replicas"] = 1.0
		}, "deployments.apps default/d: .spec.replicas was 2, is 1"},
		"new field": {func(f *Fingerprint) { f.Objects["namespaces default"]["labels"] = map[string]any{"a": "b"} },
			"namespaces default: .labels was absent, is map[a:b]"},
		"new": {func(f *Fingerprint) { f.Objects["configmaps default/x"] = map[string]any{} },
			"configmaps default/x is new"},
		"gone": {func(f *Fingerprint) { delete(f.Objects, "secrets default/s") }, "secrets default/s is gone"},
		"in a list": {func(f *Fingerprint) {
			rule := f.Objects["clusterroles.rbac.authorization.k8s.io plain"]["rules"].([]any)[0].(map[string]any)
			rule["verbs"] = []any{"list"}
		}, "clusterroles.rbac.authorization.k8s.io plain: .rules[0].verbs[0] was get, is list"},
		"longer list": {func(f *Fingerprint) {
			f.Objects["clusterroles.rbac.authorization.k8s.io plain"]["rules"] = []any{}
		}, "clusterroles.rbac.authorization.k8s.io plain: .rules was [map[verbs:[get]]], is []"},
		"label": {func(f *Fingerprint) { f.Nodes["worker"].Labels["zone"] = "b" }, "node worker: .labels.zone was a, is b"},
		"taint": {func(f *Fingerprint) {
			f.Nodes["worker"] = NodePrint{Labels: f.Nodes["worker"].Labels, Taints: []string{"a:NoSchedule"}}
		}, "node worker: taint a:NoSchedule is new"},
		"cordon": {func(f *Fingerprint) {
			f.Nodes["worker"] = NodePrint{Labels: f.Nodes["worker"].Labels, Unschedulable: true}
		}, "node worker: .unschedulable was false, is true"},
		"no node": {func(f *Fingerprint) { delete(f.Nodes, "worker") }, "node worker is gone"},
		"inside": {func(f *Fingerprint) {
			f.Machines["worker"] = MachinePrint{Files: []string{"/f"}, Tables: []string{"inet rebound-x"}}
		},
			"node worker: nft table inet rebound-x is new\nnode worker: file /f is new"},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := base(), base()
			c.change(&after)
			if got := strings.Join(before.Diff(after), "\n"); got != c.want {
				t.Errorf("Diff =\n%s\nwant\n%s", got, c.want)
			}
			if back := after.Diff(before); (len(back) == 0) != (c.want == "") {
				t.Errorf("the other way round: %q", back)
			}
		})
	}
}

func TestLoadFingerprint(t *testing.T) {
	c := &Cluster{Name: "c", State: t.TempDir()}
	if _, err := LoadFingerprint(c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("never saved: %v", err)
	}
	if err := os.WriteFile(filepath.Join(c.State, FileFingerprint), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFingerprint(c); err == nil {
		t.Error("half a file passed")
	}
}

// leftBehind is what a killed run leaves, beside asMade.
const leftBehind = asMade + `
---
{apiVersion: v1, kind: Namespace, metadata: {name: ours, uid: n2, labels: {rebound.dev/managed: "true"}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ours, uid: p2}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: ours, uid: d2}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ours, namespace: default, uid: c2, labels: {rebound.dev/managed: "true"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: ours, uid: cr3, labels: {rebound.dev/managed: "true"}}`

func dirtyNode(documents string) string {
	return strings.Replace(documents, `metadata: {name: worker, uid: w1, labels: {zone: a,`,
		`metadata: {name: worker, uid: w1, labels: {zone: b, left: over,`, 1) + ""
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clean := &fakeMachine{name: "worker", tables: []string{"inet rebound-podnet"}}
		before := take(t, newFakeCluster(t, asMade, clean))
		machine := &fakeMachine{name: "worker", tables: []string{"inet rebound-podnet", "inet rebound-cut"},
			files: []string{NodeDir + "/x"}, processes: map[string]string{"7": NodeDir + "/x"}}
		f := newFakeCluster(t, dirtyNode(leftBehind), machine)
		if diff := before.Diff(take(t, f)); len(diff) < 7 {
			t.Fatalf("the cluster is not dirty enough: %q", diff)
		}
		if err := f.reset(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		if diff := before.Diff(take(t, f)); len(diff) > 0 {
			t.Errorf("left: %q", diff)
		}
	})
}

func TestResetDoesNotGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := take(t, newFakeCluster(t, asMade, &fakeMachine{name: "worker"}))
		f := newFakeCluster(t, strings.Replace(leftBehind, "replicas: 2", "replicas: 5", 1), &fakeMachine{name: "worker"})
		err := f.reset(t.Context(), before)
		if !errors.Is(err, ErrNotAsBefore) || !strings.Contains(err.Error(), ".spec.replicas was 2, is 5") {
			t.Errorf("reset = %v", err)
		}
		if strings.Contains(err.Error(), "ours") {
			t.Errorf("what could be reset was not: %v", err)
		}
	})
}
