package ocishim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/capability"
)

func lacking() Host {
	return Host{
		Bounding:   (1<<41 - 1) &^ (1 << capability.SysResource),
		HardLimits: map[string]uint64{"RLIMIT_NOFILE": 20000, "RLIMIT_CORE": 1<<64 - 1},
	}
}

const bundle = `{"ociVersion":"1.0.2","process":{"oomScoreAdj":-500,"args":["init"],
 "capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"],"permitted":["CAP_KILL"]},
 "rlimits":[{"type":"RLIMIT_NOFILE","hard":1048576,"soft":1048576},
  {"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":0}]},
 "linux":{"resources":{"memory":{"limit":9007199254740993}}},"unknown":{"kept":true}}`

func TestStripBundle(t *testing.T) {
	out, changed, err := Strip([]byte(bundle), false, lacking())
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	want := `{"ociVersion":"1.0.2","process":{"args":["init"],
 "capabilities":{"bounding":["CAP_CHOWN"],"effective":[],"permitted":["CAP_KILL"]},
 "rlimits":[{"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":0}]},
 "linux":{"resources":{"memory":{"limit":9007199254740993}}},"unknown":{"kept":true}}`
	if got, want := normal(t, string(out)), normal(t, want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStripProcessAlone(t *testing.T) {
	text := `{"args":["sh"],"oomScoreAdj":100,"capabilities":{"bounding":["CAP_SYS_RESOURCE","CAP_BPF"]}}`
	out, changed, err := Strip([]byte(text), true, lacking())
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	want := `{"args":["sh"],"oomScoreAdj":100,"capabilities":{"bounding":["CAP_BPF"]}}`
	if normal(t, string(out)) != normal(t, want) {
		t.Errorf("got %s", out)
	}
}

func TestStripKeepsWhatTheHostCanGive(t *testing.T) {
	host := Host{Bounding: 1<<41 - 1}
	for _, text := range []string{bundle, `{}`, `{"process":null}`, `{"process":{"capabilities":null}}`} {
		out, changed, err := Strip([]byte(text), false, host)
		if err != nil || changed || string(out) != text {
			t.Errorf("%s: changed %v to %s, %v", text, changed, out, err)
		}
	}
	if _, _, err := Strip([]byte("not json"), false, host); err == nil {
		t.Error("nonsense passed")
	}
}

func TestStripScoreBelowOwnOnly(t *testing.T) {
	host := lacking()
	host.OOMScoreAdj = 200
	out, changed, err := Strip([]byte(`{"oomScoreAdj":100}`), true, host)
	if err != nil || !changed || strings.Contains(string(out), "oomScoreAdj") {
		t.Errorf("got %s, %v, %v", out, changed, err)
	}
}

func TestFileOf(t *testing.T) {
	for _, test := range []struct {
		args string
		want File
		ok   bool
	}{
		{"--root /run/x --log /l --log-format json create --bundle /b --pid-file /p id", File{Path: "/b/config.json"}, true},
		{"--systemd-cgroup run -b /b id", File{Path: "/b/config.json"}, true},
		{"create --bundle=/b id", File{Path: "/b/config.json"}, true},
		{"create id", File{Path: "config.json"}, true},
		{"--root /r exec --process /p.json --detach --pid-file /x id", File{Path: "/p.json", Process: true}, true},
		{"exec -d -p /p.json id", File{Path: "/p.json", Process: true}, true},
		{"exec id tool --process /of/the/tool", File{}, false},
		{"--root create delete id", File{}, false},
		{"state id", File{}, false},
		{"", File{}, false},
	} {
		file, ok := FileOf(strings.Fields(test.args))
		if ok != test.ok || (ok && file != test.want) {
			t.Errorf("%q: got %+v, %v", test.args, file, ok)
		}
	}
}

func TestRewriteReplacesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(bundle), 0o600); err != nil {
		t.Fatal(err)
	}
	changed, err := Rewrite(File{Path: path}, lacking())
	if err != nil || !changed {
		t.Fatalf("first: changed %v, %v", changed, err)
	}
	if changed, err = Rewrite(File{Path: path}, lacking()); err != nil || changed {
		t.Errorf("second: changed %v, %v", changed, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func normal(t *testing.T, text string) string {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	if reflect.ValueOf(value).Kind() != reflect.Map {
		t.Fatalf("not an object: %s", text)
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
