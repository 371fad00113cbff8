package kindcluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/rebound-chaos/rebound/clusters"
)

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func readyNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: meta("", name), Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
}

func daemon(name string, ready int32) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: meta("kube-system", name), Status: appsv1.DaemonSetStatus{NumberReady: ready}}
}

// usable lists the objects of a cluster of two nodes that is usable.
func usable() map[string]runtime.Object {
	two := int32(2)
	return map[string]runtime.Object{
		"one": readyNode("one"), "two": readyNode("two"),
		"proxy": daemon("kube-proxy", 2), "network": daemon("network", 2),
		"dns": &appsv1.Deployment{ObjectMeta: meta("kube-system", "coredns"), Spec: appsv1.DeploymentSpec{Replicas: &two},
			Status: appsv1.DeploymentStatus{ReadyReplicas: 2}},
		"account": &corev1.ServiceAccount{ObjectMeta: meta("default", "default")},
	}
}

func clientset(objects map[string]runtime.Object) *fake.Clientset {
	var list []runtime.Object
	for _, object := range objects {
		list = append(list, object)
	}
	return fake.NewClientset(list...)
}

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(map[string]runtime.Object)
		want   string
	}{
		"usable":         {func(map[string]runtime.Object) {}, ""},
		"a node too few": {func(o map[string]runtime.Object) { delete(o, "two") }, "1 of 2 nodes have registered"},
		"a node not ready": {func(o map[string]runtime.Object) {
			o["two"].(*corev1.Node).Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady,
				Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "no network"}
		}, "node two is not ready (KubeletNotReady: no network)"},
		"a silent node": {func(o map[string]runtime.Object) { o["two"].(*corev1.Node).Status.Conditions = nil },
			"node two has not reported yet"},
		"still tainted": {func(o map[string]runtime.Object) {
			o["two"].(*corev1.Node).Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady}}
		}, "node two still has the taint node.kubernetes.io/not-ready"},
		"no proxy": {func(o map[string]runtime.Object) { delete(o, "proxy") }, "daemon set kube-proxy is not there"},
		"no network": {func(o map[string]runtime.Object) { delete(o, "network") },
			"the network's daemon set is not there"},
		"network half up": {func(o map[string]runtime.Object) { o["network"] = daemon("network", 1) },
			"daemon set network is ready on 1 of 2 nodes"},
		"no DNS": {func(o map[string]runtime.Object) { delete(o, "dns") }, "coredns is not there"},
		"half of DNS": {func(o map[string]runtime.Object) { o["dns"].(*appsv1.Deployment).Status.ReadyReplicas = 1 },
			"coredns has 1 ready pods"},
		"no account": {func(o map[string]runtime.Object) { delete(o, "account") },
			"the default service account is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				objects := usable()
				c.change(objects)
				started := time.Now()
				err := readiness{api: clientset(objects), nodes: 2}.wait(t.Context(), 10*time.Second)
				took := time.Since(started)
				if c.want == "" {
					if err != nil || took != 0 {
						t.Errorf("wait = %v after %v", err, took)
					}
					return
				}
				if !errors.Is(err, clusters.ErrNotReady) || !strings.HasSuffix(err.Error(), "after 10s: "+c.want) ||
					took != 10*time.Second {
					t.Errorf("wait = %v after %v, want %q", err, took, c.want)
				}
			})
		})
	}
}

func TestReadinessFollowsTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		objects := usable()
		late := objects["two"].(*corev1.Node)
		delete(objects, "two")
		api := clientset(objects)
		time.AfterFunc(3*time.Second, func() {
			if _, err := api.CoreV1().Nodes().Create(t.Context(), late, metav1.CreateOptions{}); err != nil {
				t.Error(err)
			}
		})
		labels := map[string]map[string]string{"two": {"node-role.kubernetes.io/edge": ""}}
		started := time.Now()
		if err := (readiness{api: api, nodes: 2, labels: labels}).wait(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < 3*time.Second || took > 3*time.Second+readyInterval {
			t.Errorf("noticed after %v, want within %v of 3s", took, readyInterval)
		}
		node, err := api.CoreV1().Nodes().Get(t.Context(), "two", metav1.GetOptions{})
		if err != nil || !contains(node.Labels, labels["two"]) {
			t.Errorf("labels %v, %v", node.Labels, err)
		}
	})
}

func TestReadinessEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := clientset(nil)
		refused := errors.New("connection refused")
		api.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil,
				refused
		})
		err := readiness{api: api, nodes: 1}.wait(t.Context(), time.Second)
		if !errors.Is(err, clusters.ErrNotReady) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("no answer: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := (readiness{api: api, nodes: 1}).wait(ctx, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
