package prober

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/rebound-chaos/rebound/assertions"
)

// Format names the file format in the header line; it changes when a reader of old files would go wrong.
const Format = "rebound-samples/1"

// ErrFormat: a line is no record of this format.
var ErrFormat = errors.New("not a line of samples")

// Header opens a file of samples, and stands again where the prober was restarted.
type Header struct {
	Format  string `json:"format"`
	Probe   string `json:"probe"`
	Vantage string `json:"vantage"`
	// BootID names the boot whose monotonic clock all times of the file are read from.
	BootID string `json:"bootID"`
	// PID is the prober's process as it sees itself.
	PID      int           `json:"pid"`
	Interval time.Duration `json:"intervalNanos"`
	Timeout  time.Duration `json:"timeoutNanos"`
	// Start is the clock when the header was written: the first tick.
	Start int64 `json:"start"`
}

// Point is one sample in absolute nanoseconds of CLOCK_MONOTONIC.
type Point struct {
	Due    int64  `json:"due"`
	Start  int64  `json:"start"`
	End    int64  `json:"end"`
	OK     bool   `json:"ok"`
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	Tag    string `json:"tag,omitempty"`
}

// Record is one line: exactly one of the two is set.
type Record struct {
	Header *Header
	Point  *Point
}

// Encode returns the record as one line with its newline.
func (r Record) Encode() ([]byte, error) {
	var v any = r.Point
	if r.Header != nil {
		v = r.Header
	}
	b, err := json.Marshal(v)
	return append(b, '\n'), err
}

// Decode reads one line, with or without its newline.
func Decode(line []byte) (Record, error) {
	var kind struct {
		Format string `json:"format"`
		Due    *int64 `json:"due"`
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	switch {
	case kind.Format == Format:
		var h Header
		if err := json.Unmarshal(line, &h); err != nil {
			return Record{}, fmt.Errorf("%w: header: %w", ErrFormat, err)
		}
		return Record{Header: &h}, nil
	case kind.Format == "" && kind.Due != nil:
		var p Point
		if err := json.Unmarshal(line, &p); err != nil {
			return Record{}, fmt.Errorf("%w: sample: %w", ErrFormat, err)
		}
		if p.End < p.Start || p.Start < p.Due {
			return Record{}, fmt.Errorf("%w: sample that ends before it starts, or starts before it is due", ErrFormat)
		}
		return Record{Point: &p}, nil
	}
	return Record{}, fmt.Errorf("%w: neither header nor sample", ErrFormat)
}

// Sample turns the point into offsets from zero, which is a reading of the same clock.
func (p Point) Sample(zero int64) assertions.Sample {
	return assertions.Sample{
		Due: time.Duration(p.Due - zero), Start: time.Duration(p.Start - zero), End: time.Duration(p.End - zero),
		OK: p.OK, Status: p.Status, Error: p.Error, Tag: p.Tag,
	}
}

// Compare orders samples by their start, and by their tick where they started together.
func Compare(a, b assertions.Sample) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Due, b.Due))
}

// Lines cuts a stream of bytes into complete lines and keeps the torn rest. The zero value is ready for use.
type Lines struct {
	rest []byte
}

// Feed adds bytes and calls each with every line that is complete by now, without its newline. The line is valid only
// during the call. It returns how many bytes were used up since the last call that returned: they lie before the torn
// rest.
func (l *Lines) Feed(b []byte, each func(line []byte)) int {
	l.rest = append(l.rest, b...)
	used := 0
	for {
		i := bytes.IndexByte(l.rest[used:], '\n')
		if i < 0 {
			break
		}
		each(l.rest[used : used+i])
		used += i + 1
	}
	l.rest = l.rest[:copy(l.rest, l.rest[used:])]
	return used
}

// Reset forgets the torn rest: the reader starts again at the beginning of a line.
func (l *Lines) Reset() { l.rest = l.rest[:0] }

// ReadStream reads a whole file of samples, in order of their start, as offsets from zero; zero 0 means the first
// header's own start. A torn line is left out at the end of the file and before a header, where a prober was killed;
// any other line that is no record is ErrFormat.
func ReadStream(r io.Reader, zero int64) (assertions.Stream, error) {
	all, err := io.ReadAll(r)
	if err != nil {
		return assertions.Stream{}, fmt.Errorf("read samples: %w", err)
	}
	var (
		lines  Lines
		stream assertions.Stream
		torn   []error // since the last good record
		errs   []error
	)
	lines.Feed(all, func(line []byte) {
		if len(line) == 0 {
			return
		}
		rec, err := Decode(line)
		switch {
		case err != nil:
			torn = append(torn, err)
		case rec.Header != nil:
			errs, torn = append(errs, torn[min(1, len(torn)):]...), nil
			if zero == 0 {
				zero = rec.Header.Start
			}
			stream.Probe, stream.Vantage = rec.Header.Probe, rec.Header.Vantage
			stream.Interval, stream.Timeout = rec.Header.Interval, rec.Header.Timeout
		default:
			stream.Samples = append(stream.Samples, rec.Point.Sample(zero))
			errs, torn = append(errs, torn...), nil
		}
	})
	errs = append(errs, torn...)
	slices.SortStableFunc(stream.Samples, Compare)
	return stream, errors.Join(errs...)
}

// OpenLog opens the file that samples are appended to. A torn last line, left by a prober that was killed, is ended
// first, so that it spoils no line but itself.
func OpenLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open samples: %w", err)
	}
	if err := endLine(f); err != nil {
		return nil, errors.Join(fmt.Errorf("end torn line of %s: %w", path, err), f.Close())
	}
	return f, nil
}

func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || !info.Mode().IsRegular() {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err = f.Write([]byte{'\n'})
	return err
}
