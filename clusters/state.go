package clusters

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The files in a cluster's state folder.
const (
	FileKubeconfig  = "kubeconfig"
	FileSpec        = "spec.json"
	FileFingerprint = "fingerprint.json"
)

// StateDir is the folder where Rebound keeps what outlives a process: $REBOUND_STATE, else $XDG_STATE_HOME/rebound,
// else ~/.local/state/rebound. It is absolute and may not exist yet.
func StateDir() (string, error) {
	if dir := os.Getenv("REBOUND_STATE"); dir != "" {
		return absolute(dir)
	}
	// The XDG specification has relative values ignored.
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "rebound"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("state folder: %w (set REBOUND_STATE)", err)
	}
	return filepath.Join(home, ".local", "state", "rebound"), nil
}

func absolute(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("state folder %q: %w", dir, err)
	}
	return abs, nil
}

// writePrivate replaces path with data in one step, so that no reader and no crash ever sees half of it. The file is
// 0600.
func writePrivate(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600 by its documentation
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
