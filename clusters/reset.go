package clusters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/retry"
)

const (
	// resetLimit bounds a whole reset.
	resetLimit = 60 * time.Second
	// settleLimit bounds the wait, once everything is deleted, for controllers to take back what is theirs (taints).
	settleLimit = 10 * time.Second
	// resetInterval is how often what is being deleted is looked for.
	resetInterval = 100 * time.Millisecond
	// forceAfter is when pods that should have ended (grace 1 s) are deleted without asking their kubelet, which may be
	// dead.
	forceAfter = 3 * time.Second
)

// Reset brings the cluster back to the fingerprint that was taken when it was made: it deletes every object that
// carries LabelManaged (but the nodes), takes foreign labels, taints and cordons off the nodes, and our tables, files
// and processes out of them. Then it compares. ErrNotAsBefore, with every difference, means that the cluster must be
// made anew.
func Reset(ctx context.Context, c *Cluster) error {
	before, err := LoadFingerprint(c)
	if err != nil {
		return err
	}
	from, err := newSource(c)
	if err != nil {
		return err
	}
	if err := from.reset(ctx, before); err != nil {
		return fmt.Errorf("reset cluster %q: %w", c.Name, err)
	}
	return nil
}

func (s source) reset(ctx context.Context, before Fingerprint) error {
	ctx, cancel := context.WithTimeout(ctx, resetLimit)
	defer cancel()
	// Inside the nodes files are removed last: pods that write there must have ended.
	group, grouped := errgroup.WithContext(ctx)
	group.Go(func() error { return s.deleteManaged(grouped) })
	group.Go(func() error { return s.restoreNodes(grouped, before.Nodes) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.cleanMachines(ctx, before.Machines); err != nil {
		return err
	}
	return s.compare(ctx, before)
}

// compare waits a little for the cluster to be as before.
func (s source) compare(ctx context.Context, before Fingerprint) error {
	limited, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	ticker := time.NewTicker(resetInterval)
	defer ticker.Stop()
	var diff []string
	for {
		now, err := s.fingerprint(limited)
		if err == nil {
			if diff = before.Diff(now); len(diff) == 0 {
				return nil
			}
		}
		if err != nil && limited.Err() == nil {
			return err
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: %s", ErrNotAsBefore, strings.Join(diff, "; "))
		case <-ticker.C:
		}
	}
}

// leftover is one object to delete.
type leftover struct {
	resource
	namespace, name string
	uid             types.UID
}

func (l leftover) String() string { return objectKey(l.resource, l.namespace, l.name) }

func (l leftover) in(client metadata.Interface) metadata.ResourceInterface {
	if l.namespace == "" {
		return client.Resource(l.GroupVersionResource)
	}
	return client.Resource(l.GroupVersionResource).Namespace(l.namespace)
}

var (
	podResource       = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
)

// deleteManaged deletes all that carries our label and waits until it is gone.
func (s source) deleteManaged(ctx context.Context) error {
	kinds, _, err := s.resources(ctx)
	if err != nil {
		return err
	}
	found, err := s.managed(ctx, kinds)
	if err != nil {
		return err
	}
	var spaces []string
	for _, object := range found {
		if object.GroupVersionResource == namespaceResource {
			spaces = append(spaces, object.name)
		}
	}
	// A namespace takes its objects along; one that is going accepts no new pods, so that none follows those that end.
	found = slices.DeleteFunc(found, func(l leftover) bool { return slices.Contains(spaces, l.namespace) })
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(parallelLists)
	for _, object := range found {
		group.Go(func() error { return s.delete(grouped, object) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.endPods(ctx, spaces, 1); err != nil {
		return err
	}
	group, grouped = errgroup.WithContext(ctx)
	for _, space := range spaces {
		group.Go(func() error { return s.empty(grouped, space, contained(kinds)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.waitGone(ctx, found)
}

// managed lists what carries our label and can be deleted. Nodes carry it too, as part of the cluster.
func (s source) managed(ctx context.Context, resources []resource) ([]leftover, error) {
	var mu sync.Mutex
	var found []leftover
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLists)
	for _, kind := range resources {
		if kind.String() == "nodes" || !slices.Contains(kind.verbs, "delete") {
			continue
		}
		group.Go(func() error {
			list, err := s.metadata.Resource(kind.GroupVersionResource).List(ctx,
				metav1.ListOptions{LabelSelector: LabelManaged + "=true"})
			if gone(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("list %s: %w", kind, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, item := range list.Items {
				found = append(found, leftover{resource: kind, namespace: item.Namespace, name: item.Name, uid: item.UID})
			}
			return nil
		})
	}
	return found, group.Wait()
}

func (s source) delete(ctx context.Context, object leftover) error {
	grace, policy := int64(1), metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &object.uid}}
	if object.GroupVersionResource == podResource {
		options.GracePeriodSeconds = &grace
	}
	err := object.in(s.metadata).Delete(ctx, object.name, options)
	// A conflict here says that another object stands under that name by now, which is not the one that was found.
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("delete %s: %w", object, err)
}

// endPods has every pod of the namespaces end within grace seconds; 0 does not wait for its kubelet.
func (s source) endPods(ctx context.Context, spaces []string, grace int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLists)
	for _, space := range spaces {
		group.Go(func() error {
			err := s.metadata.Resource(podResource).Namespace(space).DeleteCollection(ctx,
				metav1.DeleteOptions{GracePeriodSeconds: &grace}, metav1.ListOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete pods of %s: %w", space, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// empty has a namespace's pods end and all else in it deleted, and lets it go once nothing is left.
func (s source) empty(ctx context.Context, space string, kinds []resource) error {
	ticker := time.NewTicker(resetInterval)
	defer ticker.Stop()
	force := time.NewTimer(forceAfter)
	defer force.Stop()
	for {
		empty, err := s.emptied(ctx, space, kinds)
		if err != nil {
			return err
		}
		if empty {
			return s.finalize(ctx, space)
		}
		select {
		case <-ctx.Done():
			return notGone(ctx, []leftover{{resource: resource{GroupVersionResource: namespaceResource}, name: space}})
		case <-force.C:
			if err := s.endPods(ctx, []string{space}, 0); err != nil {
				return err
			}
		case <-ticker.C:
		}
	}
}

func (s source) waitGone(ctx context.Context, found []leftover) error {
	ticker := time.NewTicker(resetInterval)
	defer ticker.Stop()
	for {
		left, err := s.remaining(ctx, found)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		found = left
		select {
		case <-ctx.Done():
			return notGone(ctx, left)
		case <-ticker.C:
		}
	}
}

// notGone tells a reset that took too long from one that was interrupted.
func notGone(ctx context.Context, left []leftover) error {
	if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	var names []string
	for _, object := range left {
		names = append(names, object.String())
	}
	return fmt.Errorf("%w: still there after %v: %s", ErrNotAsBefore, resetLimit, strings.Join(names, ", "))
}

func (s source) remaining(ctx context.Context, found []leftover) ([]leftover, error) {
	var left []leftover
	for _, object := range found {
		item, err := object.in(s.metadata).Get(ctx, object.name, metav1.GetOptions{})
		switch {
		case gone(err):
		case ctx.Err() != nil:
			return found, nil // whoever waits says what is still there
		case err != nil:
			return nil, fmt.Errorf("%s: %w", object, err)
		case item.UID == object.uid:
			left = append(left, object)
		}
	}
	return left, nil
}

// restoreNodes puts labels, taints and unschedulable back to what they were. Taints under node.kubernetes.io are the
// controllers' own, and follow from the node's state.
func (s source) restoreNodes(ctx context.Context, before map[string]NodePrint) error {
	group, ctx := errgroup.WithContext(ctx)
	for name, want := range before {
		group.Go(func() error {
			err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return s.restoreNode(ctx, name, want) })
			if apierrors.IsNotFound(err) {
				return nil // the comparison says so
			}
			return err
		})
	}
	return group.Wait()
}

func (s source) restoreNode(ctx context.Context, name string, want NodePrint) error {
	node, err := s.api.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	patch := nodePatch(node, want)
	if patch == nil {
		return nil
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	if _, err = s.api.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("restore node %s: %w", name, err)
	}
	return nil
}

// nodePatch is the merge patch that makes a node what it was; nil where it is. It carries the resourceVersion, so that
// no taint that a controller adds meanwhile is lost.
func nodePatch(node *corev1.Node, want NodePrint) map[string]any {
	labels := map[string]any{}
	for key, value := range want.Labels {
		if got, found := node.Labels[key]; !found || got != value {
			labels[key] = value
		}
	}
	for key := range node.Labels {
		if _, wanted := want.Labels[key]; !wanted {
			labels[key] = nil
		}
	}
	spec := map[string]any{}
	if node.Spec.Unschedulable != want.Unschedulable {
		spec["unschedulable"] = want.Unschedulable
	}
	kept := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(taint corev1.Taint) bool {
		return !strings.HasPrefix(taint.Key, "node.kubernetes.io/") && !slices.Contains(want.Taints, taint.ToString())
	})
	changed := len(kept) != len(node.Spec.Taints)
	for _, text := range want.Taints {
		if !slices.ContainsFunc(kept, func(taint corev1.Taint) bool { return taint.ToString() == text }) {
			kept, changed = append(kept, parseTaint(text)), true
		}
	}
	if changed {
		spec["taints"] = kept
	}
	if len(labels) == 0 && len(spec) == 0 {
		return nil
	}
	meta := map[string]any{"resourceVersion": node.ResourceVersion}
	if len(labels) > 0 {
		meta["labels"] = labels
	}
	return map[string]any{"metadata": meta, "spec": spec}
}

// parseTaint reads what Taint.ToString wrote: KEY=VALUE:EFFECT or KEY:EFFECT.
func parseTaint(text string) corev1.Taint {
	pair, effect, _ := strings.Cut(text, ":")
	key, value, _ := strings.Cut(pair, "=")
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
}

// cleanMachines takes our processes, tables and files out of every node, but what was there when the cluster was made:
// the cluster's own network may come from us too.
func (s source) cleanMachines(ctx context.Context, before map[string]MachinePrint) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range s.nodes {
		group.Go(func() error { return cleanMachine(ctx, node, before[node.Name()]) })
	}
	return group.Wait()
}

func cleanMachine(ctx context.Context, node Node, before MachinePrint) error {
	seen, err := lookInside(ctx, node)
	if err != nil {
		return err
	}
	var errs []error
	for _, argv := range seen.cleaning(before) {
		if _, err := node.Exec(ctx, argv...); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	// A process may have ended, or a table's timer run out, just before: what counts is whether anything is left.
	if seen, err = lookInside(ctx, node); err == nil && len(seen.cleaning(before)) == 0 {
		return nil
	}
	return errors.Join(errs...)
}
