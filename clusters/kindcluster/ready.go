package kindcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"

	"github.com/rebound-chaos/rebound/clusters"
)

// readyInterval is how often readiness is looked at. A look is four small lists.
const readyInterval = 150 * time.Millisecond

// lookLimit bounds one look: a new API server answers in milliseconds or is not yet there.
const lookLimit = 5 * time.Second

// readiness is what a usable cluster has. It looks at every node, unlike kind's own wait.
type readiness struct {
	api    kubernetes.Interface
	nodes  int                          // how many there must be
	labels map[string]map[string]string // by node: what is put on it through the API as soon as it registers
}

// wait returns once the cluster is usable, or ErrNotReady, which names what is missing, at the limit.
func (r readiness) wait(ctx context.Context, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	missing := []string{"an answer of the API server"}
	for {
		found, err := r.look(limited)
		switch {
		case err == nil && len(found) == 0:
			return nil
		case err == nil:
			missing = found
		case limited.Err() == nil:
			missing = []string{err.Error()}
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w after %v: %s", clusters.ErrNotReady, limit, strings.Join(missing, "; "))
		case <-ticker.C:
		}
	}
}

// look lists what is missing at this moment.
func (r readiness) look(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	nodes, err := r.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	missing, err := r.missingOnNodes(ctx, nodes.Items)
	if err != nil {
		return nil, err
	}
	sets, err := r.api.AppsV1().DaemonSets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("daemon sets: %w", err)
	}
	proxy, network := false, false
	for _, set := range sets.Items {
		isProxy := set.Name == "kube-proxy"
		proxy, network = proxy || isProxy, network || !isProxy
		if ready := int(set.Status.NumberReady); ready < r.nodes || set.Status.ObservedGeneration < set.Generation {
			missing = append(missing, fmt.Sprintf("daemon set %s is ready on %d of %d nodes", set.Name, ready, r.nodes))
		}
	}
	if !proxy {
		missing = append(missing, "daemon set kube-proxy is not there")
	}
	if !network {
		missing = append(missing, "the network's daemon set is not there")
	}
	rest, err := r.missingBeside(ctx)
	return append(missing, rest...), err
}

// missingOnNodes also puts the labels on that kubelets may not set themselves.
func (r readiness) missingOnNodes(ctx context.Context, nodes []corev1.Node) ([]string, error) {
	var missing []string
	if len(nodes) < r.nodes {
		missing = append(missing, fmt.Sprintf("%d of %d nodes have registered", len(nodes), r.nodes))
	}
	for _, node := range nodes {
		if problem := nodeProblem(node); problem != "" {
			missing = append(missing, fmt.Sprintf("node %s %s", node.Name, problem))
		}
		if want := r.labels[node.Name]; !contains(node.Labels, want) {
			if err := putLabels(ctx, r.api, node.Name, want); err != nil {
				return nil, err
			}
		}
	}
	return missing, nil
}

func nodeProblem(node corev1.Node) string {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
			return fmt.Sprintf("is not ready (%s: %s)", condition.Reason, condition.Message)
		}
	}
	// Nothing is scheduled until the taint is taken away too, a moment after the node is ready.
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady || taint.Key == corev1.TaintNodeUnreachable {
			return "still has the taint " + taint.Key
		}
	}
	if len(node.Status.Conditions) == 0 {
		return "has not reported yet"
	}
	return ""
}

// missingBeside looks at what is not on every node.
func (r readiness) missingBeside(ctx context.Context) ([]string, error) {
	var missing []string
	dns, err := r.api.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		missing = append(missing, "coredns is not there")
	case err != nil:
		return nil, fmt.Errorf("coredns: %w", err)
	case dns.Spec.Replicas == nil || dns.Status.ReadyReplicas < *dns.Spec.Replicas:
		missing = append(missing, fmt.Sprintf("coredns has %d ready pods", dns.Status.ReadyReplicas))
	}
	_, err = r.api.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		missing = append(missing, "the default service account is not there")
	case err != nil:
		return nil, fmt.Errorf("default service account: %w", err)
	}
	return missing, nil
}

func contains(have, want map[string]string) bool {
	for key, value := range want {
		if got, found := have[key]; !found || got != value {
			return false
		}
	}
	return true
}

func putLabels(ctx context.Context, api kubernetes.Interface, node string, labels map[string]string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return fmt.Errorf("labels of node %s: %w", node, err)
	}
	_, err = api.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		keys := slices.Sorted(maps.Keys(labels))
		return fmt.Errorf("labels %s of node %s: %w", strings.Join(keys, ", "), node, err)
	}
	return nil
}

// answers asks an API server for its version, within lookLimit; where it does not say, that is ErrUnreachable.
func answers(ctx context.Context, api kubernetes.Interface) (version string, err error) {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	info, err := discovery.ToDiscoveryInterfaceWithContext(api.Discovery()).ServerVersionWithContext(limited)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%w: the API server gave no version: %w", clusters.ErrUnreachable, err)
	}
	return info.GitVersion, nil
}
