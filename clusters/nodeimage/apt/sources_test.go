package apt

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestParseList(t *testing.T) {
	text := `# a comment
deb http://mirror.test/debian bookworm main contrib # trailing
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://other.test/repo stable main
deb-src http://mirror.test/debian bookworm main
deb http://short.test

deb   http://spaces.test/debian   bookworm-updates   main
`
	want := []Source{
		{"http://mirror.test/debian", []string{"bookworm"}, []string{"main", "contrib"}},
		{"https://other.test/repo", []string{"stable"}, []string{"main"}},
		{"http://spaces.test/debian", []string{"bookworm-updates"}, []string{"main"}},
	}
	if got := ParseList(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseDeb822(t *testing.T) {
	text := `Types: deb deb-src
# comments stand between fields too
URIs: http://Mirror.test/debian http://second.test/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.test/debian
Suites: bookworm
Components: main`
	suites := []string{"bookworm", "bookworm-updates"}
	want := []Source{
		{"http://Mirror.test/debian", suites, []string{"main"}},
		{"http://second.test/debian", suites, []string{"main"}},
	}
	if got := ParseDeb822(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestMirrorTakesTheReleaseItself(t *testing.T) {
	sources := []Source{
		{"http://cloud.test", []string{"cloud-bookworm"}, []string{"main"}},
		{"http://security.test", []string{"bookworm-security"}, []string{"main"}},
		{"http://extra.test", []string{"bookworm"}, []string{"nonfree"}},
		{"http://mirror.test", []string{"bookworm", "bookworm-updates"}, []string{"main", "contrib"}},
	}
	got, err := Mirror(sources, "bookworm")
	want := Source{"http://mirror.test", []string{"bookworm"}, []string{"main", "contrib"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := Mirror(sources, "trixie"); !errors.Is(err, ErrNoMirror) {
		t.Errorf("a release nobody offers: %v", err)
	}
}

func TestSourcesReadsBothKinds(t *testing.T) {
	root := t.TempDir()
	directory := filepath.Join(root, "etc/apt/sources.list.d")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.list":        "deb http://a.test x main\n",
		"b.sources":     "Types: deb\nURIs: http://b.test\nSuites: x\nComponents: main\n",
		"c.sources.bak": "Types: deb\nURIs: http://c.test\nSuites: x\nComponents: main\n",
	} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := Sources(root)
	if err != nil || len(sources) != 2 || sources[0].URI != "http://a.test" || sources[1].URI != "http://b.test" {
		t.Errorf("got %+v, %v", sources, err)
	}
}

func TestParseRelease(t *testing.T) {
	release := ParseRelease("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_CODENAME=bookworm\n")
	if !release.Known() || release.Codename != "bookworm" {
		t.Errorf("got %+v", release)
	}
	if ParseRelease("ID=alpine\nVERSION_ID=3\n").Known() {
		t.Error("alpine passed for a distribution we know")
	}
}
