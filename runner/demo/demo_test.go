package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of these tests.
const limit = 5 * time.Second

// running is a demo that a test talks to.
type running struct {
	t      *testing.T
	base   string
	client *http.Client
	stop   context.CancelFunc
	done   chan struct{}
	err    error
}

// start runs the demo on a free port. It is stopped, and must have ended, when the test ends.
func start(t *testing.T, opts Options) *running {
	t.Helper()
	opts.Address = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	r := &running{
		t: t, stop: cancel, done: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit},
	}
	go func() {
		defer close(r.done)
		r.err = Run(ctx, opts, writer)
		_ = writer.Close()
	}()
	line := make([]byte, 200)
	n, err := reader.Read(line)
	if err != nil {
		cancel()
		<-r.done
		t.Fatalf("demo did not start: %v", r.err)
	}
	fields := strings.Fields(string(line[:n]))
	r.base = "http://" + fields[len(fields)-1]
	t.Cleanup(func() {
		cancel()
		r.wait()
	})
	return r
}

func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(limit):
		r.t.Fatal("demo did not end")
	}
	return r.err
}

func (r *running) do(method, path, body string) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), nil
	}
	return resp.StatusCode, strings.TrimSpace(string(b)), resp.Header
}

func (r *running) want(method, path string, status int) {
	r.t.Helper()
	if got, body, _ := r.do(method, path, ""); got != status {
		r.t.Errorf("%s %s: %d %s, want %d", method, path, got, body, status)
	}
}

// eventually polls until the status is there.
func (r *running) eventually(path string, status int) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		got, body, _ := r.do(http.MethodGet, path, "")
		if got == status {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: still %d %s, want %d", path, got, body, status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAnswers(t *testing.T) {
	r := start(t, Options{Version: "v7", Pod: "demo-1"})
	status, body, header := r.do(http.MethodGet, "/", "")
	if status != 200 || body != "v7 demo-1" || header.Get(TagHeader) != "v7" {
		t.Errorf("/: %d %q, tag %q", status, body, header.Get(TagHeader))
	}
	for _, path := range []string{"/healthz", "/readyz", "/startupz"} {
		r.want(http.MethodGet, path, 200)
	}
	r.want(http.MethodGet, "/config", 404)
	r.want(http.MethodGet, "/records", 404)
	r.want(http.MethodGet, "/elsewhere", 404)
}

func TestSwitches(t *testing.T) {
	r := start(t, Options{})
	r.want(http.MethodPost, "/switch/unready", 200)
	r.want(http.MethodGet, "/readyz", 503)
	r.want(http.MethodGet, "/healthz", 200)
	r.want(http.MethodPost, "/switch/unready?on=false", 200)
	r.want(http.MethodGet, "/readyz", 200)

	r.want(http.MethodPost, "/switch/slow?delay=150ms", 200)
	begin := time.Now()
	r.want(http.MethodGet, "/", 200)
	if took := time.Since(begin); took < 150*time.Millisecond {
		t.Errorf("slow answer took %v", took)
	}
	r.want(http.MethodPost, "/switch/slow?on=false", 200)

	r.want(http.MethodPost, "/switch/errors?status=502&share=0.25", 200)
	failed := 0
	for range 40 {
		if status, _, _ := r.do(http.MethodGet, "/", ""); status == 502 {
			failed++
		}
	}
	if failed != 10 {
		t.Errorf("%d of 40 answers failed, want exactly a quarter", failed)
	}
	r.want(http.MethodPost, "/switch/errors?on=false", 200)
	r.want(http.MethodGet, "/", 200)

	for path, status := range map[string]int{
		"/switch/explode":              404,
		"/switch/errors?status=200":    400,
		"/switch/errors?share=2":       400,
		"/switch/burn?cores=1000":      400,
		"/switch/slow?delay=5":         400,
		"/switch/hang?when=now":        400,
		"/switch/leak?bytesPerSecond=": 400,
	} {
		r.want(http.MethodPost, path, status)
	}
	r.want(http.MethodGet, "/", 200)
}

func TestHangAnswersNothing(t *testing.T) {
	r := start(t, Options{Switches: Switches{Hang: true}})
	r.client.Timeout = 100 * time.Millisecond
	for _, path := range []string{"/", "/healthz", "/readyz", "/startupz"} {
		r.want(http.MethodGet, path, 0)
	}
	r.want(http.MethodPost, "/switch/hang?on=false", 200)
	r.want(http.MethodGet, "/healthz", 200)
}

