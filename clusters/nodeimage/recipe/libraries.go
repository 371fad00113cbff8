package recipe

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// closure finds everything that the programs, given by their paths below root, need of root to run: their loaders
// and libraries, and those of these. It returns paths below root, the programs among them, sorted.
func closure(root string, programs []string) ([]string, error) {
	dirs, err := libraryDirs(root)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for queue := slices.Clone(programs); len(queue) > 0; {
		name := queue[0]
		queue = queue[1:]
		if needed[name] {
			continue
		}
		needed[name] = true
		loader, libraries, err := imports(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("read what %s needs: %w", name, err)
		}
		if loader != "" {
			queue = append(queue, strings.TrimPrefix(loader, "/"))
		}
		for _, library := range libraries {
			found, err := find(root, dirs, library)
			if err != nil {
				return nil, fmt.Errorf("%s needs %s: %w", name, library, err)
			}
			queue = append(queue, found)
		}
	}
	var names []string
	for name := range needed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func libraryDirs(root string) ([]string, error) {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "usr/lib64", "usr/lib"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, fmt.Errorf("list the library directories: %w", err)
		}
		for _, dir := range found {
			relative, err := filepath.Rel(root, dir)
			if err != nil {
				return nil, fmt.Errorf("name a library directory: %w", err)
			}
			dirs = append(dirs, relative)
		}
	}
	return dirs, nil
}

func find(root string, dirs []string, library string) (string, error) {
	for _, dir := range dirs {
		name := path.Join(dir, library)
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			return name, nil
		}
	}
	return "", errors.New("no such library in the base system")
}

// imports reads the loader and the libraries that a program or library names.
func imports(name string) (loader string, libraries []string, err error) {
	file, err := elf.Open(name)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		text, err := io.ReadAll(segment.Open())
		if err != nil {
			return "", nil, err
		}
		loader = strings.TrimRight(string(text), "\x00")
	}
	libraries, err = file.ImportedLibraries()
	return loader, libraries, err
}
