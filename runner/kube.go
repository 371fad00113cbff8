package runner

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// kube bundles the clients of one cluster under test.
type kube struct {
	api     kubernetes.Interface
	dynamic dynamic.Interface
	mapper  meta.RESTMapper
}

func newKube(config *rest.Config) (*kube, error) {
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("typed client: %w", err)
	}
	plain := rest.CopyConfig(config)
	plain.ContentType, plain.AcceptContentTypes = "", "" // unstructured objects travel as JSON only
	dyn, err := dynamic.NewForConfig(plain)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(api.Discovery()))
	return &kube{api: api, dynamic: dyn, mapper: mapper}, nil
}

// object reads one object by kind as people write it ("deployment", "configmap"), in a namespace where kinds have one.
func (k *kube) object(ctx context.Context, kind, namespace, name string) (*unstructured.Unstructured, error) {
	resource, err := k.mapper.ResourceFor(schema.GroupVersionResource{Resource: strings.ToLower(kind)})
	if err != nil {
		return nil, fmt.Errorf("kind %q: %w", kind, err)
	}
	mapped, err := k.mapper.KindFor(resource)
	if err != nil {
		return nil, fmt.Errorf("kind %q: %w", kind, err)
	}
	client, err := k.resource(mapped, namespace)
	if err != nil {
		return nil, err
	}
	return client.Get(ctx, name, metav1.GetOptions{})
}

// resource returns the client for a kind, within the namespace where the kind is namespaced.
func (k *kube) resource(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("kind %s: %w", kind.Kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return k.dynamic.Resource(mapping.Resource).Namespace(namespace), nil
	}
	return k.dynamic.Resource(mapping.Resource), nil
}
