package runner

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/scenarios"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

// ErrNoTarget: a rule selected nothing, or fewer objects than it takes.
var ErrNoTarget = errors.New("no target")

// binder turns the rules of one scenario into objects of one cluster. Everything it returns carries the UID that the
// object had at that moment.
type binder struct {
	kube *kube
	// namespaces maps the scenario's workloads to the namespaces they run in.
	namespaces map[string]string
	rules      map[string]scenarios.Rule
	// bound holds what earlier steps were bound to, for same-as.
	bound map[string][]injectors.Object
	// seed makes the choice repeatable; capShare is the largest share of the candidates that may be taken.
	seed     int64
	capShare float64
}

// bind resolves a step's target.
func (b *binder) bind(ctx context.Context, step string, t *scenarios.Target) ([]injectors.Object, error) {
	if t == nil {
		return nil, nil
	}
	if t.SameAs != "" {
		objects, ok := b.bound[t.SameAs]
		if !ok {
			return nil, fmt.Errorf("step %s: same-as %s: that step has not started: %w", step, t.SameAs, ErrNoTarget)
		}
		return objects, nil
	}
	rule, err := b.rule(t)
	if err != nil {
		return nil, fmt.Errorf("step %s: %w", step, err)
	}
	salt := step
	if t.Name != "" { // a named target means the same objects wherever it is named
		salt = t.Name
	}
	objects, err := b.choose(ctx, salt, rule)
	if err != nil {
		return nil, fmt.Errorf("step %s: %w", step, err)
	}
	if limit := b.capShare; limit < 1 {
		if err := b.capped(ctx, rule, objects); err != nil {
			return nil, fmt.Errorf("step %s: %w", step, err)
		}
	}
	b.bound[step] = objects
	return objects, nil
}

func (b *binder) rule(t *scenarios.Target) (scenarios.Rule, error) {
	if t.Name == "" {
		return t.Rule, nil
	}
	rule, ok := b.rules[t.Name]
	if !ok {
		return scenarios.Rule{}, fmt.Errorf("target %q is not declared", t.Name)
	}
	return rule, nil
}

// choose lists a rule's candidates, in a stable order, and takes as many as the rule says.
func (b *binder) choose(ctx context.Context, salt string, rule scenarios.Rule) ([]injectors.Object, error) {
	candidates, err := b.candidates(ctx, rule)
	if err != nil {
		return nil, err
	}
	if rule.Take == nil {
		return candidates, nil
	}
	return b.take(salt, candidates, *rule.Take)
}

func (b *binder) candidates(ctx context.Context, rule scenarios.Rule) ([]injectors.Object, error) {
	switch {
	case rule.Pods != nil:
		return b.pods(ctx, *rule.Pods)
	case rule.Nodes != nil:
		return b.nodes(ctx, *rule.Nodes)
	case rule.Object != "":
		return b.objects(ctx, []string{rule.Object})
	default:
		return b.objects(ctx, rule.Objects)
	}
}

// take picks from candidates by a generator seeded with the run's seed and the step's name, so that the same seed on
// the same candidates takes the same ones.
func (b *binder) take(salt string, candidates []injectors.Object, take values.Take) ([]injectors.Object, error) {
	n := take.Count
	switch {
	case take.All:
		n = len(candidates)
	case take.Percent > 0:
		n = int(math.Ceil(float64(take.Percent) * float64(len(candidates))))
	}
	if len(candidates) == 0 {
		return nil, fmt.Errorf("the rule selects nothing: %w", ErrNoTarget)
	}
	if n > len(candidates) {
		return nil, fmt.Errorf("the rule selects %d objects, %d are to be taken: %w", len(candidates), n, ErrNoTarget)
	}
	h := fnv.New64a()
	h.Write([]byte(salt)) // a hash never fails to write
	generator := rand.New(rand.NewPCG(uint64(b.seed), h.Sum64()))
	chosen := make([]injectors.Object, 0, n)
	for _, i := range generator.Perm(len(candidates))[:n] {
		chosen = append(chosen, candidates[i])
	}
	slices.SortFunc(chosen, func(x, y injectors.Object) int { return strings.Compare(x.Name, y.Name) })
	return chosen, nil
}

// capped refuses a step that would hit more than the share of its candidates that may be hit on this cluster. Rules that
// only name something (a vantage, an exception) hit nothing.
func (b *binder) capped(ctx context.Context, rule scenarios.Rule, chosen []injectors.Object) error {
	candidates, err := b.candidates(ctx, rule)
	if err != nil {
		return err
	}
	if float64(len(chosen)) > b.capShare*float64(len(candidates)) {
		return fmt.Errorf("%d of %d objects is more than the %.0f %% that may be hit on this cluster: %w",
			len(chosen), len(candidates), b.capShare*100, ErrNoTarget)
	}
	return nil
}

func (b *binder) pods(ctx context.Context, s values.Selector) ([]injectors.Object, error) {
	namespace, err := b.podNamespace(s)
	if err != nil {
		return nil, err
	}
	list, err := b.kube.api.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(s.Labels).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var owners map[types.UID]bool
	if s.Owner != "" {
		if owners, err = b.owners(ctx, s.Owner); err != nil {
			return nil, err
		}
	}
	except, err := b.exceptions(ctx, s.Except)
	if err != nil {
		return nil, err
	}
	var out []injectors.Object
	for i := range list.Items {
		pod := &list.Items[i]
		if len(s.Names) > 0 && !slices.Contains(s.Names, pod.Name) || except[pod.UID] || !alive(pod) {
			continue
		}
		if owners != nil && !ownedBy(pod.OwnerReferences, owners) {
			continue
		}
		out = append(out, podObject(pod))
	}
	sortObjects(out)
	return out, nil
}

