package progress

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunTellsWhereTheJobStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		reporter := New(&out, "job", "dig", "fill")
		err := reporter.Run(t.Context(), 0, func(_ context.Context, status *Status) error {
			status.Set("%d of 3", 1)
			time.Sleep(31 * time.Second)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		failure := errors.New("no earth")
		err = reporter.Run(t.Context(), 1, func(context.Context, *Status) error { return failure })
		if !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
		want := `job: step 1/2 dig (0s so far; then: fill)
job: step 1/2 dig: 15s 1 of 3
job: step 1/2 dig: 30s 1 of 3
job: step 1/2 dig done in 31s
job: step 2/2 fill (31s so far; then: nothing, it is the last)
job: step 2/2 fill failed after 0s
`
		if out.String() != want {
			t.Errorf("got\n%s", out.String())
		}
	})
}
