package runner

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/scenarios"
)

// fakeCluster is an API server in memory that keeps what is applied to it, in order.
type fakeCluster struct {
	kube    *kube
	applied []*unstructured.Unstructured
}

// newFakeCluster has the given namespaces, and default service accounts in those to come.
func newFakeCluster(t *testing.T, namespaces, toCome []string) *fakeCluster {
	t.Helper()
	var objects []runtime.Object
	for _, name := range namespaces {
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, name := range toCome {
		objects = append(objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}})
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind, scope := range map[string]meta.RESTScope{"v1/ConfigMap": meta.RESTScopeNamespace,
		"v1/Service":         meta.RESTScopeNamespace,
		"apps/v1/Deployment": meta.RESTScopeNamespace, "v1/PersistentVolume": meta.RESTScopeRoot} {
		at := strings.LastIndex(kind, "/")
		version, err := schema.ParseGroupVersion(kind[:at])
		if err != nil {
			t.Fatal(err)
		}
		mapper.Add(version.WithKind(kind[at+1:]), scope)
	}
	f := &fakeCluster{}
	client := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())
	client.PrependReactor("patch", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchAction)
		if patch.GetPatchType() != types.ApplyPatchType {
			return true, nil, fmt.Errorf("patch of type %s", patch.GetPatchType())
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(patch.GetPatch()); err != nil {
			return true, nil, err
		}
		if object.GetNamespace() != patch.GetNamespace() || object.GetName() != patch.GetName() {
			return true, nil, fmt.Errorf("%s/%s is applied as %s/%s", object.GetNamespace(), object.GetName(),
				patch.GetNamespace(), patch.GetName())
		}
		f.applied = append(f.applied, object)
		return true, object, nil
	})
	f.kube = &kube{api: fake.NewClientset(objects...), dynamic: client, mapper: mapper}
	return f
}

// pictures writes what was applied as NAMESPACE/KIND/NAME.
func (f *fakeCluster) pictures() []string { return pictures(f.applied) }

func pictures(objects []*unstructured.Unstructured) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.GetNamespace()+"/"+o.GetKind()+"/"+o.GetName())
	}
	return out
}

// object builds an object from JSON.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

// folder writes files, by their paths, into a fresh folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"
	service   = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
)

func TestDecodeManifest(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
		says string
	}{
		"one document": {configMap, []string{"/ConfigMap/settings"}, ""},
		"several":      {configMap + "---\n" + service, []string{"/ConfigMap/settings", "/Service/web"}, ""},
		"empty ones": {"---\n" + configMap + "---\n---\n# nothing\n---\n" + service + "---\n",
			[]string{"/ConfigMap/settings", "/Service/web"}, ""},
		"JSON": {`{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}`,
			[]string{"/Service/web"}, ""},
		"nothing at all": {"", nil, ""},
		"its own place":  {"kind: Service\nmetadata: {name: web, namespace: data}\n", []string{"data/Service/web"}, ""},
		"no kind": {configMap + "---\napiVersion: v1\nmetadata: {name: web}\n", nil,
			"an object without kind or metadata.name"},
		"no name":         {"kind: Service\n", nil, "an object without kind or metadata.name"},
		"no object":       {configMap + "---\njust text\n", nil, "cannot unmarshal"},
		"not YAML at all": {"kind: [Service\n", nil, "yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder(t, map[string]string{"app.yaml": test.text}), "app.yaml")
			got, err := decodeManifest(path)
			switch {
			case test.says == "" && err != nil:
				t.Fatal(err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(),
				path)):
				t.Fatalf("error %v, want %q and the file in it", err, test.says)
			}
			if !slices.Equal(pictures(got), test.want) {
				t.Errorf("objects %q, want %q", pictures(got), test.want)
			}
		})
	}
	if _, err := decodeManifest(filepath.Join(t.TempDir(), "not-there.yaml")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestManifestFiles(t *testing.T) {
	dir := folder(t, map[string]string{"20-web.yaml": "", "10-db.yml": "", "more/a.json": "", "README.md": "",
		"web.yaml.bak":    "",
		"empty/notes.txt": ""})
	for name, test := range map[string]struct {
		path string
		want []string
		says string
	}{
		"a file, whatever its name":                        {"README.md", []string{"README.md"}, ""},
		"a folder in order of name, folders in it as well": {"", []string{"10-db.yml", "20-web.yaml", "more/a.json"}, ""},
		"an empty folder":                                  {"empty", nil, "empty: no YAML or JSON file in it"},
		"nothing there":                                    {"not-there", nil, "not-there"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := manifestFiles(filepath.Join(dir, test.path))
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Fatalf("error %v, want %q", err, test.says)
			}
			var want []string
			for _, path := range test.want {
				want = append(want, filepath.Join(dir, path))
			}
			if !slices.Equal(got, want) {
				t.Errorf("files %q, want %q", got, want)
			}
		})
	}
}

