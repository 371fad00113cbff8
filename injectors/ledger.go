package injectors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Errors that callers decide on.
var (
	// ErrLive: the ledger has a live owner, who alone may replay it.
	ErrLive = errors.New("ledger has a live owner")
	// ErrDamaged: lines of the ledger can't be read; what they owed is unknown.
	ErrDamaged = errors.New("ledger is damaged")
)

const ledgerSuffix = ".jsonl"

// Header says whose ledger it is, and how to reach the cluster that its steps are about.
type Header struct {
	Run        string    `json:"run"`
	Cluster    string    `json:"cluster"`
	Provider   string    `json:"provider,omitempty"`
	Kubeconfig string    `json:"kubeconfig,omitempty"` // path
	Context    string    `json:"context,omitempty"`    // in the kubeconfig; its current one where empty
	PID        int       `json:"pid"`                  // of the process that made it
	Started    time.Time `json:"started"`
	Version    string    `json:"version,omitempty"`
}

// Ledger is the durable record of every undo that a run owes: a file of one JSON record a line, to which records
// are only ever appended. Who holds a Ledger owns it, by a lock on the file that ends with the process. It may be
// used by several goroutines.
type Ledger struct {
	path string
	file io.Closer
	disk disk

	mu      sync.Mutex
	header  Header
	entries []*entry
	number  int   // of the last record
	size    int64 // where the next record goes
	epoch   int   // grows with every ReplayLedger
	damage  error
	broken  error // why nothing can be written any more
	closed  bool
}

// disk is what the ledger does to its file.
type disk interface {
	io.WriterAt
	Sync() error
	Truncate(size int64) error
}

// entry is one undo with its state in this process.
type entry struct {
	step  Step
	owner *Undo         // nil where another process added it
	done  bool          // taken back, and noted in the file
	busy  chan struct{} // closed when the replay that works on it lets go; nil where none does
}

