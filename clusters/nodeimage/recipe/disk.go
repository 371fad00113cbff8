package recipe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const gibibyte = 1 << 30

// place is a directory that a build fills, and what it may put there. The sizes are those of a cold build of
// Kubernetes 1.36, rounded up.
type place struct {
	what      string
	path      string
	needBytes uint64
}

// space fails where a file system has less free than the build may need of it.
func (b *build) space(ctx context.Context) error {
	caches, err := output(ctx, "go", "env", "GOCACHE", "GOMODCACHE")
	if err != nil {
		return err
	}
	dirs := strings.Split(strings.TrimSpace(caches), "\n")
	if len(dirs) != 2 {
		return fmt.Errorf("go env named %d cache directories, not 2", len(dirs))
	}
	root, err := output(ctx, "docker", "info", "--format", "{{.DockerRootDir}}")
	if err != nil {
		return err
	}
	return enough([]place{
		{"finished steps", b.options.Cache, 2 * gibibyte},
		{"Go's build cache", dirs[0], 5 * gibibyte},
		{"Go's module cache", dirs[1], 2 * gibibyte},
		{"the engine's images", strings.TrimSpace(root), 2 * gibibyte},
	}, free)
}

// filesystem is where a path lies and what is free there.
type filesystem struct {
	device    uint64
	freeBytes uint64
}

// enough adds up what is needed of each file system and compares it with what is free.
func enough(places []place, look func(path string) (filesystem, error)) error {
	type demand struct {
		needBytes, freeBytes uint64
		what                 []string
		path                 string
	}
	demands := map[uint64]*demand{}
	for _, place := range places {
		found, err := look(place.path)
		if err != nil {
			return fmt.Errorf("look for free space: %w", err)
		}
		if demands[found.device] == nil {
			demands[found.device] = &demand{path: place.path, freeBytes: found.freeBytes}
		}
		here := demands[found.device]
		here.needBytes += place.needBytes
		here.what = append(here.what, place.what)
		if here.freeBytes < here.needBytes {
			return fmt.Errorf("not enough disk: %s needs %s for %s, and %s are free; make room, or set REBOUND_CACHE to "+
				"a directory on another disk", here.path, size(here.needBytes), strings.Join(here.what, " and "),
				size(here.freeBytes))
		}
	}
	return nil
}

func size(bytes uint64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/gibibyte) }

// free looks at the file system of a path, or of the nearest directory above it that is there.
func free(path string) (filesystem, error) {
	for {
		info, err := os.Stat(path)
		if err == nil {
			var stat syscall.Statfs_t
			if err := syscall.Statfs(path, &stat); err != nil {
				return filesystem{}, fmt.Errorf("%s: %w", path, err)
			}
			system, _ := info.Sys().(*syscall.Stat_t)
			if system == nil {
				return filesystem{}, fmt.Errorf("%s: no device number", path)
			}
			return filesystem{device: uint64(system.Dev), freeBytes: stat.Bavail * uint64(stat.Bsize)}, nil
		}
		parent := filepath.Dir(path)
		if !os.IsNotExist(err) || parent == path {
			return filesystem{}, err
		}
		path = parent
	}
}
