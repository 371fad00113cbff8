// Package ocishim rewrites what a container engine asks of its OCI runtime so that it asks for nothing this host
// cannot give.
//
// It knows the two files an engine hands over: the bundle's config.json (create, run, restore) and the process file
// of exec. Finding and executing the real runtime is left to the program around it.
package ocishim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/capability"
)

// Host is what this host can give a container's process.
type Host struct {
	Bounding capability.Set
	// OOMScoreAdj is this process's own score: without CAP_SYS_RESOURCE nothing can go below it.
	OOMScoreAdj int64
	// HardLimits maps a limit's name (RLIMIT_NOFILE) to this process's hard limit. A name that is not there is
	// not known and therefore not set.
	HardLimits map[string]uint64
}

// File is one file to rewrite before the real runtime reads it.
type File struct {
	Path string
	// Process says that the file holds a process alone, as for exec; otherwise it is a whole bundle's config.
	Process bool
}

// valueFlags are the flags of runc's command line that are followed by a value of their own argument, as the global
// ones and those of create, run, restore and exec are spelled in its usage.
var valueFlags = map[string]bool{
	"log": true, "log-format": true, "root": true, "criu": true, "rootless": true,
	"bundle": true, "b": true, "console-socket": true, "pidfd-socket": true, "pid-file": true, "preserve-fds": true,
	"cwd": true, "env": true, "e": true, "user": true, "u": true, "additional-gids": true, "g": true,
	"process": true, "p": true, "process-label": true, "apparmor": true, "cap": true, "c": true, "cgroup": true,
	"image-path": true, "work-path": true, "parent-path": true, "manage-cgroups-mode": true, "empty-ns": true,
	"lsm-profile": true, "lsm-mount-context": true,
}

// FileOf finds the file that the runtime is about to read; ok is false where the command reads none.
func FileOf(args []string) (file File, ok bool) {
	command, values := parse(args)
	switch command {
	case "create", "run", "restore":
		bundle := first(values["bundle"], values["b"], ".")
		return File{Path: filepath.Join(bundle, "config.json")}, true
	case "exec":
		path := first(values["process"], values["p"])
		return File{Path: path, Process: true}, path != ""
	}
	return File{}, false
}

// parse splits a runc command line into its command and its flags. It stops at the container's id: what follows is
// the container's own command line.
func parse(args []string) (command string, values map[string]string) {
	values = map[string]string{}
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		if !isFlag {
			if command != "" {
				break
			}
			command = args[i]
			continue
		}
		if name == "-" {
			break
		}
		name = strings.TrimPrefix(name, "-")
		name, value, joined := strings.Cut(name, "=")
		if !joined && valueFlags[name] && i+1 < len(args) {
			i++
			value = args[i]
		}
		values[name] = value
	}
	return command, values
}

func first(candidates ...string) string {
	for _, candidate := range candidates {
		if candidate != "" {
			return candidate
		}
	}
	return ""
}

// Rewrite strips the file in place and reports whether it had to. The new text replaces the old in one step.
func Rewrite(file File, host Host) (bool, error) {
	old, err := os.ReadFile(file.Path)
	if err != nil {
		return false, fmt.Errorf("read the runtime's input: %w", err)
	}
	stripped, changed, err := Strip(old, file.Process, host)
	if err != nil {
		return false, fmt.Errorf("strip %s: %w", file.Path, err)
	}
	if !changed {
		return false, nil
	}
	info, err := os.Stat(file.Path)
	if err != nil {
		return false, fmt.Errorf("look at the runtime's input: %w", err)
	}
	temporary := file.Path + ".rebound"
	if err := os.WriteFile(temporary, stripped, info.Mode().Perm()); err != nil {
		return false, fmt.Errorf("write the stripped input: %w", err)
	}
	if err := os.Rename(temporary, file.Path); err != nil {
		return false, errors.Join(fmt.Errorf("replace the runtime's input: %w", err), os.Remove(temporary))
	}
	return true, nil
}

// Strip takes out of an OCI config, or of a process alone, what the host cannot give. Everything else is kept, also
// what this program does not know; numbers keep every digit.
func Strip(text []byte, processAlone bool, host Host) (out []byte, changed bool, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var document map[string]any
	if err := decoder.Decode(&document); err != nil {
		return nil, false, fmt.Errorf("decode: %w", err)
	}
	process := document
	if !processAlone {
		process, _ = document["process"].(map[string]any)
	}
	if process == nil {
		return text, false, nil
	}
	changed = stripCapabilities(process, host.Bounding)
	if !host.Bounding.Has(capability.SysResource) {
		changed = stripLimits(process, host.HardLimits) || changed
		changed = stripScore(process, host.OOMScoreAdj) || changed
	}
	if !changed {
		return text, false, nil
	}
	out, err = json.Marshal(document)
	if err != nil {
		return nil, false, fmt.Errorf("encode: %w", err)
	}
	return out, true, nil
}

func stripCapabilities(process map[string]any, bounding capability.Set) bool {
	sets, _ := process["capabilities"].(map[string]any)
	changed := false
	for kind, value := range sets {
		list, isList := value.([]any)
		if !isList {
			continue
		}
		kept := make([]any, 0, len(list))
		for _, entry := range list {
			if name, isName := entry.(string); !isName || bounding.HasName(name) {
				kept = append(kept, entry)
			}
		}
		if len(kept) != len(list) {
			sets[kind], changed = kept, true
		}
	}
	return changed
}

func stripLimits(process map[string]any, hard map[string]uint64) bool {
	list, _ := process["rlimits"].([]any)
	kept := make([]any, 0, len(list))
	for _, entry := range list {
		if limit, isLimit := entry.(map[string]any); !isLimit || settable(limit, hard) {
			kept = append(kept, entry)
		}
	}
	if len(kept) == len(list) {
		return false
	}
	process["rlimits"] = kept
	return true
}

func settable(limit map[string]any, hard map[string]uint64) bool {
	name, _ := limit["type"].(string)
	number, _ := limit["hard"].(json.Number)
	var wanted uint64
	if _, err := fmt.Sscan(number.String(), &wanted); err != nil {
		return false
	}
	allowed, known := hard[name]
	return known && wanted <= allowed
}

func stripScore(process map[string]any, own int64) bool {
	number, isNumber := process["oomScoreAdj"].(json.Number)
	if !isNumber {
		return false
	}
	score, err := number.Int64()
	if err == nil && score >= own {
		return false
	}
	delete(process, "oomScoreAdj")
	return true
}
