package recorder

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

var errBroken = errors.New("node broke")

// fileNode is a node whose files are those of the test, and whose connections break.
type fileNode struct {
	t *testing.T

	mu      sync.Mutex
	broken  bool // nothing works
	after   int  // a stream breaks after so many bytes; never where zero
	streams int
	boot    string
	timers  func() string
}

func (n *fileNode) Name() string { return "w1" }

func (n *fileNode) read(argv []string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken {
		return nil, errBroken
	}
	from, err := strconv.ParseInt(argv[2], 10, 64)
	if err != nil || argv[0] != "tail" || argv[1] != "-c" {
		n.t.Errorf("unexpected command %q", argv)
	}
	all, err := os.ReadFile(argv[len(argv)-1])
	if err != nil {
		return nil, err
	}
	return all[min(from-1, int64(len(all))):], nil
}

func (n *fileNode) Exec(_ context.Context, argv ...string) ([]byte, error) {
	switch argv[0] {
	case "cat":
		return []byte(n.boot + "\n"), nil
	case "grep":
		return []byte(n.timers()), nil
	}
	return n.read(argv)
}

// streamNode can also follow.
type streamNode struct{ *fileNode }

func (n streamNode) Stream(ctx context.Context, _ io.Reader, out io.Writer, argv ...string) error {
	n.mu.Lock()
	n.streams++
	n.mu.Unlock()
	if !slices.Contains(argv, "-F") || !slices.Contains(argv, "--pid=7") {
		n.t.Errorf("stream does not end with the prober: %q", argv)
	}
	sent := 0
	for {
		left, err := n.read(argv)
		if err != nil {
			return err
		}
		left = left[sent:]
		if n.after > 0 && sent+len(left) > n.after { // torn in the middle of a line
			left = left[:n.after-sent]
		}
		if _, err := out.Write(left); err != nil {
			return err
		}
		if sent += len(left); n.after > 0 && sent == n.after {
			return errBroken
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func testClock(boot string) *Clock {
	began := time.Now()
	return &Clock{zero: 1000, boot: boot, now: func() int64 { return 1000 + int64(time.Since(began)) }}
}

// writeSamples appends samples as a prober does, one write each, and ends with half a line.
func writeSamples(t *testing.T, file string, n int, pause time.Duration) {
	t.Helper()
	f, err := prober.OpenLog(file)
	if err != nil {
		t.Error(err)
		return
	}
	put := func(r prober.Record) {
		line, err := r.Encode()
		if err != nil {
			t.Error(err)
		}
		if _, err := f.Write(line); err != nil {
			t.Error(err)
		}
	}
	put(prober.Record{Header: &prober.Header{Format: prober.Format, BootID: "b", PID: 7, Start: 1000}})
	for i := range int64(n) {
		at := 1000 + i*int64(time.Millisecond)
		put(prober.Record{Point: &prober.Point{Due: at, Start: at, End: at + 5, OK: true}})
		time.Sleep(pause)
	}
	if _, err := f.Write([]byte(`{"due":`)); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestFollowLosesNothing follows a file through nodes that break in every way, and reads the rest at the end.
func TestFollowLosesNothing(t *testing.T) {
	const samples = 300
	for name, tc := range map[string]struct {
		node  func(*fileNode) Node
		after int
	}{
		"stream":         {func(n *fileNode) Node { return streamNode{n} }, 0},
		"torn stream":    {func(n *fileNode) Node { return streamNode{n} }, 1501},
		"exec only":      {func(n *fileNode) Node { return n }, 0},
		"breaks for all": {func(n *fileNode) Node { return streamNode{n} }, 7001},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "front.ndjson")
			raw := &fileNode{t: t, after: tc.after}
			s := newStore(testClock("b"), "r", "s")
			run := &probeRun{node: tc.node(raw), file: file, probe: Probe{
				Name: "front", Node: "w1", Interval: time.Millisecond, Timeout: time.Second,
			}}
			f := newFollower(s, run, Offset{Shared: true})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() { f.run(ctx) })
			wg.Go(func() { writeSamples(t, file, samples, time.Millisecond) })
			select {
			case <-f.first:
			case <-time.After(limit):
				t.Fatal("no sample arrived")
			}
			if name == "breaks for all" {
				raw.mu.Lock()
				raw.broken = true
				raw.mu.Unlock()
			}
			time.Sleep(500 * time.Millisecond)
			cancel()
			wg.Wait()
			raw.mu.Lock()
			raw.broken = false
			raw.mu.Unlock()
			if err := f.rest(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := s.snapshot().Streams[0]
			if len(got.Samples) != samples {
				t.Fatalf("%d samples, want %d", len(got.Samples), samples)
			}
			for i, sample := range got.Samples {
				if want := time.Duration(i) * time.Millisecond; sample.Start != want || sample.End != want+5 {
					t.Fatalf("sample %d is %+v", i, sample)
				}
			}
		})
	}
}

// TestRestReportsABrokenNode: samples that cannot be read any more are an error, within the limit given.
func TestRestReportsABrokenNode(t *testing.T) {
	s := newStore(testClock("b"), "r", "s")
	run := &probeRun{node: &fileNode{t: t, broken: true}, file: "x", probe: Probe{Name: "front", Node: "w1"}}
	f := newFollower(s, run, Offset{Shared: true})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := f.rest(ctx); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

// TestRebootedNode: samples by a clock that was never compared are left out, and show as a hole.
func TestRebootedNode(t *testing.T) {
	s := newStore(testClock("b"), "r", "s")
	run := &probeRun{node: &fileNode{t: t}, file: "x", probe: Probe{Name: "front", Node: "w1", Interval: 1, Timeout: 1}}
	f := newFollower(s, run, Offset{Shared: true})
	for _, text := range []string{
		`{"format":"rebound-samples/1","bootID":"b","pid":7}`, `{"due":1001,"start":1001,"end":1002,"ok":true}`, `{"due":10`,
		`{"format":"rebound-samples/1","bootID":"c","pid":8}`, `{"due":5,"start":5,"end":6,"ok":true}`,
		`{"format":"rebound-samples/1","bootID":"b","pid":9}`, `{"due":1010,"start":1010,"end":1011,"ok":true}`,
	} {
		if _, err := io.Copy(f, bytes.NewBufferString(text+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	tl := s.snapshot()
	if got := tl.Streams[0].Samples; len(got) != 2 || got[0].Start != 1 || got[1].Start != 10 {
		t.Errorf("samples %+v", got)
	}
	if len(tl.Gaps) != 1 || tl.Gaps[0].Source != "probe:front" || tl.Gaps[0].From != 1 || tl.Gaps[0].To != 10 {
		t.Errorf("gaps %+v", tl.Gaps)
	}
}

// TestCompare: one kernel means no offset; another's is bounded by exchanges, and the bound holds the truth.
func TestCompare(t *testing.T) {
	clock := testClock("b")
	shared, err := clock.Compare(t.Context(), &fileNode{t: t, boot: "b"})
	if err != nil || !shared.Shared {
		t.Errorf("same boot: %+v, %v", shared, err)
	}
	const ahead = time.Hour
	theirs := func() time.Duration { return time.Duration(clock.now()) + ahead }
	far := &fileNode{t: t, boot: "c", timers: func() string {
		time.Sleep(3 * time.Millisecond)
		return "now at " + strconv.FormatInt(int64(theirs()), 10) + " nsecs\n"
	}}
	o, err := clock.Compare(t.Context(), far)
	if err != nil || o.Shared || o.Lo > ahead || o.Hi < ahead || o.Hi-o.Lo > 100*time.Millisecond {
		t.Errorf("another kernel: %+v, %v", o, err)
	}
	now := clock.Now()
	from, to := o.window(now+ahead, now+ahead+time.Second)
	if from > now || to < now+time.Second || to-from > time.Second+200*time.Millisecond {
		t.Errorf("window [%v, %v] of a second at %v", from, to, now)
	}
	for _, text := range []string{"", "now at soon nsecs", "Timer List Version: v0.10"} {
		far.timers = func() string { return text }
		if _, err := clock.Compare(t.Context(), far); !errors.Is(err, ErrNoCommonClock) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

// TestSnapshotsStay: samples arrive out of order while snapshots are taken; each is in order and never changes.
func TestSnapshotsStay(t *testing.T) {
	s := newStore(testClock("b"), "r", "s")
	st := &stream{probe: "p", interval: 1, timeout: time.Hour, sorted: true}
	s.addStream(st)
	type kept struct {
		shown []assertions.Sample
		copy  []assertions.Sample
	}
	var snapshots []kept
	for i := range 400 {
		at := time.Duration(i)
		if i%7 == 3 {
			at -= 3 // late: it belongs before some that are there
		}
		s.addSamples(st, []assertions.Sample{{Due: at, Start: at, End: time.Duration(i)}})
		if i%5 == 0 {
			shown := s.snapshot().Streams[0].Samples
			snapshots = append(snapshots, kept{shown, slices.Clone(shown)})
		}
	}
	for _, k := range snapshots {
		if !slices.Equal(k.shown, k.copy) {
			t.Fatal("a snapshot changed after it was taken")
		}
		if !slices.IsSortedFunc(k.shown, prober.Compare) {
			t.Fatal("a snapshot is out of order")
		}
	}
	if n := len(s.snapshot().Streams[0].Samples); n != 400 {
		t.Errorf("%d samples", n)
	}
}

// TestStepsAndEnd: an update leaves older snapshots alone, and what comes after the end is left out.
func TestStepsAndEnd(t *testing.T) {
	s := newStore(testClock("b"), "r", "s")
	st := &stream{probe: "p", interval: 1, timeout: 1, sorted: true}
	s.addStream(st)
	s.addStep(assertions.Step{Name: "cut"})
	before := s.snapshot()
	done := time.Second
	if !s.updateStep("cut", func(step *assertions.Step) { step.Done = &done }) || s.updateStep("paste", nil) {
		t.Error("steps are not found by name")
	}
	if before.Steps[0].Done != nil || *s.snapshot().Steps[0].Done != done {
		t.Error("an update changed an older snapshot, or nothing")
	}
	changed := s.wait()
	s.blind(1, SourcePods, 0, "broken")
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	s.addSamples(st, []assertions.Sample{{Start: 5, End: 6}})
	s.finish()
	s.addFacts(0, []assertions.Fact{{Source: SourcePods}})
	s.addSamples(st, []assertions.Sample{{Start: time.Hour, End: time.Hour}})
	tl := s.snapshot()
	if len(tl.Facts) != 0 || len(tl.Streams[0].Samples) != 1 {
		t.Errorf("after the end: %d facts, %d samples", len(tl.Facts), len(tl.Streams[0].Samples))
	}
	sources := []string{}
	for _, g := range tl.Gaps {
		sources = append(sources, g.Source)
		if g.To != tl.End {
			t.Errorf("open gap ends at %v, the timeline at %v", g.To, tl.End)
		}
	}
	if !slices.Equal(sources, []string{SourcePods, "probe:p"}) {
		t.Errorf("gaps of %v", sources)
	}
}
