package clusters

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
)

// stuck returns a dirty cluster whose pods and namespace never go, and its fingerprint from before.
func stuck(t *testing.T) (*fakeCluster, Fingerprint) {
	before := take(t, newFakeCluster(t, asMade, &fakeMachine{name: "worker"}))
	f := newFakeCluster(t, leftBehind, &fakeMachine{name: "worker"})
	ignored := func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, nil }
	f.metadata.(*metadatafake.FakeMetadataClient).PrependReactor("delete", "namespaces", ignored)
	f.metadata.(*metadatafake.FakeMetadataClient).PrependReactor("delete-collection", "pods", ignored)
	return f, before
}

func TestResetGivesUpOnWhatNeverGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, before := stuck(t)
		started := time.Now()
		err := f.reset(t.Context(), before)
		if !errors.Is(err, ErrNotAsBefore) || !strings.Contains(err.Error(), "namespaces ours") {
			t.Errorf("reset = %v", err)
		}
		if took := time.Since(started); took != resetLimit {
			t.Errorf("gave up after %v, want %v", took, resetLimit)
		}
		asked := 0 // the fake keeps no grace periods
		for _, action := range f.metadata.(*metadatafake.FakeMetadataClient).Actions() {
			if action.Matches("delete-collection", "pods") && action.GetNamespace() == "ours" {
				asked++
			}
		}
		if asked != 2 {
			t.Errorf("pods were asked to end %d times, want 2: kindly, and then by force", asked)
		}
	})
}

func TestResetIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, before := stuck(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		if err := f.reset(ctx, before); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotAsBefore) {
			t.Errorf("reset = %v", err)
		}
	})
}

func TestNodePatch(t *testing.T) {
	node := func(change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "5", Labels: map[string]string{"zone": "a"}},
			Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "own", Value: "x", Effect: "NoSchedule"}}}}
		change(n)
		return n
	}
	want := NodePrint{Labels: map[string]string{"zone": "a"}, Taints: []string{"own=x:NoSchedule"}}
	own := corev1.Taint{Key: "own", Value: "x", Effect: "NoSchedule"}
	lost := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: "NoExecute"}
	meta := func(labels map[string]any) map[string]any {
		m := map[string]any{"resourceVersion": "5"}
		if labels != nil {
			m["labels"] = labels
		}
		return m
	}
	for name, c := range map[string]struct {
		node *corev1.Node
		want map[string]any
	}{
		"as before":                {node(func(*corev1.Node) {}), nil},
		"controllers' taints stay": {node(func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, lost) }), nil},
		"foreign taint": {node(func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "left", Effect: "NoExecute"}, lost)
		}), map[string]any{"metadata": meta(nil), "spec": map[string]any{"taints": []corev1.Taint{own, lost}}}},
		"lost taint": {node(func(n *corev1.Node) { n.Spec.Taints = nil }),
			map[string]any{"metadata": meta(nil), "spec": map[string]any{"taints": []corev1.Taint{own}}}},
		"labels": {node(func(n *corev1.Node) { n.Labels = map[string]string{"zone": "b", "left": "over"} }),
			map[string]any{"metadata": meta(map[string]any{"zone": "a", "left": nil}), "spec": map[string]any{}}},
		"cordon": {node(func(n *corev1.Node) { n.Spec.Unschedulable = true }),
			map[string]any{"metadata": meta(nil), "spec": map[string]any{"unschedulable": false}}},
	} {
		if diff := cmp.Diff(c.want, nodePatch(c.node, want)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
