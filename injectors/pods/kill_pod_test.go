package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttest "k8s.io/client-go/testing"

	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/injectortest"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// world is a fake API, and nodes whose container runtimes answer as told.
type world struct {
	api   *fake.Clientset
	nodes map[string]injectors.Node
}

func (w world) API() kubernetes.Interface { return w.api }

func (w world) Node(name string) (injectors.Node, error) {
	if n, ok := w.nodes[name]; ok {
		return n, nil
	}
	return nil, errors.New("no node access: " + name)
}

// runtimeOf is a node that prints what tasks returns.
type runtimeOf func() (string, error)

func (runtimeOf) Name() string { return "n1" }

func (r runtimeOf) Exec(_ context.Context, argv ...string) ([]byte, error) {
	if got := strings.Join(argv, " "); got != "ctr --namespace k8s.io tasks list" {
		return nil, fmt.Errorf("unknown command: %s", got)
	}
	rows, err := r()
	return []byte("TASK    PID    STATUS    \n" + rows), err
}

// pod belongs to a ReplicaSet.
func pod(name string, uid types.UID, change ...func(*corev1.Pod)) *corev1.Pod {
	yes := true
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: uid,
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "rs", Controller: &yes}},
	}}
	for _, c := range change {
		c(p)
	}
	return p
}

