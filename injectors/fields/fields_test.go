package fields

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttest "k8s.io/client-go/testing"

	"github.com/rebound-chaos/rebound/injectors"
)

const kind = "break-web/put-back"

type world struct{ api kubernetes.Interface }

func (w world) API() kubernetes.Interface           { return w.api }
func (w world) Node(string) (injectors.Node, error) { return nil, errors.New("no node access") }

type nothing struct{}

func (nothing) Inject(context.Context, injectors.World, injectors.Target, *injectors.Undo) error {
	return nil
}

var web = injectors.Object{Kind: "Deployment", APIVersion: "apps/v1", Namespace: "shop", Name: "web", UID: "uid-web"}

// deployment has a list, a number, a quantity, a label with a slash in its key, and no annotations.
func deployment() *appsv1.Deployment {
	three := int32(3)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", UID: "uid-web", ResourceVersion: "7",
			Labels: map[string]string{"example.org/tier": "front"},
		},
		Spec: appsv1.DeploymentSpec{
			Replicas: &three,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{
				{Name: "side", Image: "side:1"},
				{Name: "web", Image: "web:1", Resources: corev1.ResourceRequirements{
					Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
				}},
			}}},
		},
	}
}

// trial is a fake API with the deployment, and an undo for it.
type trial struct {
	*testing.T
	api      *fake.Clientset
	undo     *injectors.Undo
	registry injectors.Registry
}

