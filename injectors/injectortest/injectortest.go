// Package injectortest is the conformance suite for injectors: what every fault owes, ours and a third party's, checked
// against a world that the fault's author provides, be it a fake or a real cluster.
//
// Whether a fault is useful, and how fast a cluster recovers from it, is left to scenarios.
package injectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/kubernetes"

	"github.com/rebound-chaos/rebound/injectors"
)

// Fixture tells the suite how to try a fault.
type Fixture struct {
	// World makes a fresh world and a fresh bound target in it. Every change must pass tap first.
	World func(t *testing.T, tap *Tap) (injectors.World, injectors.Target)
	// Params are the fault's parameters for the trials, as JSON; its defaults where empty.
	Params string
	// Refused are parameters that must be refused, by their types or by Validate.
	Refused []string
	// State renders what the fault can change, so that two states can be compared. Required.
	State func(ctx context.Context, w injectors.World, t injectors.Target) (string, error)
	// Remove takes the target away; Recreate puts another one (another UID) under its name. Required.
	Remove, Recreate func(ctx context.Context, w injectors.World, t injectors.Target) error
	// Heal makes the target as it was before, as an action might while the fault is on; Meddle makes it neither what
	// it was nor what the fault makes of it. Required of faults with an undo.
	Heal, Meddle func(ctx context.Context, w injectors.World, t injectors.Target) error
}

var (
	errOtherUID = errors.New("the UID in the precondition is another")
	errCrashed  = errors.New("the suite's crash: nothing is changed from here on")
)

const (
	trialLimit = 2 * time.Minute
	noEffect   = 500 * time.Millisecond // for Effective to say no
)

// Run tries the fault against the contract of package injectors, one subtest for each clause.
func Run(t *testing.T, f injectors.Fault, fx Fixture) {
	t.Helper()
	registry, err := injectors.NewRegistry(f)
	if err != nil {
		t.Fatalf("it can't be registered: %v", err)
	}
	if fx.World == nil || fx.State == nil || fx.Remove == nil || fx.Recreate == nil {
		t.Fatal("the fixture lacks World, State, Remove or Recreate")
	}
	if len(f.Undo) > 0 && (fx.Heal == nil || fx.Meddle == nil) {
		t.Fatal("the fixture of a fault with an undo lacks Heal or Meddle")
	}
	s := suite{fault: f, fx: fx, registry: registry}
	for _, clause := range []struct {
		name string
		undo bool // only for faults that owe something
		try  func(*testing.T)
	}{
		{"documented", false, s.documented},
		{"parameters", false, s.parameters},
		{"effective only once injected", false, s.effective},
		{"undo before change, at a crash anywhere", false, s.crashes},
		{"cancelled anywhere", false, s.cancelled},
		{"target gone", false, s.gone},
		{"target recreated", false, s.recreated},
		{"undo twice", true, s.twice},
		{"undo panics", true, s.panics},
		{"healed meanwhile", true, s.healed},
		{"changed by somebody else", true, s.meddled},
	} {
		if clause.undo && len(f.Undo) == 0 {
			continue
		}
		t.Run(clause.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			clause.try(t)
			if err := goleak.Find(before); err != nil && !t.Failed() {
				t.Errorf("goroutines are left: %v", err)
			}
		})
	}
}

type suite struct {
	fault    injectors.Fault
	fx       Fixture
	registry injectors.Registry
}

func (s suite) documented(t *testing.T) {
	for name, text := range map[string]string{"Doc": s.fault.Doc, "Changes": s.fault.Changes, "Undoes": s.fault.Undoes} {
		if text == "" {
			t.Errorf("%s is empty", name)
		}
	}
	if len(s.fault.Needs) == 0 {
		t.Error("Needs is empty: every fault needs something")
	}
}

