package podnet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestHeartbeatsAreNotRelevant(t *testing.T) {
	before := apiNode("b", []string{"172.18.0.3"}, "10.244.1.0/24")
	heartbeat := before.DeepCopy()
	heartbeat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	moved := apiNode("b", []string{"172.18.0.9"}, "10.244.1.0/24")
	if relevant(before, heartbeat) || !relevant(before, moved) {
		t.Error("a heartbeat counts, or a new address does not")
	}
}
