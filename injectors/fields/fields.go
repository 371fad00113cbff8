// Package fields changes single fields of API objects and puts them back: the undo that all faults share whose
// change is a field of an object.
//
// Which fields, and what a broken value looks like, is left to the faults. Objects that are made or deleted as a
// whole are not its business.
package fields

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rebound-chaos/rebound/injectors"
)

// Manager is the field manager of every change that faults make.
const Manager = "rebound"

// ErrNoChange: the field already has the value that would break it, so the fault could have no effect.
var ErrNoChange = errors.New("field has that value already")

// Client is what is needed of a typed client of client-go; each of them fits, such as CoreV1().ConfigMaps(namespace).
type Client[T any] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Patch(
		ctx context.Context, name string, kind types.PatchType, patch []byte, opts metav1.PatchOptions, sub ...string,
	) (T, error)
}

// Change is one field before and after. An absent value means an absent field.
type Change struct {
	Field   string          `json:"field"` // JSON pointer
	Before  json.RawMessage `json:"before,omitempty"`
	Applied json.RawMessage `json:"applied,omitempty"`
}

// operation is one line of a JSON patch (RFC 6902).
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Break sets fields of the bound object, given as JSON pointers ("/data/app.yaml"); nil removes a field. It first
// registers with undo, under kind, how to put them back; the fault maps that kind to PutBack. Where the object is
// not the bound one any more it is ErrTargetGone, where a field would not change ErrNoChange; nothing is changed
// then.
func Break[T any](
	ctx context.Context, c Client[T], undo *injectors.Undo, kind string, o injectors.Object, values map[string]any,
) error {
	return again(func() error { return breakOnce(ctx, c, undo, kind, o, values) })
}

func breakOnce[T any](
	ctx context.Context, c Client[T], undo *injectors.Undo, kind string, o injectors.Object, values map[string]any,
) error {
	object, err := c.Get(ctx, o.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: %w", o, injectors.ErrTargetGone)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", o, err)
	}
	tree, meta, err := treeOf(object)
	if err != nil {
		return fmt.Errorf("read %s: %w", o, err)
	}
	if string(meta.UID) != o.UID {
		return fmt.Errorf("%s: %w: another one has its name", o, injectors.ErrTargetGone)
	}
	changes, err := plan(tree, values)
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	if err := register(ctx, undo, kind, o, changes); err != nil {
		return err
	}
	patch := guards(meta)
	for _, ch := range changes {
		patch = append(patch, ch.swap(ch.Before, ch.Applied)...)
	}
	after, err := send(ctx, c, o.Name, patch)
	if err != nil {
		return fmt.Errorf("change %s: %w", o, err)
	}
	return registerAsStored(ctx, undo, kind, o, changes, after)
}

// registerAsStored registers once more where the server stored something else than was sent (a quantity in its
// canonical form, a default): else the undo would take it for somebody else's change.
func registerAsStored(
	ctx context.Context, undo *injectors.Undo, kind string, o injectors.Object, changes []Change, after any,
) error {
	tree, _, err := treeOf(after)
	if err != nil {
		return fmt.Errorf("read %s: %w", o, err)
	}
	var stored []Change
	for _, ch := range changes {
		now, err := valueAt(tree, ch.Field)
		if err != nil {
			return err
		}
		if same(now, ch.Before) {
			return fmt.Errorf("%s %s: %w: the server put it back at once", o, ch.Field, ErrNoChange)
		}
		if !same(now, ch.Applied) {
			stored = append(stored, Change{Field: ch.Field, Before: ch.Before, Applied: now})
		}
	}
	if len(stored) == 0 {
		return nil
	}
	return register(ctx, undo, kind, o, stored)
}

func register(ctx context.Context, undo *injectors.Undo, kind string, o injectors.Object, changes []Change) error {
	params, err := json.Marshal(changes)
	if err != nil {
		return err
	}
	s := injectors.Step{Kind: kind, Target: o, Params: params, Needs: []injectors.Need{injectors.NeedAPI}}
	for _, ch := range changes {
		s.Fields = append(s.Fields, ch.Field)
	}
	return undo.Add(ctx, s)
}

// PutBack takes back what Break changed, field by field: what still is as applied gets its former value; what is as
// before owes nothing (an action may have healed it, or the change never happened); anything else is left alone and
// named in an ErrConflict. An object that is gone, or another one under its name, owes nothing. Values are never
// part of an error.
func PutBack[T any](ctx context.Context, c Client[T], s injectors.Step) error {
	var changes []Change
	if err := json.Unmarshal(s.Params, &changes); err != nil {
		return errors.New("the ledger's parameters are no list of changed fields")
	}
	return again(func() error { return putBackOnce(ctx, c, s.Target, changes) })
}

// again repeats a reading and a writing that somebody else's write came between: the server then refuses the patch.
func again(f func() error) error {
	const tries = 5
	var err error
	for range tries {
		if err = f(); !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) {
			return err
		}
	}
	return err
}