func (s suite) parameters(t *testing.T) {
	first, second := s.fault.New(), s.fault.New()
	if first == second {
		t.Error("New returns the same parameters twice")
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("defaults differ between two calls of New")
	}
	checkFields(t, reflect.TypeOf(first).Elem())
	if _, err := s.injector(s.fx.Params); err != nil {
		t.Errorf("the fixture's parameters are refused: %v", err)
	}
	for _, bad := range append(s.fx.Refused, `{"no-such-parameter": 1}`) {
		if _, err := s.injector(bad); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// checkFields holds parameters to the rules of the file format: names in lower case, durations with their unit.
func checkFields(t *testing.T, params reflect.Type) {
	for i := range params.NumField() {
		field := params.Field(i)
		if !field.IsExported() {
			continue
		}
		if _, ok := field.Tag.Lookup("json"); !ok {
			t.Errorf("parameter %s has no json tag", field.Name)
		}
		if field.Type == reflect.TypeFor[time.Duration]() {
			t.Errorf("parameter %s: use values.Duration, which insists on a unit", field.Name)
		}
	}
}

// injector decodes parameters as the loader does.
func (s suite) injector(params string) (injectors.Injector, error) {
	in := s.fault.New()
	if params != "" {
		d := json.NewDecoder(bytes.NewBufferString(params))
		d.DisallowUnknownFields()
		if err := d.Decode(in); err != nil {
			return nil, err
		}
	}
	if v, ok := in.(injectors.Validator); ok {
		return in, v.Validate()
	}
	return in, nil
}

// trial is one injection into a world of its own.
type trial struct {
	suite
	*testing.T
	ctx      context.Context
	tap      *Tap
	world    injectors.World
	target   injectors.Target
	injector injectors.Injector
	ledger   *injectors.Ledger
	undo     *injectors.Undo
	before   string
}

func (s suite) trial(t *testing.T) *trial {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), trialLimit)
	t.Cleanup(cancel)
	tr := &trial{suite: s, T: t, ctx: ctx, tap: &Tap{}}
	tr.world, tr.target = s.fx.World(t, tr.tap)
	var err error
	if tr.injector, err = s.injector(s.fx.Params); err != nil {
		t.Fatalf("parameters: %v", err)
	}
	if tr.ledger, err = injectors.CreateLedger(ctx, filepath.Join(t.TempDir(), "ledgers"), injectors.Header{
		Run: "trial", Cluster: "trial",
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.ledger.Close(); err != nil {
			t.Errorf("close the ledger: %v", err)
		}
	})
	tr.undo = injectors.NewUndo(tr.ledger, s.registry, "trial")
	tr.before = tr.state()
	return tr
}

func (tr *trial) state() string {
	tr.Helper()
	state, err := tr.fx.State(tr.ctx, tr.world, tr.target)
	if err != nil {
		tr.Fatalf("State: %v", err)
	}
	return state
}

func (tr *trial) do(name string, f func(context.Context, injectors.World, injectors.Target) error) {
	tr.Helper()
	if err := f(tr.ctx, tr.world, tr.target); err != nil {
		tr.Fatalf("the fixture's %s: %v", name, err)
	}
}

func (tr *trial) mustInject() {
	tr.Helper()
	if err := tr.injector.Inject(tr.ctx, tr.world, tr.target, tr.undo); err != nil {
		tr.Fatalf("Inject: %v", err)
	}
	if len(tr.fault.Undo) > 0 && tr.state() == tr.before {
		tr.Fatal("Inject changed nothing that State shows")
	}
}

// mustHeal wants nothing left over, and the world in the wanted state.
func (tr *trial) mustHeal(left []injectors.Leftover, want string) {
	tr.Helper()
	for _, l := range left {
		tr.Errorf("left over: %v", l)
	}
	if got := tr.state(); len(tr.fault.Undo) > 0 && got != want {
		tr.Errorf("state after the undo:\n%s\nwanted:\n%s", got, want)
	}
}

// asDead copies the ledger as it is on disk now, and opens the copy as a later process would.
func (tr *trial) asDead() *injectors.Ledger {
	tr.Helper()
	data, err := os.ReadFile(tr.ledger.Path())
	if err != nil {
		tr.Fatal(err)
	}
	path := filepath.Join(tr.TempDir(), "trial.jsonl")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tr.Fatal(err)
	}
	dead, err := injectors.OpenLedger(path)
	if err != nil {
		tr.Fatal(err)
	}
	tr.Cleanup(func() {
		if err := dead.Close(); err != nil {
			tr.Errorf("close the dead ledger: %v", err)
		}
	})
	return dead
}

// attempts calls try with 0, 1, 2 … until fewer changes than that were made: then every point has been tried.
func attempts(t *testing.T, try func(t *testing.T, after int) (made int)) {
	for after := 0; ; after++ {
		made := 0
		if !t.Run(fmt.Sprintf("after change %d", after), func(t *testing.T) { made = try(t, after) }) || made < after {
			return
		}
		if after > 1000 {
			t.Fatal("more than 1000 changes")
		}
	}
}

// crashes stops the process, as it were, after each change in turn: the ledger on disk must be enough to heal.
func (s suite) crashes(t *testing.T) {
	attempts(t, func(t *testing.T, after int) (made int) {
		tr := s.trial(t)
		var dead *injectors.Ledger
		tr.tap.set(func() error {
			if made == 0 && len(s.fault.Undo) > 0 && len(tr.ledger.Owed()) == 0 {
				t.Error("the first change is made before an undo is registered")
			}
			if made >= after {
				if dead == nil {
					dead = tr.asDead()
				}
				return errCrashed
			}
			made++
			return nil
		})
		err := tr.injector.Inject(tr.ctx, tr.world, tr.target, tr.undo)
		tr.tap.set(nil)
		switch {
		case dead != nil && err == nil:
			t.Error("Inject returned nil, though a change was refused")
		case dead == nil && err != nil:
			t.Errorf("Inject: %v", err)
		case dead == nil:
			dead = tr.asDead()
			made = after - 1 // nothing was refused: there are no more points to try
		}
		if len(s.fault.Undo) == 0 && len(dead.Owed()) > 0 {
			t.Error("it owes an undo that it did not declare")
		}
		tr.mustHeal(injectors.ReplayLedger(tr.ctx, dead, s.registry, tr.world), tr.before)
		tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.before)
		return made
	})
}

