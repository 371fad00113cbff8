package nodestart

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/capability"
)

const (
	unit     = "[Service]\nExecStart=/bin/x\nLimitNOFILE=infinity\nTasksMax=infinity\nOOMScoreAdjust=-999\n# LimitX=1\n"
	stripped = "[Service]\nExecStart=/bin/x\nTasksMax=infinity\n# LimitX=1\n"
	config   = "[cri]\n  restrict_oom_score_adj = false\n"
)

func node(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"etc/systemd/system/containerd.service":       unit,
		"etc/systemd/system/kubelet.service.d/x.conf": unit,
		"etc/systemd/system/notes.txt":                unit,
		"usr/lib/systemd/system/dbus.service":         unit,
		"etc/containerd/config.toml":                  config,
	} {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func content(t *testing.T, root, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAdaptWithoutSysResource(t *testing.T) {
	root := node(t)
	lacking := capability.Set(1<<41-1) &^ (1 << capability.SysResource)
	changed, err := Adapt(root, lacking)
	if err != nil || len(changed) != 4 {
		t.Fatalf("changed %v, %v", changed, err)
	}
	for path, want := range map[string]string{
		"etc/systemd/system/containerd.service":       stripped,
		"etc/systemd/system/kubelet.service.d/x.conf": stripped,
		"etc/systemd/system/notes.txt":                unit,
		"usr/lib/systemd/system/dbus.service":         stripped,
		"etc/containerd/config.toml":                  "[cri]\n  restrict_oom_score_adj = true\n",
	} {
		if got := content(t, root, path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	if changed, err := Adapt(root, lacking); err != nil || changed != nil {
		t.Errorf("second call changed %v, %v", changed, err)
	}
}

func TestAdaptChangesNothingWhereNothingIsMissing(t *testing.T) {
	root := node(t)
	if changed, err := Adapt(root, 1<<41-1); err != nil || changed != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
	if got := content(t, root, "etc/systemd/system/containerd.service"); got != unit {
		t.Errorf("got %q", got)
	}
}