// guards make a patch fail as a whole unless the object is the one, and in the state, that was read.
func guards(meta metav1.ObjectMeta) []operation {
	ops := []operation{test("/metadata/uid", string(meta.UID))}
	if meta.ResourceVersion != "" {
		ops = append(ops, test("/metadata/resourceVersion", meta.ResourceVersion))
	}
	return ops
}

func putBackOnce[T any](ctx context.Context, c Client[T], o injectors.Object, changes []Change) error {
	object, err := c.Get(ctx, o.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", o, err)
	}
	tree, meta, err := treeOf(object)
	if err != nil {
		return fmt.Errorf("read %s: %w", o, err)
	}
	if string(meta.UID) != o.UID {
		return nil
	}
	patch := guards(meta)
	fixed := len(patch)
	var conflicts []error
	for _, ch := range slices.Backward(changes) {
		now, err := valueAt(tree, ch.Field)
		switch {
		case err != nil:
			conflicts = append(conflicts, fmt.Errorf("%s %s: %w: %w", o, ch.Field, injectors.ErrConflict, err))
		case same(now, ch.Before):
		case same(now, ch.Applied):
			patch = append(patch, ch.swap(ch.Applied, ch.Before)...)
		default:
			conflicts = append(conflicts, fmt.Errorf("%s %s: %w", o, ch.Field, injectors.ErrConflict))
		}
	}
	if len(patch) > fixed {
		if _, err := send(ctx, c, o.Name, patch); err != nil {
			return fmt.Errorf("put back %s: %w", o, err)
		}
	}
	return errors.Join(conflicts...)
}

func send[T any](ctx context.Context, c Client[T], name string, patch []operation) (T, error) {
	data, err := json.Marshal(patch)
	if err != nil {
		var none T
		return none, err
	}
	return c.Patch(ctx, name, types.JSONPatchType, data, metav1.PatchOptions{FieldManager: Manager})
}

func test(path, value string) operation {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return operation{Op: "test", Path: path, Value: raw}
}

// swap turns one value of the field into another; the patch fails as a whole where the first is not there any more.
func (ch Change) swap(from, to json.RawMessage) []operation {
	switch {
	case from == nil:
		return []operation{{Op: "add", Path: ch.Field, Value: to}}
	case to == nil:
		return []operation{{Op: "test", Path: ch.Field, Value: from}, {Op: "remove", Path: ch.Field}}
	default:
		return []operation{{Op: "test", Path: ch.Field, Value: from}, {Op: "replace", Path: ch.Field, Value: to}}
	}
}

// plan works out the changes, sorted by field. Where a field's parent is not there either, the highest one that is
// missing is what changes.
func plan(tree any, values map[string]any) ([]Change, error) {
	var changes []Change
	for _, field := range slices.Sorted(maps.Keys(values)) {
		ch := Change{Field: field}
		var err error
		if ch.Before, err = valueAt(tree, field); err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		value := values[field]
		for value != nil && ch.Before == nil {
			cut := strings.LastIndexByte(ch.Field, '/')
			parent, err := valueAt(tree, ch.Field[:cut])
			if err != nil || parent != nil {
				break
			}
			value = map[string]any{unescape(ch.Field[cut+1:]): value}
			ch.Field = ch.Field[:cut]
		}
		if value != nil {
			if ch.Applied, err = json.Marshal(value); err != nil {
				return nil, fmt.Errorf("%s: %w", field, err)
			}
		}
		if same(ch.Before, ch.Applied) {
			return nil, fmt.Errorf("%s: %w", field, ErrNoChange)
		}
		if n := len(changes); n > 0 && strings.HasPrefix(ch.Field+"/", changes[n-1].Field+"/") {
			return nil, fmt.Errorf("%s and %s can't be changed side by side: set their parent", field, changes[n-1].Field)
		}
		changes = append(changes, ch)
	}
	if len(changes) == 0 {
		return nil, errors.New("no field to change")
	}
	return changes, nil
}

// treeOf turns a typed object into what its JSON says, and its metadata.
func treeOf(object any) (any, metav1.ObjectMeta, error) {
	var meta struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, meta.Metadata, err
	}
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, meta.Metadata, err
	}
	tree, err := decode(raw)
	return tree, meta.Metadata, err
}

// decode keeps numbers as they are written: a float64 would lose digits.
func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// valueAt returns the value that a JSON pointer (RFC 6901) leads to; nil where it, or a parent, is absent. A pointer
// through something that has no children is an error.
func valueAt(tree any, pointer string) (json.RawMessage, error) {
	if pointer == "" {
		return json.Marshal(tree)
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("%q is no JSON pointer", pointer)
	}
	for _, key := range strings.Split(pointer[1:], "/") {
		switch node := tree.(type) {
		case map[string]any:
			tree = node[unescape(key)]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(node) {
				return nil, fmt.Errorf("the list at %q has no such element", key)
			}
			tree = node[i]
		case nil:
			return nil, nil
		default:
			return nil, fmt.Errorf("nothing can lie at %q: its parent is a single value", key)
		}
	}
	if tree == nil {
		return nil, nil
	}
	return json.Marshal(tree)
}

func unescape(key string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(key) }

// same compares two JSON values by meaning, not by spelling.
func same(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}