// podNamespace is the namespace a pod selector looks into: its own, or that of the owner's workload.
func (b *binder) podNamespace(s values.Selector) (string, error) {
	if s.Namespace != "" {
		return b.namespace(s.Namespace), nil
	}
	if s.Owner != "" {
		ref, err := parseRef(s.Owner)
		if err != nil {
			return "", err
		}
		return b.namespace(ref.workload), nil
	}
	if len(b.namespaces) == 1 {
		for _, namespace := range b.namespaces {
			return namespace, nil
		}
	}
	return "", errors.New("a pod selector needs a namespace or an owner where there are several workloads")
}

// namespace resolves a workload's name to its namespace; any other name is a namespace itself.
func (b *binder) namespace(name string) string {
	if namespace, ok := b.namespaces[name]; ok {
		return namespace
	}
	return name
}

// owners returns the UIDs whose pods belong to a workload object: its own, and those of its ReplicaSets.
func (b *binder) owners(ctx context.Context, text string) (map[types.UID]bool, error) {
	objects, err := b.objects(ctx, []string{text})
	if err != nil {
		return nil, err
	}
	owner := objects[0]
	uids := map[types.UID]bool{types.UID(owner.UID): true}
	if owner.Kind != "Deployment" {
		return uids, nil
	}
	sets, err := b.kube.api.AppsV1().ReplicaSets(owner.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list replica sets of %s: %w", text, err)
	}
	for i := range sets.Items {
		if ownedBy(sets.Items[i].OwnerReferences, map[types.UID]bool{types.UID(owner.UID): true}) {
			uids[sets.Items[i].UID] = true
		}
	}
	return uids, nil
}

func (b *binder) nodes(ctx context.Context, s values.Selector) ([]injectors.Object, error) {
	list, err := b.kube.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(s.Labels).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var hosting map[string]bool
	if s.Hosting != "" {
		pods, err := b.pods(ctx, values.Selector{Owner: s.Hosting})
		if err != nil {
			return nil, err
		}
		hosting = map[string]bool{}
		for _, p := range pods {
			hosting[p.Node] = true
		}
	}
	except, err := b.exceptions(ctx, s.Except)
	if err != nil {
		return nil, err
	}
	var out []injectors.Object
	for i := range list.Items {
		node := &list.Items[i]
		if len(s.Names) > 0 && !slices.Contains(s.Names, node.Name) || except[node.UID] ||
			s.Role != "" && nodeRole(node) != s.Role || hosting != nil && !hosting[node.Name] {
			continue
		}
		out = append(out, injectors.Object{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: string(node.UID),
			Node: node.Name})
	}
	sortObjects(out)
	return out, nil
}

// exceptions returns the UIDs of the members of a named target.
func (b *binder) exceptions(ctx context.Context, name string) (map[types.UID]bool, error) {
	if name == "" {
		return nil, nil
	}
	rule, ok := b.rules[name]
	if !ok {
		return nil, fmt.Errorf("target %q is not declared", name)
	}
	objects, err := b.choose(ctx, name, rule)
	if err != nil {
		return nil, fmt.Errorf("except %s: %w", name, err)
	}
	uids := make(map[types.UID]bool, len(objects))
	for _, o := range objects {
		uids[types.UID(o.UID)] = true
	}
	return uids, nil
}

func (b *binder) objects(ctx context.Context, refs []string) ([]injectors.Object, error) {
	out := make([]injectors.Object, 0, len(refs))
	for _, text := range refs {
		ref, err := parseRef(text)
		if err != nil {
			return nil, err
		}
		object, err := b.kube.object(ctx, ref.kind, b.namespace(ref.workload), ref.name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		out = append(out, injectors.Object{
			Kind: object.GetKind(), APIVersion: object.GetAPIVersion(), Namespace: object.GetNamespace(),
			Name: object.GetName(), UID: string(object.GetUID()),
		})
	}
	return out, nil
}

// objectRef is WORKLOAD/KIND/NAME.
type objectRef struct{ workload, kind, name string }

func parseRef(text string) (objectRef, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 || slices.Contains(parts, "") {
		return objectRef{}, fmt.Errorf("%q is not WORKLOAD/KIND/NAME", text)
	}
	return objectRef{workload: parts[0], kind: parts[1], name: parts[2]}, nil
}

func podObject(pod *corev1.Pod) injectors.Object {
	o := injectors.Object{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name,
		UID: string(pod.UID), Node: pod.Spec.NodeName}
	for _, status := range pod.Status.ContainerStatuses {
		if status.ContainerID != "" {
			o.Containers = append(o.Containers, status.ContainerID)
		}
	}
	return o
}

// alive tells whether a pod can be a victim: it is not on its way out already.
func alive(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func ownedBy(refs []metav1.OwnerReference, owners map[types.UID]bool) bool {
	return slices.ContainsFunc(refs, func(r metav1.OwnerReference) bool {
		return r.Controller != nil && *r.Controller && owners[r.UID]
	})
}

func nodeRole(node *corev1.Node) string {
	if _, ok := node.Labels["node-role.kubernetes.io/control-plane"]; ok {
		return "control-plane"
	}
	return "worker"
}

func sortObjects(objects []injectors.Object) {
	sort.Slice(objects, func(i, j int) bool {
		if objects[i].Namespace != objects[j].Namespace {
			return objects[i].Namespace < objects[j].Namespace
		}
		return objects[i].Name < objects[j].Name
	})
}
