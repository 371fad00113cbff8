package clusters

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The namespace controller waits 5 s before it begins with a namespace that is being deleted, so that API servers
// that have not heard of the deletion make nothing more in it. Our clusters' API servers have heard by the time of
// the answer, so a reset does the controller's work itself: it deletes what the namespace holds, and, once nothing is
// left, takes the controller's finalizer off. Where something stays, the controller finds it and goes on as usual.

// emptied deletes what a terminating namespace holds, and says whether nothing was left.
func (s source) emptied(ctx context.Context, space string, kinds []resource) (bool, error) {
	var mu sync.Mutex
	empty := true
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLists)
	for _, kind := range kinds {
		group.Go(func() error {
			in := s.metadata.Resource(kind.GroupVersionResource).Namespace(space)
			list, err := in.List(ctx, metav1.ListOptions{})
			if gone(err) || err == nil && len(list.Items) == 0 {
				return nil
			}
			if err != nil {
				return fmt.Errorf("list %s of namespace %s: %w", kind, space, err)
			}
			mu.Lock()
			empty = false
			mu.Unlock()
			if kind.GroupVersionResource == podResource {
				return nil // endPods has told them; asking again would cut their grace short
			}
			policy := metav1.DeletePropagationBackground
			err = in.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &policy}, metav1.ListOptions{})
			if err != nil && !gone(err) {
				return fmt.Errorf("delete %s of namespace %s: %w", kind, space, err)
			}
			return nil
		})
	}
	return empty, group.Wait()
}

// finalize lets an empty namespace go. It touches none that is not being deleted.
func (s source) finalize(ctx context.Context, space string) error {
	namespaces := s.api.CoreV1().Namespaces()
	namespace, err := namespaces.Get(ctx, space, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", space, err)
	}
	if namespace.DeletionTimestamp == nil {
		return nil
	}
	namespace.Spec.Finalizers = slices.DeleteFunc(namespace.Spec.Finalizers, func(f corev1.FinalizerName) bool {
		return f == corev1.FinalizerKubernetes
	})
	_, err = namespaces.Finalize(ctx, namespace, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // a conflict: the controller was first
		return fmt.Errorf("finalize namespace %s: %w", space, err)
	}
	return nil
}

// contained keeps the kinds that live in namespaces and can be deleted there all at once.
func contained(kinds []resource) []resource {
	return slices.DeleteFunc(slices.Clone(kinds), func(kind resource) bool {
		return !kind.namespaced || !slices.Contains(kind.verbs, "deletecollection")
	})
}
