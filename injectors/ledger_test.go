package injectors

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pod is the target of most tests.
func pod(name string) Object {
	return Object{Kind: "Pod", Namespace: "shop", Name: name, UID: "uid-" + name}
}

// step is an undo of kind "test/undo" that covers one field.
func step(name string, fields ...string) Step {
	return Step{Kind: "test/undo", Target: pod(name), Fields: fields, Params: json.RawMessage(`{"was":"<secret>"}`)}
}

type nothing struct{}

func (nothing) Inject(context.Context, World, Target, *Undo) error { return nil }

// registry holds one fault, "test", whose undo is f.
func registry(t testing.TB, f UndoFunc) Registry {
	t.Helper()
	r, err := NewRegistry(Fault{
		Name: "test", New: func() Injector { return &nothing{} }, Undo: map[string]UndoFunc{"test/undo": f},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fine(context.Context, World, Step) error { return nil }

func newLedger(t testing.TB, dir string) *Ledger {
	t.Helper()
	l, err := CreateLedger(t.Context(), dir, Header{Run: "run-1", Cluster: "kind-a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func mustAdd(t testing.TB, u *Undo, steps ...Step) {
	t.Helper()
	for _, s := range steps {
		if err := u.Add(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// names of the targets of the steps.
func names(steps []Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, s.Target.Name)
	}
	return strings.Join(out, " ")
}

func TestLedgerKeepsToItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledgers")
	l := newLedger(t, dir)
	for path, want := range map[string]fs.FileMode{dir: 0o700, l.Path(): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	mustAdd(t, NewUndo(l, registry(t, fine), "cut"), step("a"))
	for _, format := range []string{"%v", "%+v", "%#v"} {
		if text := fmt.Sprintf(format, l.Owed()); strings.Contains(text, "secret") {
			t.Errorf("a printed step shows its parameters: %s", text)
		}
	}
}

func TestLedgerRefusesAnOpenFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLedger(t.Context(), dir, Header{Run: "r"}); err == nil {
		t.Error("a ledger was made in a folder that everybody can look into")
	}
}

func TestLedgerNames(t *testing.T) {
	for _, run := range []string{"", "../x", ".hidden", `a\b`, "a/b", "a\nb"} {
		if l, err := CreateLedger(t.Context(), t.TempDir(), Header{Run: run}); err == nil {
			t.Errorf("run %q became the file %s", run, l.Path())
		}
	}
	dir := filepath.Join(t.TempDir(), "ledgers")
	newLedger(t, dir)
	if _, err := CreateLedger(t.Context(), dir, Header{Run: "run-1"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second ledger of the run: %v, want fs.ErrExist", err)
	}
}

func TestLedgerGoesWhenNothingIsOwed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledgers")
	l := newLedger(t, dir)
	u := NewUndo(l, registry(t, fine), "cut")
	mustAdd(t, u, step("a"))
	if left := u.Replay(t.Context(), nil); len(left) > 0 {
		t.Fatal(left)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("the folder holds %v (%v), want nothing", files, err)
	}
	if err := u.Add(t.Context(), step("b")); err == nil {
		t.Error("a closed ledger takes an undo")
	}
}

func TestLiveOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledgers")
	l := newLedger(t, dir)
	reg := registry(t, fine)
	mustAdd(t, NewUndo(l, reg, "cut"), step("a"), step("b"))
	if _, err := OpenLedger(l.Path()); !errors.Is(err, ErrLive) {
		t.Errorf("open while its owner lives: %v, want ErrLive", err)
	}
	if dead, err := Dead(dir); err != nil || len(dead) > 0 {
		t.Errorf("dead while its owner lives: %v, %v", dead, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dead, err := Dead(dir)
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead: %v, %v, want one", dead, err)
	}
	if got := names(dead[0].Owed()); got != "a b" {
		t.Errorf("it owes %q, want %q", got, "a b")
	}
	if h := dead[0].Header(); h.Run != "run-1" || h.Cluster != "kind-a" || h.PID != os.Getpid() || h.Started.IsZero() {
		t.Errorf("header %+v", h)
	}
	if _, err := OpenLedger(l.Path()); !errors.Is(err, ErrLive) {
		t.Errorf("open while it is being repaired: %v, want ErrLive", err)
	}
	if left := ReplayLedger(t.Context(), dead[0], reg, nil); len(left) > 0 {
		t.Error(left)
	}
	if err := dead[0].Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(l.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open after the repair: %v, want fs.ErrNotExist", err)
	}
}

func TestDeadWithoutFolder(t *testing.T) {
	if dead, err := Dead(filepath.Join(t.TempDir(), "none")); err != nil || dead != nil {
		t.Errorf("%v, %v", dead, err)
	}
}

// A ledger that is being made looks empty for a moment; a look for dead ones beside it must neither break nor take it.
func TestCreateBesideDead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledgers")
	ctx, stop := context.WithCancel(t.Context())
	looked := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			dead, err := Dead(dir)
			if err != nil || len(dead) > 0 {
				looked <- fmt.Errorf("dead: %v, %w", dead, err)
				return
			}
		}
		looked <- nil
	}()
	for i := range 50 {
		l, err := CreateLedger(ctx, dir, Header{Run: fmt.Sprint("run-", i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(l.Path()); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-looked; err != nil {
		t.Error(err)
	}
}

// story is a ledger with everything in it: its text, and how long it was when each Add or done had returned.
func story(t testing.TB) (data []byte, marks []mark) {
	l := newLedger(t, filepath.Join(t.TempDir(), "ledgers"))
	note := func(owed ...string) {
		info, err := os.Stat(l.Path())
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, mark{info.Size(), strings.Join(owed, " ")})
	}
	note()
	reg := registry(t, fine)
	one, two := NewUndo(l, reg, "one"), NewUndo(l, reg, "two")
	mustAdd(t, one, step("a"))
	note("a")
	mustAdd(t, two, step("b", "/x"))
	note("a", "b")
	one.Replay(t.Context(), nil)
	note("b")
	mustAdd(t, two, step("b", "/y"))
	note("b", "b")
	mustAdd(t, two, step("c"))
	note("b", "b", "c")
	data, err := os.ReadFile(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	return data, marks
}

type mark struct {
	size int64
	owed string
}

// owedAt is what the ledger owed when it had size bytes that were synced.
func owedAt(marks []mark, size int) string {
	owed := ""
	for _, m := range marks {
		if m.size <= int64(size) {
			owed = m.owed
		}
	}
	return owed
}

// A crash may leave any part of the last write: whatever an Add that returned had registered is owed still.
func TestLedgerTruncatedAnywhere(t *testing.T) {
	data, marks := story(t)
	for size := range len(data) + 1 {
		c := parse(data[:size])
		if len(c.damage) > 0 {
			t.Fatalf("cut at %d: taken for damage: %v", size, c.damage)
		}
		var owed []Step
		for _, e := range c.entries {
			if !e.done {
				owed = append(owed, e.step)
			}
		}
		// With just its newline missing the last record is whole, and counts.
		if got := names(owed); got != owedAt(marks, size) && got != owedAt(marks, size+1) {
			t.Fatalf("cut at %d: owes %q, want %q", size, got, owedAt(marks, size))
		}
	}
}

// The same through the file: it opens, goes on, and opens again.
func TestLedgerGoesOnAfterATornWrite(t *testing.T) {
	data, marks := story(t)
	reg := registry(t, fine)
	dir := t.TempDir()
	for size := int(marks[0].size); size <= len(data); size += 7 {
		path := filepath.Join(dir, fmt.Sprint("cut-", size, ledgerSuffix))
		if err := os.WriteFile(path, data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLedger(path)
		if err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		owed := names(l.Owed())
		mustAdd(t, NewUndo(l, reg, "later"), step("z"))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = OpenLedger(path); err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		if got, want := names(l.Owed()), strings.TrimSpace(owed+" z"); got != want || l.Damage() != nil {
			t.Errorf("cut at %d: owes %q, want %q; damage %v", size, got, want, l.Damage())
		}
		if left := ReplayLedger(t.Context(), l, reg, nil); len(left) > 0 {
			t.Error(left)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever bit flips: no panic, what is read is what was written, and what was lost is named.
func TestLedgerWithFlippedBits(t *testing.T) {
	data, marks := story(t)
	full := parse(data)
	for i := range data {
		for bit := range 8 {
			hurt := slices.Clone(data)
			hurt[i] ^= 1 << bit
			c := parse(hurt)
			if len(c.damage) == 0 && (len(c.entries) != len(full.entries) || c.header == nil) {
				t.Fatalf("bit %d of byte %d: a record was lost, and nobody says so", bit, i)
			}
			for _, e := range c.entries {
				if !slices.ContainsFunc(full.entries, func(f *entry) bool { return sameStep(f.step, e.step) }) {
					t.Fatalf("bit %d of byte %d: read a step that nobody wrote: %v", bit, i, e.step)
				}
				if isA := e.step.Target.Name == "a"; e.done && !isA || isA && !e.done && len(c.damage) == 0 {
					t.Fatalf("bit %d of byte %d: %v: done is %v", bit, i, e.step, e.done)
				}
			}
		}
	}
	if owed := owedAt(marks, len(data)); owed != "b b c" {
		t.Fatalf("the story owes %q", owed)
	}
}

func sameStep(a, b Step) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Damage is a leftover, the intact steps are taken back all the same, and the file stays.
func TestDamagedLedger(t *testing.T) {
	data, _ := story(t)
	lines := bytes.SplitAfter(data, []byte("\n"))
	reg := registry(t, fine)
	for n := range len(lines) - 1 {
		for name, hurt := range map[string][]byte{
			"changed": bytes.Replace(lines[n], []byte(`"number":`), []byte(`"number": `), 1),
			"garbage": []byte("\x00\x00{]\n"),
			"missing": nil,
		} {
			if name == "missing" && n == len(lines)-2 {
				continue // the last one: as if it had never been written
			}
			t.Run(fmt.Sprint(name, " line ", n+1), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "x.jsonl")
				mended := slices.Clone(lines)
				mended[n] = hurt
				if err := os.WriteFile(path, bytes.Join(mended, nil), 0o600); err != nil {
					t.Fatal(err)
				}
				l, err := OpenLedger(path)
				if err != nil {
					t.Fatal(err)
				}
				if !errors.Is(l.Damage(), ErrDamaged) || !strings.Contains(l.Damage().Error(), "line ") {
					t.Errorf("damage: %v", l.Damage())
				}
				left := ReplayLedger(t.Context(), l, reg, nil)
				if len(left) != 1 || !errors.Is(left[0].Err, ErrDamaged) {
					t.Errorf("left over: %v, want the damage alone", left)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				again, err := OpenLedger(path)
				if err != nil {
					t.Fatalf("a damaged ledger went: %v", err)
				}
				if len(again.Owed()) > 0 || again.Damage() == nil {
					t.Errorf("owes %v, damage %v", again.Owed(), again.Damage())
				}
				if err := again.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// tape is a disk that records what is done to it, and fails where told.
type tape struct {
	done                  []string
	write, sync, truncate error
	written               int64
}

func (d *tape) WriteAt(p []byte, off int64) (int, error) {
	d.done = append(d.done, "write")
	if d.write != nil {
		return len(p) / 2, d.write
	}
	d.written = off + int64(len(p))
	return len(p), nil
}

func (d *tape) Sync() error {
	d.done = append(d.done, "sync")
	return d.sync
}

func (d *tape) Truncate(size int64) error {
	d.done = append(d.done, "truncate")
	if d.truncate == nil {
		d.written = size
	}
	return d.truncate
}

func TestAddIsDurableWhenItReturns(t *testing.T) {
	d := &tape{}
	l := &Ledger{path: "x", disk: d, file: io.NopCloser(nil)}
	u := NewUndo(l, registry(t, func(context.Context, World, Step) error {
		d.done = append(d.done, "undo")
		return nil
	}), "cut")
	mustAdd(t, u, step("a"))
	d.done = append(d.done, "change")
	if left := u.Replay(t.Context(), nil); len(left) > 0 {
		t.Fatal(left)
	}
	if got, want := strings.Join(d.done, " "), "write sync change undo write sync"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}

func TestAddOnABadDisk(t *testing.T) {
	full := errors.New("no space left on device")
	reg := registry(t, fine)
	tests := []struct {
		name    string
		disk    tape
		recover bool // the next Add works once the disk does
	}{
		{"short write", tape{write: full}, true},
		{"short write that can't be cut off", tape{write: full, truncate: full}, false},
		{"failed sync", tape{sync: full}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &tape{}
			l := &Ledger{path: "x", disk: d, file: io.NopCloser(nil)}
			u := NewUndo(l, reg, "cut")
			mustAdd(t, u, step("a"))
			size := d.written
			d.write, d.sync, d.truncate = tt.disk.write, tt.disk.sync, tt.disk.truncate
			if err := u.Add(t.Context(), step("b")); !errors.Is(err, full) {
				t.Fatalf("Add returned %v", err)
			}
			if tt.disk.truncate == nil && tt.disk.sync == nil && d.written != size {
				t.Errorf("half a line stays: %d bytes, want %d", d.written, size)
			}
			d.write, d.sync, d.truncate = nil, nil, nil
			if err := u.Add(t.Context(), step("b")); (err == nil) != tt.recover {
				t.Errorf("the next Add returned %v", err)
			}
			left := u.Replay(t.Context(), nil)
			if tt.recover && len(left) > 0 || !tt.recover && len(left) != 1 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

const victimEnv = "REBOUND_TEST_LEDGER_DIR"

// TestKilledVictim is no test: it is the process that TestKilled kills. It tells which Adds have returned.
func TestKilledVictim(t *testing.T) {
	dir := os.Getenv(victimEnv)
	if dir == "" {
		t.Skip("run by TestKilled")
	}
	l, err := CreateLedger(t.Context(), dir, Header{Run: "victim", Cluster: "kind-a"})
	if err != nil {
		t.Fatal(err)
	}
	u := NewUndo(l, registry(t, fine), "loop")
	for i := 0; ; i++ {
		mustAdd(t, u, step(fmt.Sprint("pod-", i)))
		fmt.Println("added", i)
	}
}

// A process that dies by SIGKILL between any two instructions leaves a ledger that owes whatever its Adds
// registered, and that somebody else may own at once.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 8 {
		dir := filepath.Join(t.TempDir(), "ledgers")
		var out bytes.Buffer
		victim := exec.CommandContext(t.Context(), self, "-test.run=^TestKilledVictim$")
		victim.Env = append(os.Environ(), victimEnv+"="+dir)
		pipe, err := victim.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(&out, pipe, int64(100+round*333)); err != nil {
			t.Fatalf("the victim said %q and ended: %v", &out, err)
		}
		if dead, err := Dead(dir); err != nil || len(dead) > 0 {
			t.Fatalf("dead while it lives: %v, %v", dead, err)
		}
		time.Sleep(time.Duration(round) * 700 * time.Microsecond) // at another place of the loop each time
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.ReadFrom(pipe); err != nil {
			t.Fatal(err)
		}
		if err := victim.Wait(); err == nil {
			t.Fatal("the victim was not killed")
		}
		checkKilled(t, dir, strings.Count(out.String(), "added"))
	}
}

// checkKilled finds the victim's ledger, wants at least the told steps in it, and replays it.
func checkKilled(t *testing.T, dir string, told int) {
	t.Helper()
	dead, err := Dead(dir)
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead: %v, %v, want the victim's", dead, err)
	}
	owed := dead[0].Owed()
	if len(owed) < told || len(owed) > told+1 || dead[0].Damage() != nil {
		t.Fatalf("owes %d, want %d or one more; damage %v", len(owed), told, dead[0].Damage())
	}
	next := len(owed) - 1
	reg := registry(t, func(_ context.Context, _ World, s Step) error {
		if want := fmt.Sprint("pod-", next); s.Target.Name != want {
			t.Errorf("replayed %s, want %s", s.Target.Name, want)
		}
		next--
		return nil
	})
	if left := ReplayLedger(t.Context(), dead[0], reg, nil); len(left) > 0 || next != -1 {
		t.Errorf("left over %v, %d not replayed", left, next+1)
	}
	if err := dead[0].Close(); err != nil {
		t.Error(err)
	}
	if dead, err := Dead(dir); err != nil || len(dead) > 0 {
		t.Errorf("a second repair finds %v, %v", dead, err)
	}
}
