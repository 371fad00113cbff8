package injectors

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Registry holds the faults of one binary, by name. It is a value without a way to change it; the zero Registry is
// empty.
type Registry struct {
	faults map[string]Fault
	undos  map[string]UndoFunc
	names  []string
}

// NewRegistry checks the faults and collects them. It names every fault without a name, a constructor or a working
// undo, every name taken twice, and every undo kind that is not its fault's own ("FAULT/VERB"), in one error.
func NewRegistry(faults ...Fault) (Registry, error) {
	r := Registry{faults: map[string]Fault{}, undos: map[string]UndoFunc{}}
	var errs []error
	for i, f := range faults {
		if err := f.check(); err != nil {
			errs = append(errs, fmt.Errorf("fault %d (%q): %w", i+1, f.Name, err))
			continue
		}
		if _, taken := r.faults[f.Name]; taken {
			errs = append(errs, fmt.Errorf("fault %d (%q): registered twice", i+1, f.Name))
			continue
		}
		r.faults[f.Name] = f
		r.names = append(r.names, f.Name)
		for kind, undo := range f.Undo {
			r.undos[kind] = undo
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Registry{}, err
	}
	slices.Sort(r.names)
	return r, nil
}

// Fault returns the fault of that name.
func (r Registry) Fault(name string) (Fault, bool) {
	f, ok := r.faults[name]
	return f, ok
}

// Names lists the registered faults in alphabetical order.
func (r Registry) Names() []string { return slices.Clone(r.names) }

// UndoFunc returns the function that replays steps of that kind.
func (r Registry) UndoFunc(kind string) (UndoFunc, bool) {
	f, ok := r.undos[kind]
	return f, ok
}

// check says what keeps a fault from being registered.
func (f Fault) check() error {
	if !validFaultName(f.Name) {
		return errors.New("its name must be lower-case words joined by hyphens")
	}
	if f.New == nil {
		return errors.New("it has no New")
	}
	v := reflect.ValueOf(f.New())
	if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.Struct || v.IsNil() {
		return errors.New("its New must return a pointer to a struct")
	}
	for kind, undo := range f.Undo {
		// A prefix of its own for each fault keeps two of them from meaning different things by one kind.
		if verb, ok := strings.CutPrefix(kind, f.Name+"/"); !ok || verb == "" {
			return fmt.Errorf("undo kind %q must begin with %q", kind, f.Name+"/")
		}
		if undo == nil {
			return fmt.Errorf("undo kind %q has no function", kind)
		}
	}
	return nil
}

// validFaultName accepts what can be a key of a scenario file and part of an undo kind.
func validFaultName(name string) bool {
	if name == "" || strings.Trim(name, "-") != name {
		return false
	}
	return strings.IndexFunc(name, func(c rune) bool {
		return c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}) < 0
}
