package scenarios

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rebound-chaos/rebound/scenarios/library"
	"github.com/rebound-chaos/rebound/scenarios/values"
)

var update = flag.Bool("update", false, "write the .err files anew")

// The look-alikes of registered types.
type killPod struct {
	Grace values.Duration `json:"grace" jsonschema:"How long a pod may take to end."`
}

type partition struct {
	Peer      string `json:"peer"`
	Direction string `json:"direction,omitempty"`
}

func (p *partition) Validate() error {
	if p.Peer == "" {
		return errors.New("a partition needs a peer")
	}
	return nil
}

type httpProbe struct {
	Service string            `json:"service"`
	Method  string            `json:"method,omitempty"`
	Path    string            `json:"path,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Expect  *struct {
		Status int `json:"status,omitempty"`
	} `json:"expect,omitempty"`
}

func (p *httpProbe) Validate() error {
	if p.Service == "" {
		return errors.New("an http probe needs a service")
	}
	return nil
}

type writeProbe struct {
	Service string `json:"service"`
	Put     string `json:"put,omitempty"`
	List    string `json:"list,omitempty"`
}

func testTypes() Types {
	return Types{
		Profiles: []string{"default", "fast"},
		Library:  library.FS,
		Steps: map[string]StepType{
			"kill-pod": {
				Fault: true, Doc: "Kills pods.", New: func() any { return &killPod{} }, Targets: []string{TargetPods},
			},
			"partition": {
				Fault: true, Doc: "Cuts nodes off.", New: func() any { return &partition{Direction: "both"} },
				Targets: []string{TargetNodes},
			},
			"rollout-restart": {
				Doc: "Restarts a workload.", New: func() any { return &struct{}{} }, Targets: []string{TargetObjects},
			},
			"pause": {Doc: "Does nothing.", New: func() any { return &struct{}{} }},
		},
		Probes: map[string]ProbeType{
			"http":  {Doc: "Asks by HTTP.", New: func() any { return &httpProbe{Path: "/", Method: "GET"} }},
			"write": {Doc: "Writes records.", New: func() any { return &writeProbe{} }, Writes: true},
		},
	}
}

// testLoader is shared: making the schema takes longer than loading a file.
var testLoader = sync.OnceValue(func() *Loader { return NewLoader(testTypes()) })

func load(t *testing.T, opts Options, sources ...Source) ([]*Scenario, error) {
	t.Helper()
	return testLoader().Load(context.Background(), sources, opts)
}

// loadText loads a file of the given text.
func loadText(t *testing.T, text string) ([]*Scenario, error) {
	t.Helper()
	return load(t, Options{Stdin: strings.NewReader(text)}, "-")
}

func problemsOf(t *testing.T, err error) Problems {
	t.Helper()
	var problems Problems
	if err != nil && !errors.As(err, &problems) {
		t.Fatalf("error is no Problems: %v", err)
	}
	return problems
}

// TestInvalid holds each testdata/invalid-x.yaml against the problems in invalid-x.err.
func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			start := time.Now()
			loaded, err := load(t, Options{}, Source(file))
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if err == nil || loaded != nil {
				t.Fatal("the file was accepted")
			}
			problems := problemsOf(t, err)
			for _, p := range problems {
				if p.Line < 1 || p.Column < 1 {
					t.Errorf("no position: %+v", p)
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".err"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
