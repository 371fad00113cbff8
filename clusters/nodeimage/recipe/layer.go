package recipe

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// layer writes a file system as a tar stream. Directories that a path needs are made on the way; everything belongs
// to root and has the same time, so that equal contents make equal layers.
type layer struct {
	archive *tar.Writer
	made    map[string]bool
}

func newLayer(out io.Writer) *layer {
	return &layer{archive: tar.NewWriter(out), made: map[string]bool{}}
}

func (l *layer) close() error { return l.archive.Close() }

func (l *layer) put(header *tar.Header, content io.Reader) error {
	if err := l.parents(header.Name); err != nil {
		return err
	}
	header.ModTime, header.Format = time.Unix(0, 0), tar.FormatPAX
	if err := l.archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write %s: %w", header.Name, err)
	}
	if content == nil {
		return nil
	}
	if _, err := io.Copy(l.archive, content); err != nil {
		return fmt.Errorf("write %s: %w", header.Name, err)
	}
	return nil
}

func (l *layer) parents(name string) error {
	dir := path.Dir(strings.TrimSuffix(name, "/"))
	if dir == "." || l.made[dir] {
		return nil
	}
	return l.dir(dir, 0o755)
}

func (l *layer) dir(name string, mode int64) error {
	l.made[name] = true
	return l.put(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, nil)
}

func (l *layer) link(name, target string) error {
	return l.put(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

func (l *layer) text(name, text string, mode int64) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(text))}
	return l.put(header, strings.NewReader(text))
}

// file puts the host's file there, following links.
func (l *layer) file(name, source string, mode int64) error {
	file, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return l.put(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size()}, file)
}

// tree puts a directory of the host there with all its files and links. What is neither, like a socket, is left out.
func (l *layer) tree(name, source string, mode func(name string, info os.FileInfo) int64) error {
	return filepath.Walk(source, func(from string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, from)
		if err != nil {
			return err
		}
		to := path.Join(name, filepath.ToSlash(relative))
		switch {
		case to == "." || l.made[to]:
			return nil
		case info.IsDir():
			return l.dir(to, mode(to, info))
		case info.Mode().IsRegular():
			return l.file(to, from, mode(to, info))
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			return l.link(to, target)
		}
		return nil
	})
}

// append copies another archive's entries as they are. Its directories need not be made again.
func (l *layer) append(source string) error {
	file, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("open an archive: %w", err)
	}
	defer file.Close()
	archive := tar.NewReader(file)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", source, err)
		}
		if err := l.archive.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s: %w", header.Name, err)
		}
		if _, err := io.Copy(l.archive, archive); err != nil {
			return fmt.Errorf("write %s: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeDir {
			l.made[path.Clean(header.Name)] = true
		}
	}
}

// writeLayer makes a file of what fill puts into it.
func writeLayer(name string, fill func(*layer) error) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("make a layer: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	l := newLayer(file)
	if err := fill(l); err != nil {
		return err
	}
	return l.close()
}

// entry is one thing to put into a layer.
type entry func(*layer) error

// fill puts the entries one after the other.
func fill(entries ...entry) func(*layer) error {
	return func(l *layer) error {
		for _, put := range entries {
			if err := put(l); err != nil {
				return err
			}
		}
		return nil
	}
}

func program(name, source string) entry {
	return func(l *layer) error { return l.file(name, source, 0o755) }
}

func symlink(name, target string) entry {
	return func(l *layer) error { return l.link(name, target) }
}

func directory(name string) entry {
	return func(l *layer) error { return l.dir(name, 0o755) }
}

func textFile(name, text string) entry {
	return func(l *layer) error { return l.text(name, text, 0o644) }
}
