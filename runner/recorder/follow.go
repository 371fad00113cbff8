package recorder

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

const (
	// readLimit bounds one reading of a file through its node; restLimit bounds all tries of the last one.
	readLimit = 10 * time.Second
	restLimit = 20 * time.Second
	// pollPause is the time between two readings where a node cannot stream, or has not got the file yet.
	pollPause = 200 * time.Millisecond
	// deliverySlack is how long a sample may take from its end to us before its stream counts as stuck.
	deliverySlack = 2 * time.Second
)

// follower reads a prober's file through the node: live while that works, and from the byte where it stopped when it
// does not. The file is the truth; a broken stream loses nothing.
type follower struct {
	store  *store
	node   Node
	file   string
	offset Offset
	stream *stream
	first  chan struct{} // closed at the first sample
	once   sync.Once

	mu      sync.Mutex
	lines   prober.Lines
	read    int64 // bytes of complete lines so far
	pid     int   // of the prober that writes now
	boot    string
	foreign bool // the clock of what is read now is not the one that was compared
}

func newFollower(s *store, run *probeRun, offset Offset) *follower {
	f := &follower{
		store: s, node: run.node, file: run.file, offset: offset, first: make(chan struct{}),
		stream: &stream{
			probe: run.probe.Name, vantage: vantage(run.probe.Node),
			interval: run.probe.Interval, timeout: run.probe.Timeout, sorted: true,
		},
	}
	s.addStream(f.stream)
	return f
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		// An error here is no loss: what could not be read now is read by the next turn, or by rest, which reports.
		err := f.catchUp(ctx)
		if streamer, ok := f.node.(Streamer); ok && err == nil && f.writer() != 0 {
			f.live(ctx, streamer)
		}
		sleep(ctx, pollPause)
	}
}

func (f *follower) writer() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pid
}

// tail is the command that prints the file from the first byte that has not been read.
func (f *follower) tail(flags ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines.Reset()
	return append(append([]string{"tail", "-c", "+" + strconv.FormatInt(f.read+1, 10)}, flags...), "--", f.file)
}

// catchUp reads what there is now.
func (f *follower) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	out, err := f.node.Exec(ctx, f.tail()...)
	if err != nil {
		return err
	}
	_, err = f.Write(out)
	return err
}

// live follows the file until the prober has ended, the stream breaks or nothing has come for too long. The tail ends
// with the prober by itself: a node may not notice that nobody reads any more.
func (f *follower) live(ctx context.Context, streamer Streamer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := f.stream.timeout + f.stream.interval + deliverySlack
	stuck := time.AfterFunc(patience, cancel)
	defer stuck.Stop()
	out := writerFunc(func(b []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		stuck.Reset(patience)
		return f.Write(b)
	})
	// Whatever ended the stream, the next turn of run reads on from the last complete line.
	_ = streamer.Stream(ctx, nil, out, f.tail("-s", "0.2", "--pid="+strconv.Itoa(f.writer()), "-F")...)
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

// Write takes bytes of the file, in order.
func (f *follower) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var samples []assertions.Sample
	f.read += int64(f.lines.Feed(b, func(line []byte) {
		if sample, ok := f.take(line); ok {
			samples = append(samples, sample)
		}
	}))
	f.store.addSamples(f.stream, samples)
	if len(samples) > 0 {
		f.once.Do(func() { close(f.first) })
	}
	return len(b), nil
}

// take decodes one line. A line that is no record is one that a killed prober left torn: the hole in the samples tells.
func (f *follower) take(line []byte) (assertions.Sample, bool) {
	rec, err := prober.Decode(line)
	if err != nil {
		return assertions.Sample{}, false
	}
	if h := rec.Header; h != nil {
		f.pid = h.PID
		if f.boot == "" {
			f.boot = h.BootID
		}
		// A rebooted node's clock begins anew, and was never compared with ours.
		f.foreign = h.BootID != f.boot || f.offset.Shared && h.BootID != f.store.clock.BootID()
		return assertions.Sample{}, false
	}
	if f.foreign {
		return assertions.Sample{}, false
	}
	sample := rec.Point.Sample(f.store.clock.Zero())
	sample.Due, _ = f.offset.window(sample.Due, sample.Due)
	sample.Start, sample.End = f.offset.window(sample.Start, sample.End)
	return sample, true
}

// rest reads to the end of the file, with a few tries.
func (f *follower) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	for {
		err := f.catchUp(ctx)
		if err == nil {
			return nil
		}
		if sleep(ctx, pollPause); ctx.Err() != nil {
			return fmt.Errorf("node %s: %w", f.node.Name(), err)
		}
	}
}
