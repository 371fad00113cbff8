package recipe

import (
	"bytes"
	"context"
	_ "embed" // the two manifests
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/progress"
)

// kindFiles is where kind keeps the files of its node images, below its module.
const kindFiles = "images/base/files"

//go:embed files/default-cni.yaml
var networkManifest string

//go:embed files/default-storage.yaml
var storageManifest string

// kindDir is the directory of the pinned kind module.
func kindDir(ctx context.Context, module string) (string, error) {
	command := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind")
	command.Dir = module
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("find the kind module: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		return "", errors.New("the kind module is not downloaded: run `go mod download sigs.k8s.io/kind`")
	}
	return dir, nil
}

// makeNode imports the images into a store and puts all parts together into one image of one layer. The engine keeps
// it only when the whole stream has come through.
func (b *build) makeNode(ctx context.Context, p parts, status *progress.Status) (err error) {
	log, err := openLog(filepath.Join(b.options.Cache, "logs"), "node")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	store := filepath.Join(b.temp, "store")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	status.Set("importing the container images")
	if err := b.sideload(ctx, log, p.containerd, filepath.Join(p.images, imagesArchive), store); err != nil {
		return err
	}
	entries, err := b.nodeEntries(ctx, p, store)
	if err != nil {
		return err
	}
	status.Set("putting the parts together")
	file := filepath.Join(b.temp, "node.tar")
	archive, err := newRootArchive(file, b.image, nodeConfig(b.hash), fill(entries...))
	if err != nil {
		return err
	}
	status.Set("handing %s to the engine", size(uint64(archive.sizeBytes)))
	return load(ctx, log, archive)
}

// load streams the archive into the engine, which keeps nothing of a stream that breaks off.
func load(ctx context.Context, log *stepLog, archive rootArchive) error {
	reader, writer := io.Pipe()
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		err := archive.writeTo(writer)
		return errors.Join(err, writer.CloseWithError(err))
	})
	work.Go(func() error {
		command := exec.CommandContext(ctx, "docker", "load", "--quiet")
		command.Stdin = reader
		err := log.run(command, nil, nil)
		return errors.Join(err, reader.CloseWithError(err))
	})
	return work.Wait()
}

// nodeConfig is how the engine runs a node.
func nodeConfig(hash string) v1.Config {
	return v1.Config{
		Entrypoint: []string{"/usr/local/bin/rebound-nodestart", "/usr/local/bin/entrypoint", "/sbin/init"},
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"container=docker", // how systemd knows where it is
		},
		StopSignal: "SIGRTMIN+3", // systemd's word for shutting down; SIGTERM would only make it start anew
		Labels:     map[string]string{Label: hash},
	}
}

// nodeEntries lists what a node consists of.
func (b *build) nodeEntries(ctx context.Context, p parts, store string) ([]entry, error) {
	kind, err := kindDir(ctx, b.options.Module)
	if err != nil {
		return nil, err
	}
	spec, err := output(ctx, filepath.Join(p.containerd, "ctr"), "oci", "spec")
	if err != nil {
		return nil, err
	}
	base, err := podSpec([]byte(spec))
	if err != nil {
		return nil, err
	}
	names := strings.NewReplacer("PODNET_IMAGE", b.podnetImage(), "LOCAL_PATH_IMAGE", b.localPathImage(),
		"HELPER_IMAGE", b.shellImage())
	entries := []entry{
		func(l *layer) error { return l.append(filepath.Join(p.base, baseArchive)) },
		func(l *layer) error { return l.tree("", filepath.Join(kind, kindFiles), kindMode) },
		textFile("etc/containerd/cri-base.json", string(base)),
		textFile("kind/version", b.pins.kubernetes),
		textFile("kind/manifests/default-cni.yaml", names.Replace(networkManifest)),
		textFile("kind/manifests/default-storage.yaml", names.Replace(storageManifest)),
		textFile("etc/systemd/journald.conf.d/rebound.conf", "[Journal]\nReadKMsg=no\n"), // the host's messages would confuse
		directory("etc/kubernetes/manifests"),
		symlink("etc/systemd/system/systemd-binfmt.service", "/dev/null"), // what it registers is global to the kernel
		program("usr/local/bin/rebound-nodestart", filepath.Join(p.own, "nodestart")),
		program("usr/local/lib/rebound/"+kubernetesProgram, filepath.Join(p.kubernetes, kubernetesProgram)),
		func(l *layer) error {
			keep := func(_ string, info os.FileInfo) int64 { return int64(info.Mode().Perm()) }
			return l.tree("var/lib/containerd", store, keep)
		},
	}
	for _, name := range []string{"kubelet", "kubeadm", "kubectl"} {
		entries = append(entries, symlink("usr/bin/"+name, "../local/lib/rebound/"+kubernetesProgram))
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		entries = append(entries, program("usr/local/bin/"+name, filepath.Join(p.containerd, name)))
	}
	for _, name := range []string{"host-local", "loopback", "portmap", "ptp"} {
		entries = append(entries, program("opt/cni/bin/"+name, filepath.Join(p.containerd, name)))
	}
	for _, unit := range []string{"containerd.service", "kubelet.service", "undo-mount-hacks.service"} {
		wanted := "etc/systemd/system/multi-user.target.wants/" + unit
		entries = append(entries, symlink(wanted, "/etc/systemd/system/"+unit))
	}
	return entries, nil
}

// kindMode gives kind's files the modes that its own image gives them; those of a module directory are read-only.
func kindMode(name string, info os.FileInfo) int64 {
	if info.IsDir() || strings.HasPrefix(name, "usr/local/bin/") || strings.HasPrefix(name, "kind/bin/") {
		return 0o755
	}
	return 0o644
}

// podSpec makes the base of every pod's OCI spec from containerd's own: kind's hook is added, which hides the host's
// hardware identity, and no limit is set.
func podSpec(spec []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(spec))
	decoder.UseNumber()
	document := map[string]any{}
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("read containerd's OCI spec: %w", err)
	}
	process, isObject := document["process"].(map[string]any)
	if !isObject {
		return nil, errors.New("containerd's OCI spec has no process")
	}
	delete(process, "rlimits")
	hooks, _ := document["hooks"].(map[string]any)
	if hooks == nil {
		hooks = map[string]any{}
	}
	existing, _ := hooks["createContainer"].([]any)
	hooks["createContainer"] = append(existing, map[string]any{"path": "/kind/bin/mount-product-files.sh"})
	document["hooks"] = hooks
	return json.MarshalIndent(document, "", "  ")
}
