package prober

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rebound-chaos/rebound/assertions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syncBuffer is a buffer that counts its writes.
type syncBuffer struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes int
	torn   int
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	if !bytes.HasSuffix(p, []byte("\n")) || bytes.Count(p, []byte("\n")) != 1 {
		b.torn++
	}
	return b.buf.Write(p)
}

func httpConfig(t *testing.T, address string, params HTTP, connections Connections) Config {
	t.Helper()
	params.Service = "shop/web"
	raw, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Probe: "front", Vantage: "here", Type: "http", Params: raw, Address: address, Connections: connections,
		Interval: 10 * time.Millisecond, Timeout: 200 * time.Millisecond, MaxDuration: time.Second,
	}
}

func run(t *testing.T, cfg Config) assertions.Stream {
	t.Helper()
	var out syncBuffer
	if err := Run(t.Context(), cfg, &out); err != nil {
		t.Fatal(err)
	}
	if out.torn > 0 {
		t.Errorf("%d of %d writes are not one whole line", out.torn, out.writes)
	}
	stream, err := ReadStream(&out.buf, 0)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// switchable is a server on a fixed address that can be taken away and put back.
type switchable struct {
	address string
	handler http.Handler
	server  *httptest.Server
}

func (s *switchable) up(t *testing.T) {
	t.Helper()
	listen := s.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Error(err)
		return
	}
	s.address = l.Addr().String()
	s.server = httptest.NewUnstartedServer(s.handler)
	if err := s.server.Listener.Close(); err != nil {
		t.Error(err)
	}
	s.server.Listener = l
	s.server.Start()
}

func (s *switchable) down() {
	s.server.CloseClientConnections()
	s.server.Close()
}

// TestOutageIntervalHoldsTheTruth takes a server away for a known time and works the outage out of the samples as
// assertions does: the interval must hold the truth, and be no wider than a few ticks.
func TestOutageIntervalHoldsTheTruth(t *testing.T) {
	for _, connections := range []Connections{New, Reused} {
		t.Run(string(connections), func(t *testing.T) {
			s := &switchable{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(TagHeader, "v1")
			})}
			s.up(t)
			defer func() { s.down() }()
			cfg := httpConfig(t, s.address, HTTP{}, connections)
			cfg.MaxDuration = 1500 * time.Millisecond

			var downLo, downHi, upLo, upHi int64
			var wg sync.WaitGroup
			wg.Go(func() {
				time.Sleep(400 * time.Millisecond)
				downLo = mustNow(t)
				s.down()
				downHi = mustNow(t)
				time.Sleep(437 * time.Millisecond)
				upLo = mustNow(t)
				s.up(t)
				upHi = mustNow(t)
			})
			var out syncBuffer
			if err := Run(t.Context(), cfg, &out); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			stream, err := ReadStream(&out.buf, 0)
			if err != nil {
				t.Fatal(err)
			}
			lo, hi := outage(t, stream)
			trueMin, trueMax := time.Duration(upLo-downHi), time.Duration(upHi-downLo)
			if lo > trueMax || hi < trueMin {
				t.Errorf("outage [%v, %v] does not hold the truth, within [%v, %v]", lo, hi, trueMin, trueMax)
			}
			if hi-lo > 150*time.Millisecond {
				t.Errorf("outage [%v, %v] is %v wide", lo, hi, hi-lo)
			}
			if stream.Samples[0].Tag != "v1" || stream.Samples[0].Status != 200 {
				t.Errorf("first sample is %+v", stream.Samples[0])
			}
		})
	}
}

func mustNow(t *testing.T) int64 {
	t.Helper()
	now, err := Now()
	if err != nil {
		t.Error(err)
	}
	return now
}

// outage works out the single outage of a stream.
func outage(t *testing.T, s assertions.Stream) (lo, hi time.Duration) {
	t.Helper()
	bad := func(s assertions.Sample) bool { return !s.OK }
	first := slices.IndexFunc(s.Samples, bad)
	if first < 1 {
		t.Fatalf("no outage within %d samples", len(s.Samples))
	}
	last := first
	for i, sample := range s.Samples {
		if bad(sample) {
			last = i
		}
	}
	if last == len(s.Samples)-1 {
		t.Fatal("the outage never ended")
	}
	lo = max(0, s.Samples[last].Start-s.Samples[first].End)
	hi = s.Samples[last+1].End - s.Samples[first-1].Start
	return lo, hi
}

