package recorder

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/rebound-chaos/rebound/assertions"
)

const (
	// firstPause and maxPause bound the time between two tries; the first retry comes at once.
	firstPause = 50 * time.Millisecond
	maxPause   = 500 * time.Millisecond
	// listLimit bounds one list.
	listLimit = 10 * time.Second
	// quiet is how long a resumed watch must be silent to have delivered what it missed: the server sends its backlog
	// first, at once.
	quiet = 50 * time.Millisecond
)

// lister lists and watches one resource in one namespace.
type lister interface {
	List(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// restLister asks for a built-in type; the client's own retries are off, since they would hide a break.
type restLister struct {
	client    rest.Interface
	namespace string
	resource  string
}

func (l restLister) get(opts *metav1.ListOptions) *rest.Request {
	req := l.client.Get().MaxRetries(0).Resource(l.resource).VersionedParams(opts, scheme.ParameterCodec)
	if l.namespace != "" {
		req = req.Namespace(l.namespace)
	}
	return req
}

func (l restLister) List(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	return l.get(&opts).Do(ctx).Get()
}

func (l restLister) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	return l.get(&opts).Watch(ctx)
}

// sink turns the objects of one watch into facts. It keeps slim copies only, and returns a fact only where its slim
// state changed. One goroutine calls it.
type sink interface {
	// see takes an object as it is now, or as it was last where it is gone.
	see(obj runtime.Object, gone bool) []assertions.Fact
	// keep says that of all objects only these are left.
	keep(uids map[types.UID]bool) []assertions.Fact
}

// watcher follows one resource in one namespace: list, watch, resume, relist.
type watcher struct {
	source    string
	name      string // for messages
	lister    lister
	sink      sink
	store     *store
	beats     *heartbeat
	skipFirst bool // what is there already when the watch begins is no fact (events)

	synced chan struct{} // closed after the first list
	once   sync.Once
	mu     sync.Mutex
	err    error

	version    string        // where the watch stands; empty: list first
	alive      time.Duration // last proof of life
	comparable bool          // versions can be compared with the heartbeat's
}

func (w *watcher) String() string { return w.name }

func (w *watcher) lastError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return errors.New("no answer")
	}
	return w.err
}

func (w *watcher) setError(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// run watches until ctx ends. A break opens a gap at the last proof of life; it is closed once everything that was
// missed has been seen.
func (w *watcher) run(ctx context.Context) {
	w.alive = w.store.clock.Now()
	pause := time.Duration(0)
	for ctx.Err() == nil {
		started := w.store.clock.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("watch was closed by the server")
		}
		w.setError(err)
		w.store.blind(w, w.source, w.alive, fmt.Sprintf("%s: %v", w.name, err))
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			w.version = ""
		}
		if w.store.clock.Now()-started > maxPause {
			pause = 0
		}
		sleep(ctx, pause)
		pause = min(max(2*pause, firstPause), maxPause)
	}
}

// follow lists where it must, watches, and returns why it ended.
func (w *watcher) follow(ctx context.Context) error {
	if w.version == "" {
		if err := w.list(ctx); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var conn life
	from := metav1.ListOptions{ResourceVersion: w.version, AllowWatchBookmarks: true}
	stream, err := w.lister.Watch(conn.follow(ctx), from)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer stream.Stop()
	w.alive = max(w.alive, w.store.clock.Now())
	caughtUp := time.NewTimer(quiet)
	defer caughtUp.Stop()
	behind := true
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-caughtUp.C:
			behind = false
			w.store.sees(w, true)
		case event, ok := <-stream.ResultChan():
			if !ok {
				w.alive = conn.last(w.alive)
				return nil
			}
			if event.Type == watch.Error { // made by the client itself where the connection is lost
				w.alive = conn.last(w.alive)
				return apierrors.FromObject(event.Object)
			}
			w.alive = w.store.clock.Now()
			if err := w.take(event); err != nil {
				return err
			}
			if behind {
				caughtUp.Reset(quiet)
			}
		}
	}
}

// list sees everything that is there now. Facts that it brings happened after the last version seen before, no matter
// what version they carry themselves: several changes may have been folded into one.
func (w *watcher) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	before := w.beats.latest()
	list, err := w.lister.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return fmt.Errorf("answer is no list: %w", err)
	}
	first := !w.hasSynced()
	since := time.Duration(0)
	if !first {
		since = w.bound(w.version)
	}
	uids := map[types.UID]bool{}
	err = meta.EachListItem(list, func(obj runtime.Object) error {
		m, err := meta.Accessor(obj)
		if err != nil {
			return err
		}
		uids[m.GetUID()] = true
		facts := w.sink.see(obj, false)
		if !first || !w.skipFirst {
			w.store.addFacts(since, facts)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("item of the list: %w", err)
	}
	w.store.addFacts(since, w.sink.keep(uids))
	w.version = accessor.GetResourceVersion()
	w.comparable = w.beats.comparable(ctx, before, w.version)
	w.alive = w.store.clock.Now()
	w.store.sees(w, false)
	w.once.Do(func() { close(w.synced) })
	return nil
}

func (w *watcher) hasSynced() bool {
	select {
	case <-w.synced:
		return true
	default:
		return false
	}
}

// take handles one event of the watch.
func (w *watcher) take(event watch.Event) error {
	m, err := meta.Accessor(event.Object)
	if err != nil {
		return fmt.Errorf("event %s: %w", event.Type, err)
	}
	version := m.GetResourceVersion()
	switch event.Type {
	case watch.Bookmark:
	case watch.Added, watch.Modified, watch.Deleted:
		w.store.addFacts(w.bound(version), w.sink.see(event.Object, event.Type == watch.Deleted))
	default:
		return fmt.Errorf("unknown event %s", event.Type)
	}
	w.version = version
	return nil
}

// bound is the earliest moment at which a change with this version can have happened, zero where that is unknown.
func (w *watcher) bound(version string) time.Duration {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil || !w.comparable {
		return 0
	}
	return w.beats.before(n)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
