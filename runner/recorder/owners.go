package recorder

import (
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// podTemplateHash is the label by which a Deployment tells its ReplicaSets apart; their names end with its value.
const podTemplateHash = "pod-template-hash"

// owner is the controller of an object, KIND/NAME in the form that conditions use.
type owner string

func ownerOf(ref *metav1.OwnerReference) owner {
	return owner(strings.ToLower(ref.Kind) + "/" + ref.Name)
}

// owners resolves pods to the workload at the top: ReplicaSets and Jobs may themselves be controlled.
type owners struct {
	mu  sync.Mutex
	top map[types.UID]owner // of ReplicaSets and Jobs
}

func newOwners() *owners { return &owners{top: map[types.UID]owner{}} }

// learn remembers who controls a ReplicaSet or Job: itself where nobody does. It is kept after the object is gone, for
// the pods that are left.
func (o *owners) learn(kind string, obj metav1.Object) {
	top := owner(kind + "/" + obj.GetName())
	if ref := metav1.GetControllerOf(obj); ref != nil {
		top = ownerOf(ref)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.top[obj.GetUID()] = top
}

// of returns the top owner of a pod. A ReplicaSet that has not been seen yet is resolved by its name, which for those
// of a Deployment is the Deployment's and the pod's own template hash.
func (o *owners) of(pod metav1.Object) owner {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return owner("pod/" + pod.GetName())
	}
	o.mu.Lock()
	top, known := o.top[ref.UID]
	o.mu.Unlock()
	if known {
		return top
	}
	hash := pod.GetLabels()[podTemplateHash]
	if name, ok := strings.CutSuffix(ref.Name, "-"+hash); ok && ref.Kind == "ReplicaSet" && hash != "" {
		return owner("deployment/" + name)
	}
	return ownerOf(ref)
}
