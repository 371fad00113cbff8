package main

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/rebound-chaos/rebound"

// arrows lists what each room may import of ours: the drawing in ARCHITECTURE.md. A room's own sub-folders may import
// it, and it them only where they are listed. Rooms not listed here fail the test, so a new room has to be drawn first.
var arrows = map[string][]string{
	".":                      {"runner", "runner/cli", "injectors", "injectors/pods", "clusters", "clusters/kindcluster"},
	"assertions":             {},
	"scenarios":              {"assertions", "scenarios/values", "scenarios/library"},
	"scenarios/values":       {},
	"scenarios/library":      {},
	"injectors":              {"scenarios/values"},
	"injectors/fields":       {"injectors"},
	"injectors/pods":         {"injectors", "injectors/injectortest", "scenarios/values"},
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
	"runner/suite": {"runner", "runner/cli", "reports", "assertions", "scenarios", "clusters", "clusters/kindcluster",
		"injectors", "injectors/pods"},
}

// outside lists what a room may import from outside the standard library; rooms not named here are free to.
var outside = map[string][]string{
	"assertions": {},
}

func TestImportsFollowTheHouse(t *testing.T) {
	out, err := exec.Command("go", "list", "-f",
		`{{.ImportPath}}{{range .Imports}} {{.}}{{end}}{{range .TestImports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	rooms := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		room := strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")
		if room == "" {
			room = "."
		}
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
	if rooms < 8 {
		t.Fatalf("only %d rooms seen: the test looks at the wrong tree", rooms)
	}
}

func checkImport(t *testing.T, room, imported string, allowed []string) {
	t.Helper()
	if own, ours := strings.CutPrefix(imported, module+"/"); ours {
		for _, a := range allowed {
			if a == own {
				return
			}
		}
		if own != room {
			t.Errorf("%s imports %s: no such arrow in the house", room, own)
		}
		return
	}
	libraries, limited := outside[room]
	if !limited || !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
		return
	}
	for _, l := range libraries {
		if l == imported {
			return
		}
	}
	t.Errorf("%s imports %s: it may use the standard library only", room, imported)
}
