package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// KillPod deletes pods, as losing them would. No undo is owed: their controllers bring successors.
type KillPod struct {
	// Grace is how long a pod's processes may take to end, in whole seconds. 0s takes the object away at once, and the
	// kubelet then ends the containers as fast as it can.
	Grace values.Duration `json:"grace,omitempty" jsonschema:"how long the processes may take to end, in whole seconds; 0s kills at once"`
	// Bare allows pods without a controller: nothing brings those back, not even Rebound.
	Bare bool `json:"bare,omitempty" jsonschema:"also pods without a controller, which nothing brings back"`
}

func killPod() injectors.Fault {
	return injectors.Fault{
		Name:    "kill-pod",
		Doc:     "Deletes pods; their controllers replace them.",
		New:     func() injectors.Injector { return &KillPod{} },
		Needs:   []injectors.Need{injectors.NeedAPI},
		Targets: []injectors.TargetKind{injectors.TargetPods},
		Changes: "deletes the pod",
		Undoes:  "nothing to take back: its controller makes a new one",
	}
}

// Validate refuses what the API can't express.
func (k *KillPod) Validate() error {
	grace := time.Duration(k.Grace)
	if grace < 0 || grace%time.Second != 0 {
		return fmt.Errorf("grace: %v is not a whole number of seconds, 0s or more", grace)
	}
	return nil
}

// Inject deletes every target, all at once. Nothing is deleted where one of them is gone (ErrTargetGone), bare or
// static.
func (k *KillPod) Inject(ctx context.Context, w injectors.World, t injectors.Target, _ *injectors.Undo) error {
	if len(t.Objects) == 0 {
		return errors.New("kill-pod has no target")
	}
	if err := each(t.Objects, func(o injectors.Object) error { return k.check(ctx, w, o) }); err != nil {
		return err
	}
	return each(t.Objects, func(o injectors.Object) error { return k.kill(ctx, w, o) })
}

// check refuses a pod that is not the bound one, or that would not come back.
func (k *KillPod) check(ctx context.Context, w injectors.World, o injectors.Object) error {
	pod, err := bound(ctx, w, o)
	if err != nil {
		return err
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return fmt.Errorf("%s: %w", o, ErrStatic)
	}
	if pod.DeletionTimestamp != nil {
		return fmt.Errorf("%s: %w: it was being deleted already", o, injectors.ErrTargetGone)
	}
	if metav1.GetControllerOf(pod) == nil && !k.Bare {
		return fmt.Errorf("%s: %w", o, ErrBare)
	}
	return nil
}

func (k *KillPod) kill(ctx context.Context, w injectors.World, o injectors.Object) error {
	grace := int64(time.Duration(k.Grace) / time.Second)
	uid := types.UID(o.UID)
	err := w.API().CoreV1().Pods(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &grace,
		Preconditions:      &metav1.Preconditions{UID: &uid},
	})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: %w", o, injectors.ErrTargetGone)
	case apierrors.IsConflict(err): // the UID is the only precondition
		return fmt.Errorf("%s: %w: another one has its name", o, injectors.ErrTargetGone)
	case err != nil:
		return fmt.Errorf("delete %s: %w", o, err)
	}
	return nil
}

const (
	lookEvery  = 100 * time.Millisecond // at a killed pod
	proofLimit = time.Minute            // for its containers to end, beyond the grace
)

// Effective returns once every target is dead: the pod of that UID is gone, or on its way with no container
// running. With no grace the object goes before its containers do, so where the node can be entered and the
// containers are known, its container runtime has to agree. It waits for at most a minute beyond the grace.
func (k *KillPod) Effective(ctx context.Context, w injectors.World, t injectors.Target) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(k.Grace)+proofLimit)
	defer cancel()
	return each(t.Objects, func(o injectors.Object) error {
		if err := waitUntil(ctx, func() error { return dead(ctx, w, o) }); err != nil {
			return fmt.Errorf("kill-pod has no effect: %w", err)
		}
		return waitUntil(ctx, func() error { return stopped(ctx, w, o) })
	})
}

// dead returns nil where the API says that the pod is gone, or ending with no container running.
func dead(ctx context.Context, w injectors.World, o injectors.Object) error {
	pod, err := bound(ctx, w, o)
	if errors.Is(err, injectors.ErrTargetGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if pod.DeletionTimestamp == nil {
		return fmt.Errorf("%s is not being deleted", o)
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if c.State.Running != nil {
			return fmt.Errorf("container %s of %s is still running", c.Name, o)
		}
	}
	return nil
}

// stopped returns nil where the node's container runtime runs none of the pod's containers any more, or can't be asked:
// no way into the node, or a runtime that we don't know.
func stopped(ctx context.Context, w injectors.World, o injectors.Object) error {
	var ids []string
	for _, c := range o.Containers {
		if id, ok := strings.CutPrefix(c, "containerd://"); ok {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 || o.Node == "" {
		return nil
	}
	node, err := w.Node(o.Node)
	if err != nil {
		return nil // a provider without node access: the API's word has to do
	}
	tasks, err := node.Exec(ctx, "ctr", "--namespace", "k8s.io", "tasks", "list")
	if err != nil {
		return fmt.Errorf("ask node %s for the containers of %s: %w", o.Node, o, err)
	}
	for row := range strings.Lines(string(tasks)) { // TASK PID STATUS
		if f := strings.Fields(row); len(f) == 3 && slices.Contains(ids, f[0]) && f[2] != "STOPPED" {
			return fmt.Errorf("container %.12s of %s is %s on node %s", f[0], o, strings.ToLower(f[2]), o.Node)
		}
	}
	return nil
}

// bound returns the pod that the target was bound to, or ErrTargetGone.
func bound(ctx context.Context, w injectors.World, o injectors.Object) (*corev1.Pod, error) {
	if !strings.EqualFold(o.Kind, "Pod") || o.UID == "" {
		return nil, fmt.Errorf("%s is no bound pod", o)
	}
	pod, err := w.API().CoreV1().Pods(o.Namespace).Get(ctx, o.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%s: %w", o, injectors.ErrTargetGone)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", o, err)
	case string(pod.UID) != o.UID:
		return nil, fmt.Errorf("%s: %w: another one has its name", o, injectors.ErrTargetGone)
	}
	return pod, nil
}

// each runs f for all objects at once, and joins what went wrong in their order.
func each(objects []injectors.Object, f func(injectors.Object) error) error {
	errs := make([]error, len(objects))
	var all sync.WaitGroup
	for i, o := range objects {
		all.Go(func() { errs[i] = f(o) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// waitUntil looks until look returns nil; when ctx ends first it says what was missing.
func waitUntil(ctx context.Context, look func() error) error {
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	var missing error
	for {
		err := look()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || missing == nil {
			missing = err // not what the end of ctx did to the last look
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", missing, context.Cause(ctx))
		case <-again.C:
		}
	}
}
