package recipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a command may take to end in order after it was told to.
const stopGrace = 10 * time.Second

// stepLog is the file that a step's commands write to.
type stepLog struct {
	file *os.File
}

func openLog(dir, step string) (*stepLog, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the log directory: %w", err)
	}
	file, err := os.Create(filepath.Join(dir, step+".log"))
	if err != nil {
		return nil, fmt.Errorf("make the log of %s: %w", step, err)
	}
	return &stepLog{file: file}, nil
}

func (l *stepLog) close() error { return l.file.Close() }

// run runs the command to its end with its output in the log; out and complaints get what it prints and what it
// complains of too, where they are not nil. An interrupted command is stopped with all its children.
func (l *stepLog) run(command *exec.Cmd, out, complaints io.Writer) error {
	fmt.Fprintf(l.file, "\n--- %s (in %s)\n", strings.Join(command.Args, " "), command.Dir)
	var tail tailWriter
	command.Stdout, command.Stderr = l.file, io.MultiWriter(l.file, &tail)
	if out != nil {
		command.Stdout = io.MultiWriter(l.file, out)
	}
	if complaints != nil {
		command.Stderr = io.MultiWriter(l.file, &tail, complaints)
	}
	group(command)
	err := command.Run()
	if err == nil {
		return nil
	}
	said := ""
	if line := tail.last(); line != "" {
		said = ": " + line
	}
	return fmt.Errorf("%s: %w%s (full log: %s)", filepath.Base(command.Args[0]), err, said, l.file.Name())
}

// group makes the command the head of a process group that is told to end when the command's context is over.
func group(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error {
		err := syscall.Kill(-command.Process.Pid, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	command.WaitDelay = stopGrace
}

// tailWriter remembers the end of what was written to it.
type tailWriter struct {
	text []byte
}

func (w *tailWriter) Write(text []byte) (int, error) {
	w.text = append(w.text, text...)
	if keep := 4096; len(w.text) > keep {
		w.text = append(w.text[:0], w.text[len(w.text)-keep:]...)
	}
	return len(text), nil
}

// last is the last line that says something.
func (w *tailWriter) last() string { return lastOf(string(w.text)) }

// output runs a short command and returns what it printed.
func output(ctx context.Context, name string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, name, arguments...)
	var out, complaint strings.Builder
	command.Stdout, command.Stderr = &out, &complaint
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, arguments[0], err, lastOf(complaint.String()))
	}
	return out.String(), nil
}
