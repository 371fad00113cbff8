package recipe

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPull(t *testing.T) {
	for _, test := range []struct {
		name, script, out, failure string
	}{
		{"here", "exit 0\n", "x/y:v1 is here", ""},
		{"pulled", "[ $1 = pull ] || exit 1\necho 'v1: Pulling from x/y'\n", "pulled x/y:v1", ""},
		{
			"no registry", "[ $1 = pull ] && echo 'first line\nno such host' >&2\nexit 1\n", "trying to pull x/y:v1",
			"no such host",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\n"+test.script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			var out bytes.Buffer
			err := pull(t.Context(), &out, "x/y:v1")
			if !strings.Contains(out.String(), test.out) {
				t.Errorf("said %q", out.String())
			}
			if (err == nil) != (test.failure == "") || (err != nil && err.Error() != test.failure) {
				t.Errorf("got %v", err)
			}
		})
	}
}
