package apt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Release tells which distribution a machine runs.
type Release struct {
	// ID is the distribution's own name for itself: debian, ubuntu.
	ID string
	// Codename is the name of the release, and of its suite: bookworm.
	Codename string
}

// Known reports whether this is a distribution whose packages we know the names of.
func (r Release) Known() bool {
	return (r.ID == "debian" || r.ID == "ubuntu") && r.Codename != ""
}

// ParseRelease reads the text of an os-release file.
func ParseRelease(text string) Release {
	var release Release
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			release.ID = value
		case "VERSION_CODENAME":
			release.Codename = value
		}
	}
	return release
}

// ReadRelease reads the release of the machine whose root directory this is.
func ReadRelease(root string) (Release, error) {
	text, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return Release{}, fmt.Errorf("read the release: %w", err)
	}
	return ParseRelease(string(text)), nil
}
