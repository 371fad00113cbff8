package injectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// record is one line of a ledger. Exactly one of Header, Add, Done and Closed is set.
type record struct {
	Number int     `json:"number"` // 1, 2, 3 …: a line that is missing shows
	Header *Header `json:"header,omitempty"`
	Add    *Step   `json:"add,omitempty"`
	Done   int     `json:"done,omitempty"` // the id of the step that was taken back
	Closed bool    `json:"closed,omitempty"`
}

// line is a record as it is written, with a sum over its exact bytes: a flipped bit must not become a wrong undo.
type line struct {
	Sum    string          `json:"sum"`
	Record json.RawMessage `json:"record"`
}

// sumOf is CRC-32C in hexadecimal: it finds every error burst of up to 32 bits.
func sumOf(b []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// encode returns the record as one line with its newline.
func encode(r record) ([]byte, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	out, err := json.Marshal(line{Sum: sumOf(raw), Record: raw})
	if err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}

// decode reads one line without its newline.
func decode(text []byte) (record, error) {
	var l line
	if err := strict(text, &l); err != nil {
		return record{}, errors.New("not a record")
	}
	if l.Sum != sumOf(l.Record) {
		return record{}, errors.New("its sum does not match")
	}
	var r record
	if err := strict(l.Record, &r); err != nil {
		return record{}, fmt.Errorf("written by another version: %w", err)
	}
	return r, nil
}

// strict decodes one JSON value that must fill text and hold known keys only.
func strict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.InputOffset() != int64(len(text)) {
		return errors.New("something follows the value")
	}
	return nil
}

// contents is what a ledger file holds.
type contents struct {
	header  *Header
	entries []*entry
	number  int   // of the last record
	size    int64 // how much of the file is kept; a torn last line lies beyond
	newline bool  // the kept part ends with a newline
	damage  []error
}

// parse reads a whole ledger. A last line without newline is what a crash in the middle of a write leaves: the Add
// that wrote it never returned, so it is dropped, unless it is whole. Any other line that can't be read is damage:
// it is named, and the intact ones still count.
func parse(data []byte) contents {
	c := contents{newline: true}
	for n := 1; len(data) > 0; n++ {
		text, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			c.tail(n, text)
			break
		}
		data = rest
		c.size += int64(len(text)) + 1
		r, err := decode(text)
		if err != nil {
			c.hurt(n, err)
			continue
		}
		c.apply(n, r)
	}
	return c
}

// tail judges a last line without newline.
func (c *contents) tail(n int, text []byte) {
	if r, err := decode(text); err == nil { // just the newline is missing
		c.apply(n, r)
		c.size += int64(len(text))
		c.newline = false
		return
	}
	last := len(text) - 1
	if r, err := decode(text[:last]); err == nil { // a whole record and a newline that turned into something else
		c.apply(n, r)
		c.size += int64(last)
		c.newline = false
		c.hurt(n, errors.New("its newline is damaged"))
	}
}

// apply adds one record. n is its line.
func (c *contents) apply(n int, r record) {
	if r.Number <= c.number {
		c.hurt(n, fmt.Errorf("record %d stands behind record %d", r.Number, c.number))
		return
	}
	if missing := r.Number - c.number - 1; missing > 0 && len(c.damage) == 0 {
		c.hurt(n, fmt.Errorf("%d records before it are missing", missing))
	}
	c.number = r.Number
	switch {
	case r.Header != nil:
		c.header = r.Header
	case r.Add != nil:
		c.entries = append(c.entries, &entry{step: *r.Add})
	case r.Done != 0:
		for _, e := range c.entries {
			if e.step.ID == r.Done {
				e.done = true
			}
		}
	}
}

// hurt notes damage. The line counts as a record, so that numbers given later are never given twice.
func (c *contents) hurt(n int, err error) {
	c.number = max(c.number, n)
	c.damage = append(c.damage, fmt.Errorf("line %d: %w", n, err))
}
