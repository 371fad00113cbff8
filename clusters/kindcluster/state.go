package kindcluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rebound-chaos/rebound/clusters"
)

// store is the folder of all clusters' state folders.
type store struct{ root string }

func (s store) dir(name string) string { return filepath.Join(s.root, name) }

// lock makes the cluster's state folder, holds it for this process, and returns how to let go. It is the folder itself
// that is locked, so that no file is left over and the kernel lets go when the process dies. ErrBusy: somebody has it.
func (s store) lock(name string) (release func() error, err error) {
	dir := s.dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	err = unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("cluster %q: %w", name, clusters.ErrBusy), folder.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), folder.Close())
	}
	// Whoever held it before may have removed it meanwhile: a lock on a folder that has no name any more holds nobody
	// off.
	held, err := folder.Stat()
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	if named, err := os.Stat(dir); err != nil || !os.SameFile(held, named) {
		return nil, errors.Join(fmt.Errorf("cluster %q: %w", name, clusters.ErrBusy), folder.Close())
	}
	return folder.Close, nil
}

// remove deletes a cluster's state folder; the caller holds its lock.
func (s store) remove(name string) error {
	if err := os.RemoveAll(s.dir(name)); err != nil {
		return fmt.Errorf("state folder of cluster %q: %w", name, err)
	}
	return nil
}

// discard deletes a cluster's state folder where nothing is in it; the caller holds its lock.
func (s store) discard(name string) error {
	err := os.Remove(s.dir(name))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// exists reports whether there is a state folder.
func (s store) exists(name string) (bool, error) {
	_, err := os.Stat(s.dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// record is what spec.json holds.
type record struct {
	Spec  clusters.Spec `json:"spec"`
	Image string        `json:"image"` // what the nodes were made from
}

func (s store) writeRecord(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("%s of cluster %q: %w", clusters.FileSpec, r.Spec.Name, err)
	}
	path := filepath.Join(s.dir(r.Spec.Name), clusters.FileSpec)
	if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("%s of cluster %q: %w", clusters.FileSpec, r.Spec.Name, err)
	}
	return nil
}

// readRecord returns what spec.json holds; found is false where the cluster was never finished, or never was.
func (s store) readRecord(name string) (r record, found bool, err error) {
	data, err := os.ReadFile(filepath.Join(s.dir(name), clusters.FileSpec))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("%s of cluster %q: %w", clusters.FileSpec, name, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, false, fmt.Errorf("%s of cluster %q: %w", clusters.FileSpec, name, err)
	}
	return r, true, nil
}

// names lists the clusters that have a state folder.
func (s store) names() ([]string, error) {
	entries, err := os.ReadDir(s.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && validateName(entry.Name()) == nil {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}
