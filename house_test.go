package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rebound-chaos/rebound"

// arrows lists what each room may import of ours: the drawing in ARCHITECTURE.md. A room's own sub-folders may import
// it, and it them only where they are listed. Rooms not listed here fail the test, so a new room has to be drawn first.
var arrows = map[string][]string{
	".":                      {"runner", "runner/cli", "injectors", "injectors/pods", "clusters", "clusters/kindcluster"},
	"assertions":             {},
	"scenarios":              {"assertions", "scenarios/values"},
	"scenarios/values":       {},
	"scenarios/library":      {},
	"injectors":              {"scenarios/values"},
	"injectors/fields":       {"injectors"},
	"injectors/pods":         {"injectors", "scenarios/values"},
	"injectors/injectortest": {"injectors", "injectors/fields", "scenarios/values"},
	"clusters":               {},
	"clusters/image":         {"clusters"},
	"clusters/kindcluster":   {"clusters", "clusters/image"},
	"reports":                {"assertions"},
	"runner": {"assertions", "scenarios", "scenarios/values", "injectors", "clusters", "clusters/image", "reports",
		"runner/recorder", "runner/recorder/prober", "runner/demo"},
	"runner/recorder":        {"assertions", "runner/recorder/prober"},
	"runner/recorder/prober": {"assertions"},
	"runner/demo":            {},
	"runner/cli": {"assertions", "scenarios", "scenarios/library", "scenarios/values", "injectors", "clusters", "reports",
		"runner", "runner/demo", "runner/recorder", "runner/recorder/prober"},
	"runner/suite/witness": {},
	"runner/suite":         {},
}

// testArrows lists what the tests of a room may import of ours beyond the room's own arrows: real parts where fakes would
// prove nothing.
var testArrows = map[string][]string{
	"injectors/pods":  {"injectors/injectortest"},
	"scenarios":       {"scenarios/library"},
	"runner/cli":      {"injectors/pods"},
	"runner/recorder": {"clusters", "clusters/image", "clusters/kindcluster", "runner/demo"},
	"runner/suite": {"runner", "runner/cli", "reports", "assertions", "scenarios", "clusters", "clusters/kindcluster",
		"injectors", "injectors/pods"},
}

// outside lists what a room may import from outside the standard library; rooms not named here are free to.
var outside = map[string][]string{
	"assertions": {},
}

func TestImportsFollowTheHouse(t *testing.T) {
	rooms := 0
	for _, line := range imports(t, `{{range .Imports}} {{.}}{{end}}`) {
		fields := strings.Fields(line)
		room := roomOf(fields[0])
		allowed, known := arrows[room]
		if !known {
			t.Errorf("room %s is not in the drawing: add it to arrows and to ARCHITECTURE.md", room)
			continue
		}
		rooms++
		for _, imported := range fields[1:] {
			checkImport(t, room, imported, allowed)
		}
	}
	if rooms < 15 {
		t.Fatalf("only %d rooms seen: the test looks at the wrong tree", rooms)
	}
	for _, line := range imports(t, `{{range .TestImports}} {{.}}{{end}}{{range .XTestImports}} {{.}}{{end}}`) {
		fields := strings.Fields(line)
		room := roomOf(fields[0])
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, module) {
				checkImport(t, room, imported, slices.Concat(arrows[room], testArrows[room]))
			}
		}
	}
}

// imports lists every package with what the template says of it, those behind the tags of real-cluster tests too.
func imports(t *testing.T, template string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-tags", "cluster,soak", "-f", "{{.ImportPath}}"+template,
		"./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func roomOf(path string) string {
	if room := strings.TrimPrefix(strings.TrimPrefix(path, module), "/"); room != "" {
		return room
	}
	return "."
}

func checkImport(t *testing.T, room, imported string, allowed []string) {
	t.Helper()
	if own, ours := strings.CutPrefix(imported, module+"/"); ours {
		if own != room && !slices.Contains(allowed, own) {
			t.Errorf("%s imports %s: no such arrow in the house", room, own)
		}
		return
	}
	libraries, limited := outside[room]
	external := strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
	if limited && external && !slices.Contains(libraries, imported) {
		t.Errorf("%s imports %s: it may use the standard library only", room, imported)
	}
}