// TestOpenLoop asks a server that never answers: the ticks go on as planned, and each sample fails at its own limit.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := Type{Name: "hang", New: func() Params { return &hanging{} }}
		cfg := Config{
			Probe: "p", Type: "hang", Types: []Type{hang}, Address: "192.0.2.1:80", Clock: NewGoClock(),
			Interval: 10 * time.Millisecond, Timeout: 300 * time.Millisecond, MaxDuration: time.Second,
		}
		stream := run(t, cfg)
		if len(stream.Samples) != 100 {
			t.Fatalf("%d samples in 1s at 100/s", len(stream.Samples))
		}
		for i, s := range stream.Samples {
			if s.Due != time.Duration(i)*cfg.Interval || s.Start != s.Due || s.End != s.Due+cfg.Timeout || s.OK {
				t.Fatalf("sample %d is %+v", i, s)
			}
		}
	})
}

// hanging is a probe type whose questions end at their limit only.
type hanging struct{}

func (*hanging) Validate() error { return nil }
func (*hanging) Target() string  { return "a/b" }
func (h *hanging) Asker(string, Connections) (Asker, error) {
	return h, nil
}

func (*hanging) Ask(ctx context.Context, _ uint64) Answer {
	<-ctx.Done()
	return Answer{Error: Classify(ctx.Err())}
}

// TestInFlightIsBounded: a question that outlives its limit costs ticks, never unbounded goroutines.
func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flying, most atomic.Int64
		deaf := &funcType{ask: func(context.Context, uint64) Answer {
			most.Store(max(most.Load(), flying.Add(1)))
			defer flying.Add(-1)
			time.Sleep(5 * time.Second)
			return Answer{}
		}}
		cfg := Config{
			Type: "func", Types: []Type{{Name: "func", New: func() Params { return deaf }}}, Address: "192.0.2.1:80",
			Clock: NewGoClock(), Interval: 10 * time.Millisecond, Timeout: 100 * time.Millisecond, MaxDuration: time.Second,
		}
		stream := run(t, cfg)
		if want := 10 + spareInFlight; int(most.Load()) != want || len(stream.Samples) != want {
			t.Errorf("%d in flight, %d samples; want %d of both", most.Load(), len(stream.Samples), want)
		}
	})
}

type funcType struct {
	ask func(context.Context, uint64) Answer
}

func (*funcType) Validate() error { return nil }
func (*funcType) Target() string  { return "a/b" }
func (f *funcType) Asker(string, Connections) (Asker, error) {
	return f, nil
}
func (f *funcType) Ask(ctx context.Context, seq uint64) Answer { return f.ask(ctx, seq) }

// stalling is a clock that loses a stretch of time at one point, as a paused machine does.
type stalling struct {
	Clock
	at, lost int64
	done     bool
}

func (c *stalling) Wait(ctx context.Context, until int64) error {
	if !c.done && c.Now() >= c.at {
		c.done = true
		time.Sleep(time.Duration(c.lost))
	}
	return c.Clock.Wait(ctx, until)
}

// TestStaleTicksAreLeftOut: after a stall the sampler is back on its schedule, without a burst of everything it missed.
func TestStaleTicksAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick := &funcType{ask: func(context.Context, uint64) Answer { return Answer{} }}
		cfg := Config{
			Type: "func", Types: []Type{{Name: "func", New: func() Params { return quick }}}, Address: "192.0.2.1:80",
			Interval: 10 * time.Millisecond, MaxDuration: time.Second,
			Clock: &stalling{Clock: NewGoClock(), at: int64(300 * time.Millisecond), lost: int64(400 * time.Millisecond)},
		}
		stream := run(t, cfg)
		missed, late := 0, 0
		for i, s := range stream.Samples {
			if i > 0 && s.Due-stream.Samples[i-1].Due > cfg.Interval {
				missed += int((s.Due-stream.Samples[i-1].Due)/cfg.Interval) - 1
			}
			if s.Start-s.Due > catchUp {
				t.Errorf("tick at %v started %v late", s.Due, s.Start-s.Due)
			}
			if s.Start > s.Due {
				late++
			}
		}
		if missed < 30 || missed > 36 || late > 6 {
			t.Errorf("%d ticks left out and %d late after a stall of 40 ticks", missed, late)
		}
	})
}

