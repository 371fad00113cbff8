package recipe

import (
	"bufio"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sweep removes a directory with all that is mounted below it: debootstrap mounts /proc and /sys in the system it
// makes, and an interrupted one leaves them mounted.
func sweep(dir string) error {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list the mounts: %w", err)
	}
	defer table.Close()
	var lines []string
	for scanner := bufio.NewScanner(table); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	for _, point := range mountsBelow(lines, dir) {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove what is unfinished: %w", err)
	}
	return nil
}
