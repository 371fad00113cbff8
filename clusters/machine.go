package clusters

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// NodeDir is the only folder inside a node in which Rebound keeps files: probe samples, the agent. Reset empties it.
const NodeDir = "/var/lib/rebound"

// tablePrefix opens the name of every nft table that Rebound makes in a node.
const tablePrefix = "rebound"

// MachinePrint is what of a node's inside is compared. Each list is sorted.
type MachinePrint struct {
	Tables    []string `json:"tables,omitempty"`    // our nft tables: "inet rebound-cut"
	Qdiscs    []string `json:"qdiscs,omitempty"`    // queueing disciplines that no kernel sets up by itself
	Routes    []string `json:"routes,omitempty"`    // routes that lead nowhere
	Files     []string `json:"files,omitempty"`     // below NodeDir
	Processes []string `json:"processes,omitempty"` // programs that were started from NodeDir
}

// lookScript prints what a MachinePrint needs, in sections, with one entry into the node. It holds no data of
// anybody's. find fails when a process ends while it looks, which is no failure here.
const lookScript = `set -e
echo @tables; if command -v nft >/dev/null; then nft list tables; fi
echo @qdiscs; if command -v tc >/dev/null; then tc qdisc show; fi
echo @routes
for type in blackhole unreachable prohibit; do
  ip -4 route show table all type $type; ip -6 route show table all type $type
done
echo @files; if [ -d ` + NodeDir + ` ]; then find ` + NodeDir + ` -mindepth 1; fi
echo @processes; find /proc -maxdepth 2 -name exe -lname '` + NodeDir + `/*' -printf '%h %l\n' 2>/dev/null || true
`

func machinePrints(ctx context.Context, nodes []Node) (map[string]MachinePrint, error) {
	var mu sync.Mutex
	prints := map[string]MachinePrint{}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range nodes {
		group.Go(func() error {
			seen, err := lookInside(ctx, node)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			prints[node.Name()] = seen.print()
			return nil
		})
	}
	return prints, group.Wait()
}

// inside is what lookScript saw, line by line.
type inside struct{ tables, qdiscs, routes, files, processes []string }

func lookInside(ctx context.Context, node Node) (inside, error) {
	out, err := node.Exec(ctx, "sh", "-c", lookScript)
	if err != nil {
		return inside{}, fmt.Errorf("look into the node: %w", err)
	}
	return parseInside(string(out))
}

func parseInside(out string) (inside, error) {
	var seen inside
	sections := map[string]*[]string{"@tables": &seen.tables, "@qdiscs": &seen.qdiscs, "@routes": &seen.routes,
		"@files": &seen.files, "@processes": &seen.processes}
	var section *[]string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if next, found := sections[line]; found {
			section = next
			delete(sections, line)
			continue
		}
		if section == nil {
			return seen, fmt.Errorf("look into the node: %q stands before the first section", line)
		}
		if line != "" {
			*section = append(*section, line)
		}
	}
	if len(sections) > 0 {
		return seen, fmt.Errorf("look into the node: %d sections are missing in %q", len(sections), out)
	}
	return seen, nil
}

// print keeps what counts of what was seen.
func (i inside) print() MachinePrint {
	var print MachinePrint
	for _, line := range i.tables { // table FAMILY NAME
		if f := strings.Fields(line); len(f) == 3 && f[0] == "table" && strings.HasPrefix(f[2], tablePrefix) {
			print.Tables = append(print.Tables, f[1]+" "+f[2])
		}
	}
	for _, line := range i.qdiscs {
		if qdisc := tidyQdisc(line); qdisc != "" {
			print.Qdiscs = append(print.Qdiscs, qdisc)
		}
	}
	for _, line := range i.routes {
		print.Routes = append(print.Routes, strings.Join(strings.Fields(line), " "))
	}
	print.Files = append(print.Files, i.files...)
	for _, line := range i.processes {
		_, program, _ := strings.Cut(line, " ")
		print.Processes = append(print.Processes, program)
	}
	for _, list := range []*[]string{&print.Tables, &print.Qdiscs, &print.Routes, &print.Files, &print.Processes} {
		slices.Sort(*list)
	}
	return print
}

// cleaning returns the commands that end our processes and remove our tables and files, but those that were there
// before.
func (i inside) cleaning(before MachinePrint) [][]string {
	var commands [][]string
	kill := []string{"kill", "-KILL"}
	for _, line := range i.processes { // /proc/PID PROGRAM
		folder, program, _ := strings.Cut(line, " ")
		if !slices.Contains(before.Processes, program) {
			kill = append(kill, strings.TrimPrefix(folder, "/proc/"))
		}
	}
	if len(kill) > 2 {
		commands = append(commands, kill)
	}
	for _, table := range i.print().Tables {
		if !slices.Contains(before.Tables, table) {
			family, name, _ := strings.Cut(table, " ")
			commands = append(commands, []string{"nft", "delete", "table", family, name})
		}
	}
	remove := []string{"rm", "-rf", "--"}
	for _, file := range i.files {
		if !slices.Contains(before.Files, file) {
			remove = append(remove, file)
		}
	}
	if len(remove) > 3 {
		commands = append(commands, remove)
	}
	return commands
}

// tidyQdisc returns a discipline without what changes by itself ("" for one that the kernel sets up). Those of pods'
// interfaces (veth) come and go with their pods.
func tidyQdisc(line string) string {
	f := strings.Fields(line) // qdisc KIND HANDLE dev NAME ...
	if len(f) < 5 || f[0] != "qdisc" || strings.HasPrefix(f[4], "veth") {
		return ""
	}
	switch f[1] {
	case "noqueue", "mq", "pfifo_fast", "pfifo", "fq_codel", "fq", "noop":
		return ""
	}
	var kept []string
	for i := 1; i < len(f); i++ {
		if f[i] == "refcnt" {
			i++
			continue
		}
		kept = append(kept, f[i])
	}
	return strings.Join(kept, " ")
}