func TestErrorClasses(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {})
	mux.HandleFunc("/sick", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	mux.HandleFunc("/text", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("all is " + r.Host)) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-hang })
	mux.HandleFunc("/half", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		<-hang
	})
	mux.HandleFunc("/cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(hang)
	here := server.Listener.Addr().String()
	closed := closedAddress(t)

	for _, tc := range []struct {
		name, address, want string
		params              HTTP
		status              int
	}{
		{"good", here, "", HTTP{}, 200},
		{"status", here, "status", HTTP{Path: "/sick"}, 502},
		{"expected status", here, "", HTTP{Path: "/sick", Expect: Expect{Status: 502}}, 502},
		{"other status", here, "status", HTTP{Expect: Expect{Status: 204}}, 200},
		{"redirect", here, "status", HTTP{Path: "/moved"}, 302},
		{"body", here, "body", HTTP{Path: "/text", Expect: Expect{Body: "well"}}, 200},
		{"body found", here, "", HTTP{Path: "/text", Expect: Expect{Body: "shop.test"},
			Headers: map[string]string{"Host": "shop.test"}}, 200},
		{"hang", here, "timeout", HTTP{Path: "/hang"}, 0},
		{"half an answer", here, "timeout", HTTP{Path: "/half"}, 200},
		{"cut", here, "reset", HTTP{Path: "/cut"}, 0},
		{"refused", closed, "refused", HTTP{}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := httpConfig(t, tc.address, tc.params, New)
			cfg.MaxDuration = 30 * time.Millisecond
			stream := run(t, cfg)
			if len(stream.Samples) == 0 {
				t.Fatal("no samples")
			}
			for _, s := range stream.Samples {
				if s.Error != tc.want || s.Status != tc.status || s.OK != (tc.want == "") {
					t.Errorf("sample is %+v, want error %q and status %d", s, tc.want, tc.status)
				}
			}
		})
	}
}

func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// TestConnections counts the connections that the server sees.
func TestConnections(t *testing.T) {
	for connections, reused := range map[Connections]bool{New: false, Reused: true} {
		var opened atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("x"))
		}))
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				opened.Add(1)
			}
		}
		server.Start()
		cfg := httpConfig(t, server.Listener.Addr().String(), HTTP{}, connections)
		cfg.MaxDuration = 300 * time.Millisecond
		samples := len(run(t, cfg).Samples)
		server.Close()
		if got := int(opened.Load()); reused && got > samples/3 || !reused && got != samples {
			t.Errorf("%s: %d connections for %d samples", connections, got, samples)
		}
	}
}

func TestRunEndsOnCancelAndOnWriteError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	cfg := httpConfig(t, server.Listener.Addr().String(), HTTP{}, New)
	cfg.MaxDuration = time.Hour
	cfg.Interval = 20 * time.Minute // the tick to come must not be waited for
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out syncBuffer
	if err := Run(ctx, cfg, &out); err != nil {
		t.Errorf("cancelled run returned %v", err)
	}
	if out.writes != 2 {
		t.Errorf("%d lines, want the header and one sample", out.writes)
	}
	full := errors.New("disk full")
	cfg.Interval = time.Millisecond
	if err := Run(t.Context(), cfg, writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("run with a full disk returned %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestConfigIsRefused(t *testing.T) {
	good := Config{Type: "http", Address: "127.0.0.1:80", Params: json.RawMessage(`{"service":"a/b"}`)}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   error
		text   string
	}{
		"type":        {func(c *Config) { c.Type = "carrier-pigeon" }, ErrUnknownType, "carrier-pigeon"},
		"address":     {func(c *Config) { c.Address = "" }, ErrInvalid, "address"},
		"name":        {func(c *Config) { c.Address = "web:80" }, ErrInvalid, "IP:port"},
		"interval":    {func(c *Config) { c.Interval = -1 }, ErrInvalid, "negative"},
		"connections": {func(c *Config) { c.Connections = "old" }, ErrInvalid, "old"},
		"service":     {func(c *Config) { c.Params = json.RawMessage(`{"service":"web"}`) }, ErrInvalid, "WORKLOAD/SERVICE"},
		"path":        {func(c *Config) { c.Params = json.RawMessage(`{"service":"a/b","path":"x"}`) }, ErrInvalid, "path"},
		"status": {func(c *Config) { c.Params = json.RawMessage(`{"service":"a/b","expect":{"status":20}}`) },
			ErrInvalid, "20"},
		"method": {func(c *Config) { c.Params = json.RawMessage(`{"service":"a/b","method":"G T"}`) },
			ErrInvalid, "method"},
		"unknown key": {func(c *Config) { c.Params = json.RawMessage(`{"service":"a/b","pfad":"/"}`) }, nil, "pfad"},
	} {
		cfg := good
		tc.change(&cfg)
		err := Run(t.Context(), cfg, &syncBuffer{})
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
