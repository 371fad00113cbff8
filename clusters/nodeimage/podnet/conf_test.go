package podnet

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestConf(t *testing.T) {
	text, err := Conf([]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00::/64")}, 1400)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "cniVersion": "1.0.0",
  "name": "rebound",
  "plugins": [
    {
      "ipMasq": false,
      "ipam": {
        "dataDir": "/run/rebound/addresses",
        "ranges": [
          [
            {
              "subnet": "10.244.1.0/24"
            }
          ],
          [
            {
              "subnet": "fd00::/64"
            }
          ]
        ],
        "routes": [
          {
            "dst": "0.0.0.0/0"
          },
          {
            "dst": "::/0"
          }
        ],
        "type": "host-local"
      },
      "mtu": 1400,
      "type": "ptp"
    },
    {
      "capabilities": {
        "portMappings": true
      },
      "type": "portmap"
    }
  ]
}
`
	if string(text) != want {
		t.Errorf("got\n%s", text)
	}
	if _, err := Conf(nil, 0); err == nil {
		t.Error("a node without a range got a configuration")
	}
	text, err = Conf([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, 0)
	var document struct{ Plugins []map[string]any }
	if err != nil || json.Unmarshal(text, &document) != nil {
		t.Fatal(err)
	}
	if _, set := document.Plugins[0]["mtu"]; set {
		t.Error("an unknown mtu was set")
	}
}

func TestWriteConfOnlyWhenItChanged(t *testing.T) {
	dir := t.TempDir()
	for i, step := range []struct {
		text string
		want bool
	}{{"a", true}, {"a", false}, {"b", true}} {
		if got, err := WriteConf(dir, []byte(step.text)); err != nil || got != step.want {
			t.Errorf("step %d: got %v, %v", i, got, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, ConfName))
	if err != nil || string(text) != "b" {
		t.Errorf("holds %q, %v", text, err)
	}
	if _, err := WriteConf(filepath.Join(dir, "missing"), nil); err == nil {
		t.Error("wrote into a directory that is not there")
	}
}
