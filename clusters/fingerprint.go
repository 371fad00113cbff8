package clusters

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Fingerprint is what "as before" means: all that a run must leave as it was. It holds the spec, data, labels and
// annotations of objects that were not generated; the labels, taints and unschedulable of nodes; and what of ours, or
// of anybody's meddling, can be seen inside the nodes. It is plain data and survives JSON.
//
// Not in it: status, uid, resourceVersion, generation, managedFields, finalizers, revision annotations, whatever has a
// controller as its owner (ReplicaSets of a Deployment, pods), other pods, endpoints, events, leases, certificate
// signing requests, bootstrap tokens, and kube-proxy's own tables. Values of Secrets are hashed.
type Fingerprint struct {
	// Objects maps "RESOURCE.GROUP NAMESPACE/NAME" to what of the object is compared.
	Objects map[string]map[string]any `json:"objects"`
	// Nodes maps a node's name to what of its Node object is compared.
	Nodes map[string]NodePrint `json:"nodes"`
	// Machines maps a node's name to what was seen inside it.
	Machines map[string]MachinePrint `json:"machines"`
	// Silent lists the API groups ("metrics.k8s.io/v1beta1") whose server did not answer.
	Silent []string `json:"silent,omitempty"`
}

// NodePrint is what of a Node object is compared; taints are written KEY=VALUE:EFFECT and sorted.
type NodePrint struct {
	Labels        map[string]string `json:"labels"`
	Taints        []string          `json:"taints,omitempty"`
	Unschedulable bool              `json:"unschedulable,omitempty"`
}

// fingerprintLimit bounds one fingerprint; it takes well under two seconds.
const fingerprintLimit = 30 * time.Second

// parallelLists bounds the lists that are asked for at once.
const parallelLists = 16

// preferred is the part of API discovery that is needed here.
type preferred interface {
	ServerPreferredResourcesWithContext(ctx context.Context) ([]*metav1.APIResourceList, error)
}

// source is a cluster as fingerprint and reset see it.
type source struct {
	discovery preferred
	dynamic   dynamic.Interface
	metadata  metadata.Interface
	api       kubernetes.Interface
	nodes     []Node
}

func newSource(c *Cluster) (source, error) {
	cfg, err := c.RESTConfig()
	if err != nil {
		return source{}, err
	}
	cfg.WarningHandlerWithContext = rest.NoWarnings{} // everything is listed, what is deprecated too
	api, err := kubernetes.NewForConfig(Protobuf(cfg))
	if err != nil {
		return source{}, fmt.Errorf("client of cluster %q: %w", c.Name, err)
	}
	objects, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return source{}, fmt.Errorf("client of cluster %q: %w", c.Name, err)
	}
	heads, err := metadata.NewForConfig(cfg)
	if err != nil {
		return source{}, fmt.Errorf("client of cluster %q: %w", c.Name, err)
	}
	return source{discovery: discovery.ToDiscoveryInterfaceWithContext(api.Discovery()), dynamic: objects, metadata: heads,
		api: api, nodes: c.Nodes}, nil
}

// TakeFingerprint looks at the whole cluster, through the API and inside every node.
func TakeFingerprint(ctx context.Context, c *Cluster) (Fingerprint, error) {
	from, err := newSource(c)
	if err != nil {
		return Fingerprint{}, err
	}
	return from.fingerprint(ctx)
}

// SaveFingerprint takes the cluster's fingerprint and keeps it in its state folder; providers call it once, when a new
// cluster is usable.
func SaveFingerprint(ctx context.Context, c *Cluster) error {
	print, err := TakeFingerprint(ctx, c)
	if err != nil {
		return err
	}
	data, err := json.Marshal(print)
	if err != nil {
		return fmt.Errorf("fingerprint of cluster %q: %w", c.Name, err)
	}
	if err := writePrivate(filepath.Join(c.State, FileFingerprint), data); err != nil {
		return fmt.Errorf("fingerprint of cluster %q: %w", c.Name, err)
	}
	return nil
}

// LoadFingerprint returns the fingerprint that was taken when the cluster was made.
func LoadFingerprint(c *Cluster) (Fingerprint, error) {
	var print Fingerprint
	data, err := os.ReadFile(filepath.Join(c.State, FileFingerprint))
	if err != nil {
		return print, fmt.Errorf("fingerprint of cluster %q: %w", c.Name, err)
	}
	if err := json.Unmarshal(data, &print); err != nil {
		return print, fmt.Errorf("fingerprint of cluster %q: %w", c.Name, err)
	}
	return print, nil
}

func (s source) fingerprint(ctx context.Context) (Fingerprint, error) {
	ctx, cancel := context.WithTimeout(ctx, fingerprintLimit)
	defer cancel()
	var print Fingerprint
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		print.Objects, print.Silent, err = s.objects(ctx)
		return err
	})
	group.Go(func() (err error) {
		print.Nodes, err = s.nodePrints(ctx)
		return err
	})
	group.Go(func() (err error) {
		print.Machines, err = machinePrints(ctx, s.nodes)
		return err
	})
	if err := group.Wait(); err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint: %w", err)
	}
	return print, nil
}

// resource is one kind of object, as discovery names it.
type resource struct {
	schema.GroupVersionResource
	namespaced bool
	verbs      []string
}

func (r resource) String() string { return r.GroupResource().String() }

