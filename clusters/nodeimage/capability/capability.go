// Package capability tells which Linux capabilities this host's processes can never have.
//
// It reads the kernel's own files and computes with sets. What follows from a missing capability is left to those
// who ask.
package capability

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Set is a set of capabilities, one bit each, numbered as the kernel numbers them.
type Set uint64

// SysResource is CAP_SYS_RESOURCE: without it nothing can raise a hard limit or lower an out-of-memory score.
const SysResource = 24

// names follow the kernel's numbering (include/uapi/linux/capability.h).
var names = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
	"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// Has reports whether the capability with this number is in the set.
func (s Set) Has(number int) bool { return s&(1<<number) != 0 }

// HasName reports whether the capability of this name (CAP_…) is in the set. A name that we do not know counts as
// there: it is newer than this list, and refusing it is the kernel's business.
func (s Set) HasName(name string) bool {
	for number, known := range names {
		if known == name {
			return s.Has(number)
		}
	}
	return true
}

// Names lists the capabilities of the set in the kernel's order.
func (s Set) Names() []string {
	var list []string
	for number := range 64 {
		switch {
		case !s.Has(number):
		case number < len(names):
			list = append(list, names[number])
		default:
			list = append(list, fmt.Sprintf("CAP_%d", number))
		}
	}
	return list
}

// ParseBounding reads the bounding set out of the text of a /proc/PID/status.
func ParseBounding(status io.Reader) (Set, error) {
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		value, found := strings.CutPrefix(lines.Text(), "CapBnd:")
		if !found {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return 0, fmt.Errorf("read the bounding set from %q: %w", lines.Text(), err)
		}
		return Set(bits), nil
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read process status: %w", err)
	}
	return 0, fmt.Errorf("process status has no CapBnd line")
}

// ParseLast makes the set of every capability the kernel knows from the text of /proc/sys/kernel/cap_last_cap.
func ParseLast(text string) (Set, error) {
	last, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("read the last capability from %q: %w", text, err)
	}
	if last < 0 || last > 62 {
		return 0, fmt.Errorf("the kernel's last capability, %d, is out of range", last)
	}
	return Set(1)<<(last+1) - 1, nil
}

// Bounding is the bounding set of this process.
func Bounding() (Set, error) {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("open process status: %w", err)
	}
	defer status.Close()
	return ParseBounding(status)
}

// Missing is what the kernel knows and this process's bounding set lacks. Off Linux nothing is missing: there the
// engine runs in a machine of its own.
func Missing() (Set, error) {
	if runtime.GOOS != "linux" {
		return 0, nil
	}
	bounding, err := Bounding()
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, fmt.Errorf("read the kernel's last capability: %w", err)
	}
	all, err := ParseLast(string(text))
	if err != nil {
		return 0, err
	}
	return all &^ bounding, nil
}