// cancelled ends the context at each change in turn: Inject must return with an error, and what it registered must
// heal.
func (s suite) cancelled(t *testing.T) {
	attempts(t, func(t *testing.T, after int) (made int) {
		tr := s.trial(t)
		ctx, cancel := context.WithCancel(tr.ctx)
		defer cancel()
		refused := false
		tr.tap.set(func() error {
			if made >= after {
				refused = true
				cancel()
				return ctx.Err()
			}
			made++
			return nil
		})
		err := tr.injector.Inject(ctx, tr.world, tr.target, tr.undo)
		tr.tap.set(nil)
		if refused && err == nil {
			t.Error("Inject returned nil, though it was cancelled")
		}
		tr.mustHeal(tr.undo.Replay(ctx, tr.world), tr.before)
		if !refused {
			made = after - 1
		}
		return made
	})
}

// mustRefuse wants Inject to find its target gone, without a change.
func (tr *trial) mustRefuse() {
	tr.Helper()
	state, changes := tr.state(), 0
	tr.tap.set(func() error { changes++; return nil })
	err := tr.injector.Inject(tr.ctx, tr.world, tr.target, tr.undo)
	tr.tap.set(nil)
	if !errors.Is(err, injectors.ErrTargetGone) {
		tr.Errorf("Inject returned %v, wanted ErrTargetGone", err)
	}
	tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), state)
	if got := tr.state(); got != state {
		tr.Errorf("it changed what was not its target (in %d changes):\n%s\nwas:\n%s", changes, got, state)
	}
}

func (s suite) gone(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		tr := s.trial(t)
		tr.do("Remove", s.fx.Remove)
		tr.mustRefuse()
	})
	if len(s.fault.Undo) == 0 {
		return
	}
	t.Run("meanwhile", func(t *testing.T) {
		tr := s.trial(t)
		tr.mustInject()
		tr.do("Remove", s.fx.Remove)
		tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.state())
	})
}

func (s suite) recreated(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		tr := s.trial(t)
		tr.do("Recreate", s.fx.Recreate)
		tr.mustRefuse()
	})
	if len(s.fault.Undo) == 0 {
		return
	}
	t.Run("meanwhile", func(t *testing.T) {
		tr := s.trial(t)
		tr.mustInject()
		tr.do("Recreate", s.fx.Recreate)
		tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.state())
	})
}

func (s suite) twice(t *testing.T) {
	tr := s.trial(t)
	tr.mustInject()
	again := tr.asDead()
	tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.before)
	tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.before)
	tr.mustHeal(injectors.ReplayLedger(tr.ctx, again, s.registry, tr.world), tr.before)
}

// panicking is a world that breaks whatever touches it.
type panicking struct{}

func (panicking) API() kubernetes.Interface           { panic("the suite's world") }
func (panicking) Node(string) (injectors.Node, error) { panic("the suite's world") }

func (s suite) panics(t *testing.T) {
	tr := s.trial(t)
	tr.mustInject()
	if left := tr.undo.Replay(tr.ctx, panicking{}); len(left) == 0 {
		t.Error("an undo that panicked is not left over")
	}
	tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.before)
}

func (s suite) healed(t *testing.T) {
	tr := s.trial(t)
	tr.mustInject()
	tr.do("Heal", s.fx.Heal)
	tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.before)
}

func (s suite) meddled(t *testing.T) {
	tr := s.trial(t)
	tr.mustInject()
	tr.do("Meddle", s.fx.Meddle)
	state := tr.state()
	left := tr.undo.Replay(tr.ctx, tr.world)
	if len(left) == 0 {
		t.Error("somebody else's change is not reported")
	}
	for _, l := range left {
		if !errors.Is(l.Err, injectors.ErrConflict) {
			t.Errorf("left over by %v, wanted ErrConflict", l.Err)
		}
	}
	if got := tr.state(); got != state {
		t.Errorf("somebody else's change was overwritten:\n%s\nwas:\n%s", got, state)
	}
}

func (s suite) effective(t *testing.T) {
	tr := s.trial(t)
	proof, ok := tr.injector.(injectors.Effective)
	if !ok {
		tr.mustInject()
		tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.before)
		return
	}
	soon, cancel := context.WithTimeout(tr.ctx, noEffect)
	defer cancel()
	if err := proof.Effective(soon, tr.world, tr.target); err == nil {
		t.Error("it is proven effective before it is injected")
	}
	tr.mustInject()
	if err := proof.Effective(tr.ctx, tr.world, tr.target); err != nil {
		t.Errorf("its effect is not proven: %v", err)
	}
	tr.mustHeal(tr.undo.Replay(tr.ctx, tr.world), tr.before)
}
