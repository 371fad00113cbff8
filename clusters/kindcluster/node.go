package kindcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"

	"github.com/rebound-chaos/rebound/clusters"
)

// Node is one container of a kind cluster. It is entered with `docker exec`, which needs neither kubelet nor API
// server. When a context ends a command, the docker client is ended at once, but the engine leaves the command itself
// running in the node: give what may hang a limit of its own there, or a standard input that ends.
type Node struct {
	engine    engine
	container string // the container's name, which is the Kubernetes node's name too
	role      string
}

var (
	_ clusters.Node        = (*Node)(nil)
	_ clusters.Streamer    = (*Node)(nil)
	_ clusters.ImageHolder = (*Node)(nil)
)

// Name returns the name of the Kubernetes node, which is the container's.
func (n *Node) Name() string { return n.container }

// Role returns "control-plane" or "worker".
func (n *Node) Role() string { return n.role }

// Container returns the name of the container in the engine: what a fault pauses or kills.
func (n *Node) Container() string { return n.container }

// Exec runs argv in the node as root and returns its standard output. The error is a *clusters.ExecError.
func (n *Node) Exec(ctx context.Context, argv ...string) ([]byte, error) {
	var out bytes.Buffer
	err := n.Stream(ctx, nil, &out, argv...)
	return out.Bytes(), err
}

// Stream runs argv in the node as root, feeds it from stdin and copies its standard output to stdout while it runs;
// both may be nil. The error is a *clusters.ExecError.
func (n *Node) Stream(ctx context.Context, stdin io.Reader, stdout io.Writer, argv ...string) error {
	if len(argv) == 0 {
		return &clusters.ExecError{Node: n.container, Code: -1, Err: errors.New("no command given")}
	}
	args := []string{"exec", "--privileged"}
	if stdin != nil {
		args = append(args, "--interactive")
	}
	args = append(append(args, n.container), argv...)
	err := n.engine.run(ctx, stdin, stdout, args...)
	if err == nil {
		return nil
	}
	failed := &clusters.ExecError{Node: n.container, Argv: argv, Code: -1, Err: err}
	var cause *engineError
	if errors.As(err, &cause) {
		failed.Code, failed.Stderr, failed.Err = cause.code, cause.stderr, cause.err
	}
	return failed
}

// HasImage reports whether the node's runtime holds ref, as the kubelet would find it.
func (n *Node) HasImage(ctx context.Context, ref string) (bool, error) {
	out, err := n.Exec(ctx, "ctr", "--namespace=k8s.io", "images", "ls", "--quiet", "name=="+fullRef(ref))
	if err != nil {
		return false, err
	}
	return len(bytes.TrimSpace(out)) > 0, nil
}

// LoadImage gives the node's runtime an image archive, as `docker save` writes it, and unpacks it.
func (n *Node) LoadImage(ctx context.Context, archive io.Reader) error {
	if err := nodeutils.LoadImageArchive(kindNode{ctx: ctx, node: n}, archive); err != nil {
		return fmt.Errorf("node %s: load image: %w", n.container, err)
	}
	return nil
}

// fullRef writes an image reference out, as container runtimes store it: "shop:v2" is "docker.io/library/shop:v2".
func fullRef(ref string) string {
	name, rest, found := strings.Cut(ref, "/")
	switch {
	case !found:
		ref = "docker.io/library/" + ref
	case !strings.ContainsAny(name, ".:") && name != "localhost":
		ref = "docker.io/" + name + "/" + rest
	}
	if last := ref[strings.LastIndex(ref, "/"):]; !strings.ContainsAny(last, ":@") {
		ref += ":latest"
	}
	return ref
}

// kindNode lends a Node to kind's nodeutils, whose functions take no context: it lives as long as one call.
type kindNode struct {
	ctx  context.Context
	node *Node
}

var _ nodes.Node = kindNode{}

func (k kindNode) String() string        { return k.node.container }
func (k kindNode) Role() (string, error) { return k.node.role, nil }

func (k kindNode) IP() (ipv4, ipv6 string, err error) {
	return "", "", errors.New("a borrowed node does not know its address")
}

func (k kindNode) SerialLogs(w io.Writer) error {
	return k.node.engine.run(k.ctx, nil, w, "logs", k.node.container)
}

func (k kindNode) Command(command string, args ...string) exec.Cmd {
	return k.CommandContext(k.ctx, command, args...)
}

func (k kindNode) CommandContext(ctx context.Context, command string, args ...string) exec.Cmd {
	return &kindCommand{ctx: ctx, node: k.node, argv: append([]string{command}, args...)}
}

// kindCommand is kind's view of one command in a node.
type kindCommand struct {
	ctx    context.Context
	node   *Node
	argv   []string
	stdin  io.Reader
	stdout io.Writer
}

func (c *kindCommand) Run() error                     { return c.node.Stream(c.ctx, c.stdin, c.stdout, c.argv...) }
func (c *kindCommand) SetStdin(r io.Reader) exec.Cmd  { c.stdin = r; return c }
func (c *kindCommand) SetStdout(w io.Writer) exec.Cmd { c.stdout = w; return c }
func (c *kindCommand) SetStderr(io.Writer) exec.Cmd   { return c } // its tail is part of the error anyway
func (c *kindCommand) SetEnv(env ...string) exec.Cmd {
	c.argv = append(append([]string{"env"}, env...), c.argv...)
	return c
}
