package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rebound-chaos/rebound/scenarios/values"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	full := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return full
}

// loadOne loads exactly one scenario.
func loadOne(t *testing.T, opts Options, source Source) *Scenario {
	t.Helper()
	loaded, err := load(t, opts, source)
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded) != 1 {
		t.Fatalf("%d scenarios", len(loaded))
	}
	return loaded[0]
}

// TestRefusals holds the refusals of what no golden file can hold, and their speed.
func TestRefusals(t *testing.T) {
	base := readFile(t, "testdata/valid-base.yaml")
	aliases := strings.Repeat("*a, ", maxAliases+1)
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", "))
	}
	for _, test := range []struct{ name, text, message string }{
		{"too large", base + "#" + strings.Repeat("x", maxFileBytes), "larger than 1 MiB"},
		{"nested lists", "a: " + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), "nested deeper than 100"},
		{
			"nested maps", "a: " + strings.Repeat("{a: ", maxDepth+1) + "b" + strings.Repeat("}", maxDepth+1),
			"nested deeper than 100",
		},
		{"deep and broken", strings.Repeat("[", 200_000), "not YAML"},
		{"deep dashes", strings.Repeat("- ", 200_000), ""},
		{"deep question marks", strings.Repeat("? ", 200_000), ""},
		{"deep maps", strings.Repeat("{", 200_000), "not YAML"},
		{"aliases", "a: &a x\nb: [" + aliases + "]\n", "more than 1000 aliases"},
		{"alias bomb", bomb.String(), "aliases stand for more than 100000 values"},
		{"too many values", "a: [" + strings.Repeat("x, ", maxParts+1) + "]", "more than 20000 lines and commas"},
		{"NUL", base + "\x00", "a NUL byte"},
		{"bad UTF-8", strings.Replace(base, "base", "ba\xffse", 1), "byte 0xff is not UTF-8"},
		{"UTF-16", "\xff\xfea\x00:\x00", "not UTF-8"},
		{"control character", strings.Replace(base, "base", "ba\x1bse", 1), "control character U+001B"},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			_, err := loadText(t, test.text)
			took := time.Since(start)
			problems := problemsOf(t, err)
			if len(problems) == 0 {
				t.Fatal("accepted")
			}
			for _, p := range problems {
				if p.Line < 1 || p.Column < 1 || p.File != "-" {
					t.Errorf("no position: %+v", p)
				}
			}
			if !strings.Contains(problems[0].Message, test.message) {
				t.Errorf("%s", err)
			}
			// Twenty times what it may take (100 ms): a gate against the exponential, not a benchmark.
			if took > 2*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// BenchmarkRefusal shows how long refusals take: less than 100 ms each.
