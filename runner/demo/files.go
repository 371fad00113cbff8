package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"sigs.k8s.io/yaml"
)

// configFile is a YAML map that is read again and again. A mounted ConfigMap is swapped as a whole, so that a file is
// read either old or new.
type configFile struct {
	path string

	mu     sync.Mutex
	raw    []byte
	good   map[string]any
	failed error
}

func newConfigFile(path string) *configFile { return &configFile{path: path} }

// reload reads the file; after an error the last good values stay.
func (c *configFile) reload() {
	raw, err := os.ReadFile(c.path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.raw, c.failed = nil, err
		return
	}
	if c.raw != nil && bytes.Equal(raw, c.raw) {
		return
	}
	c.raw = raw
	var values map[string]any
	if err := yaml.Unmarshal(raw, &values); err != nil {
		c.failed = fmt.Errorf("%s: %w", c.path, err)
		return
	}
	if len(values) == 0 {
		c.failed = fmt.Errorf("%s holds no values", c.path)
		return
	}
	c.good, c.failed = values, nil
}

// err is why the file as it is now cannot be used, or nil.
func (c *configFile) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// values are the last good ones.
func (c *configFile) values() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.good)
}

// records is an append-only file; what was acknowledged is on the disk.
type records struct {
	mu   sync.Mutex
	file *os.File
	size int64 // of what was acknowledged
	ids  []string
}

type record struct {
	ID   string `json:"id"`
	Body string `json:"body,omitempty"`
}

// openRecords reads the records that are there and cuts off a torn last line, which nobody was told of.
func openRecords(dir string) (*records, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "records.ndjson"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	r := &records{file: file}
	if err := r.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read records: %w", err), file.Close())
	}
	return r, nil
}

func (r *records) load() error {
	all, err := io.ReadAll(r.file)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(all, '\n') + 1
	for line := range bytes.Lines(all[:whole]) {
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return err
		}
		r.ids = append(r.ids, rec.ID)
	}
	if err := r.file.Truncate(int64(whole)); err != nil {
		return err
	}
	r.size = int64(whole)
	return nil
}

// add appends one record and returns once it is on the disk. The same id may be added again: who reads the list finds
// duplicates.
func (r *records) add(id, body string) error {
	line, err := json.Marshal(record{id, body})
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	line = append(line, '\n')
	// At the end of what was acknowledged: a write that failed halfway is written over.
	if _, err := r.file.WriteAt(line, r.size); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("sync record: %w", err)
	}
	r.size += int64(len(line))
	r.ids = append(r.ids, id)
	return nil
}

// list returns the ids in the order in which they were added.
func (r *records) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.ids...) // never null in JSON
}

func (r *records) close() error {
	if err := r.file.Close(); err != nil {
		return fmt.Errorf("close records: %w", err)
	}
	return nil
}
