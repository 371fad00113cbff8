package recorder

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// watchers are all watches that the options ask for: what owns pods first, so that pods find their owners known.
func (r *Recorder) watchers() ([]*watcher, error) {
	var all []*watcher
	add := func(source, resource, namespace string, client rest.Interface, s sink) {
		all = append(all, r.newWatcher(source, resource, namespace, restLister{client, namespace, resource}, s))
	}
	api := r.client.api
	core, apps, batch := api.CoreV1().RESTClient(), api.AppsV1().RESTClient(), api.BatchV1().RESTClient()
	add(SourceNodes, "nodes", metav1.NamespaceAll, core, newSlimSink(SourceNodes, slimNode))
	namespaces := slices.Sorted(maps.Keys(r.opts.Workloads))
	for _, ns := range namespaces {
		workload := r.opts.Workloads[ns]
		slim := workloadSlimmer(workload, r.owners)
		for _, resource := range []string{"replicasets", "deployments", "statefulsets", "daemonsets"} {
			add(SourceWorkloads, resource, ns, apps, newSlimSink(SourceWorkloads, slim))
		}
		add(SourceWorkloads, "jobs", ns, batch, newSlimSink(SourceWorkloads, slim))
		add(SourcePods, "pods", ns, core, newSlimSink(SourcePods, podSlimmer(workload, r.owners)))
		add(SourceEndpoints, "endpointslices", ns, api.DiscoveryV1().RESTClient(), newEndpointSink())
	}
	// Events about nodes are kept in the default namespace.
	for _, ns := range slices.Compact(slices.Sorted(slices.Values(append(namespaces, metav1.NamespaceDefault)))) {
		add(SourceEvents, "events", ns, core, newEventSink())
		all[len(all)-1].skipFirst = true
	}
	for _, field := range r.opts.Fields {
		slim, err := fieldSlimmer(field)
		if err != nil {
			return nil, fmt.Errorf("field of %s: %w", field.Ref, err)
		}
		lister := fieldLister{r.client.dynamic.Resource(field.Resource), field.Name}
		if field.Namespace != "" {
			lister.resource = r.client.dynamic.Resource(field.Resource).Namespace(field.Namespace)
		}
		all = append(all, r.newWatcher(SourceObjects, field.Ref, field.Namespace, lister, newSlimSink(SourceObjects, slim)))
	}
	return all, nil
}

func (r *Recorder) newWatcher(source, name, namespace string, l lister, s sink) *watcher {
	if namespace != "" {
		name += " in " + namespace
	}
	return &watcher{
		source: source, name: name, lister: l, sink: s, store: r.store, beats: r.beats, synced: make(chan struct{}),
	}
}
