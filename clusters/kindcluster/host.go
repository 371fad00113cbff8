package kindcluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rebound-chaos/rebound/clusters"
)

// What kind nodes take, measured with kind v0.33.0 and Kubernetes v1.36: 15 to 16 inotify instances in a worker and 28
// in the control plane, 340 to 620 MiB in each node's volume.
const (
	inotifyEach   = 17
	inotifyBase   = 13
	diskEachBytes = 512 << 20
	diskBaseBytes = 512 << 20
)

// capSysResource is CAP_SYS_RESOURCE's bit in a capability set.
const capSysResource = 24

// surroundings is where the engine's host is read. The zero value reads nothing, which is right for an engine
// elsewhere.
type surroundings struct {
	proc string // "/proc"
	// free returns the free bytes of the file system that holds path.
	free func(path string) (uint64, error)
}

// here is this machine.
func here() surroundings {
	if runtime.GOOS != "linux" {
		return surroundings{} // the engine runs in a virtual machine, whose limits cannot be read from outside
	}
	return surroundings{proc: "/proc", free: freeBytes}
}

func freeBytes(path string) (uint64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return stat.Bavail * uint64(stat.Bsize), nil
}

// localEngine reports whether the engine runs on this machine's own kernel, as far as its address tells.
func (e engine) localEngine(ctx context.Context) (bool, error) {
	if address := os.Getenv("DOCKER_HOST"); address != "" {
		return strings.HasPrefix(address, "unix://"), nil
	}
	out, err := e.output(ctx, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return false, fmt.Errorf("address of the engine: %w", err)
	}
	return strings.HasPrefix(strings.TrimSpace(string(out)), "unix://"), nil
}

// needs says what the host lacks. The bounding set is this process's own: whoever started the engine had the same one,
// or a larger one, and to do without what is there costs nothing.
func (s surroundings) needs(info engineInfo) (host, error) {
	found := host{cgroup1: info.CgroupVersion == "1"}
	if s.proc == "" {
		return found, nil
	}
	bounding, err := s.boundingSet()
	if err != nil {
		return found, err
	}
	found.noResources = bounding&(1<<capSysResource) == 0
	return found, nil
}

func (s surroundings) boundingSet() (uint64, error) {
	path := filepath.Join(s.proc, "self", "status")
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("capabilities: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if value, found := strings.CutPrefix(line, "CapBnd:"); found {
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("capabilities in %s: %w", path, err)
			}
			return set, nil
		}
	}
	return 0, fmt.Errorf("capabilities: no CapBnd in %s", path)
}

// room says whether the host has what the nodes take, and what to do where it has not (ErrHostLimit).
func (s surroundings) room(info engineInfo, nodes int) error {
	if s.proc == "" {
		return nil
	}
	return errors.Join(s.roomForInotify(nodes), s.roomOnDisk(info.DockerRootDir, nodes))
}

func (s surroundings) roomForInotify(nodes int) error {
	limit, err := s.inotifyLimit()
	if err != nil {
		return err
	}
	used, err := s.inotifyUsed()
	if err != nil {
		return err
	}
	if need := inotifyBase + nodes*inotifyEach; used+need > limit {
		return fmt.Errorf("%w: %d nodes need about %d inotify instances, %d are in use and fs.inotify.max_user_instances is "+
			"%d: delete another cluster, or run `sysctl -w fs.inotify.max_user_instances=%d`",
			clusters.ErrHostLimit, nodes, need, used, limit, max(2*(used+need), 512))
	}
	return nil
}

func (s surroundings) inotifyLimit() (int, error) {
	path := filepath.Join(s.proc, "sys", "fs", "inotify", "max_user_instances")
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("inotify limit: %w", err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("inotify limit in %s: %w", path, err)
	}
	return limit, nil
}

// inotifyUsed counts root's inotify instances, which is whose the nodes' are. What may not be read is not counted: an
// ordinary user sees none, and the limit is then checked against the need alone.
func (s surroundings) inotifyUsed() (int, error) {
	processes, err := os.ReadDir(s.proc)
	if err != nil {
		return 0, fmt.Errorf("inotify instances: %w", err)
	}
	used := 0
	for _, process := range processes {
		if _, err := strconv.Atoi(process.Name()); err != nil || !s.ofRoot(process.Name()) {
			continue
		}
		used += s.inotifyOf(process.Name())
	}
	return used, nil
}

// ofRoot reports whether a process runs as root; one that has just ended does not.
func (s surroundings) ofRoot(pid string) bool {
	file, err := os.Open(filepath.Join(s.proc, pid, "status"))
	if err != nil {
		return false
	}
	defer file.Close() // read only: nothing can be lost
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if fields := strings.Fields(scanner.Text()); len(fields) > 1 && fields[0] == "Uid:" {
			return fields[1] == "0"
		}
	}
	return false
}

func (s surroundings) inotifyOf(pid string) int {
	folder := filepath.Join(s.proc, pid, "fd")
	descriptors, err := os.ReadDir(folder)
	if err != nil {
		return 0
	}
	count := 0
	for _, descriptor := range descriptors {
		if to, err := os.Readlink(filepath.Join(folder, descriptor.Name())); err == nil && to == "anon_inode:inotify" {
			count++
		}
	}
	return count
}

func (s surroundings) roomOnDisk(root string, nodes int) error {
	free, err := s.free(root)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // an engine in a container of its own, or one that is not ours to look into
	}
	if err != nil {
		return err
	}
	if need := uint64(diskBaseBytes + nodes*diskEachBytes); free < need {
		return fmt.Errorf("%w: %d nodes need about %d MiB of disk space and %s has %d MiB: free some there "+
			"(`docker system df` shows what the engine holds)", clusters.ErrHostLimit, nodes, need>>20, root, free>>20)
	}
	return nil
}
