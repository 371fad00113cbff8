package kindcluster

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"sigs.k8s.io/kind/pkg/log"
)

// logLimit bounds what is kept of kind's log, in bytes: the output of one failed kubeadm run at kind's verbosity.
const logLimit = 256 << 10

// recorder is kind's logger: it keeps the tail of everything, for when something fails, and passes the names of kind's
// steps on as progress.
type recorder struct {
	progress io.Writer // nil: nobody looks
	started  time.Time

	mu   sync.Mutex
	tail tailWriter
}

var (
	_ log.Logger     = (*recorder)(nil)
	_ log.InfoLogger = (*recorder)(nil)
)

func newRecorder(progress io.Writer) *recorder {
	return &recorder{progress: progress, started: time.Now(), tail: tailWriter{limit: logLimit}}
}

// step shows one step of the creation, with the time since its beginning.
func (r *recorder) step(format string, args ...any) {
	if r.progress == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Progress is for people who look; a closed terminal must not end the creation.
	_, _ = fmt.Fprintf(r.progress, "%6.1fs  %s\n", time.Since(r.started).Seconds(), fmt.Sprintf(format, args...))
}

// lastLines returns the end of the log: what a person needs to see when kind has failed.
func (r *recorder) lastLines(count int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := strings.Split(strings.TrimRight(r.tail.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

func (r *recorder) keep(message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintln(&r.tail, strings.TrimRight(message, "\n")) // a tailWriter never fails
}

// Info takes one line of kind's; " • NAME  ..." announces a step.
func (r *recorder) Info(message string) {
	r.keep(message)
	if name, found := strings.CutPrefix(message, " • "); found {
		r.step("%s", plain(name))
	}
}

// plain drops what is not for a log file (kind's emoji) and the dots at the end.
func plain(name string) string {
	name = strings.Map(func(char rune) rune {
		if char > unicode.MaxLatin1 {
			return -1
		}
		return char
	}, name)
	return strings.Join(strings.Fields(strings.TrimRight(strings.TrimSpace(name), ". ")), " ")
}

func (r *recorder) Infof(format string, args ...any)  { r.Info(fmt.Sprintf(format, args...)) }
func (r *recorder) Warn(message string)               { r.keep("warning: " + message) }
func (r *recorder) Warnf(format string, args ...any)  { r.Warn(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(message string)              { r.keep("error: " + message) }
func (r *recorder) Errorf(format string, args ...any) { r.Error(fmt.Sprintf(format, args...)) }
func (r *recorder) V(log.Level) log.InfoLogger        { return r }
func (r *recorder) Enabled() bool                     { return true }
