package kindcluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rebound-chaos/rebound/clusters"
)

// fakeDocker puts a script in the docker command's place: runDocker itself is under test.
func fakeDocker(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

func TestRunDocker(t *testing.T) {
	fakeDocker(t, `echo "$#:$3"; cat; echo gone wrong >&2; exit 7`)
	var out bytes.Buffer
	err := runDocker(t.Context(), strings.NewReader("fed"), &out, "exec", "node", "$(no shell); here")
	var failed *engineError
	if !errors.As(err, &failed) || failed.code != 7 || failed.stderr != "gone wrong" {
		t.Errorf("error = %#v", err)
	}
	if got, want := out.String(), "3:$(no shell); here\nfed"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

func TestNodeExecFails(t *testing.T) {
	fakeDocker(t, `echo no such file >&2; exit 2`)
	node := &Node{engine: engine{run: runDocker}, container: "n"}
	_, err := node.Exec(t.Context(), "ls", "/x")
	var failed *clusters.ExecError
	if !errors.As(err, &failed) || failed.Code != 2 || failed.Stderr != "no such file" || failed.Node != "n" {
		t.Errorf("Exec = %#v", err)
	}
	if _, err := node.Exec(t.Context()); !errors.As(err, &failed) || failed.Code != -1 {
		t.Errorf("no command: %v", err)
	}
}

func TestRunDockerEndsWithItsContext(t *testing.T) {
	// The grandchild keeps the pipes open, as a hung `docker exec` would.
	fakeDocker(t, "sleep 60 & sleep 60")
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
	started := time.Now()
	err := runDocker(ctx, nil, &bytes.Buffer{}, "exec")
	var failed *engineError
	if !errors.Is(err, cause) || !errors.As(err, &failed) || failed.code != -1 {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(started); took > waitDelay+5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestNoEngine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := (engine{run: runDocker}).info(t.Context()); !errors.Is(err, clusters.ErrNoEngine) ||
		!strings.Contains(err.Error(), "install Docker") {
		t.Errorf("no command: %v", err)
	}
	// Some versions say it in their answer and exit with 0.
	fakeDocker(t, `echo '{"ServerErrors":["Cannot connect to the Docker daemon"]}'`)
	if _, err := (engine{run: runDocker}).info(t.Context()); !errors.Is(err, clusters.ErrNoEngine) ||
		!strings.Contains(err.Error(), "Cannot connect") {
		t.Errorf("no daemon: %v", err)
	}
}

func TestTailWriter(t *testing.T) {
	w := &tailWriter{limit: 5}
	for _, text := range []string{"abc", "defg", "", "a very long line"} {
		if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("Write(%q) = %d, %v", text, n, err)
		}
	}
	if got := w.String(); got != " line" {
		t.Errorf("kept %q", got)
	}
}

func TestRecorder(t *testing.T) {
	var progress strings.Builder
	r := newRecorder(&progress)
	r.V(0).Infof(" • Joining worker nodes 🚜  ...\n")
	r.V(0).Info(" ✓ Joining worker nodes 🚜")
	r.V(3).Info("a line of kubeadm's\nand another")
	r.Warnf("dragons %d", 1)
	if got := progress.String(); !strings.HasSuffix(got, "s  Joining worker nodes\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("progress = %q", got)
	}
	if got, want := r.lastLines(2), "and another\nwarning: dragons 1"; got != want {
		t.Errorf("lastLines = %q, want %q", got, want)
	}
	newRecorder(nil).step("nobody looks")
}

func TestLock(t *testing.T) {
	s := store{root: t.TempDir()}
	release, err := s.lock("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lock("a"); !errors.Is(err, clusters.ErrBusy) {
		t.Errorf("second lock: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = s.lock("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.discard("a"), release()); err != nil {
		t.Fatal(err)
	}
	if exists, err := s.exists("a"); exists || err != nil {
		t.Errorf("an empty folder stays: %v", err)
	}
	if info, err := os.Stat(s.root); err != nil || !info.IsDir() {
		t.Errorf("the folder of all clusters: %v", err)
	}
}
