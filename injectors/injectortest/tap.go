package injectortest

import (
	"context"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttest "k8s.io/client-go/testing"

	"github.com/rebound-chaos/rebound/injectors"
)

// Tap sees every change that an injector makes, before it is made, and can refuse it. A fixture lays one into its
// world: Clientset for a fake API, Transport for a real one, Node for a node.
type Tap struct {
	mu   sync.Mutex
	gate func() error
}

// Change is called before a change; where it returns an error the change must not be made.
func (t *Tap) Change() error {
	t.mu.Lock()
	gate := t.gate
	t.mu.Unlock()
	if gate == nil {
		return nil
	}
	return gate()
}

// set makes gate judge every change from now on; nil lets all pass.
func (t *Tap) set(gate func() error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gate = gate
}

// Clientset lays the tap into a fake clientset, and makes it honour UID preconditions of deletions, which it would
// ignore. It still knows no evictions, dry runs, field managers, garbage collection or controllers.
func (t *Tap) Clientset(c *fake.Clientset) {
	c.PrependReactor("delete", "*", func(a clienttest.Action) (bool, runtime.Object, error) {
		del, ok := a.(clienttest.DeleteActionImpl)
		if !ok || del.DeleteOptions.Preconditions == nil || del.DeleteOptions.Preconditions.UID == nil {
			return false, nil, nil
		}
		object, err := c.Tracker().Get(a.GetResource(), a.GetNamespace(), del.Name)
		if err != nil {
			return true, nil, err
		}
		found, err := meta.Accessor(object)
		if err != nil {
			return true, nil, err
		}
		if found.GetUID() != *del.DeleteOptions.Preconditions.UID {
			return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), del.Name, errOtherUID)
		}
		return false, nil, nil
	})
	c.PrependReactor("*", "*", func(a clienttest.Action) (bool, runtime.Object, error) {
		switch a.GetVerb() {
		case "create", "update", "patch", "delete", "delete-collection":
			err := t.Change()
			return err != nil, nil, err
		}
		return false, nil, nil
	})
}

// Transport lays the tap into the transport of a real client (rest.Config.Wrap).
func (t *Tap) Transport(next http.RoundTripper) http.RoundTripper { return &transport{t, next} }

type transport struct {
	tap  *Tap
	next http.RoundTripper
}

// RoundTrip lets reading pass, and asks the tap about everything else.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if err := t.tap.Change(); err != nil {
			if r.Body != nil {
				_ = r.Body.Close() // a RoundTripper has to; nothing was read from it
			}
			return nil, err
		}
	}
	return t.next.RoundTrip(r)
}

// Node lays the tap into a node. reads says of a command that it changes nothing; nil means that every command changes
// something.
func (t *Tap) Node(n injectors.Node, reads func(argv []string) bool) injectors.Node {
	return &node{n, t, reads}
}

type node struct {
	injectors.Node
	tap   *Tap
	reads func([]string) bool
}

// Exec asks the tap before the command runs.
func (n *node) Exec(ctx context.Context, argv ...string) ([]byte, error) {
	if n.reads == nil || !n.reads(argv) {
		if err := n.tap.Change(); err != nil {
			return nil, err
		}
	}
	return n.Node.Exec(ctx, argv...)
}
