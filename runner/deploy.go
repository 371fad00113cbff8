package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/runner/demo"
	"github.com/rebound-chaos/rebound/scenarios"
)

// fieldManager is the name under which Rebound applies objects.
const fieldManager = "rebound"

// deployment is the workloads of one run as they stand in the cluster.
type deployment struct {
	kube *kube
	// run labels everything; namespaces maps workload names to namespaces; own lists those that we made, in order.
	run        string
	namespaces map[string]string
	own        []string
}

// deploy puts a scenario's workloads into fresh namespaces. programImage is the image of our own program, which the
// demo runs; patch weakens one object where the run is a twin's.
func deploy(ctx context.Context, k *kube, run string, s *scenarios.Scenario, programImage string,
	patch *scenarios.Patch) (*deployment, error) {
	d := &deployment{kube: k, run: run, namespaces: map[string]string{}}
	for _, name := range sortedKeys(s.Spec.Workloads) {
		if err := d.ensureNamespace(ctx, name, s.Spec.Workloads[name]); err != nil {
			return d, fmt.Errorf("workload %s: %w", name, err)
		}
	}
	patched := patch == nil || patch.Demo != nil
	for _, name := range sortedKeys(s.Spec.Workloads) {
		workload := s.Spec.Workloads[name]
		if patch != nil && patch.Demo != nil && (patch.Demo.Workload == "" || patch.Demo.Workload == name) {
			workload = patchDemo(workload, *patch.Demo)
		}
		objects, err := workloadObjects(s, workload, d.namespaces[name], programImage)
		if err != nil {
			return d, fmt.Errorf("workload %s: %w", name, err)
		}
		for _, object := range objects {
			if patch != nil && patch.Workload != "" && refersTo(patch.Workload, name, object) {
				if err := mergePatch(object, patch.Merge); err != nil {
					return d, fmt.Errorf("workload %s: twin's patch of %s: %w", name, patch.Workload, err)
				}
				patched = true
			}
			if err := d.apply(ctx, d.namespaces[name], object); err != nil {
				return d, fmt.Errorf("workload %s: %w", name, err)
			}
		}
	}
	if !patched {
		return d, fmt.Errorf("twin patches %s, which no workload holds", patch.Workload)
	}
	return d, nil
}

// patchDemo returns a copy of a demo workload with a twin's changes; another workload is returned as it is.
func patchDemo(w scenarios.Workload, patch scenarios.DemoPatch) scenarios.Workload {
	if w.Demo == nil {
		return w
	}
	changed := *w.Demo
	if patch.Replicas != nil {
		changed.Replicas = *patch.Replicas
	}
	changed.Env = maps.Clone(w.Demo.Env)
	if changed.Env == nil {
		changed.Env = map[string]string{}
	}
	maps.Copy(changed.Env, patch.Env)
	w.Demo = &changed
	return w
}

func (d *deployment) ensureNamespace(ctx context.Context, name string, w scenarios.Workload) error {
	if w.Existing != nil {
		d.namespaces[name] = w.Existing.Namespace
		_, err := d.kube.api.CoreV1().Namespaces().Get(ctx, w.Existing.Namespace, metav1.GetOptions{})
		return err
	}
	namespace := w.Namespace
	if namespace == "" {
		namespace = "rebound-" + d.run + "-" + name
	}
	d.namespaces[name] = namespace
	if slices.Contains(d.own, namespace) {
		return nil // two workloads share it
	}
	return d.createNamespace(ctx, namespace)
}

// createNamespace makes a namespace of ours and waits for its default service account: pods made earlier are refused,
// and their controller comes back to them only after a back-off.
func (d *deployment) createNamespace(ctx context.Context, namespace string) error {
	_, err := d.kube.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: d.labels()},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	d.own = append(d.own, namespace)
	err = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 30*time.Second, true,
		func(ctx context.Context) (bool, error) {
			_, err := d.kube.api.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil, err
		})
	if err != nil {
		return fmt.Errorf("default service account of namespace %s: %w", namespace, err)
	}
	return nil
}

func (d *deployment) labels() map[string]string {
	return map[string]string{clusters.LabelManaged: "true", clusters.LabelRun: d.run}
}

