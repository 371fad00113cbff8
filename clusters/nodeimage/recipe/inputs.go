package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// Where the pinned builds are, below this module's directory.
const (
	kubernetesBuild = "builds/kubernetes"
	containerdBuild = "builds/containerd"
)

// sources are the files and directories of this module that end up in a node image or decide what does.
var sources = []string{
	"builds", "capability", "cmd/nodestart", "cmd/pause", "cmd/podnet", "go.mod", "go.sum", "nodestart", "podnet",
	"recipe",
}

// inputs is the hash of everything a node image is made from.
func inputs(module, architecture, release string) (string, error) {
	return hashOf(module, sources, "recipe "+version, architecture, release)
}

// hashOf hashes the files below dir that the paths name, and the facts. Names and contents count, order and times do
// not; tests are left out, because they change no image.
func hashOf(dir string, paths []string, facts ...string) (string, error) {
	sum := sha256.New()
	for _, fact := range facts {
		fmt.Fprintf(sum, "fact %d %s\n", len(fact), fact)
	}
	var files []string
	for _, path := range paths {
		err := filepath.WalkDir(filepath.Join(dir, path), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() && !strings.HasSuffix(path, "_test.go") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return "", fmt.Errorf("list the sources: %w", err)
		}
	}
	slices.Sort(files)
	for _, path := range slices.Compact(files) {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return "", fmt.Errorf("name a source: %w", err)
		}
		content, err := fileSum(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "file %d %s %s\n", len(name), filepath.ToSlash(name), content)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func fileSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash a source: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("hash a source: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// pins are the versions that names and flags need; they stand once, in the go.mod files of the builds.
type pins struct {
	kubernetes, metricsServer, localPath string
}

func readPins(module string) (pins, error) {
	path := filepath.Join(module, kubernetesBuild, "go.mod")
	text, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return pins{}, fmt.Errorf("%s is not this module's directory: %w", module, err)
		}
		return pins{}, fmt.Errorf("read the pinned versions: %w", err)
	}
	parsed, err := modfile.ParseLax(path, text, nil)
	if err != nil {
		return pins{}, fmt.Errorf("read the pinned versions: %w", err)
	}
	found := map[string]string{}
	for _, requirement := range parsed.Require {
		found[requirement.Mod.Path] = requirement.Mod.Version
	}
	result := pins{
		kubernetes:    found["k8s.io/kubernetes"],
		metricsServer: found["sigs.k8s.io/metrics-server"],
		localPath:     found["github.com/rancher/local-path-provisioner"],
	}
	if result.kubernetes == "" || result.metricsServer == "" || result.localPath == "" {
		return pins{}, fmt.Errorf("%s does not pin Kubernetes, metrics-server and local-path-provisioner", path)
	}
	return result, nil
}