func TestWorkloadObjectsStandInTheOrderOfTheirFiles(t *testing.T) {
	dir := folder(t, map[string]string{"all/2.yaml": service, "all/1.yaml": configMap,
		"first.yaml": "kind: Secret\nmetadata: {name: key}\n---\nkind: Secret\nmetadata: {name: lock}\n"})
	sc := &scenarios.Scenario{Dir: dir}
	got, err := workloadObjects(sc, scenarios.Workload{Manifests: []string{"first.yaml", "all"}}, "ns", "image")
	if want := []string{"/Secret/key", "/Secret/lock", "/ConfigMap/settings", "/Service/web"}; err != nil ||
		!slices.Equal(pictures(got), want) {
		t.Errorf("objects %q, %v; want %q", pictures(got), err, want)
	}
	if got, err := workloadObjects(sc, scenarios.Workload{Existing: &scenarios.Existing{Namespace: "shop"}}, "shop",
		""); err != nil ||
		len(got) > 0 {
		t.Errorf("what exists already: %q, %v; want nothing to apply", pictures(got), err)
	}
	if _, err := workloadObjects(sc, scenarios.Workload{Manifests: []string{"not-there.yaml"}}, "ns",
		"image"); err == nil {
		t.Error("a manifest that is not there passed")
	}
}

func TestMergePatch(t *testing.T) {
	const before = `{"kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":3,"paused":true,"hosts":["a","b"],
		"template":{"spec":{"nodeName":"n"}}}}`
	for name, test := range map[string]struct{ merge, want string }{
		"a value is replaced": {`{"spec":{"replicas":1}}`,
			`{"replicas":1,"paused":true,"hosts":["a","b"],"template":{"spec":{"nodeName":"n"}}}`},
		"null takes out": {`{"spec":{"paused":null,"template":null,"nothing":null}}`, `{"replicas":3,"hosts":["a","b"]}`},
		"lists as a whole": {`{"spec":{"hosts":["c"]}}`,
			`{"replicas":3,"paused":true,"hosts":["c"],"template":{"spec":{"nodeName":"n"}}}`},
		"deep down, and new ones": {`{"spec":{"template":{"spec":{"nodeSelector":{"zone":"b"}}}}}`,
			`{"replicas":3,"paused":true,"hosts":["a","b"],"template":{"spec":{"nodeName":"n","nodeSelector":{"zone":"b"}}}}`},
		"nothing": {`{}`, `{"replicas":3,"paused":true,"hosts":["a","b"],"template":{"spec":{"nodeName":"n"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			var merge map[string]any
			if err := json.Unmarshal([]byte(test.merge), &merge); err != nil {
				t.Fatal(err)
			}
			got, want := object(t, before), map[string]any{}
			if err := mergePatch(got, merge); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			have, err := json.Marshal(got.Object["spec"])
			if err != nil {
				t.Fatal(err)
			}
			again := map[string]any{}
			if err := json.Unmarshal(have, &again); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(again, want) || got.GetName() != "web" || got.GetKind() != "Deployment" {
				t.Errorf("patched to %s, want %s", have, test.want)
			}
		})
	}
	if err := mergePatch(object(t, before), map[string]any{"kind": nil}); err == nil {
		t.Error("an object that lost its kind passed")
	}
}

func TestPatchDemo(t *testing.T) {
	one := 1
	for name, test := range map[string]struct {
		demo  scenarios.Demo
		patch scenarios.DemoPatch
		want  scenarios.Demo
	}{
		"replicas": {scenarios.Demo{Replicas: 3}, scenarios.DemoPatch{Replicas: &one}, scenarios.Demo{Replicas: 1}},
		"switches": {scenarios.Demo{Replicas: 3, Env: map[string]string{"A": "1", "B": "2"}},
			scenarios.DemoPatch{Env: map[string]string{"B": "3", "C": "4"}},
			scenarios.Demo{Replicas: 3, Env: map[string]string{"A": "1", "B": "3", "C": "4"}}},
		"the first switch": {scenarios.Demo{Replicas: 3}, scenarios.DemoPatch{Env: map[string]string{"A": "1"}},
			scenarios.Demo{Replicas: 3, Env: map[string]string{"A": "1"}}},
		"nothing": {scenarios.Demo{Replicas: 3, Env: map[string]string{"A": "1"}}, scenarios.DemoPatch{},
			scenarios.Demo{Replicas: 3, Env: map[string]string{"A": "1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			before := scenarios.Demo{Replicas: test.demo.Replicas, Env: maps.Clone(test.demo.Env)}
			got := patchDemo(scenarios.Workload{Demo: &test.demo}, test.patch)
			if got.Demo.Replicas != test.want.Replicas || !maps.Equal(got.Demo.Env, test.want.Env) {
				t.Errorf("demo %+v, want %+v", got.Demo, test.want)
			}
			if !reflect.DeepEqual(test.demo, before) {
				t.Errorf("the scenario itself was changed to %+v", test.demo)
			}
		})
	}
	manifests := scenarios.Workload{Manifests: []string{"app.yaml"}}
	if got := patchDemo(manifests, scenarios.DemoPatch{Replicas: &one}); !reflect.DeepEqual(got, manifests) {
		t.Errorf("a workload that is no demo became %+v", got)
	}
}

func TestRefersTo(t *testing.T) {
	deployment := object(t, `{"kind":"Deployment","metadata":{"name":"web"}}`)
	for ref, want := range map[string]bool{
		"shop/deployment/web": true, "shop/Deployment/web": true, "db/deployment/web": false, "shop/service/web": false,
		"shop/deployment/web2": false, "deployment/web": false, "shop/deployment/": false, "": false,
	} {
		if got := refersTo(ref, "shop", deployment); got != want {
			t.Errorf("%q refers to Deployment web of shop: %v, want %v", ref, got, want)
		}
	}
}

func TestApply(t *testing.T) {
	for name, test := range map[string]struct {
		object string
		want   string
		says   []string
	}{
		"into the workload's namespace": {`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"}}`,
			"ns/Service/web", nil},
		"the same namespace written out": {`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"ns"}}`,
			"ns/Service/web", nil},
		"kinds without a namespace": {`{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"disk"}}`,
			"/PersistentVolume/disk", nil},
		"another namespace": {`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"prod"}}`, "",
			[]string{"Service web", "namespace prod", "the workload is in ns", "leave metadata.namespace out"}},
		"an unknown kind": {`{"apiVersion":"acme/v1","kind":"Widget","metadata":{"name":"w"}}`, "", []string{"Widget w"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeCluster(t, nil, nil)
			d := &deployment{kube: f.kube, run: "ab12-1"}
			err := d.apply(t.Context(), "ns", object(t, test.object))
			if (err != nil) != (len(test.says) > 0) {
				t.Fatalf("apply: %v", err)
			}
			for _, text := range test.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q lacks %q", err, text)
				}
			}
			if test.want == "" {
				if len(f.applied) > 0 {
					t.Errorf("applied %q", f.pictures())
				}
				return
			}
			if got := f.pictures(); !slices.Equal(got, []string{test.want}) {
				t.Fatalf("applied %q, want %q", got, test.want)
			}
			if labels := f.applied[0].GetLabels(); labels[clusters.LabelManaged] != "true" ||
				labels[clusters.LabelRun] != "ab12-1" {
				t.Errorf("labels %v, want ours", labels)
			}
		})
	}
}