func BenchmarkRefusal(b *testing.B) {
	loader := testLoader()
	for name, text := range map[string]string{
		"deep":    strings.Repeat("[", 200_000),
		"dashes":  strings.Repeat("- ", 200_000),
		"aliases": "a: &a x\nb: [" + strings.Repeat("*a, ", maxAliases+1) + "]\n",
		"large":   strings.Repeat("x", 2*maxFileBytes),
		"wide":    "a: [" + strings.Repeat("x, ", maxParts-2) + "]\n",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				opts := Options{Stdin: strings.NewReader(text)}
				if _, err := loader.Load(context.Background(), []Source{"-"}, opts); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func TestValidFiles(t *testing.T) {
	for _, file := range []string{"valid-base.yaml", "valid-zone-cut.yaml", "nested/valid-merged.yaml"} {
		scenario := loadOne(t, Options{}, Source("testdata/"+file))
		want, err := filepath.Abs(filepath.Dir("testdata/" + file))
		if err != nil {
			t.Fatal(err)
		}
		if scenario.Dir != want || scenario.File != "testdata/"+file || len(scenario.Hash) != 64 {
			t.Errorf("%s: dir %q, file %q, hash %q", file, scenario.Dir, scenario.File, scenario.Hash)
		}
		// The merged document is a scenario itself, and means the same.
		again, err := load(t, Options{Stdin: strings.NewReader(string(scenario.Merged)), Root: "."}, "-")
		if strings.Contains(string(scenario.Merged), "manifests") || strings.Contains(string(scenario.Merged), "use:") {
			continue // its paths start from the folder of the file
		}
		if err != nil {
			t.Errorf("%s: merged: %v", file, err)
			continue
		}
		if diff := cmp.Diff(scenario.Spec, again[0].Spec); diff != "" || scenario.Hash != again[0].Hash {
			t.Errorf("%s: merged: %s", file, diff)
		}
	}
}

func TestMerge(t *testing.T) {
	scenario := loadOne(t, Options{}, "testdata/nested/valid-merged.yaml")
	spec := scenario.Spec
	if diff := cmp.Diff(map[string]string{"tier": "smoke", "team": "shop"}, scenario.Metadata.Labels); diff != "" {
		t.Error(diff)
	}
	cluster := Cluster{Profile: "fast", ControlPlanes: 1, Workers: Workers{{Count: 4}}}
	if diff := cmp.Diff(cluster, spec.Cluster); diff != "" {
		t.Error(diff)
	}
	// The path starts from the folder of the file that is loaded, not of the one that it stands in.
	shop := Workload{Manifests: []string{"../deploy/shop.yaml"}, Images: []string{"shop:1.10"}}
	if diff := cmp.Diff(shop, spec.Workloads["shop"]); diff != "" {
		t.Error(diff)
	}
	if spec.Workloads["web"].Demo.Replicas != 3 {
		t.Errorf("replicas: %+v", spec.Workloads["web"].Demo)
	}
	names := []string{}
	for _, probe := range spec.Probes {
		names = append(names, probe.Name)
	}
	if diff := cmp.Diff([]string{"front", "records", "reused"}, names); diff != "" {
		t.Error(diff)
	}
	front := Probe{
		Name: "front", Rate: 0.5, Timeout: DefaultTimeout, Connections: "new", Type: "http",
		Params: &httpProbe{Service: "web/demo", Path: "/", Method: "GET"},
	}
	if diff := cmp.Diff(front, spec.Probes[0]); diff != "" {
		t.Error(diff)
	}
	if put := spec.Probes[1].Params.(*writeProbe).Put; put != "/r/$(seq)" {
		t.Errorf("put %q", put)
	}
}

func TestParams(t *testing.T) {
	text := strings.Replace(readFile(t, "testdata/valid-base.yaml"), "spec:\n", `spec:
  params: {n: 2, word: "off", tag: 1.10}
`, 1)
	text = strings.Replace(text, "replicas: 3",
		`replicas: $(n), env: {A: "$(n)", B: v$(tag)-$(n), C: $$(n), D: "$(word)"}`, 1)
	loaded, err := load(t, Options{Stdin: strings.NewReader(text), Set: map[string]string{"n": "5"}}, "-")
	if err != nil {
		t.Fatal(err)
	}
	want := &Demo{Replicas: 5, Env: map[string]string{"A": "5", "B": "v1.10-5", "C": "$(n)", "D": "off"}}
	if diff := cmp.Diff(want, loaded[0].Spec.Workloads["web"].Demo); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"n": "5", "word": "off", "tag": "1.10"}, loaded[0].Spec.Params); diff != "" {
		t.Error(diff)
	}
	_, err = load(t, Options{Stdin: strings.NewReader(text), Set: map[string]string{"wrod": "x"}}, "-")
	want2 := "--set:1:1: no scenario has a parameter \"wrod\"; did you mean \"word\"?\n    1 | wrod=x\n      | ^"
	if err == nil || err.Error() != want2 {
		t.Errorf("error %v", err)
	}
	// What is set is checked like what is written.
	_, err = load(t, Options{Stdin: strings.NewReader(text), Set: map[string]string{"n": "many"}}, "-")
	if problems := problemsOf(t, err); len(problems) != 1 || !strings.Contains(problems[0].Message, "a whole number") {
		t.Errorf("error %v", err)
	}
}

// TestParamBomb: a small file must not become a large document.
func TestParamBomb(t *testing.T) {
	text := strings.Replace(readFile(t, "testdata/valid-base.yaml"), "spec:\n",
		"spec:\n  params: {x: "+strings.Repeat("y", 100_000)+"}\n", 1)
	text = strings.Replace(text, "mechanism: replicaset",
		"mechanism: replicaset\n  title: "+strings.Repeat("$(x)", 100_000), 1)
	_, err := loadText(t, text)
	if err == nil || !strings.Contains(err.Error(), "parameters put more than 4 MiB into the file") {
		t.Errorf("error %.200v", err)
	}
}

