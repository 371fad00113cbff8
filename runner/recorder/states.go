package recorder

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rebound-chaos/rebound/assertions"
)

// slimSink is the sink of every resource whose objects each have one state: it makes the slim copy and keeps the last.
type slimSink struct {
	source string
	// slim returns the object's state as a fact, or false where the object is of no interest.
	slim func(obj runtime.Object) (assertions.Fact, bool)
	last map[types.UID]assertions.Fact
}

func newSlimSink(source string, slim func(runtime.Object) (assertions.Fact, bool)) *slimSink {
	return &slimSink{source: source, slim: slim, last: map[types.UID]assertions.Fact{}}
}

func (s *slimSink) see(obj runtime.Object, gone bool) []assertions.Fact {
	m, ok := obj.(metav1.Object)
	if !ok {
		return nil
	}
	fact, ok := s.slim(obj)
	if !ok {
		return nil
	}
	fact.Source, fact.Gone = s.source, gone
	before, known := s.last[m.GetUID()]
	if gone {
		delete(s.last, m.GetUID())
		return []assertions.Fact{fact}
	}
	if known && reflect.DeepEqual(before, fact) {
		return nil
	}
	s.last[m.GetUID()] = fact
	return []assertions.Fact{fact}
}

func (s *slimSink) keep(uids map[types.UID]bool) []assertions.Fact {
	var facts []assertions.Fact
	for uid, fact := range s.last {
		if !uids[uid] {
			delete(s.last, uid)
			fact.Gone = true
			facts = append(facts, fact)
		}
	}
	return facts
}

func podSlimmer(workload string, owners *owners) func(runtime.Object) (assertions.Fact, bool) {
	return func(obj runtime.Object) (assertions.Fact, bool) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return assertions.Fact{}, false
		}
		return assertions.Fact{Pod: slimPod(pod, workload+"/"+string(owners.of(pod)))}, true
	}
}

func slimPod(pod *corev1.Pod, workload string) *assertions.PodState {
	state := &assertions.PodState{
		UID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName, Workload: workload,
		Phase: string(pod.Status.Phase), Deleting: pod.DeletionTimestamp != nil,
		Revision: pod.Labels[podTemplateHash],
	}
	if state.Revision == "" {
		state.Revision = pod.Labels["controller-revision-hash"]
	}
	for _, c := range pod.Status.Conditions {
		isTrue := c.Status == corev1.ConditionTrue
		switch c.Type {
		case corev1.PodScheduled:
			state.Scheduled = isTrue
		case corev1.PodReady:
			state.Ready = isTrue
		case corev1.DisruptionTarget:
			if isTrue {
				state.Disruption = c.Reason
			}
		}
	}
	statuses := pod.Status.ContainerStatuses
	running := 0
	for _, c := range statuses {
		slim := assertions.ContainerState{
			Name: c.Name, ID: c.ContainerID, Running: c.State.Running != nil, Ready: c.Ready, Restarts: int(c.RestartCount),
		}
		switch {
		case c.State.Waiting != nil:
			slim.Reason = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			slim.Reason = c.State.Terminated.Reason
		}
		if slim.Running {
			running++
		}
		state.Containers = append(state.Containers, slim)
	}
	state.Started = running == len(pod.Spec.Containers) && running > 0
	return state
}

func slimNode(obj runtime.Object) (assertions.Fact, bool) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return assertions.Fact{}, false
	}
	state := &assertions.NodeState{
		UID: string(node.UID), Name: node.Name, Ready: string(corev1.ConditionUnknown),
		Unschedulable: node.Spec.Unschedulable,
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			state.Ready = string(c.Status)
		}
	}
	for _, t := range node.Spec.Taints {
		state.Taints = append(state.Taints, t.Key+"="+t.Value+":"+string(t.Effect))
	}
	slices.Sort(state.Taints)
	return assertions.Fact{Node: state}, true
}

// eventSink makes a fact of each occurrence: an event that is new, or whose count went up.
type eventSink struct {
	counts map[types.UID]int32
}

func newEventSink() *eventSink { return &eventSink{counts: map[types.UID]int32{}} }