func TestApplyKeepsTheObjectsOwnLabels(t *testing.T) {
	f := newFakeCluster(t, nil, nil)
	labelled := object(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","labels":{"app":"web"}}}`)
	if err := (&deployment{kube: f.kube, run: "r"}).apply(t.Context(), "ns", labelled); err != nil {
		t.Fatal(err)
	}
	if labels := f.applied[0].GetLabels(); labels["app"] != "web" || len(labels) != 3 {
		t.Errorf("labels %v, want app=web and our two", labels)
	}
}

// deployed is a scenario of three workloads: manifests in a fresh namespace, a demo in a fixed one, and what exists.
func deployed(t *testing.T) *scenarios.Scenario {
	deployment := "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 3}\n"
	return &scenarios.Scenario{Dir: folder(t, map[string]string{"app.yaml": service + deployment}), Spec: scenarios.Spec{
		Workloads: map[string]scenarios.Workload{
			"shop": {Manifests: []string{"app.yaml"}},
			"toy":  {Demo: &scenarios.Demo{Replicas: 2}, Namespace: "toys"},
			"base": {Existing: &scenarios.Existing{Namespace: "prod"}},
		}}}
}

func TestDeploy(t *testing.T) {
	one := 1
	all := []string{"rebound-r1-shop/Service/web", "rebound-r1-shop/Deployment/web", "toys/ConfigMap/demo",
		"toys/Deployment/demo", "toys/Service/demo"}
	for name, test := range map[string]struct {
		patch     *scenarios.Patch
		web, demo int64 // replicas
		says      string
	}{
		"as it is written": {nil, 3, 2, ""},
		"a twin of an object": {&scenarios.Patch{Workload: web, Merge: map[string]any{"spec": map[string]any{"replicas": 1}}},
			1, 2, ""},
		"a twin of the only demo":  {&scenarios.Patch{Demo: &scenarios.DemoPatch{Replicas: &one}}, 3, 1, ""},
		"a twin of a demo by name": {&scenarios.Patch{Demo: &scenarios.DemoPatch{Workload: "toy", Replicas: &one}}, 3, 1, ""},
		"a twin of what is not there": {&scenarios.Patch{Workload: "shop/deployment/db", Merge: map[string]any{}}, 3, 2,
			"twin patches shop/deployment/db, which no workload holds"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeCluster(t, []string{"prod"}, []string{"rebound-r1-shop", "toys"})
			sc := deployed(t)
			d, err := deploy(t.Context(), f.kube, "r1", sc, "image", test.patch)
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Fatalf("deploy: %v, want %q", err, test.says)
			}
			if want := namespacesOf("r1", sc); !maps.Equal(d.namespaces, want) {
				t.Errorf("namespaces %v; namespacesOf says %v", d.namespaces, want)
			}
			if want := []string{"rebound-r1-shop", "toys"}; !slices.Equal(d.own, want) {
				t.Errorf("made the namespaces %q, want %q", d.own, want)
			}
			if got := f.pictures(); !slices.Equal(got, all) {
				t.Fatalf("applied %q, want %q", got, all)
			}
			for i, want := range map[int]int64{1: test.web, 3: test.demo} {
				if got, _, err := unstructured.NestedInt64(f.applied[i].Object, "spec", "replicas"); err != nil || got != want {
					t.Errorf("%s has %d replicas (%v), want %d", f.pictures()[i], got, err, want)
				}
			}
			made, err := f.kube.api.CoreV1().Namespaces().Get(t.Context(), "toys", metav1.GetOptions{})
			if err != nil || made.Labels[clusters.LabelManaged] != "true" || made.Labels[clusters.LabelRun] != "r1" {
				t.Errorf("namespace toys: %+v, %v; want our labels", made, err)
			}
			if theirs, err := f.kube.api.CoreV1().Namespaces().Get(t.Context(), "prod", metav1.GetOptions{}); err != nil ||
				len(theirs.Labels) > 0 {
				t.Errorf("namespace prod: %+v, %v; want it untouched", theirs, err)
			}
		})
	}
}

