package injectors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Step is one entry of an undo: how to take back one change, as data, so that another process can replay it.
//
// Params may hold former values of Secrets: they stay in the ledger file. String leaves them out, and no report or
// log may print them.
type Step struct {
	// ID is unique in the ledger and given by Add.
	ID int `json:"id"`
	// Kind names the UndoFunc: "FAULT/VERB", such as "taint-node/untaint".
	Kind string `json:"kind"`
	// Step is the name of the scenario's step that owes it; Add fills it in.
	Step string `json:"step"`
	// Target is the object that was changed; its UID keeps a namesake from being touched.
	Target Object `json:"target"`
	// Fields are the parts of the target that the change covers, as JSON pointers ("/spec/replicas") or, on nodes, as
	// paths of the same shape ("/net/drop"). A path covers all below it; no path at all covers the whole target.
	Fields []string `json:"fields,omitempty"`
	// Params is what the UndoFunc has to know, in the fault's own shape.
	Params json.RawMessage `json:"params,omitempty"`
	// Needs lists what the step cannot do without.
	Needs []Need `json:"needs,omitempty"`
	// Limit bounds one attempt; 30 s where zero.
	Limit time.Duration `json:"limitNanoseconds,omitempty"`
}

// String names the step without its parameters, which may be secret.
func (s Step) String() string {
	return fmt.Sprintf("%s of %s (step %q, no. %d)", s.Kind, s.Target, s.Step, s.ID)
}

// GoString is String: "%#v" shall not print a secret either.
func (s Step) GoString() string { return s.String() }

// needsAPI says whether the step cannot work without the API server.
func (s Step) needsAPI() bool { return slices.Contains(s.Needs, NeedAPI) }

// UndoFunc takes one change back. It is idempotent and accepts that the change never happened. ctx carries the
// step's limit. A failure that passes once the API server answers again is best marked with ErrNeedsAPI; those of
// client-go and of the network are recognised as they are.
type UndoFunc func(ctx context.Context, w World, s Step) error

// Leftover is an undo that failed and is still owed. Where the ledger itself is damaged, Step is the zero Step.
type Leftover struct {
	Step   Step
	Err    error
	Ledger string // path of the file that still owes it
}

// String is one line for people.
func (l Leftover) String() string {
	if l.Step.Kind == "" {
		return fmt.Sprintf("ledger %s: %v", l.Ledger, l.Err)
	}
	return fmt.Sprintf("%v: %v", l.Step, l.Err)
}

// Errors that callers decide on.
var (
	// ErrHealing: the step is being taken back, or was; it must not change anything any more.
	ErrHealing = errors.New("step is being taken back")
	// ErrUnknownUndo: no registered fault knows this kind of undo.
	ErrUnknownUndo = errors.New("no registered fault knows this undo")
)

// Undo is what one step of a scenario owes. All steps of a run share one ledger. It may be used by several goroutines.
type Undo struct {
	ledger *Ledger
	faults Registry
	step   string
	epoch  int  // the ledger's when the step began
	closed bool // guarded by ledger.mu
}

// NewUndo opens the account of the named step of a scenario. Only kinds that faults knows can be added.
func NewUndo(ledger *Ledger, faults Registry, step string) *Undo {
	ledger.mu.Lock()
	defer ledger.mu.Unlock()
	return &Undo{ledger: ledger, faults: faults, step: step, epoch: ledger.epoch}
}

// Add registers how to take back a change, before the change is made. When it returns nil the entry is on disk;
// after any error the change must not be made. Errors: ErrFieldTaken where another step of the run owes an undo for
// the same field of the same object, ErrHealing once replay has begun, ErrUnknownUndo, the context's, or the
// disk's.
func (u *Undo) Add(ctx context.Context, s Step) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("register undo %s: %w", s.Kind, err)
	}
	if _, ok := u.faults.UndoFunc(s.Kind); !ok {
		return fmt.Errorf("register undo %q: %w", s.Kind, ErrUnknownUndo)
	}
	if s.Target.Kind == "" || s.Target.Name == "" {
		return fmt.Errorf("register undo %s: it names no target", s.Kind)
	}
	s.Step = u.step
	if err := u.ledger.add(u, s); err != nil {
		return fmt.Errorf("register undo %s of %s: %w", s.Kind, s.Target, err)
	}
	return nil
}

// Owed returns what this step still owes, oldest first.
func (u *Undo) Owed() []Step {
	return u.ledger.owed(func(e *entry) bool { return e.owner == u })
}

// Replay takes back what this step owes, newest first, and returns what is still owed. From now on Add refuses; the
// caller has waited until Inject has returned. It goes on when ctx is cancelled, and ends by its own limits: 30 s an
// attempt, and 2 min for steps that wait for the API server. What is done is never done again, so a second Replay tries
// just what is left.
func (u *Undo) Replay(ctx context.Context, w World) []Leftover {
	u.ledger.mu.Lock()
	u.closed = true
	u.ledger.mu.Unlock()
	return u.ledger.replay(ctx, u.faults, w, func(e *entry) bool { return e.owner == u })
}

// ReplayLedger takes back everything that the ledger owes, newest first, and returns what is still owed; a damaged
// ledger is one leftover more. It is the one way of healing: for the runner at its end, for the watchdog, and for
// repair. Steps whose Undo was opened before are closed by it: their Add refuses. Its limits are Undo.Replay's.
func ReplayLedger(ctx context.Context, ledger *Ledger, faults Registry, w World) []Leftover {
	ledger.mu.Lock()
	ledger.epoch++
	ledger.mu.Unlock()
	left := ledger.replay(ctx, faults, w, func(*entry) bool { return true })
	if err := ledger.Damage(); err != nil {
		left = append(left, Leftover{Err: err, Ledger: ledger.Path()})
	}
	return left
}

// fieldsOverlap says whether two steps cover a field in common. A path covers what lies below it.
func fieldsOverlap(a, b Step) bool {
	if !sameObject(a.Target, b.Target) {
		return false
	}
	if len(a.Fields) == 0 || len(b.Fields) == 0 {
		return true
	}
	for _, x := range a.Fields {
		for _, y := range b.Fields {
			x, y := strings.TrimSuffix(x, "/")+"/", strings.TrimSuffix(y, "/")+"/"
			if strings.HasPrefix(x, y) || strings.HasPrefix(y, x) {
				return true
			}
		}
	}
	return false
}

// sameObject compares identity: by UID where both are known, by name otherwise.
func sameObject(a, b Object) bool {
	if !strings.EqualFold(a.Kind, b.Kind) || a.Namespace != b.Namespace || a.Name != b.Name {
		return false
	}
	return a.UID == "" || b.UID == "" || a.UID == b.UID
}
