package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

func TestWithRuntimeKeepsTheAdministratorsSettings(t *testing.T) {
	for _, test := range []struct {
		config    string
		asDefault bool
		want      map[string]any
	}{
		{"", false, map[string]any{"runtimes": map[string]any{RuntimeName: map[string]any{"path": "/x"}}}},
		{
			`{"mtu":1400,"runtimes":{"kata":{"path":"/k"}},"default-runtime":"kata"}`, true,
			map[string]any{"mtu": 1400.0, "default-runtime": RuntimeName, "runtimes": map[string]any{
				"kata": map[string]any{"path": "/k"}, RuntimeName: map[string]any{"path": "/x"},
			}},
		},
	} {
		text, err := withRuntime([]byte(test.config), "/x", test.asDefault)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %v, want %v", test.config, got, test.want)
		}
	}
	if _, err := withRuntime([]byte("{"), "/x", false); err == nil {
		t.Error("a broken configuration passed")
	}
}

func TestClearStale(t *testing.T) {
	own, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Skip("no /proc here")
	}
	path := filepath.Join(t.TempDir(), "x.pid")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() bool { _, err := os.Stat(path); return os.IsNotExist(err) }

	write(strconv.Itoa(os.Getpid()))
	if process, err := clearStale(path, string(own[:len(own)-1])); err != nil || process != os.Getpid() || gone() {
		t.Errorf("a living daemon: got %d, %v, file gone: %v", process, err, gone())
	}
	if process, err := clearStale(path, "dockerd"); err != nil || process != 0 || !gone() {
		t.Errorf("a number that went to another program: got %d, %v", process, err)
	}
	write("garbage")
	if process, err := clearStale(path, "dockerd"); err != nil || process != 0 || !gone() {
		t.Errorf("no number: got %d, %v", process, err)
	}
	if process, err := clearStale(path, "dockerd"); err != nil || process != 0 {
		t.Errorf("no file: got %d, %v", process, err)
	}
}
