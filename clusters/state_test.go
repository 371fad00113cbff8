package clusters

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestStateDir(t *testing.T) {
	home := t.TempDir()
	for name, c := range map[string]struct{ rebound, xdg, want string }{
		"own variable":          {rebound: home, xdg: "/xdg", want: home},
		"XDG":                   {xdg: "/xdg", want: "/xdg/rebound"},
		"relative XDG does not": {xdg: "xdg", want: filepath.Join(home, ".local/state/rebound")},
		"home":                  {want: filepath.Join(home, ".local/state/rebound")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", home)
			t.Setenv("REBOUND_STATE", c.rebound)
			t.Setenv("XDG_STATE_HOME", c.xdg)
			if got, err := StateDir(); err != nil || got != c.want {
				t.Errorf("StateDir() = %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestWritePrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"one", "two"} {
		if err := writePrivate(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("read %q, %v, want %q", got, err, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := writePrivate(filepath.Join(dir, "missing", "file"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into a missing folder: %v", err)
	}
	// A rename that fails must not leave the temporary file behind.
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writePrivate(filepath.Join(dir, "taken"), nil); err == nil {
		t.Error("replaced a folder")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func TestClusterNode(t *testing.T) {
	c := &Cluster{Name: "c", Nodes: []Node{&fakeMachine{name: "a"}, &fakeMachine{name: "b"}}}
	if node, err := c.Node("b"); err != nil || node.Name() != "b" {
		t.Errorf("Node(b) = %v, %v", node, err)
	}
	if _, err := c.Node("c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Node(c): %v", err)
	}
}
