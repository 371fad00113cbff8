package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// program builds a small static program, once.
func program(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	code := "package main\n\nfunc main() { println(\"" + text + "\") }\n"
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

func write(t *testing.T, image *Image) []byte {
	t.Helper()
	var archive bytes.Buffer
	if err := image.Write(&archive); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func TestImageIsReadableAndDeterministic(t *testing.T) {
	binary := program(t, "one")
	image, err := New(binary)
	if err != nil {
		t.Fatal(err)
	}
	if image.Arch != "arm64" {
		t.Errorf("architecture = %q, want arm64", image.Arch)
	}
	if tag, found := strings.CutPrefix(image.Ref, Repository+":"); !found || len(tag) != tagLength {
		t.Errorf("ref = %q", image.Ref)
	}
	first := write(t, image)
	elsewhere := filepath.Join(t.TempDir(), "same-bytes")
	copyFile(t, binary, elsewhere)
	again, err := New(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, write(t, again)) || again.Ref != image.Ref {
		t.Error("the same program gave another image")
	}
	other, err := New(program(t, "two"))
	if err != nil {
		t.Fatal(err)
	}
	if other.Ref == image.Ref {
		t.Error("another program gave the same reference")
	}

	read, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(first)), nil },
		&image.tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "arm64" || config.Config.User != User ||
		len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != Program {
		t.Errorf("configuration = %+v", config)
	}
	layers, err := read.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	checkLayer(t, layers[0].Uncompressed, binary)
}

func checkLayer(t *testing.T, open func() (io.ReadCloser, error), binary string) {
	t.Helper()
	stream, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	archive := tar.NewReader(stream)
	header, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	if header.Name != "rebound" || header.Mode != 0o755 || header.Uid != 0 || !header.ModTime.IsZero() &&
		header.ModTime.Unix() != 0 {
		t.Errorf("program's header = %+v", header)
	}
	got, err := io.ReadAll(archive)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the program in the image is not the program")
	}
	if header, err = archive.Next(); err != nil || header.Name != "tmp/" || header.Mode != 0o1777 {
		t.Errorf("second header = %+v, %v", header, err)
	}
	if _, err = archive.Next(); err != io.EOF {
		t.Errorf("after /tmp: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestManifestNamesTheReference(t *testing.T) {
	image, err := New(program(t, "manifest"))
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(bytes.NewReader(write(t, image)))
	for {
		header, err := archive.Next()
		if err != nil {
			t.Fatal("no manifest.json: ", err)
		}
		if header.Name != "manifest.json" {
			continue
		}
		var manifest []struct{ RepoTags []string }
		if err := json.NewDecoder(archive).Decode(&manifest); err != nil {
			t.Fatal(err)
		}
		if len(manifest) != 1 || len(manifest[0].RepoTags) != 1 || manifest[0].RepoTags[0] != image.Ref {
			t.Errorf("manifest = %+v, want %s", manifest, image.Ref)
		}
		return
	}
}

func TestNotStatic(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho this is no program at all, but long enough for a header\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(script); !errors.Is(err, ErrNotStatic) {
		t.Errorf("a script: %v", err)
	}
	if _, err := New("/bin/ls"); !errors.Is(err, ErrNotStatic) {
		t.Errorf("a dynamic program: %v", err)
	}
	if _, err := New(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// fakeNode keeps the references of the archives that it was given.
type fakeNode struct {
	mu    sync.Mutex
	refs  []string
	loads int
	fail  error
}

func (n *fakeNode) HasImage(_ context.Context, ref string) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, have := range n.refs {
		if have == ref {
			return true, nil
		}
	}
	return false, nil
}

func (n *fakeNode) LoadImage(_ context.Context, archive io.Reader) error {
	if n.fail != nil {
		return n.fail // without having read anything
	}
	data, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)),
			nil
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loads++
	n.refs = append(n.refs, manifest[0].RepoTags...)
	return nil
}

func TestEnsureLoadsOnce(t *testing.T) {
	binary := program(t, "ensure")
	nodes := []*fakeNode{{}, {}, {}}
	ref, err := Ensure(t.Context(), nodes, binary)
	if err != nil {
		t.Fatal(err)
	}
	nodes[1].refs = nil // as if the node had been made anew
	if again, err := Ensure(t.Context(), nodes, binary); err != nil || again != ref {
		t.Fatalf("second time: %q, %v", again, err)
	}
	for i, want := range []int{1, 2, 1} {
		if nodes[i].loads != want {
			t.Errorf("node %d was given the image %d times, want %d", i, nodes[i].loads, want)
		}
	}
}

func TestEnsureFails(t *testing.T) {
	binary := program(t, "fail")
	full := errors.New("no space")
	if _, err := Ensure(t.Context(), []*fakeNode{{}, {fail: full}}, binary); !errors.Is(err, full) {
		t.Errorf("a node that refuses: %v", err)
	}
	if _, err := Ensure(t.Context(), []string{"no node at all"}, binary); err == nil {
		t.Error("a node that cannot be given images passed")
	}
}
