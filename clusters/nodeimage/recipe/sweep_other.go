//go:build !linux

package recipe

import (
	"fmt"
	"os"
)

// sweep removes a directory; images are built on Linux only, so nothing is mounted below it.
func sweep(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove what is unfinished: %w", err)
	}
	return nil
}
