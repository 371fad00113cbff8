package recorder

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ourLabels mark what Rebound made, and for which run; they are those of the clusters package, which this one does not
// import.
func ourLabels(run string) map[string]string {
	return map[string]string{"rebound.dev/managed": "true", "rebound.dev/run": run}
}

// ensureNamespace makes the recorder's namespace where it is not there. Its pods mount a folder of their node, so it
// asks for the privileged pod security level.
func (r *Recorder) ensureNamespace(ctx context.Context) error {
	labels := ourLabels(r.opts.Run)
	labels["pod-security.kubernetes.io/enforce"] = "privileged"
	_, err := r.client.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: r.opts.Namespace, Labels: labels},
	}, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case err != nil:
		return fmt.Errorf("make namespace %s: %w", r.opts.Namespace, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ownsNS = true
	return nil
}

// removeObjects removes the heartbeat, and the namespace where it is ours; what is gone already is fine.
func (r *Recorder) removeObjects(ctx context.Context) error {
	r.mu.Lock()
	owns := r.ownsNS
	r.mu.Unlock()
	ignoreGone := func(err error) error {
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // gone, or being removed already
		}
		return err
	}
	core := r.client.api.CoreV1()
	var errs []error
	if r.opts.Heartbeat > 0 && !owns {
		err := core.ConfigMaps(r.opts.Namespace).Delete(ctx, r.beats.name, metav1.DeleteOptions{})
		if err = ignoreGone(err); err != nil {
			errs = append(errs, fmt.Errorf("remove heartbeat: %w", err))
		}
	}
	if owns {
		if err := ignoreGone(core.Namespaces().Delete(ctx, r.opts.Namespace, metav1.DeleteOptions{})); err != nil {
			errs = append(errs, fmt.Errorf("remove namespace %s: %w", r.opts.Namespace, err))
		}
	}
	return errors.Join(errs...)
}
