package recorder

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// beatLimit is how long one write may take before the API server counts as not taking writes.
const beatLimit = time.Second

// heartbeat writes a small object again and again. The store behind the API orders all writes by their version, so a
// change with version r did not happen before the start of the latest of our writes whose version is below r.
type heartbeat struct {
	store     *store
	client    *client
	namespace string
	name      string
	id        string
	interval  time.Duration

	writing sync.Mutex // one write at a time
	count   uint64
	mu      sync.Mutex
	beats   []beat
}

// beat is one acknowledged write.
type beat struct {
	start   time.Duration
	version uint64
}

func newHeartbeat(store *store, client *client, opts Options) *heartbeat {
	return &heartbeat{
		store: store, client: client, namespace: opts.Namespace, name: "rebound-heartbeat-" + opts.Run, id: opts.Run,
		interval: opts.Heartbeat,
	}
}

func (h *heartbeat) object() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: h.name, Labels: ourLabels(h.id)},
		Data:       map[string]string{"beat": strconv.FormatUint(h.count, 10)},
	}
}

// first makes the object.
func (h *heartbeat) first(ctx context.Context) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	start := h.store.clock.Now()
	created, err := h.client.api.CoreV1().ConfigMaps(h.namespace).Create(ctx, h.object(), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	h.remember(start, created.ResourceVersion)
	return nil
}

func (h *heartbeat) remember(start time.Duration, version string) {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return // versions of this server are opaque: no bounds
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := len(h.beats); k == 0 || h.beats[k-1].version < n {
		h.beats = append(h.beats, beat{start, n})
	}
}

// write updates the object once.
func (h *heartbeat) write(ctx context.Context) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, beatLimit)
	defer cancel()
	h.count++
	start := h.store.clock.Now()
	var answer corev1.ConfigMap
	err := h.client.api.CoreV1().RESTClient().Put().MaxRetries(0).Namespace(h.namespace).Resource("configmaps").
		Name(h.name).Body(h.object()).Do(ctx).Into(&answer)
	if err != nil {
		return err
	}
	h.remember(start, answer.ResourceVersion)
	return nil
}

// run writes at each interval until ctx ends. From the last good write's start to the next good one's end the API
// server took no write, as far as we know: a gap of SourceAPI.
func (h *heartbeat) run(ctx context.Context) {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	good := h.store.clock.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		start := h.store.clock.Now()
		err := h.write(ctx)
		var status apierrors.APIStatus
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			h.store.sees(h, false)
			good = start
		case errors.As(err, &status) && status.Status().Code == 404:
			// The object or its namespace was taken away; the server is well.
			if createErr := h.first(ctx); createErr == nil {
				good = start
			}
		default:
			h.store.blind(h, SourceAPI, good, fmt.Sprintf("heartbeat: %v", err))
		}
	}
}

// before returns the start of the latest write that came before the version, zero where there was none.
func (h *heartbeat) before(version uint64) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := sort.Search(len(h.beats), func(i int) bool { return h.beats[i].version >= version })
	if i == 0 {
		return 0
	}
	return h.beats[i-1].start
}

// latest is the version of the last write, zero where there was none.
func (h *heartbeat) latest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.beats) == 0 {
		return 0
	}
	return h.beats[len(h.beats)-1].version
}

// comparable tells whether a list's version counts in the same sequence as our writes: it must lie between the last
// write before the list and one after it. Resources may be kept in stores of their own (events often are).
func (h *heartbeat) comparable(ctx context.Context, before uint64, version string) bool {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil || h.interval <= 0 || before == 0 || n < before {
		return false
	}
	if err := h.write(ctx); err != nil {
		return false
	}
	return n <= h.latest()
}
