package prober

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rebound-chaos/rebound/assertions"
)

func encode(t *testing.T, records ...Record) []byte {
	t.Helper()
	var all []byte
	for _, r := range records {
		line, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, line...)
	}
	return all
}

func sampleRecords() []Record {
	return []Record{
		{Header: &Header{Format: Format, Probe: "front", Vantage: "node/w1", BootID: "b", PID: 7,
			Interval: 10, Timeout: 20, Start: 1000}},
		{Point: &Point{Due: 1010, Start: 1011, End: 1030, Error: "timeout"}},
		{Point: &Point{Due: 1000, Start: 1000, End: 1035, OK: true, Status: 200, Tag: "v1"}},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range sampleRecords() {
		got, err := Decode(encode(t, want))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

// TestReadStream leaves out a torn last line wherever it is torn, and puts samples in order of their start.
func TestReadStream(t *testing.T) {
	all := encode(t, sampleRecords()...)
	full := assertions.Stream{Probe: "front", Vantage: "node/w1", Interval: 10, Timeout: 20, Samples: []assertions.Sample{
		{Due: 0, Start: 0, End: 35, OK: true, Status: 200, Tag: "v1"},
		{Due: 10, Start: 11, End: 30, Error: "timeout"},
	}}
	lastLine := bytes.LastIndexByte(all[:len(all)-1], '\n') + 1
	for cut := lastLine; cut <= len(all); cut++ {
		got, err := ReadStream(bytes.NewReader(all[:cut]), 0)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := full
		if cut < len(all) {
			want.Samples = full.Samples[1:]
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("cut at %d: %s", cut, d)
		}
	}
	if _, err := ReadStream(strings.NewReader("{\"due\":5,\"start\":4,\"end\":9}\n"), 0); !errors.Is(err, ErrFormat) {
		t.Errorf("a sample that starts before it is due: %v", err)
	}
	if _, err := ReadStream(strings.NewReader("{\"format\":\"rebound-samples/9\"}\n"), 0); !errors.Is(err, ErrFormat) {
		t.Errorf("a format from the future: %v", err)
	}
	restarted := append(append([]byte{}, all[:lastLine]...), []byte("{\"due\":10\n")...)
	restarted = append(restarted, all...)
	if got, err := ReadStream(bytes.NewReader(restarted), 0); err != nil || len(got.Samples) != 3 {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	if _, err := ReadStream(strings.NewReader("{\"due\":10\n"+string(all[lastLine:])), 0); !errors.Is(err, ErrFormat) {
		t.Errorf("a torn line before a sample: %v", err)
	}
	if got, err := ReadStream(bytes.NewReader(all), 400); err != nil || got.Samples[0].Start != 600*time.Nanosecond {
		t.Errorf("with a zero of its own: %+v, %v", got, err)
	}
}

// TestLines feeds the bytes in every possible pair of pieces.
func TestLines(t *testing.T) {
	const text = "a\nbb\n\nccc"
	for cut := range len(text) + 1 {
		var l Lines
		var got []string
		each := func(line []byte) { got = append(got, string(line)) }
		used := l.Feed([]byte(text[:cut]), each) + l.Feed([]byte(text[cut:]), each)
		if d := cmp.Diff([]string{"a", "bb", ""}, got); d != "" || used != 6 {
			t.Errorf("cut at %d: used %d, %s", cut, used, d)
		}
	}
}

// TestOpenLogEndsATornLine: what a killed prober left half written spoils no later line.
func TestOpenLogEndsATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "front.ndjson")
	records := sampleRecords()
	torn := encode(t, records[0], records[1])
	torn = torn[:len(torn)-9]
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(encode(t, records[2])); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(all), []byte("\n"))
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	if got, err := Decode(lines[2]); err != nil || got.Point.End != 1035 {
		t.Errorf("line after the torn one: %+v, %v", got, err)
	}
}