func TestDefaults(t *testing.T) {
	spec := loadOne(t, Options{}, "testdata/valid-base.yaml").Spec
	cluster := Cluster{Profile: "fast", ControlPlanes: 1, Workers: Workers{{Count: 2}}}
	if diff := cmp.Diff(cluster, spec.Cluster); diff != "" || spec.Repeat != 1 {
		t.Errorf("%s, repeat %d", diff, spec.Repeat)
	}
	probe := spec.Probes[0]
	if probe.Rate.String() != "50/s" || probe.Timeout.String() != "1s" || probe.Connections != "new" {
		t.Errorf("probe %+v", probe)
	}
	if spec.Steady.Hold.String() != "3s" || spec.Steady.Within.String() != "1m30s" {
		t.Errorf("steady %+v", spec.Steady)
	}
	if objective := spec.Objectives[0]; objective.Since != "kill" || objective.Hold.String() != "3s" {
		t.Errorf("objective %+v", objective)
	}
	if diff := cmp.Diff(&killPod{}, spec.Steps[0].Params); diff != "" || spec.Steps[0].Type != "kill-pod" {
		t.Errorf("step %+v: %s", spec.Steps[0], diff)
	}
}

// TestFolder: partial files and manifests are no scenarios, everything else in a folder is.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	base := readFile(t, "testdata/valid-base.yaml")
	writeFile(t, dir, "b.yaml", base)
	writeFile(t, dir, "sub/a.yml", strings.Replace(base, "name: base", "name: other", 1))
	writeFile(t, dir, "defaults.yaml", "apiVersion: rebound/v1alpha1\nkind: Scenario\nspec: {repeat: 3}\n")
	writeFile(t, dir, "deploy.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n")
	writeFile(t, dir, "many.yaml", "apiVersion: v1\nkind: Service\n---\napiVersion: v1\nkind: Service\n")
	writeFile(t, dir, ".hidden/c.yaml", "nonsense")
	writeFile(t, dir, "README.md", "nonsense")
	loaded, err := load(t, Options{}, Source(dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, scenario := range loaded {
		names = append(names, scenario.Metadata.Name)
	}
	if diff := cmp.Diff([]string{"base", "other"}, names); diff != "" {
		t.Error(diff)
	}

	partial := writeFile(t, dir, "defaults.yaml", "apiVersion: rebound/v1alpha1\nkind: Scenario\nspec: {repaet: 3}\n")
	same := writeFile(t, dir, "z.yaml", base)
	_, err = load(t, Options{}, Source(dir))
	problems := problemsOf(t, err)
	if len(problems) != 2 || problems[0].File != partial || problems[0].Hint != "repeat" ||
		problems[1].File != same || problems[1].Line != 4 ||
		!strings.Contains(problems[1].Message, `the name "base" is taken by`) {
		t.Errorf("problems %v", err)
	}
	if _, err := load(t, Options{}, Source(t.TempDir())); err == nil {
		t.Error("an empty folder was accepted")
	}
	if _, err := load(t, Options{}, Source(filepath.Join(dir, "nothere.yaml"))); err == nil {
		t.Error("a missing file was accepted")
	}
}

// TestTwice: a file that two sources name is one scenario.
func TestTwice(t *testing.T) {
	loaded, err := load(t, Options{}, "testdata/valid-base.yaml", "./testdata/valid-base.yaml")
	if err != nil || len(loaded) != 1 {
		t.Errorf("%d scenarios, error %v", len(loaded), err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := testLoader().Load(ctx, []Source{"testdata/valid-base.yaml"}, Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestRepository: files are read from the repository of the file that names them, links followed.
func TestRepository(t *testing.T) {
	outer := t.TempDir()
	secret := writeFile(t, outer, "secret.yaml", "apiVersion: v1\n")
	repo := filepath.Join(outer, "repo")
	text := strings.Replace(readFile(t, "testdata/valid-base.yaml"), "{demo: {replicas: 3}}", "{manifests: [MANIFEST]}", 1)
	writeFile(t, repo, ".git/HEAD", "")
	writeFile(t, repo, "deploy/app.yaml", "apiVersion: v1\n")
	if err := os.Symlink(secret, filepath.Join(repo, "deploy/link.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ manifest, root, message string }{
		{"../deploy/app.yaml", "", ""},
		{"../deploy", "", ""},
		{filepath.Join(repo, "deploy/app.yaml"), "", ""},
		{"../../secret.yaml", "", "lies outside"},
		{"../deploy/link.yaml", "", "by a symbolic link"},
		{"../../secret.yaml", outer, ""},
		{"../deploy/link.yaml", outer, ""},
		{"../deploy/app.yaml", filepath.Join(repo, "scenarios"), "lies outside"},
	} {
		file := writeFile(t, repo, "scenarios/x.yaml", strings.Replace(text, "MANIFEST", test.manifest, 1))
		_, err := load(t, Options{Root: test.root}, Source(file))
		problems := problemsOf(t, err)
		if test.message == "" && err != nil || test.message != "" &&
			(len(problems) != 1 || problems[0].Line != 9 || !strings.Contains(problems[0].Message, test.message)) {
			t.Errorf("%+v: error %v", test, err)
		}
	}
}

func TestLibrary(t *testing.T) {
	names, err := testLoader().LibraryNames()
	if err != nil || !slices.Contains(names, "pod-kill") || !slices.Contains(names, "pod-kill-single") {
		t.Fatalf("names %v, error %v", names, err)
	}
	all, err := load(t, Options{}, "library:")
	if err != nil || len(all) != len(names) {
		t.Fatalf("%d scenarios of %d files, error %v", len(all), len(names), err)
	}
	for _, scenario := range all {
		name := scenario.Metadata.Name
		if scenario.File != LibraryPrefix+name || scenario.Dir != "" {
			t.Errorf("%s: file %q, dir %q", name, scenario.File, scenario.Dir)
		}
		if len(scenario.Spec.Twins) == 0 {
			t.Errorf("%s has no twin: nothing proves that it can fail", name)
		}
		if scenario.Metadata.Title == "" || scenario.Metadata.Labels["tier"] == "" {
			t.Errorf("%s has no title or no tier", name)
		}
	}
	for _, source := range []Source{"library:pod-kill", "library:replicas/pod-kill", "library:replicas/pod-kill.yaml"} {
		if scenario := loadOne(t, Options{}, source); scenario.Metadata.Name != "pod-kill" {
			t.Errorf("%s is %s", source, scenario.Metadata.Name)
		}
	}
	_, err = load(t, Options{}, "library:pod-kil")
	if problems := problemsOf(t, err); len(problems) != 1 || problems[0].Hint != "pod-kill" {
		t.Errorf("error %v", err)
	}
}

// TestReadme: the file that the README shows is valid, and its track record names every shipped twin.
func TestReadme(t *testing.T) {
	readme := readFile(t, "README.md")
	_, rest, _ := strings.Cut(readme, "```yaml\n")
	shown, _, _ := strings.Cut(rest, "```")
	if _, err := loadText(t, shown); err != nil {
		t.Error(err)
	}
	shipped, err := load(t, Options{}, "library:")
	if err != nil {
		t.Fatal(err)
	}
	for _, scenario := range shipped {
		for _, twin := range scenario.Spec.Twins {
			line := fmt.Sprintf("| `%s` | `%s` | `%s`", scenario.Metadata.Name, twin.Name, twin.Misses)
			if !strings.Contains(readme, line) {
				t.Errorf("the track record lacks %s", line)
			}
		}
	}
}

// TestUseLibrary: a shipped file can be built upon.
func TestUseLibrary(t *testing.T) {
	text := `apiVersion: rebound/v1alpha1
kind: Scenario
metadata: {name: mine}
spec:
  use: ["library:pod-kill"]
  objectives:
    - {name: redundancy, within: 9s}
`
	loaded, err := loadText(t, text)
	if err != nil {
		t.Fatal(err)
	}
	scenario := loaded[0]
	if scenario.Metadata.Mechanism != "replicaset" || scenario.Metadata.Name != "mine" {
		t.Errorf("metadata %+v", scenario.Metadata)
	}
	for _, objective := range scenario.Spec.Objectives {
		if objective.Name != "redundancy" {
			continue
		}
		if within, _ := objective.Within.For("default"); within.String() != "9s" {
			t.Errorf("within %s", within)
		}
	}
	// The name is not inherited: two scenarios of one name would come of it.
	_, err = loadText(t, strings.Replace(text, "{name: mine}", "{title: Mine}", 1))
	if problems := problemsOf(t, err); len(problems) != 1 || problems[0].Message != "metadata needs a name" {
		t.Errorf("error %v", err)
	}
	library := fstest.MapFS{
		"family/manifests.yaml": {Data: []byte(strings.Replace(readFile(t, "testdata/valid-base.yaml"),
			"{demo: {replicas: 3}}", "{manifests: [x.yaml]}", 1))},
		"family/uses.yaml": {Data: []byte(`{apiVersion: rebound/v1alpha1, kind: Scenario, metadata: {name: uses},
  spec: {use: [nothere.yaml]}}`)},
	}
	types := testTypes()
	types.Library = library
	_, err = NewLoader(types).Load(context.Background(), []Source{"library:"}, Options{})
	if err == nil || !strings.Contains(err.Error(), "no folder that manifests could lie in") ||
		!strings.Contains(err.Error(), `there is no shipped file "nothere.yaml"`) {
		t.Errorf("error %v", err)
	}
}

// TestUsedProblem: what is wrong in a used file is shown there, and once, however many files use it.
func TestUsedProblem(t *testing.T) {
	dir := t.TempDir()
	base := readFile(t, "testdata/valid-base.yaml")
	bad := writeFile(t, dir, "defaults.yaml", "apiVersion: rebound/v1alpha1\nkind: Scenario\nspec:\n  repeat: 0\n")
	for _, name := range []string{"a", "b"} {
		writeFile(t, dir, name+".yaml", strings.Replace(strings.Replace(base, "name: base", "name: "+name, 1), "spec:\n",
			"spec:\n  use: [defaults.yaml]\n", 1))
	}
	_, err := load(t, Options{}, Source(filepath.Join(dir, "a.yaml")), Source(filepath.Join(dir, "b.yaml")))
	problems := problemsOf(t, err)
	if len(problems) != 1 || problems[0].File != bad || problems[0].Line != 4 || problems[0].Column != 11 {
		t.Errorf("error %v", err)
	}
}

func TestProblemText(t *testing.T) {
	long := strings.Repeat("é", 300)
	for _, test := range []struct {
		problem Problem
		want    string
	}{
		{Problem{File: "x.yaml", Message: "no such file"}, "x.yaml: no such file"},
		{
			Problem{File: "x.yaml", Line: 2, Column: 3, Message: "wrong", Hint: "right", Source: "\té\x1b"},
			"x.yaml:2:3: wrong; did you mean \"right\"?\n    2 |  é\n      |   ^",
		},
		{
			Problem{File: "x.yaml", Line: 2, Column: 200, Message: "wrong", Source: long},
			"x.yaml:2:200: wrong\n    2 | " + long[:2*120] + "\n      | " + strings.Repeat(" ", 60) + "^",
		},
	} {
		if diff := cmp.Diff(test.want, test.problem.Error()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestClosest(t *testing.T) {
	names := []string{"kill-pod", "partition", "rollout-restart"}
	for name, want := range map[string]string{
		"kil-pod": "kill-pod", "KILL-POD": "kill-pod", "klil-pod": "kill-pod", "drain": "", "": "", "kill-pod": "",
		strings.Repeat("x", 1000): "",
	} {
		if got := closest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	loader := testLoader()
	f.Fuzz(func(t *testing.T, text string) {
		_, err := loader.Load(context.Background(), []Source{"-"}, Options{Stdin: strings.NewReader(text)})
		if err == nil {
			return
		}
		var problems Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("error is no Problems: %v", err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("no position: %+v", p)
			}
		}
		_ = err.Error()
	})
}

// TestRefs reads references and edges.
func TestRefs(t *testing.T) {
	ref, err := ParseRef("shop/deployment/web")
	if err != nil || ref.String() != "shop/deployment/web" || ref.Kind != "deployment" {
		t.Errorf("%+v, error %v", ref, err)
	}
	for _, text := range []string{"", "web", "shop/web", "a/b/c/d", "/b/c", "a//c", "a/b/", "a/Deployment/c"} {
		if _, err := ParseRef(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	if since, err := ParseEdge("cut"); err != nil || since.Edge != "at" {
		t.Errorf("%+v, error %v", since, err)
	}
	if since, err := ParseEdge("cut.healed"); err != nil || since.Edge != "healed" || since.Step != "cut" {
		t.Errorf("%+v, error %v", since, err)
	}
	if _, err := ParseEdge("cut.at"); err == nil {
		t.Error("cut.at was accepted")
	}
	if got := values.Duration(DefaultHold).String(); got != "3s" {
		t.Errorf("hold %s", got)
	}
}
