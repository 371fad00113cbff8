package recipe

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

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

// mountsBelow picks the mount points below dir out of the lines of a mountinfo file, the innermost first.
func mountsBelow(lines []string, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	slices.Reverse(points) // the table lists mounts in the order they were made
	return points
}