func TestCrashEndsAtOnceWithItsCode(t *testing.T) {
	for name, crash := range map[string]func(*testing.T) *running{
		"switch": func(t *testing.T) *running {
			r := start(t, Options{Drain: time.Hour})
			r.do(http.MethodPost, "/switch/crash?code=3", "")
			return r
		},
		"environment": func(t *testing.T) *running {
			return start(t, Options{Switches: Switches{Crash: Crash{On: true, After: 50 * time.Millisecond, Code: 3}}})
		},
		"while draining": func(t *testing.T) *running {
			r := start(t, Options{Drain: time.Hour})
			r.stop()
			r.eventually("/readyz", 503)
			r.do(http.MethodPost, "/switch/crash?code=3", "")
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			var crashed *CrashError
			if err := crash(t).wait(); !errors.As(err, &crashed) || crashed.Code != 3 {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestDrain(t *testing.T) {
	r := start(t, Options{Drain: 400 * time.Millisecond})
	r.want(http.MethodGet, "/readyz", 200)
	begin := time.Now()
	r.stop()
	r.eventually("/readyz", 503)
	r.want(http.MethodGet, "/", 200)
	if err := r.wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < 400*time.Millisecond || took > 2*time.Second {
		t.Errorf("left after %v, want the drain time and little more", took)
	}
	r.want(http.MethodGet, "/", 0)
}

// TestEndsWhileRequestsHang: a request that never ends does not hold the process.
func TestEndsWhileRequestsHang(t *testing.T) {
	r := start(t, Options{Switches: Switches{Delay: time.Hour}})
	var wg sync.WaitGroup
	wg.Go(func() { r.do(http.MethodGet, "/", "") })
	begin := time.Now()
	r.stop()
	if err := r.wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("left after %v", took)
	}
	wg.Wait()
}

func TestStartDelay(t *testing.T) {
	r := start(t, Options{StartDelay: 300 * time.Millisecond})
	r.want(http.MethodGet, "/startupz", 503)
	r.want(http.MethodGet, "/readyz", 503)
	r.want(http.MethodGet, "/healthz", 200)
	r.eventually("/startupz", 200)
	r.want(http.MethodGet, "/readyz", 200)
}

func TestConfig(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		next := path + ".next" // swapped as a whole, as the kubelet does
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	for failure, bad := range map[ConfigFailure]struct {
		path   string
		status int
	}{
		FailUnready: {"/readyz", 503},
		FailError:   {"/", 500},
		FailIgnore:  {"/readyz", 200},
	} {
		t.Run(string(failure), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			write(t, path, "greeting: hello\n")
			r := start(t, Options{Config: path, ConfigFailure: failure, ConfigPoll: 10 * time.Millisecond})
			if _, body, _ := r.do(http.MethodGet, "/config", ""); body != `{"greeting":"hello"}` {
				t.Errorf("config is %s", body)
			}
			write(t, path, "greeting: [hello\n")
			if failure == FailIgnore {
				time.Sleep(100 * time.Millisecond) // long enough for the bad one to be read
			}
			r.eventually(bad.path, bad.status)
			write(t, path, "greeting: again\n")
			r.eventually(bad.path, 200)
			deadline := time.Now().Add(limit)
			for {
				_, body, _ := r.do(http.MethodGet, "/config", "")
				if body == `{"greeting":"again"}` {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("config is still %s", body)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	t.Run("crash", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		write(t, path, "a: b\n")
		opts := Options{Config: path, ConfigFailure: FailCrash, ConfigPoll: 10 * time.Millisecond}
		r := start(t, opts)
		write(t, path, "\t")
		var crashed *CrashError
		if err := r.wait(); !errors.As(err, &crashed) {
			t.Errorf("ended with %v", err)
		}
		opts.Address = "127.0.0.1:0"
		if err := Run(t.Context(), opts, io.Discard); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("started with a bad config: %v", err)
		}
	})
}

// TestRecordsOutliveTheProcess: what was acknowledged is there after a restart, in order, duplicates too; a torn last
// line is not.
func TestRecordsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	list := func(r *running) (ids []string) {
		t.Helper()
		_, body, _ := r.do(http.MethodGet, "/records", "")
		if err := json.Unmarshal([]byte(body), &ids); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return ids
	}
	r := start(t, Options{Data: dir})
	if got := list(r); got == nil || len(got) != 0 {
		t.Errorf("a new demo has records %v", got)
	}
	for _, id := range []string{"b", "a", "b"} {
		if status, body, _ := r.do(http.MethodPut, "/records/"+id, "body"); status != 201 {
			t.Fatalf("put: %d %s", status, body)
		}
	}
	r.do(http.MethodPost, "/switch/crash", "")
	r.wait()
	f, err := os.OpenFile(filepath.Join(dir, "records.ndjson"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":"to`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, Options{Data: dir})
	if status, _, _ := r.do(http.MethodPost, "/records/c", ""); status != 201 {
		t.Errorf("post: %d", status)
	}
	if d := cmp.Diff([]string{"b", "a", "b", "c"}, list(r)); d != "" {
		t.Error(d)
	}
}

func TestLeakAndBurn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	s := newSwitches(ctx, &tasks, make(chan int, 1), Switches{
		Leak: Leak{BytesPerSecond: 10 << 20, MaxBytes: 1<<20 + 5}, BurnCores: 0.2,
	})
	held := func() int64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.heldBytes()
	}
	for deadline := time.Now().Add(limit); held() < 1<<20+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("leaked %d bytes", held())
		}
	}
	time.Sleep(250 * time.Millisecond)
	if got := held(); got != 1<<20+5 {
		t.Errorf("leaked %d bytes past the bound", got)
	}
	if err := s.set(func(s *Switches) { *s = Switches{} }); err != nil {
		t.Fatal(err)
	}
	if got := held(); got != 0 {
		t.Errorf("%d bytes held after the switch was turned off", got)
	}
	cancel()
	tasks.Wait()
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{
		"REBOUND_DEMO_VERSION": "v2", "REBOUND_DEMO_START_DELAY": "10s", "REBOUND_DEMO_CRASH_AFTER": "3s",
		"REBOUND_DEMO_CRASH_CODE": "7", "REBOUND_DEMO_HANG": "true", "REBOUND_DEMO_ERROR_SHARE": "0.5",
		"REBOUND_DEMO_CONFIG_FAILURE": "error", "REBOUND_DEMO_POD": "p", "REBOUND_DEMO_LEAK_BYTES_PER_SECOND": "5",
	}
	got, err := Environment(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		Version: "v2", Pod: "p", StartDelay: 10 * time.Second, Drain: time.Second, ConfigFailure: FailError,
		Switches: Switches{
			Crash: Crash{On: true, After: 3 * time.Second, Code: 7}, Hang: true, Leak: Leak{BytesPerSecond: 5},
			Errors: Errors{Share: 0.5},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	env = map[string]string{"REBOUND_DEMO_START_DELAY": "10", "REBOUND_DEMO_CONFIG_FAILURE": "explode",
		"REBOUND_DEMO_ERROR_SHARE": "7"}
	_, err = Environment(func(name string) string { return env[name] })
	for _, text := range []string{"REBOUND_DEMO_START_DELAY", "REBOUND_DEMO_CONFIG_FAILURE", "share 7"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error does not name %s: %v", text, err)
		}
	}
}

// TestObjectsFitTogether: the Service finds the Deployment's pods and their port, and the mounts their volumes.
func TestObjectsFitTogether(t *testing.T) {
	objects := Objects("ns", "rebound:dev", 3, map[string]string{
		"REBOUND_DEMO_VERSION": "v2", "REBOUND_DEMO_DATA": "/elsewhere",
	})
	var (
		config     *corev1.ConfigMap
		deployment *appsv1.Deployment
		service    *corev1.Service
	)
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.ConfigMap:
			config = o
		case *appsv1.Deployment:
			deployment = o
		case *corev1.Service:
			service = o
		}
	}
	if config == nil || deployment == nil || service == nil {
		t.Fatal("an object is missing")
	}
	pod := deployment.Spec.Template
	container := pod.Spec.Containers[0]
	if *deployment.Spec.Replicas != 3 || container.Image != "rebound:dev" {
		t.Errorf("%d replicas of %s", *deployment.Spec.Replicas, container.Image)
	}
	for what, selector := range map[string]map[string]string{
		"deployment": deployment.Spec.Selector.MatchLabels, "service": service.Spec.Selector,
	} {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s does not select its pods", what)
		}
	}
	if service.Spec.Ports[0].Port != 80 || service.Spec.Ports[0].TargetPort.IntVal != container.Ports[0].ContainerPort {
		t.Errorf("service port %+v, container port %+v", service.Spec.Ports[0], container.Ports[0])
	}
	set := map[string]string{}
	for _, e := range container.Env {
		set[e.Name] = e.Value
	}
	if set["REBOUND_DEMO_VERSION"] != "v2" || set["REBOUND_DEMO_DATA"] != "/elsewhere" {
		t.Errorf("environment %v", set)
	}
	path := set["REBOUND_DEMO_CONFIG"]
	if filepath.Dir(path) != container.VolumeMounts[0].MountPath || config.Data[filepath.Base(path)] == "" {
		t.Errorf("config %s is not what is mounted", path)
	}
	if pod.Spec.Volumes[0].ConfigMap.Name != config.Name {
		t.Errorf("volume of config map %s", pod.Spec.Volumes[0].ConfigMap.Name)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(config.Data[filepath.Base(path)]), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newConfigFile(file)
	if c.reload(); c.err() != nil {
		t.Errorf("the shipped config is bad: %v", c.err())
	}
	if bytes.Contains([]byte(container.Command[0]), []byte(" ")) || container.Command[1] != "demo" {
		t.Errorf("command %q", container.Command)
	}
}