// CreateLedger makes the ledger of a run, <dir>/<run>.jsonl, readable by its owner alone, and owns it. The folder
// is made where it is not there. PID and Started are filled in where they are zero. A run that has a ledger already
// is fs.ErrExist.
func CreateLedger(ctx context.Context, dir string, h Header) (*Ledger, error) {
	if h.Run == "" || strings.HasPrefix(h.Run, ".") || strings.ContainsAny(h.Run, `/\`+"\x00\n") {
		return nil, fmt.Errorf("create ledger: %q can't be a file name", h.Run)
	}
	if h.PID == 0 {
		h.PID = os.Getpid()
	}
	if h.Started.IsZero() {
		h.Started = time.Now()
	}
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	path := filepath.Join(dir, h.Run+ledgerSuffix)
	f, err := createOwned(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	l := &Ledger{path: path, file: f, disk: f, header: h}
	if err := l.append(record{Header: &h}); err != nil {
		return nil, errors.Join(fmt.Errorf("create ledger: %w", err), os.Remove(path), f.Close())
	}
	if err := syncFolder(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("create ledger: %w", err), os.Remove(path), f.Close())
	}
	return l, nil
}

// createOwned creates the file and locks it. A look at dead ledgers by another process may take a file between its
// creation and its lock for an empty dead one, and remove it: then it is created again.
func createOwned(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for made := false; ; {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err == nil {
			made = true
			if err = own(f); err == nil {
				return f, nil
			}
			err = errors.Join(err, f.Close())
		}
		mine := errors.Is(err, ErrLive) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist)
		if !made || !mine {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		case <-retry.C:
		}
	}
}

// own locks the file, and makes sure that it still stands under its name: a former owner removes it while it holds
// the lock.
func own(f *os.File) error {
	if err := lockFile(f); err != nil {
		return err
	}
	held, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(f.Name())
	if err != nil {
		return err
	}
	if !os.SameFile(held, named) {
		return fmt.Errorf("%s: %w", f.Name(), fs.ErrNotExist)
	}
	return nil
}

// OpenLedger owns the ledger of a run whose owner is gone. ErrLive where it is not, fs.ErrNotExist where it was
// closed. A damaged ledger opens: see Damage. A line that a crash tore is cut off.
func OpenLedger(path string) (*Ledger, error) {
	l, err := openLedger(path)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if l.header == (Header{}) && l.damage == nil {
		// Its owner died before the ledger was whole, hence before the first Add.
		return nil, errors.Join(fmt.Errorf("open ledger %s: it is empty: %w", path, fs.ErrNotExist), l.Close())
	}
	return l, nil
}

func openLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := own(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &Ledger{path: path, file: f, disk: f}
	if err := l.load(data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// load takes over what the file holds, and makes it end where the next record goes.
func (l *Ledger) load(data []byte) error {
	c := parse(data)
	l.entries, l.number, l.size = c.entries, c.number, c.size
	if c.header != nil {
		l.header = *c.header
	} else if c.number > 0 {
		c.damage = append(c.damage, errors.New("it has no header"))
	}
	if len(c.damage) > 0 {
		l.damage = fmt.Errorf("%w: %w", ErrDamaged, errors.Join(c.damage...))
	}
	if l.size < int64(len(data)) {
		if err := l.disk.Truncate(l.size); err != nil {
			return err
		}
	}
	if !c.newline {
		if _, err := l.disk.WriteAt([]byte("\n"), l.size); err != nil {
			return err
		}
		l.size++
	}
	return l.disk.Sync()
}

// Dead owns and returns the ledgers in dir that have no live owner and still owe something, or are damaged. Those
// that owe nothing are removed. The caller closes each. A folder that is not there holds none. Ledgers that can't
// be opened are named in the error; the others are returned with it.
func Dead(dir string) ([]*Ledger, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for dead ledgers: %w", err)
	}
	var dead []*Ledger
	var errs []error
	for _, file := range files {
		if filepath.Ext(file.Name()) != ledgerSuffix || !file.Type().IsRegular() {
			continue
		}
		l, err := openLedger(filepath.Join(dir, file.Name()))
		switch {
		case errors.Is(err, ErrLive), errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("open dead ledger: %w", err))
		case len(l.Owed()) == 0 && l.damage == nil:
			errs = append(errs, l.Close())
		default:
			dead = append(dead, l)
		}
	}
	return dead, errors.Join(errs...)
}

// Header returns what the ledger says about its run.
func (l *Ledger) Header() Header { return l.header }

// Path returns the ledger's file.
func (l *Ledger) Path() string { return l.path }

// Damage returns nil, or an ErrDamaged that names each line that can't be read.
func (l *Ledger) Damage() error { return l.damage }

// Owed returns the undos that are not done yet, oldest first.
func (l *Ledger) Owed() []Step { return l.owed(func(*entry) bool { return true }) }

func (l *Ledger) owed(mine func(*entry) bool) []Step {
	l.mu.Lock()
	defer l.mu.Unlock()
	var steps []Step
	for _, e := range l.entries {
		if !e.done && mine(e) {
			steps = append(steps, e.step)
		}
	}
	return steps
}

// Close ends the ownership. The file is removed where nothing is owed and nothing damaged, and stays otherwise. No
// replay may be under way.
func (l *Ledger) Close() error {
	owed := len(l.Owed())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	var errs []error
	if owed == 0 && l.damage == nil {
		if l.number > 0 && l.broken == nil {
			errs = append(errs, l.append(record{Closed: true}))
		}
		// Removed before the lock ends: nobody finds a ledger that is free and closed.
		errs = append(errs, os.Remove(l.path), syncFolder(filepath.Dir(l.path)))
	}
	l.closed = true
	errs = append(errs, l.file.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	return nil
}

// add writes down what u owes. It refuses while or after u is replayed, and a field that another step has broken.
func (l *Ledger) add(u *Undo, s Step) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u.closed || u.epoch != l.epoch {
		return ErrHealing
	}
	for _, e := range l.entries {
		if !e.done && e.owner != u && fieldsOverlap(e.step, s) {
			return fmt.Errorf("%w: %s", ErrFieldTaken, e.step)
		}
	}
	s.ID = l.number + 1
	if err := l.append(record{Add: &s}); err != nil {
		return err
	}
	l.entries = append(l.entries, &entry{step: s, owner: u})
	return nil
}

// markDone notes that a step was taken back.
func (l *Ledger) markDone(e *entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.append(record{Done: e.step.ID}); err != nil {
		return err
	}
	e.done = true
	return nil
}

// append writes one record and returns once it is on disk. l.mu is held, or l is not shared yet.
func (l *Ledger) append(r record) error {
	if l.closed {
		return fmt.Errorf("ledger %s: %w", l.path, fs.ErrClosed)
	}
	if l.broken != nil {
		return l.broken
	}
	r.Number = l.number + 1
	text, err := encode(r)
	if err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	if _, err := l.disk.WriteAt(text, l.size); err != nil {
		err = fmt.Errorf("ledger %s: %w", l.path, err)
		if cut := l.disk.Truncate(l.size); cut != nil {
			// Half a line in front of the next record would be damage.
			l.broken = errors.Join(err, cut)
		}
		return err
	}
	if err := l.disk.Sync(); err != nil {
		// After a failed fsync nobody knows what is on disk, and a second one may lie.
		l.broken = fmt.Errorf("ledger %s: %w", l.path, err)
		return l.broken
	}
	l.number++
	l.size += int64(len(text))
	return nil
}

// makeFolder makes a folder that only its owner can look into, durably.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		// Not ours to change: it may be a folder that others need.
		return fmt.Errorf("folder %s is open to others (mode %04o, wanted 0700)", dir, mode)
	}
	return syncFolder(filepath.Dir(dir))
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
