package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// fakeDocker puts a client into the path that answers as the script says.
func fakeDocker(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestAsk(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want         daemon
		wrong        bool
	}{
		{"a daemon", `printf 'ID:X\t20.10.24+dfsg1\trunc\n'`, daemon{"ID:X", "20.10.24+dfsg1", "runc"}, false},
		{"a client alone", `printf '\t\t\n'`, daemon{}, true},
		{"a client that complains", "echo 'Cannot connect' >&2\nexit 1\n", daemon{}, true},
		{"another program", "echo hello\n", daemon{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			fakeDocker(t, test.script)
			got, err := ask(t.Context())
			if (err != nil) != test.wrong || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