func (s *eventSink) see(obj runtime.Object, gone bool) []assertions.Fact {
	event, ok := obj.(*corev1.Event)
	if !ok {
		return nil
	}
	if gone { // events expire; that tells nothing
		delete(s.counts, event.UID)
		return nil
	}
	count := max(event.Count, 1)
	if event.Series != nil {
		count = max(count, event.Series.Count)
	}
	if s.counts[event.UID] >= count {
		return nil
	}
	s.counts[event.UID] = count
	about := event.InvolvedObject
	return []assertions.Fact{{Source: SourceEvents, Event: &assertions.EventState{
		Reason: event.Reason, Type: event.Type, Kind: about.Kind, Namespace: about.Namespace, Name: about.Name,
		Message: event.Message,
	}}}
}

func (s *eventSink) keep(uids map[types.UID]bool) []assertions.Fact {
	maps.DeleteFunc(s.counts, func(uid types.UID, _ int32) bool { return !uids[uid] })
	return nil
}

// endpointSink joins the slices of each service: a pod may stand in several of them (one for each address family, or
// two while it moves), and counts as ready where it is ready in one.
type endpointSink struct {
	slices map[types.UID]endpointSlice
	last   map[endpointKey]assertions.EndpointState
}

type endpointKey struct{ service, podUID string }

type endpointSlice struct {
	service string
	pods    map[string]assertions.EndpointState // by pod UID
}

func newEndpointSink() *endpointSink {
	return &endpointSink{slices: map[types.UID]endpointSlice{}, last: map[endpointKey]assertions.EndpointState{}}
}

func (s *endpointSink) see(obj runtime.Object, gone bool) []assertions.Fact {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || slice.Labels[discoveryv1.LabelServiceName] == "" {
		return nil
	}
	before := s.slices[slice.UID]
	now := endpointSlice{
		service: slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName],
		pods:    map[string]assertions.EndpointState{},
	}
	if gone {
		delete(s.slices, slice.UID)
	} else {
		for _, e := range slice.Endpoints {
			if state, ok := slimEndpoint(now.service, e); ok {
				now.pods[state.PodUID] = join(now.pods[state.PodUID], state)
			}
		}
		s.slices[slice.UID] = now
	}
	return s.changed(before, now)
}

func (s *endpointSink) keep(uids map[types.UID]bool) []assertions.Fact {
	var facts []assertions.Fact
	for uid, slice := range s.slices {
		if !uids[uid] {
			delete(s.slices, uid)
			facts = append(facts, s.changed(slice)...)
		}
	}
	return facts
}

// changed works out the pods of the touched slices anew, and returns a fact for each whose place changed.
func (s *endpointSink) changed(touched ...endpointSlice) []assertions.Fact {
	keys := map[endpointKey]bool{}
	for _, slice := range touched {
		for uid := range slice.pods {
			keys[endpointKey{slice.service, uid}] = true
		}
	}
	ordered := slices.SortedFunc(maps.Keys(keys), func(a, b endpointKey) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.podUID, b.podUID))
	})
	var facts []assertions.Fact
	for _, key := range ordered {
		state, there := s.joined(key)
		before, known := s.last[key]
		switch {
		case there && (!known || before != state):
			s.last[key] = state
			facts = append(facts, assertions.Fact{Source: SourceEndpoints, Endpoint: &state})
		case !there && known:
			delete(s.last, key)
			facts = append(facts, assertions.Fact{Source: SourceEndpoints, Endpoint: &before, Gone: true})
		}
	}
	return facts
}

func (s *endpointSink) joined(key endpointKey) (assertions.EndpointState, bool) {
	var state assertions.EndpointState
	for _, slice := range s.slices {
		if slice.service == key.service {
			state = join(state, slice.pods[key.podUID])
		}
	}
	return state, state.PodUID != ""
}

func join(a, b assertions.EndpointState) assertions.EndpointState {
	if a.PodUID == "" {
		return b
	}
	a.Ready, a.Serving = a.Ready || b.Ready, a.Serving || b.Serving
	return a
}

// slimEndpoint returns false for endpoints that are no pods.
func slimEndpoint(service string, e discoveryv1.Endpoint) (assertions.EndpointState, bool) {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
		return assertions.EndpointState{}, false
	}
	// An absent condition means ready, and serving as ready (the API's own rule).
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	return assertions.EndpointState{
		Service: service, PodUID: string(e.TargetRef.UID), Pod: e.TargetRef.Name, Ready: ready, Serving: serving,
	}, true
}