func newTrial(t *testing.T) trial {
	t.Helper()
	tr := trial{T: t, api: fake.NewClientset(deployment())}
	var err error
	if tr.registry, err = injectors.NewRegistry(injectors.Fault{
		Name: "break-web", New: func() injectors.Injector { return &nothing{} },
		Undo: map[string]injectors.UndoFunc{kind: func(ctx context.Context, w injectors.World, s injectors.Step) error {
			return PutBack(ctx, w.API().AppsV1().Deployments(s.Target.Namespace), s)
		}},
	}); err != nil {
		t.Fatal(err)
	}
	l, err := injectors.CreateLedger(t.Context(), filepath.Join(t.TempDir(), "ledgers"), injectors.Header{Run: "r"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	tr.undo = injectors.NewUndo(l, tr.registry, "break")
	return tr
}

func (tr trial) brk(values map[string]any) error {
	return Break(tr.Context(), tr.api.AppsV1().Deployments("shop"), tr.undo, kind, web, values)
}

func (tr trial) replay() []injectors.Leftover { return tr.undo.Replay(tr.Context(), world{tr.api}) }

// now is the deployment as JSON, without its version.
func (tr trial) now() string {
	tr.Helper()
	d, err := tr.api.AppsV1().Deployments("shop").Get(tr.Context(), "web", metav1.GetOptions{})
	if err != nil {
		tr.Fatal(err)
	}
	d.ResourceVersion, d.ManagedFields = "", nil
	text, err := json.Marshal(d)
	if err != nil {
		tr.Fatal(err)
	}
	return string(text)
}

// write changes the deployment as somebody else would.
func (tr trial) write(change func(*appsv1.Deployment)) {
	tr.Helper()
	c := tr.api.AppsV1().Deployments("shop")
	d, err := c.Get(tr.Context(), "web", metav1.GetOptions{})
	if err != nil {
		tr.Fatal(err)
	}
	change(d)
	if _, err := c.Update(tr.Context(), d, metav1.UpdateOptions{}); err != nil {
		tr.Fatal(err)
	}
}

func TestBreakAndPutBack(t *testing.T) {
	const image = "/spec/template/spec/containers/1/image"
	tests := []struct {
		name   string
		values map[string]any
		shows  string // in the broken object
	}{
		{"in a list", map[string]any{image: "web:no-such"}, `"image":"web:no-such"`},
		{"a number", map[string]any{"/spec/replicas": 0}, `"replicas":0`},
		{"a key with a slash", map[string]any{"/metadata/labels/example.org~1tier": "back"}, `"example.org/tier":"back"`},
		{"one more key", map[string]any{"/metadata/labels/app": "web"}, `"app":"web"`},
		{"a key of a map that is not there", map[string]any{"/metadata/annotations/a": "b"}, `"annotations":{"a":"b"}`},
		{"removed", map[string]any{"/spec/replicas": nil}, `"spec":{"selector"`},
		{"a whole list", map[string]any{"/spec/template/spec/containers": []corev1.Container{{Name: "x"}}}, `"name":"x"`},
		{"several", map[string]any{"/spec/replicas": 1, image: "x", "/metadata/labels": nil}, `"replicas":1`},
		{"a quantity that is stored otherwise", map[string]any{
			"/spec/template/spec/containers/1/resources/limits/memory": "1024Ki",
		}, `"memory":"1Mi"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTrial(t)
			before := tr.now()
			if err := tr.brk(tt.values); err != nil {
				t.Fatal(err)
			}
			if got := tr.now(); !strings.Contains(got, tt.shows) || got == before {
				t.Errorf("broken: %s\nlacks %s", got, tt.shows)
			}
			for _, a := range tr.api.Actions() {
				if p, ok := a.(clienttest.PatchActionImpl); ok && p.PatchOptions.FieldManager != Manager {
					t.Errorf("patched as %q", p.PatchOptions.FieldManager)
				}
			}
			if left := tr.replay(); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
			if got := tr.now(); got != before {
				t.Errorf("after the undo:\n%s\nbefore:\n%s", got, before)
			}
		})
	}
}

func TestBreakRefuses(t *testing.T) {
	other := web
	other.UID = "another"
	gone := web
	gone.Name = "gone"
	tests := []struct {
		name   string
		object injectors.Object
		values map[string]any
		want   error
	}{
		{"another of that name", other, map[string]any{"/spec/replicas": 1}, injectors.ErrTargetGone},
		{"gone", gone, map[string]any{"/spec/replicas": 1}, injectors.ErrTargetGone},
		{"the value that it has", web, map[string]any{"/spec/replicas": 3}, ErrNoChange},
		{"removing what is not there", web, map[string]any{"/spec/paused": nil}, ErrNoChange},
		{"nothing", web, nil, nil},
		{"no pointer", web, map[string]any{"spec": 1}, nil},
		{"behind a list", web, map[string]any{"/spec/template/spec/containers/2/image": "x"}, nil},
		{"below a value", web, map[string]any{"/spec/replicas/x": 1}, nil},
		{"a field and one below", web, map[string]any{"/metadata/labels": nil, "/metadata/labels/a": "b"}, nil},
		{"no JSON", web, map[string]any{"/spec/replicas": func() {}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTrial(t)
			before := tr.now()
			err := Break(t.Context(), tr.api.AppsV1().Deployments("shop"), tr.undo, kind, tt.object, tt.values)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if owed := tr.undo.Owed(); len(owed) > 0 || tr.now() != before {
				t.Errorf("owes %v, is %s", owed, tr.now())
			}
		})
	}
}

// Each field is judged by itself: what can be put back is, and the conflict is named without its value.
func TestPutBackKeepsWhatOthersWrote(t *testing.T) {
	tr := newTrial(t)
	if err := tr.brk(map[string]any{
		"/spec/replicas": 1, "/metadata/labels/example.org~1tier": "back", "/metadata/labels/x": "y",
	}); err != nil {
		t.Fatal(err)
	}
	tr.write(func(d *appsv1.Deployment) {
		d.Labels["example.org/tier"] = "top-secret" // neither nor
		delete(d.Labels, "x")                       // healed by somebody
		d.Spec.Paused = true                        // no business of ours
	})
	left := tr.replay()
	if len(left) != 1 || !errors.Is(left[0].Err, injectors.ErrConflict) {
		t.Fatalf("left over: %v", left)
	}
	text := left[0].String()
	if strings.Contains(text, "top-secret") || !strings.Contains(text, "/metadata/labels/example.org~1tier") {
		t.Errorf("reported as %q", text)
	}
	got := tr.now()
	for _, want := range []string{`"replicas":3`, `"example.org/tier":"top-secret"`, `"paused":true`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	// Once the field is as before again, nothing is owed any more.
	tr.write(func(d *appsv1.Deployment) { d.Labels["example.org/tier"] = "front" })
	if left := tr.replay(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// Somebody writes between our reading and our writing: the server refuses, and we judge what is there then.
func TestPutBackReadsAgain(t *testing.T) {
	for name, raced := range map[string]struct {
		change   func(*appsv1.Deployment)
		conflict bool
	}{
		"elsewhere":    {func(d *appsv1.Deployment) { d.Spec.Paused = true }, false},
		"to the field": {func(d *appsv1.Deployment) { *d.Spec.Replicas = 9 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrial(t)
			if err := tr.brk(map[string]any{"/spec/replicas": 1}); err != nil {
				t.Fatal(err)
			}
			patches := 0
			tr.api.PrependReactor("patch", "deployments", func(clienttest.Action) (bool, runtime.Object, error) {
				if patches++; patches > 1 {
					return false, nil, nil
				}
				d := deployment()
				*d.Spec.Replicas = 1
				d.ResourceVersion = "8"
				raced.change(d)
				if err := tr.api.Tracker().Update(schema.GroupVersionResource{
					Group: "apps", Version: "v1", Resource: "deployments",
				}, d, "shop"); err != nil {
					t.Error(err)
				}
				return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "deployments"}, "web", errors.New("raced"))
			})
			left := tr.replay()
			if conflict := len(left) == 1 && errors.Is(left[0].Err, injectors.ErrConflict); conflict != raced.conflict {
				t.Errorf("left over: %v", left)
			}
			want := map[bool]string{false: `"replicas":3`, true: `"replicas":9`}[raced.conflict]
			if !strings.Contains(tr.now(), want) {
				t.Errorf("%s\nlacks %s", tr.now(), want)
			}
		})
	}
}

// The patch itself refuses an object that is not the one that was read.
func TestPutBackIsGuarded(t *testing.T) {
	tr := newTrial(t)
	if err := tr.brk(map[string]any{"/spec/replicas": 1}); err != nil {
		t.Fatal(err)
	}
	if left := tr.replay(); len(left) > 0 {
		t.Fatal(left)
	}
	patches := 0
	for _, a := range tr.api.Actions() {
		p, ok := a.(clienttest.PatchActionImpl)
		if !ok {
			continue
		}
		patches++
		for _, want := range []string{
			`{"op":"test","path":"/metadata/uid","value":"uid-web"}`,
			`{"op":"test","path":"/metadata/resourceVersion"`,
			`{"op":"test","path":"/spec/replicas"`,
		} {
			if !strings.Contains(string(p.Patch), want) {
				t.Errorf("patch %s\nlacks %s", p.Patch, want)
			}
		}
	}
	if patches != 2 {
		t.Errorf("%d patches, want 2", patches)
	}
}

func TestPutBackOfNonsense(t *testing.T) {
	for _, params := range []string{"", "{", `{"a": 1}`, `"x"`} {
		s := injectors.Step{Kind: kind, Target: web, Params: json.RawMessage(params)}
		if err := PutBack(t.Context(), fake.NewClientset(deployment()).AppsV1().Deployments("shop"), s); err == nil {
			t.Errorf("%q: taken for changes", params)
		}
	}
}

func TestSame(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"", "null", false}, {"1", "1", true}, {"1", "2", false}, {`"1"`, "1", false},
		{`{"a":1,"b":[1,2]}`, `{ "b": [1, 2], "a": 1 }`, true}, {"[1,2]", "[2,1]", false},
		{"9007199254740993", "9007199254740992", false},
	} {
		if got := same(json.RawMessage(tt.a), json.RawMessage(tt.b)); got != tt.want {
			t.Errorf("same(%q, %q) = %v", tt.a, tt.b, got)
		}
	}
}
