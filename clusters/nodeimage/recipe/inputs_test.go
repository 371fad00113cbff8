package recipe

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func hash(t *testing.T, dir string, facts ...string) string {
	t.Helper()
	sum, err := hashOf(dir, []string{"a", "go.mod"}, facts...)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestHashChangesWithWhatIsBuilt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module x\n")
	write(t, dir, "a/one.go", "package a\n")
	first := hash(t, dir, "amd64")
	seen := map[string]string{first: "the first"}
	for _, change := range []struct {
		name string
		make func()
	}{
		{"another text", func() { write(t, dir, "a/one.go", "package b\n") }},
		{"another file", func() { write(t, dir, "a/deep/two.txt", "") }},
		{"another name", func() {
			if err := os.Rename(filepath.Join(dir, "a/deep/two.txt"), filepath.Join(dir, "a/deep/three.txt")); err != nil {
				t.Fatal(err)
			}
		}},
		{"another module", func() { write(t, dir, "go.mod", "module y\n") }},
	} {
		change.make()
		sum := hash(t, dir, "amd64")
		if earlier, again := seen[sum]; again {
			t.Errorf("%s: the hash is that of %s", change.name, earlier)
		}
		seen[sum] = change.name
	}
	last := hash(t, dir, "amd64")
	if hash(t, dir, "arm64") == last || hash(t, dir, "amd", "64") == last || hash(t, dir) == last {
		t.Error("the facts do not count, or run into each other")
	}
}

func TestHashIgnoresWhatChangesNoImage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module x\n")
	write(t, dir, "a/one.go", "package a\n")
	first := hash(t, dir)
	write(t, dir, "a/one_test.go", "package a\n")
	write(t, dir, "elsewhere/two.go", "package b\n")
	if hash(t, dir) != first {
		t.Error("a test or a file elsewhere counts")
	}
	if _, err := hashOf(dir, []string{"missing"}); err == nil {
		t.Error("a missing source passed")
	}
}

func TestInputsOfThisModule(t *testing.T) {
	amd, err := inputs("..", "amd64", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	arm, err := inputs("..", "arm64", "bookworm")
	if err != nil || len(amd) != 64 || amd == arm {
		t.Errorf("got %s and %s, %v", amd, arm, err)
	}
	found, err := readPins("..")
	if err != nil || found.kubernetes == "" {
		t.Errorf("got %+v, %v", found, err)
	}
	if _, err := readPins(t.TempDir()); err == nil {
		t.Error("an empty directory passed for this module")
	}
}

// A step must be made anew when anything it is made from changes: every source of the image belongs to a step, or to
// the node image itself, whose hash covers all of them.
func TestPlanDependsOnEarlierSteps(t *testing.T) {
	b := &build{options: Options{Module: ".."}}
	recipes, err := b.plan()
	if err != nil {
		t.Fatal(err)
	}
	b.release.Codename = "trixie"
	other, err := b.plan()
	if err != nil {
		t.Fatal(err)
	}
	if len(recipes) != stepNode {
		t.Fatalf("%d steps are kept", len(recipes))
	}
	for i, s := range recipes {
		if s.number != i || s.name == "" || len(s.key) != 12 || titles[i] == "" {
			t.Errorf("step %d: %+v", i, s)
		}
		if s.key == other[i].key {
			t.Errorf("step %s does not depend on the release", s.name)
		}
	}
}