// apply creates or updates one object, unknown fields refused.
func (d *deployment) apply(ctx context.Context, namespace string, object *unstructured.Unstructured) error {
	what := object.GetKind() + " " + object.GetName()
	kind := object.GroupVersionKind()
	mapping, err := d.kube.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if mapping.Scope.Name() == "namespace" {
		if own := object.GetNamespace(); own != "" && own != namespace {
			return fmt.Errorf("%s: the manifest puts it into namespace %s, the workload is in %s "+
				"(leave metadata.namespace out, or set the workload's namespace)", what, own, namespace)
		}
		object.SetNamespace(namespace)
	}
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for key, value := range d.labels() {
		labels[key] = value
	}
	object.SetLabels(labels)
	client, err := d.kube.resource(kind, namespace)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	data, err := object.MarshalJSON()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, err = client.Patch(ctx, object.GetName(), "application/apply-patch+yaml", data, metav1.PatchOptions{
		FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict, Force: new(true),
	})
	if err != nil {
		return fmt.Errorf("apply %s: %w", what, err)
	}
	return nil
}

// workloadObjects returns what a workload consists of, in the order of its files.
func workloadObjects(s *scenarios.Scenario, w scenarios.Workload, namespace, programImage string) (
	[]*unstructured.Unstructured, error) {
	if w.Demo != nil {
		var out []*unstructured.Unstructured
		for _, object := range demo.Objects(namespace, programImage, w.Demo.Replicas, w.Demo.Env) {
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
			if err != nil {
				return nil, fmt.Errorf("demo: %w", err)
			}
			delete(content, "status")
			out = append(out, &unstructured.Unstructured{Object: content})
		}
		return out, nil
	}
	var out []*unstructured.Unstructured
	for _, path := range w.Manifests {
		files, err := manifestFiles(filepath.Join(s.Dir, path))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			objects, err := decodeManifest(file)
			if err != nil {
				return nil, err
			}
			out = append(out, objects...)
		}
	}
	return out, nil
}

// manifestFiles returns the file itself, or the YAML and JSON files of a folder in order of name.
func manifestFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
			files = append(files, file)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = errors.New("no YAML or JSON file in it")
	}
	if err != nil {
		return nil, fmt.Errorf("manifest folder %s: %w", path, err)
	}
	return files, nil
}

func decodeManifest(path string) ([]*unstructured.Unstructured, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var out []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", path, err)
		}
		if len(object.Object) == 0 {
			continue // an empty document between two separators
		}
		if object.GetKind() == "" || object.GetName() == "" {
			return nil, fmt.Errorf("manifest %s: an object without kind or metadata.name", path)
		}
		out = append(out, object)
	}
}

// refersTo tells whether WORKLOAD/KIND/NAME means this object of that workload.
func refersTo(text, workload string, object *unstructured.Unstructured) bool {
	ref, err := parseRef(text)
	return err == nil && ref.workload == workload && strings.EqualFold(ref.kind, object.GetKind()) &&
		ref.name == object.GetName()
}

// mergePatch applies an RFC 7386 merge patch to an object.
func mergePatch(object *unstructured.Unstructured, merge map[string]any) error {
	before, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	change, err := json.Marshal(merge)
	if err != nil {
		return err
	}
	after, err := jsonpatch.MergePatch(before, change)
	if err != nil {
		return err
	}
	return object.UnmarshalJSON(after)
}

// loadImages puts the local images that a scenario names into every node. They are loaded each time: under the same
// name there may be another image than last time.
func loadImages(ctx context.Context, provider clusters.Provider, nodes []clusters.Node, s *scenarios.Scenario) error {
	wanted := map[string]bool{}
	for _, w := range s.Spec.Workloads {
		for _, ref := range w.Images {
			wanted[ref] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	source, ok := provider.(clusters.ImageSource)
	if !ok {
		return errors.New("this provider cannot load local images: leave images out, and have the nodes pull them")
	}
	holders := make([]clusters.ImageHolder, 0, len(nodes))
	for _, node := range nodes {
		holder, ok := node.(clusters.ImageHolder)
		if !ok {
			return fmt.Errorf("node %s takes no images", node.Name())
		}
		holders = append(holders, holder)
	}
	for _, ref := range sortedKeys(wanted) {
		group, grouped := errgroup.WithContext(ctx)
		for _, holder := range holders {
			group.Go(func() error { return loadImage(grouped, source, ref, holder) })
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
	}
	return nil
}

// loadImage carries one image from the engine into one node, without a file between the two.
func loadImage(ctx context.Context, source clusters.ImageSource, ref string, node clusters.ImageHolder) error {
	reader, writer := io.Pipe()
	saved := make(chan error, 1)
	go func() {
		err := source.SaveImage(ctx, ref, writer)
		saved <- err
		writer.CloseWithError(err)
	}()
	loadErr := node.LoadImage(ctx, reader)
	reader.CloseWithError(io.ErrClosedPipe) // a node that refuses leaves the rest unread
	saveErr := <-saved
	if loadErr != nil && errors.Is(saveErr, io.ErrClosedPipe) {
		return loadErr // the engine could not go on because the node would not
	}
	return errors.Join(loadErr, saveErr)
}
