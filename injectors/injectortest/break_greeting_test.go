package injectortest_test

import (
	"context"
	"errors"

	"github.com/rebound-chaos/rebound/injectors"
	"github.com/rebound-chaos/rebound/injectors/fields"
)

// BreakGreeting overwrites one key of a ConfigMap.
type BreakGreeting struct {
	Key string `json:"key"`
}

func breakGreeting() injectors.Fault {
	return injectors.Fault{
		Name:    "break-greeting",
		Doc:     "Overwrites a key of a ConfigMap.",
		New:     func() injectors.Injector { return &BreakGreeting{Key: "greeting"} },
		Undo:    map[string]injectors.UndoFunc{"break-greeting/put-back": putBackGreeting},
		Needs:   []injectors.Need{injectors.NeedAPI},
		Targets: []injectors.TargetKind{injectors.TargetObjects},
		Changes: "overwrites the key",
		Undoes:  "puts the former value back",
	}
}

// Inject breaks the key of every target. Break registers the undo before it changes anything.
func (b *BreakGreeting) Inject(
	ctx context.Context, w injectors.World, t injectors.Target, undo *injectors.Undo,
) error {
	for _, o := range t.Objects {
		maps := w.API().CoreV1().ConfigMaps(o.Namespace)
		broken := map[string]any{"/data/" + b.Key: "broken"}
		if err := fields.Break(ctx, maps, undo, "break-greeting/put-back", o, broken); err != nil {
			return err
		}
	}
	return nil
}

func putBackGreeting(ctx context.Context, w injectors.World, s injectors.Step) error {
	return fields.PutBack(ctx, w.API().CoreV1().ConfigMaps(s.Target.Namespace), s)
}

// Validate is called when the scenario file is loaded.
func (b *BreakGreeting) Validate() error {
	if b.Key == "" {
		return errors.New("key: it names the key to break")
	}
	return nil
}