func TestDeployLetsWorkloadsShareANamespace(t *testing.T) {
	f := newFakeCluster(t, []string{"prod"}, []string{"toys"})
	sc := deployed(t)
	shop := sc.Spec.Workloads["shop"]
	shop.Namespace = "toys"
	sc.Spec.Workloads["shop"] = shop
	d, err := deploy(t.Context(), f.kube, "r1", sc, "image", nil)
	if err != nil || !slices.Equal(d.own, []string{"toys"}) || d.namespaces["shop"] != "toys" ||
		d.namespaces["toy"] != "toys" {
		t.Fatalf("deploy: %v, made %q, namespaces %v; want both in toys", err, d.own, d.namespaces)
	}
	if got := f.pictures(); len(got) != 5 || !slices.Contains(got, "toys/Service/web") || !slices.Contains(got,
		"toys/Service/demo") {
		t.Errorf("applied %q", got)
	}
}

func TestDeployRefusesNamespaces(t *testing.T) {
	for name, test := range map[string]struct {
		there []string
		is    func(error) bool
		says  string
	}{
		"one that should exist does not": {nil, apierrors.IsNotFound, "workload base"},
		"one that we make is there": {[]string{"prod", "toys"}, apierrors.IsAlreadyExists,
			"workload toy: create namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeCluster(t, test.there, []string{"rebound-r1-shop", "toys"})
			d, err := deploy(t.Context(), f.kube, "r1", deployed(t), "image", nil)
			if !test.is(err) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("deploy: %v, want %q", err, test.says)
			}
			if len(f.applied) > 0 || slices.Contains(d.own, "toys") {
				t.Errorf("applied %q, took over %q", f.pictures(), d.own)
			}
		})
	}
}

func TestNamespacesOf(t *testing.T) {
	sc := &scenarios.Scenario{Spec: scenarios.Spec{Workloads: map[string]scenarios.Workload{
		"shop": {}, "db": {Namespace: "data"}, "base": {Existing: &scenarios.Existing{Namespace: "prod"}}}}}
	want := map[string]string{"shop": "rebound-ab12-1-shop", "db": "data", "base": "prod"}
	if got := namespacesOf("ab12-1", sc); !maps.Equal(got, want) {
		t.Errorf("namespaces %v, want %v", got, want)
	}
}
