package recorder

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/jsonpath"

	"github.com/rebound-chaos/rebound/assertions"
)

// fieldLister lists and watches one object of any type.
type fieldLister struct {
	resource dynamic.ResourceInterface
	name     string
}

func (l fieldLister) only(opts metav1.ListOptions) metav1.ListOptions {
	opts.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, l.name).String()
	return opts
}

func (l fieldLister) List(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	return l.resource.List(ctx, l.only(opts))
}

func (l fieldLister) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	return l.resource.Watch(ctx, l.only(opts))
}

// fieldSlimmer takes one field out of an object, as text.
func fieldSlimmer(field Field) (func(runtime.Object) (assertions.Fact, bool), error) {
	path := jsonpath.New(field.Path).AllowMissingKeys(true)
	if err := path.Parse("{." + strings.TrimPrefix(field.Path, ".") + "}"); err != nil {
		return nil, fmt.Errorf("path %q: %w", field.Path, err)
	}
	return func(obj runtime.Object) (assertions.Fact, bool) {
		object, ok := obj.(*unstructured.Unstructured)
		if !ok {
			return assertions.Fact{}, false
		}
		state := &assertions.FieldState{Object: field.Ref, Path: field.Path}
		// An error means that the path leads through something that is not there or of another shape: no such field.
		if found, err := path.FindResults(object.Object); err == nil {
			state.Value, state.Present = fieldText(found)
		}
		return assertions.Fact{Field: state}, true
	}, nil
}

// fieldText prints what a path found: bare scalars, JSON for the rest, several results one a line.
func fieldText(found [][]reflect.Value) (string, bool) {
	var texts []string
	for _, set := range found {
		for _, v := range set {
			if !v.IsValid() || !v.CanInterface() {
				continue
			}
			if s, ok := v.Interface().(string); ok {
				texts = append(texts, s)
				continue
			}
			b, err := json.Marshal(v.Interface())
			if err != nil {
				continue // what came out of JSON goes back into it
			}
			texts = append(texts, string(b))
		}
	}
	return strings.Join(texts, "\n"), len(texts) > 0
}