// resources lists what can be listed, and the groups whose servers are silent.
func (s source) resources(ctx context.Context) (found []resource, silent []string, err error) {
	lists, err := s.discovery.ServerPreferredResourcesWithContext(ctx)
	var failed *discovery.ErrGroupDiscoveryFailed
	if errors.As(err, &failed) { // one dead aggregated API must not hide all the others
		for version := range failed.Groups {
			silent = append(silent, version.String())
		}
		slices.Sort(silent)
		err = nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("discovery: %w", err)
	}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, nil, fmt.Errorf("discovery: %w", err)
		}
		for _, api := range list.APIResources {
			if strings.Contains(api.Name, "/") || !slices.Contains(api.Verbs, "list") {
				continue
			}
			found = append(found, resource{GroupVersionResource: version.WithResource(api.Name),
				namespaced: api.Namespaced, verbs: api.Verbs})
		}
	}
	return found, silent, nil
}

// gone reports an answer that only says that there is nothing of the kind.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) }

func (s source) objects(ctx context.Context) (map[string]map[string]any, []string, error) {
	resources, silent, err := s.resources(ctx)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	objects := map[string]map[string]any{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLists)
	for _, kind := range resources {
		if generated(kind) {
			continue
		}
		group.Go(func() error {
			list, err := s.dynamic.Resource(kind.GroupVersionResource).List(ctx, metav1.ListOptions{})
			if gone(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("list %s: %w", kind, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range list.Items {
				if kept := reduce(kind, &list.Items[i]); kept != nil {
					objects[objectKey(kind, list.Items[i].GetNamespace(), list.Items[i].GetName())] = kept
				}
			}
			return nil
		})
	}
	return objects, silent, group.Wait()
}

func objectKey(kind resource, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return kind.String() + " " + name
}

// generated reports whether Kubernetes itself makes and removes all objects of a kind. Nodes are looked at apart.
func generated(kind resource) bool {
	if kind.Group == "metrics.k8s.io" { // measurements, not objects
		return true
	}
	switch kind.String() {
	case "nodes", "pods", "events", "events.events.k8s.io", "endpoints", "endpointslices.discovery.k8s.io",
		"leases.coordination.k8s.io", "leasecandidates.coordination.k8s.io", "controllerrevisions.apps",
		"csinodes.storage.k8s.io", "csistoragecapacities.storage.k8s.io", "componentstatuses",
		"certificatesigningrequests.certificates.k8s.io", "ipaddresses.networking.k8s.io",
		"storageversions.internal.apiserver.k8s.io":
		return true
	}
	return false
}

// reduce keeps what of an object is compared; nil means that the object was generated and does not count.
func reduce(kind resource, object *unstructured.Unstructured) map[string]any {
	if metav1.GetControllerOf(object) != nil {
		return nil
	}
	kept := map[string]any{}
	for field, value := range object.Object {
		switch field {
		case "apiVersion", "kind", "metadata", "status":
		default:
			kept[field] = plainJSON(value)
		}
	}
	if labels := object.GetLabels(); len(labels) > 0 {
		kept["labels"] = plainJSON(anyMap(labels))
	}
	annotations := map[string]any{}
	for key, value := range object.GetAnnotations() {
		if !generatedAnnotation(key) {
			annotations[key] = value
		}
	}
	if len(annotations) > 0 {
		kept["annotations"] = annotations
	}
	return special(kind, object, kept)
}

func generatedAnnotation(key string) bool {
	switch key {
	case "deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation",
		"control-plane.alpha.kubernetes.io/leader", "endpoints.kubernetes.io/last-change-trigger-time",
		corev1.LastAppliedConfigAnnotation:
		return true
	}
	return false
}

// special leaves out what Kubernetes generates within objects that it does not, and hides secrets.
func special(kind resource, object *unstructured.Unstructured, kept map[string]any) map[string]any {
	switch kind.String() {
	case "secrets":
		if object.Object["type"] == "bootstrap.kubernetes.io/token" { // expires by itself
			return nil
		}
		data, _ := kept["data"].(map[string]any)
		for key, value := range data {
			data[key] = hashed(value)
		}
	case "configmaps":
		// The signatures of bootstrap tokens in kube-public/cluster-info go with their tokens.
		data, _ := kept["data"].(map[string]any)
		for key := range data {
			if strings.HasPrefix(key, "jws-kubeconfig-") {
				delete(data, key)
			}
		}
	case "clusterroles.rbac.authorization.k8s.io":
		if kept["aggregationRule"] != nil { // its rules are gathered from other roles by a controller
			delete(kept, "rules")
		}
	case "apiservices.apiregistration.k8s.io":
		if object.GetLabels()["kube-aggregator.kubernetes.io/automanaged"] != "" {
			return nil
		}
	}
	return kept
}

func hashed(value any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(value)))
	return "sha256:" + hex.EncodeToString(sum[:8])
}

// plainJSON copies a value the way JSON would give it back, so that what was just taken equals what was saved.
func plainJSON(value any) any {
	switch value := value.(type) {
	case map[string]any:
		copied := make(map[string]any, len(value))
		for key, item := range value {
			copied[key] = plainJSON(item)
		}
		return copied
	case []any:
		copied := make([]any, len(value))
		for i, item := range value {
			copied[i] = plainJSON(item)
		}
		return copied
	case int64:
		return float64(value)
	}
	return value
}

func anyMap(from map[string]string) map[string]any {
	to := make(map[string]any, len(from))
	for key, value := range from {
		to[key] = value
	}
	return to
}

func (s source) nodePrints(ctx context.Context) (map[string]NodePrint, error) {
	list, err := s.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	prints := map[string]NodePrint{}
	for _, node := range list.Items {
		print := NodePrint{Labels: node.Labels, Unschedulable: node.Spec.Unschedulable}
		for _, taint := range node.Spec.Taints {
			print.Taints = append(print.Taints, taint.ToString())
		}
		slices.Sort(print.Taints)
		prints[node.Name] = print
	}
	return prints, nil
}
