package runner

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells a person what goes on, each line with the time since the command began. Its output is for eyes only:
// the report says the same in a form for programs.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

func newProgress(out io.Writer) *progress {
	if out == nil {
		out = io.Discard
	}
	return &progress{out: out, began: time.Now()}
}

// say prints one line. A terminal that went away is no reason to stop: the error is dropped on purpose.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.out, "[%6.1f s] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}
