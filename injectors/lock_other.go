//go:build !unix

package injectors

import (
	"errors"
	"fmt"
	"os"
)

// lockFile has no counterpart here: without a lock that dies with its process, a ledger's owner can't be told from
// a dead one.
func lockFile(*os.File) error {
	return fmt.Errorf("lock a ledger on this system: %w", errors.ErrUnsupported)
}
