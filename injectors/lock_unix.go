//go:build unix

package injectors

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile makes this open file the ledger's owner. The lock ends with the process, whatever ends it, and is not
// inherited: Go opens files close-on-exec. ErrLive where another open file holds it.
func lockFile(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLive
	}
	return err
}
