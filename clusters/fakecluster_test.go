package clusters

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"
)

// kinds are the resources of the fake cluster.
var kinds = []struct {
	resource, group, kind string
	namespaced            bool
}{
	{"namespaces", "", "Namespace", false},
	{"nodes", "", "Node", false},
	{"pods", "", "Pod", true},
	{"secrets", "", "Secret", true},
	{"configmaps", "", "ConfigMap", true},
	{"deployments", "apps", "Deployment", true},
	{"replicasets", "apps", "ReplicaSet", true},
	{"leases", "coordination.k8s.io", "Lease", true},
	{"clusterroles", "rbac.authorization.k8s.io", "ClusterRole", false},
	{"apiservices", "apiregistration.k8s.io", "APIService", false},
}

// fakeCluster is a cluster in memory: client-go's fakes, which share what is deleted, and fake machines.
type fakeCluster struct {
	source
	failed  error // what discovery returns beside the resources
	objects *dynamicfake.FakeDynamicClient
}

func (f *fakeCluster) ServerPreferredResourcesWithContext(context.Context) ([]*metav1.APIResourceList, error) {
	var lists []*metav1.APIResourceList
	for _, kind := range kinds {
		lists = append(lists, &metav1.APIResourceList{GroupVersion: versionOf(kind.group).String(),
			APIResources: []metav1.APIResource{
				{Name: kind.resource, Kind: kind.kind, Namespaced: kind.namespaced,
					Verbs: metav1.Verbs{"list", "delete", "deletecollection", "get"}},
				{Name: kind.resource + "/status", Kind: kind.kind, Verbs: metav1.Verbs{"get"}},
			}})
	}
	lists = append(lists, &metav1.APIResourceList{GroupVersion: "v1",
		APIResources: []metav1.APIResource{{Name: "bindings", Verbs: metav1.Verbs{"create"}}}})
	return lists, f.failed
}

func versionOf(group string) schema.GroupVersion {
	return schema.GroupVersion{Group: group, Version: "v1"}
}

// newFakeCluster fills a cluster with YAML documents; machines may be nil.
func newFakeCluster(t *testing.T, documents string, machines ...Node) *fakeCluster {
	t.Helper()
	var all, heads, nodes []runtime.Object
	for _, document := range strings.Split(documents, "\n---\n") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		item := &unstructured.Unstructured{Object: object}
		all, heads = append(all, item), append(heads, head(item))
		if item.GetKind() == "Node" {
			node := &corev1.Node{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, node); err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, node)
		}
	}
	lists := map[schema.GroupVersionResource]string{}
	for _, kind := range kinds {
		lists[versionOf(kind.group).WithResource(kind.resource)] = kind.kind + "List"
	}
	f := &fakeCluster{objects: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, all...)}
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	metadata := metadatafake.NewSimpleMetadataClient(scheme, heads...)
	metadata.PrependReactor("delete", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return f.alsoDelete(t.Context(), action)
	})
	metadata.PrependReactor("delete-collection", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, f.deleteAll(metadata.Tracker(), action)
	})
	f.source = source{discovery: f, dynamic: f.objects, metadata: metadata, api: fake.NewClientset(nodes...),
		nodes: machines}
	return f
}

func head(item *unstructured.Unstructured) runtime.Object {
	return &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: item.GetAPIVersion(), Kind: item.GetKind()},
		ObjectMeta: metav1.ObjectMeta{Namespace: item.GetNamespace(), Name: item.GetName(), UID: item.GetUID(),
			Labels: item.GetLabels()}}
}

// deleteAll takes every object of one kind in one namespace out of both fakes; client-go's has no such reaction.
func (f *fakeCluster) deleteAll(heads clienttesting.ObjectTracker, action clienttesting.Action) error {
	gvr, namespace := action.GetResource(), action.GetNamespace()
	// The kind that client-go's fake itself lists heads by.
	list, err := heads.List(gvr, schema.GroupVersionKind{Group: "fake-metadata-client-group", Version: "v1"}, namespace)
	if err != nil {
		return err
	}
	return meta.EachListItem(list, func(item runtime.Object) error {
		head, err := meta.Accessor(item)
		if err != nil {
			return err
		}
		if err := f.objects.Tracker().Delete(gvr, namespace, head.GetName()); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return heads.Delete(gvr, namespace, head.GetName())
	})
}

// alsoDelete carries a deletion over to the other fake; a namespace takes its objects along.
func (f *fakeCluster) alsoDelete(ctx context.Context, action clienttesting.Action) (bool, runtime.Object, error) {
	gone := action.(clienttesting.DeleteAction)
	if err := f.objects.Tracker().Delete(gone.GetResource(), gone.GetNamespace(), gone.GetName()); err != nil {
		return true, nil, err
	}
	if gone.GetResource().Resource == "nodes" {
		return true, nil, f.api.CoreV1().Nodes().Delete(ctx, gone.GetName(), metav1.DeleteOptions{})
	}
	if gone.GetResource() != namespaceResource {
		return false, nil, nil
	}
	for _, kind := range kinds {
		if !kind.namespaced {
			continue
		}
		gvr := versionOf(kind.group).WithResource(kind.resource)
		list, err := f.objects.Tracker().List(gvr, versionOf(kind.group).WithKind(kind.kind), gone.GetName())
		if err != nil {
			return true, nil, err
		}
		for _, item := range list.(*unstructured.UnstructuredList).Items {
			if err := f.objects.Tracker().Delete(gvr, item.GetNamespace(), item.GetName()); err != nil {
				return true, nil, err
			}
		}
	}
	return false, nil, nil
}
