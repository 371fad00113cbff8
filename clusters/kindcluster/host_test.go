package kindcluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rebound-chaos/rebound/clusters"
)

// fakeProc writes a /proc with one process of root, which holds used inotify instances, and one of somebody else.
func fakeProc(t *testing.T, bounding string, limit, used int) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(pid string, count int) {
		if err := os.MkdirAll(filepath.Join(root, pid, "fd"), 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range count {
			if err := os.Symlink("anon_inode:inotify", filepath.Join(root, pid, "fd", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/dev/null", filepath.Join(root, pid, "fd", "999")); err != nil {
			t.Fatal(err)
		}
	}
	write("self/status", "Name:\tx\nCapBnd:\t"+bounding+"\n")
	write("sys/fs/inotify/max_user_instances", fmt.Sprintln(limit))
	write("17/status", "Name:\troot\nUid:\t0\t0\t0\t0\n")
	hold("17", used)
	write("18/status", "Name:\tuser\nUid:\t1000\t1000\t1000\t1000\n")
	hold("18", 50)
	return root
}

func TestNeeds(t *testing.T) {
	const all, without = "000001ffffffffff", "000001fffeffffff"
	for name, c := range map[string]struct {
		bounding, cgroup string
		want             host
	}{
		"ordinary":            {all, "2", host{}},
		"cgroup v1":           {all, "1", host{cgroup1: true}},
		"no resources":        {without, "2", host{noResources: true}},
		"neither":             {without, "1", host{cgroup1: true, noResources: true}},
		"engine says no word": {all, "", host{}},
	} {
		s := surroundings{proc: fakeProc(t, c.bounding, 128, 0)}
		if got, err := s.needs(engineInfo{CgroupVersion: c.cgroup}); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := (surroundings{proc: fakeProc(t, "no number", 128, 0)}).needs(engineInfo{}); err == nil {
		t.Error("a bounding set that cannot be read passed")
	}
	if got, err := (surroundings{}).needs(engineInfo{CgroupVersion: "1"}); err != nil || got != (host{cgroup1: true}) {
		t.Errorf("an engine elsewhere: %+v, %v", got, err)
	}
}

func TestRoom(t *testing.T) {
	free := func(bytes uint64, err error) func(string) (uint64, error) {
		return func(string) (uint64, error) { return bytes, err }
	}
	const plenty = 100 << 30
	for name, c := range map[string]struct {
		limit, used int
		free        func(string) (uint64, error)
		want        string // part of the error; "" for none
	}{
		"enough":                {128, 60, free(plenty, nil), ""},
		"inotify just enough":   {64, 0, free(plenty, nil), ""},
		"inotify just too few":  {63, 0, free(plenty, nil), "sysctl -w fs.inotify.max_user_instances=512"},
		"another cluster is up": {128, 70, free(plenty, nil), "70 are in use"},
		"disk full":             {128, 0, free(100<<20, nil), "100 MiB"},
		"disk not to be seen":   {128, 0, free(0, fs.ErrNotExist), ""},
	} {
		s := surroundings{proc: fakeProc(t, "0", c.limit, c.used), free: c.free}
		err := s.room(engineInfo{DockerRootDir: "/var/lib/docker"}, 3)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, clusters.ErrHostLimit) ||
			!strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("broken")
	s := surroundings{proc: fakeProc(t, "0", 128, 0), free: free(0, broken)}
	if err := s.room(engineInfo{}, 3); !errors.Is(err, broken) {
		t.Errorf("disk that cannot be asked: %v", err)
	}
}
