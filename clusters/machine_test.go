package clusters

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeMachine is a node that runs the few commands that a reset gives, on what it holds.
type fakeMachine struct {
	name string

	mu        sync.Mutex
	tables    []string
	files     []string
	processes map[string]string // program by pid
	stubborn  bool              // a table that cannot be deleted
}

func (m *fakeMachine) Name() string { return m.name }

func (m *fakeMachine) Exec(_ context.Context, argv ...string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch argv[0] {
	case "sh":
		return []byte(m.look()), nil
	case "kill":
		for _, pid := range argv[2:] {
			delete(m.processes, pid)
		}
	case "rm":
		for _, path := range argv[3:] {
			m.files = remove(m.files, path)
		}
	case "nft":
		if m.stubborn {
			return nil, &ExecError{Node: m.name, Argv: argv, Code: 1, Err: errors.New("exit status 1")}
		}
		m.tables = remove(m.tables, strings.Join(argv[3:], " "))
	default:
		return nil, &ExecError{Node: m.name, Argv: argv, Code: 127, Err: errors.New("exit status 127")}
	}
	return nil, nil
}

func (m *fakeMachine) look() string {
	var out strings.Builder
	out.WriteString("@tables\ntable ip kube-proxy\n")
	for _, table := range m.tables {
		out.WriteString("table " + table + "\n")
	}
	out.WriteString("@qdiscs\nqdisc noqueue 0: dev lo root refcnt 2 \n@routes\n@files\n")
	for _, file := range m.files {
		out.WriteString(file + "\n")
	}
	out.WriteString("@processes\n")
	for pid, program := range m.processes {
		out.WriteString("/proc/" + pid + " " + program + "\n")
	}
	return out.String()
}

func remove(list []string, item string) []string {
	var kept []string
	for _, have := range list {
		if have != item {
			kept = append(kept, have)
		}
	}
	return kept
}

const seenOutput = `@tables
table ip kube-proxy
table inet rebound-podnet
table inet rebound-cut
@qdiscs
qdisc noqueue 0: dev lo root refcnt 2
qdisc tbf 8001: dev eth0 root refcnt 9 rate 1Mbit burst 32Kb lat 50ms
qdisc tbf 8002: dev vethab12 root refcnt 2 rate 1Mbit
qdisc ingress ffff: dev eth0 parent ffff:fff1 ----------------
@routes
blackhole 10.1.0.0/16  proto static
@files
/var/lib/rebound/samples
/var/lib/rebound/agent
@processes
/proc/4711 /var/lib/rebound/agent
/proc/4712 /var/lib/rebound/old (deleted)
`

func TestMachinePrint(t *testing.T) {
	seen, err := parseInside(seenOutput)
	if err != nil {
		t.Fatal(err)
	}
	want := MachinePrint{
		Tables: []string{"inet rebound-cut", "inet rebound-podnet"},
		Qdiscs: []string{"ingress ffff: dev eth0 parent ffff:fff1 ----------------",
			"tbf 8001: dev eth0 root rate 1Mbit burst 32Kb lat 50ms"},
		Routes:    []string{"blackhole 10.1.0.0/16 proto static"},
		Files:     []string{"/var/lib/rebound/agent", "/var/lib/rebound/samples"},
		Processes: []string{"/var/lib/rebound/agent", "/var/lib/rebound/old (deleted)"},
	}
	if diff := cmp.Diff(want, seen.print()); diff != "" {
		t.Error(diff)
	}
}

func TestCleaningSparesWhatWasThere(t *testing.T) {
	seen, err := parseInside(seenOutput)
	if err != nil {
		t.Fatal(err)
	}
	before := MachinePrint{Tables: []string{"inet rebound-podnet"}, Files: []string{"/var/lib/rebound/samples"}}
	want := [][]string{
		{"kill", "-KILL", "4711", "4712"},
		{"nft", "delete", "table", "inet", "rebound-cut"},
		{"rm", "-rf", "--", "/var/lib/rebound/agent"},
	}
	if diff := cmp.Diff(want, seen.cleaning(before)); diff != "" {
		t.Error(diff)
	}
	if left := seen.cleaning(seen.print()); len(left) > 0 {
		t.Errorf("a node that is as before would be cleaned: %v", left)
	}
}

func TestParseInsideRefusesHalfALook(t *testing.T) {
	for _, out := range []string{"", "table ip x\n@tables\n", "@tables\n@qdiscs\n@routes\n@files\n"} {
		if _, err := parseInside(out); err == nil {
			t.Errorf("%q passed", out)
		}
	}
}

func TestCleanMachine(t *testing.T) {
	machine := &fakeMachine{name: "worker", tables: []string{"inet rebound-podnet", "inet rebound-cut"},
		files: []string{"/var/lib/rebound/x"}, processes: map[string]string{"9": "/var/lib/rebound/x"}}
	before := MachinePrint{Tables: []string{"inet rebound-podnet"}}
	if err := cleanMachine(t.Context(), machine, before); err != nil {
		t.Fatal(err)
	}
	prints, err := machinePrints(t.Context(), []Node{machine})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, prints["worker"]); diff != "" {
		t.Error(diff)
	}
	machine.tables, machine.stubborn = []string{"inet rebound-cut"}, true
	var failed *ExecError
	if err := cleanMachine(t.Context(), machine, before); !errors.As(err, &failed) || failed.Code != 1 {
		t.Errorf("a table that stays: %v", err)
	}
}

func TestExecErrorSaysAll(t *testing.T) {
	err := &ExecError{Node: "n", Argv: []string{"ls", "/x"}, Code: 2, Stderr: "no such file\n",
		Err: errors.New("exit status 2")}
	if got, want := err.Error(), "node n: ls /x: exit status 2: no such file"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
