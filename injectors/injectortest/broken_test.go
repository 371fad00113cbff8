package injectortest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/injectortest"
)

// bad is BreakGreeting with one rule broken.
type bad struct {
	BreakGreeting
	rule  string
	Limit time.Duration `json:"limit"` // lacks a unit
}

// write overwrites the greeting without looking at what is there.
func write(ctx context.Context, w injectors.World, o injectors.Object, text string) error {
	return set(text)(ctx, w, injectors.Target{Objects: []injectors.Object{o}})
}

func (b *bad) Inject(ctx context.Context, w injectors.World, t injectors.Target, undo *injectors.Undo) error {
	for _, o := range t.Objects {
		api := w.API().CoreV1().ConfigMaps(o.Namespace)
		found, err := api.Get(ctx, o.Name, metav1.GetOptions{})
		if b.rule != "takes any target" && (err != nil || string(found.UID) != o.UID) {
			return injectors.ErrTargetGone
		}
		add := func() error {
			return undo.Add(ctx, injectors.Step{Kind: "bad/undo", Target: o, Needs: []injectors.Need{injectors.NeedAPI}})
		}
		switch b.rule {
		case "changes before it adds":
			return errors.Join(write(ctx, w, o, "broken"), add())
		case "adds once for all":
			if err := add(); err != nil {
				return err
			}
			return errors.Join(write(ctx, w, t.Objects[0], "broken"), write(ctx, w, t.Objects[1], "broken"))
		case "swallows errors":
			if err := add(); err == nil {
				_ = write(ctx, w, o, "broken")
			}
			continue
		case "leaks":
			go func() { select {} }()
		case "changes nothing":
			return add()
		}
		if err := errors.Join(add(), write(ctx, w, o, "broken")); err != nil {
			return err
		}
	}
	return nil
}

func (b *bad) Effective(context.Context, injectors.World, injectors.Target) error {
	if b.rule == "proves anything" {
		return nil
	}
	return errors.New("never")
}

// undo breaks its rule, and keeps the others.
func (b *bad) undo(ctx context.Context, w injectors.World, s injectors.Step) error {
	api := w.API().CoreV1().ConfigMaps(s.Target.Namespace)
	found, err := api.Get(ctx, s.Target.Name, metav1.GetOptions{})
	if b.rule == "overwrites anything" {
		return write(ctx, w, s.Target, "hello")
	}
	if err != nil || string(found.UID) != s.Target.UID {
		return nil
	}
	switch {
	case b.rule == "fails where nothing is owed" && found.Data["greeting"] == "hello":
		return errors.New("nothing to undo")
	case b.rule == "undoes half" || found.Data["greeting"] == "hello":
		return nil
	case found.Data["greeting"] != "broken" && b.rule == "keeps conflicts to itself":
		return nil
	case found.Data["greeting"] != "broken":
		return injectors.ErrConflict
	}
	return write(ctx, w, s.Target, "hello")
}

func (b *bad) fault() injectors.Fault {
	return injectors.Fault{
		Name: "bad", Doc: "x", Changes: "x", Undoes: "x", Needs: []injectors.Need{injectors.NeedAPI},
		New:  func() injectors.Injector { return &bad{BreakGreeting: BreakGreeting{Key: "greeting"}, rule: b.rule} },
		Undo: map[string]injectors.UndoFunc{"bad/undo": b.undo},
	}
}

const brokenEnv = "REBOUND_TEST_BROKEN_RULE"

// TestBroken is no test: it runs the suite on a fault that breaks a rule, for TestSuiteFindsBrokenRules.
func TestBroken(t *testing.T) {
	rule := os.Getenv(brokenEnv)
	if rule == "" {
		t.Skip("run by TestSuiteFindsBrokenRules")
	}
	b := &bad{rule: rule}
	injectortest.Run(t, b.fault(), fixture())
}

// A suite that can't fail proves nothing: each broken rule is found, by the clause that is about it.
func TestSuiteFindsBrokenRules(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]string{
		"changes before it adds":      "undo_before_change,_at_a_crash_anywhere/after_change_0",
		"adds once for all":           "undo_before_change,_at_a_crash_anywhere/after_change_2",
		"swallows errors":             "cancelled_anywhere/after_change_0",
		"leaks":                       "undo_twice",
		"changes nothing":             "undo_twice",
		"takes any target":            "target_recreated/before",
		"proves anything":             "effective_only_once_injected",
		"overwrites anything":         "changed_by_somebody_else",
		"fails where nothing is owed": "healed_meanwhile",
		"undoes half":                 "undo_twice",
		"keeps conflicts to itself":   "changed_by_somebody_else",
		"takes a bare number":         "parameters",
		"proves nothing":              "effective_only_once_injected",
	}
	for rule, clause := range broken {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			if out := runBroken(t, self, rule); !strings.Contains(out, "--- FAIL: TestBroken/"+clause) {
				t.Errorf("not found by %q:\n%s", clause, out)
			}
		})
	}
	t.Run("the others pass", func(t *testing.T) {
		t.Parallel()
		out := runBroken(t, self, "takes a bare number, proves nothing")
		for _, clause := range broken {
			expected := clause == "parameters" || clause == "effective_only_once_injected"
			if strings.Contains(out, "--- FAIL: TestBroken/"+clause) != expected {
				t.Errorf("%q: failed is not %v:\n%s", clause, expected, out)
			}
		}
	})
}

// runBroken runs the suite on a fault that breaks the rule, which must fail, and returns what it printed.
func runBroken(t *testing.T, self, rule string) string {
	t.Helper()
	run := exec.CommandContext(t.Context(), self, "-test.run=^TestBroken$", "-test.v")
	run.Env = append(os.Environ(), brokenEnv+"="+rule)
	out, err := run.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the suite ended with %v:\n%s", err, out)
	}
	return string(out)
}
