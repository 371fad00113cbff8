package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/scenarios"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

func pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name),
			Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			ContainerStatuses: []corev1.ContainerStatus{{ContainerID: "containerd://" + name}}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func newBinder(pods ...*corev1.Pod) *binder {
	client := fake.NewClientset()
	for _, p := range pods {
		if err := client.Tracker().Add(p); err != nil {
			panic(err)
		}
	}
	return &binder{kube: &kube{api: client}, namespaces: map[string]string{"shop": "ns"}, seed: 7, capShare: 1,
		rules: map[string]scenarios.Rule{}, bound: map[string][]injectors.Object{}}
}

func webPods(take values.Take) scenarios.Rule {
	return scenarios.Rule{Pods: &values.Selector{Labels: map[string]string{"app": "web"}}, Take: &take}
}

func names(objects []injectors.Object) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.Name)
	}
	return out
}

func TestBindTakesWhatTheRuleSays(t *testing.T) {
	all := []*corev1.Pod{pod("a", nil), pod("b", nil), pod("c", nil), pod("d", nil), pod("e", nil)}
	for name, test := range map[string]struct {
		take values.Take
		want int
		err  error
	}{
		"a number":            {values.Take{Count: 2}, 2, nil},
		"all":                 {values.Take{All: true}, 5, nil},
		"a share, rounded up": {values.Take{Percent: 0.5}, 3, nil},
		"more than there are": {values.Take{Count: 6}, 0, ErrNoTarget},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newBinder(all...).bind(t.Context(), "kill", &scenarios.Target{Rule: webPods(test.take)})
			if !errors.Is(err, test.err) || len(got) != test.want {
				t.Fatalf("bind: %d objects, %v; want %d, %v", len(got), err, test.want, test.err)
			}
			for _, o := range got {
				if o.UID != "uid-"+o.Name || o.Node != "node-1" || !slices.Equal(o.Containers, []string{"containerd://" + o.Name}) {
					t.Errorf("%+v is not bound to its UID, node and containers", o)
				}
			}
		})
	}
}

func TestBindIsRepeatableForOneSeed(t *testing.T) {
	all := []*corev1.Pod{pod("a", nil), pod("b", nil), pod("c", nil), pod("d", nil), pod("e", nil)}
	chosen := map[string]bool{}
	for seed := range int64(20) {
		pick := func() []string {
			b := newBinder(all...)
			b.seed = seed
			got, err := b.bind(context.Background(), "kill", &scenarios.Target{Rule: webPods(values.Take{Count: 1})})
			if err != nil {
				t.Fatal(err)
			}
			return names(got)
		}
		first := pick()
		if again := pick(); !slices.Equal(first, again) {
			t.Errorf("seed %d takes %v, then %v", seed, first, again)
		}
		chosen[first[0]] = true
	}
	if len(chosen) < 3 {
		t.Errorf("20 seeds take only %v: the choice is not random", chosen)
	}
}

func TestBindLeavesOutWhatIsOnItsWayOut(t *testing.T) {
	b := newBinder(pod("a", nil),
		pod("leaving", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{}; p.Finalizers = []string{"x"} }),
		pod("failed", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		pod("other", func(p *corev1.Pod) { p.Labels["app"] = "db" }),
		pod("elsewhere", func(p *corev1.Pod) { p.Namespace = "other" }))
	got, err := b.bind(t.Context(), "kill", &scenarios.Target{Rule: webPods(values.Take{All: true})})
	if err != nil || !slices.Equal(names(got), []string{"a"}) {
		t.Fatalf("bind: %v, %v; want just a", names(got), err)
	}
}

func TestBindKeepsTheCap(t *testing.T) {
	var all []*corev1.Pod
	for i := range 4 {
		all = append(all, pod(fmt.Sprint("p", i), nil))
	}
	b := newBinder(all...)
	b.capShare = 0.5
	if _, err := b.bind(t.Context(), "ok", &scenarios.Target{Rule: webPods(values.Take{Count: 2})}); err != nil {
		t.Errorf("two of four under a cap of one half: %v", err)
	}
	if _, err := b.bind(t.Context(), "more", &scenarios.Target{Rule: webPods(values.Take{Count: 3})}); !errors.Is(err, ErrNoTarget) {
		t.Errorf("three of four under a cap of one half: %v, want ErrNoTarget", err)
	}
}

func TestBindSameAsAndExcept(t *testing.T) {
	b := newBinder(pod("a", nil), pod("b", nil))
	b.rules["first"] = scenarios.Rule{Pods: &values.Selector{Names: []string{"a"}}, Take: &values.Take{All: true}}
	rest := scenarios.Rule{Pods: &values.Selector{Labels: map[string]string{"app": "web"}, Except: "first"},
		Take: &values.Take{All: true}}
	if _, err := b.bind(t.Context(), "early", &scenarios.Target{SameAs: "cut"}); !errors.Is(err, ErrNoTarget) {
		t.Errorf("same-as a step that has not started: %v, want ErrNoTarget", err)
	}
	got, err := b.bind(t.Context(), "cut", &scenarios.Target{Rule: rest})
	if err != nil || !slices.Equal(names(got), []string{"b"}) {
		t.Fatalf("except: %v, %v; want b", names(got), err)
	}
	again, err := b.bind(t.Context(), "heal", &scenarios.Target{SameAs: "cut"})
	if err != nil || !slices.Equal(names(again), []string{"b"}) {
		t.Fatalf("same-as: %v, %v; want b", names(again), err)
	}
}
