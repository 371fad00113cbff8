package injectortest_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/injectortest"
)

// world is a cluster of which there is just an API.
type world struct{ api kubernetes.Interface }

func (w world) API() kubernetes.Interface { return w.api }
func (w world) Node(name string) (injectors.Node, error) {
	return nil, errors.New("no node access: " + name)
}

func greeting(name string, uid types.UID, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: uid},
		Data:       map[string]string{"greeting": text, "other": "kept"},
	}
}

// set writes a greeting as somebody who knows nothing of the fault.
func set(text string) func(context.Context, injectors.World, injectors.Target) error {
	return func(ctx context.Context, w injectors.World, t injectors.Target) error {
		for _, o := range t.Objects {
			patch, err := json.Marshal(map[string]any{"data": map[string]string{"greeting": text}})
			if err != nil {
				return err
			}
			if _, err := w.API().CoreV1().ConfigMaps(o.Namespace).Patch(
				ctx, o.Name, types.MergePatchType, patch, metav1.PatchOptions{},
			); err != nil {
				return err
			}
		}
		return nil
	}
}

func remove(ctx context.Context, w injectors.World, t injectors.Target) error {
	for _, o := range t.Objects {
		if err := w.API().CoreV1().ConfigMaps(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func recreate(ctx context.Context, w injectors.World, t injectors.Target) error {
	if err := remove(ctx, w, t); err != nil {
		return err
	}
	for _, o := range t.Objects {
		// As the fault would leave it: only the UID says that it is another one.
		newcomer := greeting(o.Name, types.UID(o.UID+"-new"), "broken")
		if _, err := w.API().CoreV1().ConfigMaps(o.Namespace).Create(ctx, newcomer, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// data is what all ConfigMaps hold, without UIDs and versions.
func data(ctx context.Context, w injectors.World, _ injectors.Target) (string, error) {
	list, err := w.API().CoreV1().ConfigMaps("shop").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	all := map[string]map[string]string{}
	for _, m := range list.Items {
		all[m.Name] = m.Data
	}
	text, err := json.Marshal(all)
	return string(text), err
}

func fixture() injectortest.Fixture {
	return injectortest.Fixture{
		World: func(_ *testing.T, tap *injectortest.Tap) (injectors.World, injectors.Target) {
			api := fake.NewClientset(greeting("one", "uid-1", "hello"), greeting("two", "uid-2", "hello"))
			tap.Clientset(api)
			return world{api}, injectors.Target{Objects: []injectors.Object{
				{Kind: "ConfigMap", Namespace: "shop", Name: "one", UID: "uid-1"},
				{Kind: "ConfigMap", Namespace: "shop", Name: "two", UID: "uid-2"},
			}}
		},
		Params:   `{"key": "greeting"}`,
		Refused:  []string{`{"key": ""}`, `{"key": 1}`, `{"keys": "greeting"}`},
		State:    data,
		Remove:   remove,
		Recreate: recreate,
		Heal:     set("hello"),
		Meddle:   set("somebody else's"),
	}
}

func TestGreetingConforms(t *testing.T) {
	injectortest.Run(t, breakGreeting(), fixture())
}

// The example of ADDING.md is the one that the suite has tried.
func TestAddingShowsTheExample(t *testing.T) {
	source, err := os.ReadFile("break_greeting_test.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../ADDING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(source), ")\n\n")
	if !found || !strings.Contains(string(page), strings.TrimSpace(example)) {
		t.Error("ADDING.md does not show break_greeting_test.go as it is")
	}
}
