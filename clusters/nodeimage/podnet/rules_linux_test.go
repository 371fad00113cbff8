package podnet

import (
	"net/netip"
	"testing"

	"github.com/google/nftables/expr"
)

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
