package podnet

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/nftables/expr"
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

// passes runs a rule's matches over a packet's network header, as the kernel does, and returns its verdict.
func passes(t *testing.T, rule []expr.Any, protocol byte, header []byte) expr.Any {
	t.Helper()
	var register []byte
	for _, step := range rule {
		switch step := step.(type) {
		case *expr.Meta:
			register = []byte{protocol}
		case *expr.Payload:
			if int(step.Offset+step.Len) > len(header) {
				return nil
			}
			register = append([]byte{}, header[step.Offset:step.Offset+step.Len]...)
		case *expr.Bitwise:
			for i := range register {
				register[i] = register[i]&step.Mask[i] ^ step.Xor[i]
			}
		case *expr.Cmp:
			if string(register) != string(step.Data) {
				return nil
			}
		case *expr.Verdict, *expr.Masq:
			return step
		default:
			t.Fatalf("unknown expression %T", step)
		}
	}
	return nil
}

func packet(source, destination string) (byte, []byte) {
	from, to := netip.MustParseAddr(source), netip.MustParseAddr(destination)
	if from.Is4() {
		return 2, append(append(make([]byte, 12), from.AsSlice()...), to.AsSlice()...)
	}
	return 10, append(append(make([]byte, 8), from.AsSlice()...), to.AsSlice()...)
}

func TestMasqueradeHidesOnlyWhatLeaves(t *testing.T) {
	rules := masquerade([]netip.Prefix{
		netip.MustParsePrefix("10.244.0.0/15"), netip.MustParsePrefix("fd00:10:244::/56"),
	})
	for _, test := range []struct {
		from, to string
		hidden   bool
	}{
		{"10.244.1.5", "10.245.2.5", false}, // /15 reaches over two numbers
		{"10.244.1.5", "10.246.2.5", true},
		{"10.244.1.5", "172.18.0.2", true},
		{"172.18.0.2", "10.244.1.5", false},
		{"172.18.0.2", "192.0.2.1", false},
		{"fd00:10:244:1::5", "fd00:10:244:2::5", false},
		{"fd00:10:244:1::5", "2001:db8::1", true},
		{"2001:db8::1", "fd00:10:244:1::5", false},
	} {
		protocol, header := packet(test.from, test.to)
		var verdict expr.Any
		for _, rule := range rules {
			if verdict = passes(t, rule, protocol, header); verdict != nil {
				break
			}
		}
		_, hidden := verdict.(*expr.Masq)
		if hidden != test.hidden {
			t.Errorf("%s to %s: hidden %v", test.from, test.to, hidden)
		}
	}
}