func bare(p *corev1.Pod) { p.OwnerReferences = nil }
func mirror(p *corev1.Pod) {
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
}
func ending(p *corev1.Pod)    { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
func finalizer(p *corev1.Pod) { p.Finalizers = []string{"rebound.dev/test"} }
func running(p *corev1.Pod) {
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
}

func target(names ...string) injectors.Target {
	var t injectors.Target
	for _, n := range names {
		t.Objects = append(t.Objects, injectors.Object{Kind: "Pod", Namespace: "shop", Name: n, UID: "uid-" + n})
	}
	return t
}

func newWorld(pods ...runtime.Object) world {
	w := world{api: fake.NewClientset(pods...)}
	new(injectortest.Tap).Clientset(w.api)
	return w
}

// uids of the pods that are there.
func uids(ctx context.Context, w injectors.World, _ injectors.Target) (string, error) {
	list, err := w.API().CoreV1().Pods("shop").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var out []string
	for _, p := range list.Items {
		out = append(out, p.Name+"="+string(p.UID))
	}
	return strings.Join(out, " "), nil
}

func TestKillPodConforms(t *testing.T) {
	remove := func(ctx context.Context, w injectors.World, t injectors.Target) error {
		for _, o := range t.Objects {
			if err := w.API().CoreV1().Pods(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{}); err != nil {
				return err
			}
		}
		return nil
	}
	injectortest.Run(t, killPod(), injectortest.Fixture{
		World: func(_ *testing.T, tap *injectortest.Tap) (injectors.World, injectors.Target) {
			w := world{api: fake.NewClientset(pod("a", "uid-a"), pod("b", "uid-b"), pod("other", "uid-other"))}
			tap.Clientset(w.api)
			return w, target("a", "b")
		},
		Params:  `{"grace": "0s"}`,
		Refused: []string{`{"grace": 0}`, `{"grace": "-1s"}`, `{"grace": "1500ms"}`, `{"grace": "1"}`, `{"bare": "yes"}`},
		State:   uids,
		Remove:  remove,
		Recreate: func(ctx context.Context, w injectors.World, t injectors.Target) error {
			if err := remove(ctx, w, t); err != nil {
				return err
			}
			for _, o := range t.Objects {
				p := pod(o.Name, types.UID(o.UID+"-new"))
				if _, err := w.API().CoreV1().Pods("shop").Create(ctx, p, metav1.CreateOptions{}); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func TestFaultsCanBeRegistered(t *testing.T) {
	r, err := injectors.NewRegistry(Faults()...)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.Names(), " "); got != "kill-pod" {
		t.Errorf("registered %q", got)
	}
}

func TestKillPodSendsGraceAndUID(t *testing.T) {
	for text, want := range map[string]int64{`{}`: 0, `{"grace": "0s"}`: 0, `{"grace": "1m30s"}`: 90} {
		w := newWorld(pod("a", "uid-a"))
		k := &KillPod{}
		if err := json.Unmarshal([]byte(text), k); err != nil {
			t.Fatal(err)
		}
		if err := k.Inject(t.Context(), w, target("a"), nil); err != nil {
			t.Fatal(err)
		}
		sent := 0
		for _, a := range w.api.Actions() {
			del, ok := a.(clienttest.DeleteActionImpl)
			if !ok {
				continue
			}
			sent++
			o := del.DeleteOptions
			if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds != want {
				t.Errorf("%s: sent grace %v, want %d", text, o.GracePeriodSeconds, want)
			}
			if o.Preconditions == nil || o.Preconditions.UID == nil || *o.Preconditions.UID != "uid-a" {
				t.Errorf("%s: sent preconditions %+v", text, o.Preconditions)
			}
		}
		if sent != 1 {
			t.Errorf("%s: %d deletions", text, sent)
		}
	}
}

func TestKillPodRefuses(t *testing.T) {
	tests := []struct {
		name   string
		pods   []runtime.Object
		target injectors.Target
		want   error
	}{
		{"gone", nil, target("a"), injectors.ErrTargetGone},
		{"another of that name", []runtime.Object{pod("a", "new")}, target("a"), injectors.ErrTargetGone},
		{"on its way already", []runtime.Object{pod("a", "uid-a", ending, finalizer)}, target("a"), injectors.ErrTargetGone},
		{"bare", []runtime.Object{pod("a", "uid-a", bare)}, target("a"), ErrBare},
		{"static", []runtime.Object{pod("a", "uid-a", mirror)}, target("a"), ErrStatic},
		{"one of two is bare", []runtime.Object{pod("a", "uid-a"), pod("b", "uid-b", bare)}, target("a", "b"), ErrBare},
		{"nothing", []runtime.Object{pod("a", "uid-a")}, target(), errAny},
		{"no pod", nil, injectors.Target{Objects: []injectors.Object{{Kind: "Node", Name: "n", UID: "u"}}}, errAny},
		{"not bound", []runtime.Object{pod("a", "uid-a")}, injectors.Target{Objects: []injectors.Object{
			{Kind: "Pod", Namespace: "shop", Name: "a"},
		}}, errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.pods...)
			err := (&KillPod{}).Inject(t.Context(), w, tt.target, nil)
			if err == nil || tt.want != errAny && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			for _, a := range w.api.Actions() {
				if a.GetVerb() == "delete" {
					t.Error("it deleted something all the same")
				}
			}
		})
	}
}

var errAny = errors.New("any error")

func TestKillPodTakesBareOnesWhenTold(t *testing.T) {
	w := newWorld(pod("a", "uid-a", bare))
	if err := (&KillPod{Bare: true}).Inject(t.Context(), w, target("a"), nil); err != nil {
		t.Error(err)
	}
	w = newWorld(pod("a", "uid-a", bare, mirror))
	if err := (&KillPod{Bare: true}).Inject(t.Context(), w, target("a"), nil); !errors.Is(err, ErrStatic) {
		t.Errorf("a static pod: %v", err)
	}
}

// The pod is replaced between the check and the deletion: only the precondition can tell.
func TestKillPodHonoursTheUIDWhenItDeletes(t *testing.T) {
	w := newWorld(pod("a", "uid-new"))
	err := (&KillPod{}).kill(t.Context(), w, target("a").Objects[0])
	if !errors.Is(err, injectors.ErrTargetGone) {
		t.Errorf("got %v", err)
	}
	if state, _ := uids(t.Context(), w, injectors.Target{}); state != "a=uid-new" {
		t.Errorf("what is there: %q", state)
	}
}

func TestKillPodNamesEveryFailure(t *testing.T) {
	w := newWorld(pod("a", "uid-a"), pod("b", "uid-b"), pod("c", "uid-c"))
	w.api.PrependReactor("delete", "pods", func(a clienttest.Action) (bool, runtime.Object, error) {
		name := a.(clienttest.DeleteAction).GetName()
		return name != "b", nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, name, nil)
	})
	err := (&KillPod{}).Inject(t.Context(), w, target("a", "b", "c"), nil)
	if err == nil || !strings.Contains(err.Error(), "shop/a") || !strings.Contains(err.Error(), "shop/c") {
		t.Errorf("got %v", err)
	}
	if state, _ := uids(t.Context(), w, injectors.Target{}); state != "a=uid-a c=uid-c" {
		t.Errorf("what is there: %q", state)
	}
}

func TestKillPodIsEffective(t *testing.T) {
	const id = "0123456789abcdef"
	tests := []struct {
		name  string
		pods  []runtime.Object
		tasks string // what runs on the node; "" means that the node can't be entered
		err   error
		want  string // part of the error; "" means effective
	}{
		{name: "still there", pods: []runtime.Object{pod("a", "uid-a", running)}, want: "is not being deleted"},
		{
			name: "ending, still running", pods: []runtime.Object{pod("a", "uid-a", running, ending, finalizer)},
			want: "container web",
		},
		{name: "ending, stopped", pods: []runtime.Object{pod("a", "uid-a", ending, finalizer)}},
		{name: "gone"},
		{name: "replaced under its name", pods: []runtime.Object{pod("a", "uid-new", running)}},
		{name: "gone, its container runs on", tasks: id + " 42 RUNNING\n", want: "is running on node n1"},
		{name: "gone, its container is paused", tasks: id + " 42 PAUSED\n", want: "is paused on node n1"},
		{name: "gone, its container has stopped", tasks: id + " 42 STOPPED\n"},
		{name: "gone, others run", tasks: "fedcba 42 RUNNING\n"},
		{name: "gone, nobody can say what runs", tasks: "x", err: errors.New("exit status 1"), want: "exit status 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(tt.pods...)
				if tt.tasks != "" {
					w.nodes = map[string]injectors.Node{"n1": runtimeOf(func() (string, error) { return tt.tasks, tt.err })}
				}
				bound := target("a")
				bound.Objects[0].Node = "n1"
				bound.Objects[0].Containers = []string{"containerd://" + id}
				start := time.Now()
				err := (&KillPod{Grace: values.Duration(5 * time.Second)}).Effective(t.Context(), w, bound)
				took := time.Since(start)
				if tt.want == "" && (err != nil || took > 0) {
					t.Errorf("after %v: %v", took, err)
				}
				if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || took != proofLimit+5*time.Second) {
					t.Errorf("after %v: %v, want %q", took, err, tt.want)
				}
			})
		})
	}
}

// With no grace the object goes first, and its container a while later: only then has the fault bitten.
func TestKillPodWaitsForTheContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := newWorld(pod("a", "uid-a", running))
		w.nodes = map[string]injectors.Node{"n1": runtimeOf(func() (string, error) {
			if time.Since(start) < 1700*time.Millisecond {
				return "abc 42 RUNNING\n", nil
			}
			return "", nil
		})}
		bound := target("a")
		bound.Objects[0].Node, bound.Objects[0].Containers = "n1", []string{"containerd://abc"}
		k := &KillPod{}
		if err := k.Inject(t.Context(), w, bound, nil); err != nil {
			t.Fatal(err)
		}
		if err := k.Effective(t.Context(), w, bound); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 1700*time.Millisecond || took > 1700*time.Millisecond+lookEvery {
			t.Errorf("effective after %v", took)
		}
	})
}
