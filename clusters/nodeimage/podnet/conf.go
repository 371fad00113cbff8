package podnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// ConfName is the name of the configuration file that container runtimes read.
const ConfName = "10-rebound.conflist"

// leaseDir holds the addresses given out. It lies on a file system that a node loses when it restarts, as it loses
// the pods that hold the addresses.
const leaseDir = "/run/rebound/addresses"

type object map[string]any

// Conf is the CNI configuration of a node with these pod ranges. An mtu of 0 leaves it to the kernel.
func Conf(ranges []netip.Prefix, mtu int) ([]byte, error) {
	if len(ranges) == 0 {
		return nil, errors.New("the node has no pod range yet")
	}
	var pools [][]object
	var routes []object
	for _, prefix := range ranges {
		pools = append(pools, []object{{"subnet": prefix.String()}})
		everywhere := "0.0.0.0/0"
		if prefix.Addr().Is6() {
			everywhere = "::/0"
		}
		routes = append(routes, object{"dst": everywhere})
	}
	plug := object{
		"type": "ptp", "ipMasq": false,
		"ipam": object{"type": "host-local", "dataDir": leaseDir, "ranges": pools, "routes": routes},
	}
	if mtu > 0 {
		plug["mtu"] = mtu
	}
	text, err := json.MarshalIndent(object{
		"cniVersion": "1.0.0", "name": "rebound",
		"plugins": []object{plug, {"type": "portmap", "capabilities": object{"portMappings": true}}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the CNI configuration: %w", err)
	}
	return append(text, '\n'), nil
}

// WriteConf puts the configuration into the directory and reports whether that changed anything. A reader sees the
// old file or the new one, never half of one.
func WriteConf(dir string, text []byte) (bool, error) {
	path := filepath.Join(dir, ConfName)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	temporary := path + ".new" // runtimes read *.conf, *.conflist and *.json only
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return false, fmt.Errorf("write the CNI configuration: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return false, fmt.Errorf("put the CNI configuration in place: %w", err)
	}
	return true, nil
}
