package recorder

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// fakeAPI is an API server in memory: one sequence of versions, lists, watches that resume, expiry, and outages.
type fakeAPI struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	version int
	objects map[string]map[string]runtime.Object // by collection and name
	history []fakeEvent
	oldest  int // watches from before this version get 410
	away    bool
	changed chan struct{}
	asked   []string // versions that watches of pods began from
}

type fakeEvent struct {
	collection string
	version    int
	kind       watch.EventType
	body       []byte
}

// lists names the list types of the collections that the recorder asks for.
var lists = map[string]string{
	"nodes": "v1 NodeList", "pods": "v1 PodList", "events": "v1 EventList", "replicasets": "apps/v1 ReplicaSetList",
	"deployments": "apps/v1 DeploymentList", "statefulsets": "apps/v1 StatefulSetList",
	"daemonsets": "apps/v1 DaemonSetList",
	"jobs":       "batch/v1 JobList", "endpointslices": "discovery.k8s.io/v1 EndpointSliceList",
	"widgets": "example.com/v1 WidgetList",
}

func newFakeAPI(t *testing.T) *fakeAPI {
	f := &fakeAPI{t: t, version: 100, objects: map[string]map[string]runtime.Object{}, changed: make(chan struct{})}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

func (f *fakeAPI) config() *rest.Config { return &rest.Config{Host: f.server.URL} }

// put stores the object under the collection, as a new version, and tells the watches. It returns the version.
func (f *fakeAPI) put(collection string, obj runtime.Object) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := obj.(metav1.Object)
	kind := watch.Modified
	if f.objects[collection] == nil {
		f.objects[collection] = map[string]runtime.Object{}
	}
	if _, known := f.objects[collection][m.GetName()]; !known {
		kind = watch.Added
	}
	f.objects[collection][m.GetName()] = obj
	return f.record(collection, kind, obj)
}

func (f *fakeAPI) remove(collection, name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	obj := f.objects[collection][name]
	delete(f.objects[collection], name)
	return f.record(collection, watch.Deleted, obj)
}

// record gives the object its version and keeps the event; f.mu is held.
func (f *fakeAPI) record(collection string, kind watch.EventType, obj runtime.Object) int {
	f.version++
	obj.(metav1.Object).SetResourceVersion(strconv.Itoa(f.version))
	body, err := json.Marshal(obj)
	if err != nil {
		f.t.Error(err)
	}
	f.history = append(f.history, fakeEvent{collection, f.version, kind, body})
	f.wake()
	return f.version
}

// bookmark tells the watches of a collection where they stand.
func (f *fakeAPI) bookmark(collection string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.record(collection, watch.Bookmark, &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}})
}

// again repeats the last event of a collection, as it was.
func (f *fakeAPI) again(collection string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.history) - 1; i >= 0; i-- {
		if e := f.history[i]; e.collection == collection {
			f.version++ // of the place in the history only
			e.version = f.version
			f.history = append(f.history, e)
			f.wake()
			return
		}
	}
}

func (f *fakeAPI) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// leave takes the server away: connections end, and new requests get 503.
func (f *fakeAPI) leave() {
	f.mu.Lock()
	f.away = true
	f.mu.Unlock()
	f.server.CloseClientConnections()
}

// back brings it back; with forget, it has forgotten what happened before now, as after compaction.
func (f *fakeAPI) back(forget bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = false
	if forget {
		f.oldest = f.version
		f.history = nil
	}
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	away := f.away
	f.mu.Unlock()
	if away {
		f.status(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
		return
	}
	collection := strings.TrimPrefix(r.URL.Path, "/")
	_, isList := lists[path.Base(collection)]
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		f.watch(w, r, collection)
	case r.Method == http.MethodGet && isList:
		f.list(w, collection)
	case r.Method == http.MethodGet:
		f.get(w, path.Dir(collection), path.Base(collection))
	case r.Method == http.MethodPost && path.Base(collection) == "namespaces":
		f.status(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
	case r.Method == http.MethodPost, r.Method == http.MethodPut:
		f.write(w, r)
	case r.Method == http.MethodDelete:
		f.json(w, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess})
	default:
		f.t.Errorf("unexpected %s %s", r.Method, r.URL)
	}
}

func (f *fakeAPI) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.t.Log(err) // the client has gone
	}
}

func (f *fakeAPI) status(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	f.json(w, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: reason,
		Code: int32(code),
	})
}

func (f *fakeAPI) get(w http.ResponseWriter, collection, name string) {
	f.mu.Lock()
	obj, ok := f.objects[collection][name]
	f.mu.Unlock()
	if !ok {
		f.status(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	f.json(w, obj)
}

// write stands for the heartbeat's object: each write is a new version.
func (f *fakeAPI) write(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	f.version++
	version := f.version
	f.mu.Unlock()
	f.json(w, corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "beat", ResourceVersion: strconv.Itoa(version)},
	})
}

func (f *fakeAPI) list(w http.ResponseWriter, collection string) {
	apiVersion, kind, _ := strings.Cut(lists[path.Base(collection)], " ")
	f.mu.Lock()
	items := []json.RawMessage{}
	for _, obj := range f.objects[collection] {
		b, err := json.Marshal(obj)
		if err != nil {
			f.t.Error(err)
		}
		items = append(items, b)
	}
	version := f.version
	f.mu.Unlock()
	f.json(w, map[string]any{
		"apiVersion": apiVersion, "kind": kind, "items": items,
		"metadata": map[string]string{"resourceVersion": strconv.Itoa(version)},
	})
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, collection string) {
	from := r.URL.Query().Get("resourceVersion")
	since, err := strconv.Atoi(from)
	if err != nil {
		f.t.Errorf("watch from version %q", from)
	}
	w.Header().Set("Content-Type", "application/json")
	f.mu.Lock()
	if path.Base(collection) == "pods" {
		f.asked = append(f.asked, from)
	}
	expired := since < f.oldest
	f.mu.Unlock()
	if expired {
		fmt.Fprint(w, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure",`,
			`"reason":"Expired","code":410}}`)
		return
	}
	for {
		f.mu.Lock()
		var due []fakeEvent
		for _, e := range f.history {
			if e.collection == collection && e.version > since {
				due = append(due, e)
			}
		}
		changed := f.changed
		f.mu.Unlock()
		for _, e := range due {
			fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", e.kind, e.body)
			since = e.version
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}
