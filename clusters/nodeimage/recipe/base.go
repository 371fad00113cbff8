package recipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/apt"
	"github.com/rebound-chaos/rebound/clusters/nodeimage/progress"
)

// What the base step leaves in its directory.
const (
	baseArchive  = "base.tar"  // the node's file system before anything of Kubernetes
	proxyArchive = "proxy.tar" // the tools that kube-proxy calls, with their libraries
	shellArchive = "shell.tar" // a shell and small tools, for helper pods and whoever needs an image with a shell
)

// basePackages is what a node needs of the distribution. busybox is there for the helper image.
var basePackages = []string{
	"systemd", "systemd-sysv", "dbus", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount",
	"kmod", "libseccomp2", "pigz", "e2fsprogs", "ca-certificates", "curl", "jq", "procps", "socat", "runc", "ipset",
	"busybox",
}

// emptied are patterns below the base system whose matches go: units that make no sense in a container, as in kind's
// own base image, and what only apt and readers of manuals use.
var emptied = []string{
	"usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
	"usr/lib/systemd/system/multi-user.target.wants/*",
	"etc/systemd/system/*.wants/*",
	"usr/lib/systemd/system/local-fs.target.wants/*",
	"usr/lib/systemd/system/sockets.target.wants/*udev*",
	"usr/lib/systemd/system/sockets.target.wants/*initctl*",
	"usr/lib/systemd/system/basic.target.wants/*",
	"var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*",
	"usr/share/doc/*/changelog*", "dev/*", "proc/*", "sys/*", "run/*", "tmp/*",
}

// proxyTools are the programs that kube-proxy calls, in either of its modes.
var proxyTools = []string{"usr/sbin/nft", "usr/sbin/xtables-nft-multi", "usr/sbin/conntrack"}

// proxyCommands are the names under which kube-proxy calls the xtables program.
var proxyCommands = []string{
	"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
}

func (b *build) makeBase(ctx context.Context, log *stepLog, dir string, status *progress.Status) error {
	sources, err := apt.Sources("/")
	if err != nil {
		return err
	}
	mirror, err := apt.Mirror(sources, b.release.Codename)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		status.Set("installing debootstrap")
		if err := apt.Install(ctx, log.file, "debootstrap"); err != nil {
			return fmt.Errorf("%w (full log: %s)", err, log.file.Name())
		}
	}
	root := filepath.Join(dir, "root")
	counter := &packageCounter{status: status}
	command := exec.CommandContext(ctx, "debootstrap", "--variant=minbase",
		"--include="+strings.Join(basePackages, ","), "--components="+strings.Join(mirror.Components, ","),
		b.release.Codename, root, mirror.URI)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	if err := log.run(command, counter, nil); err != nil {
		// debootstrap says what went wrong in a file of its own.
		detail, readErr := os.ReadFile(filepath.Join(root, "debootstrap/debootstrap.log"))
		if readErr == nil {
			_, readErr = log.file.Write(detail)
		}
		if errors.Is(readErr, os.ErrNotExist) {
			readErr = nil
		}
		return errors.Join(err, readErr)
	}
	status.Set("archiving")
	if err := proxyLayer(root, filepath.Join(dir, proxyArchive)); err != nil {
		return err
	}
	if err := shellLayer(ctx, log, root, filepath.Join(dir, shellArchive)); err != nil {
		return err
	}
	if err := removeMatches(root, emptied); err != nil {
		return err
	}
	pack := exec.CommandContext(ctx, "tar", "--numeric-owner", "--xattrs", "--xattrs-include=*",
		"-C", root, "-cf", filepath.Join(dir, baseArchive), ".")
	if err := log.run(pack, nil, nil); err != nil {
		return err
	}
	status.Set("")
	return sweep(root)
}

// packageCounter turns debootstrap's lines into a count.
type packageCounter struct {
	status   *progress.Status
	unpacked int
}

func (c *packageCounter) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "I: Unpacking "), strings.HasPrefix(line, "I: Configuring "):
			c.unpacked++
			c.status.Set("%d packages unpacked or set up", c.unpacked)
		case strings.HasPrefix(line, "I: Retrieving "):
			c.status.Set("downloading packages")
		}
	}
	return len(text), nil
}

func proxyLayer(root, out string) error {
	modules, err := filepath.Glob(filepath.Join(root, "usr/lib/*/xtables/*.so"))
	if err != nil {
		return fmt.Errorf("list the xtables modules: %w", err)
	}
	programs := append([]string{}, proxyTools...)
	for _, module := range modules {
		name, err := filepath.Rel(root, module)
		if err != nil {
			return fmt.Errorf("name an xtables module: %w", err)
		}
		programs = append(programs, name)
	}
	names, err := closure(root, programs)
	if err != nil {
		return err
	}
	return writeLayer(out, func(l *layer) error {
		for _, name := range names {
			if err := l.file(name, filepath.Join(root, name), 0o755); err != nil {
				return err
			}
		}
		for _, name := range proxyCommands {
			if err := l.link("usr/sbin/"+name, "xtables-nft-multi"); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeMatches removes what the patterns match below root.
func removeMatches(root string, patterns []string) error {
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("match %s: %w", pattern, err)
		}
		for _, name := range found {
			if err := sweep(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// shellLayer makes a small file system of busybox, what it needs, and a link for every command that it has.
func shellLayer(ctx context.Context, log *stepLog, root, out string) error {
	const busybox = "usr/bin/busybox"
	var applets strings.Builder
	list := exec.CommandContext(ctx, "/"+busybox, "--list")
	list.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	list.Dir = "/"
	list.Stdout, list.Stderr = &applets, log.file
	if err := list.Run(); err != nil {
		return fmt.Errorf("list busybox's commands: %w", err)
	}
	names, err := closure(root, []string{busybox})
	if err != nil {
		return err
	}
	entries := []entry{
		func(l *layer) error { return l.dir("tmp", 0o1777) },
		textFile("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		textFile("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
		textFile("etc/nsswitch.conf", "hosts: files dns\n"),
	}
	for _, name := range names {
		entries = append(entries, program(name, filepath.Join(root, name)))
	}
	for _, name := range strings.Fields(applets.String()) {
		entries = append(entries, symlink("bin/"+name, "/"+busybox))
	}
	return writeLayer(out, fill(entries...))
}
