// Package nodestart fits a node's own files to the host that the node starts on.
//
// A node image is built once and used everywhere; what a locked-down host cannot give is found out and taken out when
// the node starts. Everything else about the start is left to kind's entrypoint, which runs after it.
package nodestart

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/capability"
)

const containerdConfig = "etc/containerd/config.toml"

// unitDirs are where systemd reads its units from; the links among them are left to what they point to.
var unitDirs = []string{"etc/systemd/system", "usr/lib/systemd/system"}

// Adapt changes the files under root as far as this bounding set makes it necessary, and returns the paths of those
// it changed. A second call changes nothing.
func Adapt(root string, bounding capability.Set) ([]string, error) {
	if bounding.Has(capability.SysResource) {
		return nil, nil
	}
	var changed []string
	for _, dir := range unitDirs {
		files, err := adaptUnits(filepath.Join(root, dir))
		changed = append(changed, files...)
		if err != nil {
			return changed, err
		}
	}
	path := filepath.Join(root, containerdConfig)
	done, err := edit(path, func(text string) string {
		return strings.Replace(text, "restrict_oom_score_adj = false", "restrict_oom_score_adj = true", 1)
	})
	if done {
		changed = append(changed, path)
	}
	return changed, err
}

func adaptUnits(dir string) (changed []string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		extension := filepath.Ext(path)
		if !entry.Type().IsRegular() || (extension != ".service" && extension != ".conf") {
			return nil
		}
		done, err := edit(path, StripUnit)
		if done {
			changed = append(changed, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return changed, fmt.Errorf("adapt the units in %s: %w", dir, err)
	}
	return changed, nil
}

// StripUnit takes the settings out of a unit that need CAP_SYS_RESOURCE: systemd refuses to start a unit whose
// limits it cannot raise or whose out-of-memory score it cannot lower.
func StripUnit(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		key, _, isSetting := strings.Cut(line, "=")
		if isSetting && (key == "OOMScoreAdjust" || strings.HasPrefix(key, "Limit")) {
			continue
		}
		kept.WriteString(line)
	}
	return kept.String()
}

func edit(path string, change func(string) string) (bool, error) {
	old, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	text := change(string(old))
	if text == string(old) {
		return false, nil
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return false, fmt.Errorf("write: %w", err)
	}
	return true, nil
}
