package recipe

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/progress"
)

// imagesArchive is the file with every container image that a node brings along.
const imagesArchive = "images.tar"

const localPathProgram = "local-path-provisioner"

// content is a container image: layers of one or more archives, and what runs when no command is given.
type content struct {
	layers     []string
	entrypoint []string
}

func (b *build) podnetImage() string { return "rebound.local/podnet:" + b.pins.kubernetes }
func (b *build) localPathImage() string {
	return "rebound.local/local-path-provisioner:" + b.pins.localPath
}
func (b *build) shellImage() string { return "rebound.local/busybox:" + b.release.Codename }

// makeImages wraps the programs into container images, without an engine and without a base image.
func (b *build) makeImages(ctx context.Context, log *stepLog, dir string, p parts, status *progress.Status) error {
	names, err := b.imageNames(ctx, log, filepath.Join(p.kubernetes, kubernetesProgram))
	if err != nil {
		return err
	}
	layers, err := layerFiles(dir, p)
	if err != nil {
		return err
	}
	contents := map[string]content{
		b.podnetImage():    {layers: []string{layers["podnet"]}, entrypoint: []string{"/podnet"}},
		b.localPathImage(): {layers: []string{layers["local-path"]}},
		b.shellImage():     {layers: []string{filepath.Join(p.base, shellArchive)}},
		"registry.k8s.io/metrics-server/metrics-server:" + b.pins.metricsServer: {
			layers: []string{layers["metrics-server"]}, entrypoint: []string{"/metrics-server"},
		},
	}
	for _, image := range names {
		known, err := kubeadmImage(image, layers, filepath.Join(p.base, proxyArchive))
		if err != nil {
			return err
		}
		contents[image] = known
	}
	status.Set("%d images", len(contents))
	if err := writeImages(filepath.Join(dir, imagesArchive), contents); err != nil {
		return err
	}
	for _, file := range layers {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove a layer: %w", err)
		}
	}
	return nil
}

// imageNames asks kubeadm which images it will want, and containerd's configuration which pause image.
func (b *build) imageNames(ctx context.Context, log *stepLog, kubernetes string) ([]string, error) {
	var list strings.Builder
	command := exec.CommandContext(ctx, kubernetes)
	command.Args = []string{"kubeadm", "config", "images", "list", "--kubernetes-version", b.pins.kubernetes}
	if err := log.run(command, &list, nil); err != nil {
		return nil, fmt.Errorf("ask kubeadm for its images: %w", err)
	}
	kind, err := kindDir(ctx, b.options.Module)
	if err != nil {
		return nil, err
	}
	config, err := os.ReadFile(filepath.Join(kind, kindFiles, "etc/containerd/config.toml"))
	if err != nil {
		return nil, fmt.Errorf("read containerd's configuration: %w", err)
	}
	pause, err := sandboxImage(string(config))
	if err != nil {
		return nil, err
	}
	return append(strings.Fields(list.String()), pause), nil
}

var sandboxLine = regexp.MustCompile(`(?m)^\s*(?:sandbox_image|sandbox)\s*=\s*["']([^"']+)["']`)

// sandboxImage finds the image that holds a pod's namespaces in a containerd configuration.
func sandboxImage(config string) (string, error) {
	match := sandboxLine.FindStringSubmatch(config)
	if match == nil {
		return "", fmt.Errorf("containerd's configuration names no sandbox image")
	}
	return match[1], nil
}

// kubeadmImage says what goes into an image that kubeadm wants, by its name.
func kubeadmImage(image string, layers map[string]string, proxyTools string) (content, error) {
	repository, _, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	switch repository {
	case "kube-apiserver", "kube-controller-manager", "kube-scheduler":
		return content{layers: []string{layers["kubernetes"]}}, nil
	case "kube-proxy":
		return content{layers: []string{layers["kubernetes"], proxyTools}}, nil
	case "coredns":
		return content{layers: []string{layers["coredns"]}, entrypoint: []string{"/coredns"}}, nil
	case "etcd":
		return content{layers: []string{layers["etcd"]}}, nil
	case "pause":
		return content{layers: []string{layers["pause"]}, entrypoint: []string{"/pause"}}, nil
	}
	return content{}, fmt.Errorf("kubeadm wants %s, and this recipe does not know what to put into it", image)
}

// layerFiles writes one archive a program. The four Kubernetes images share theirs, so a node stores it once.
func layerFiles(dir string, p parts) (map[string]string, error) {
	kubernetes := func(names ...string) []entry {
		entries := []entry{program("usr/local/bin/"+kubernetesProgram, filepath.Join(p.kubernetes, kubernetesProgram))}
		for _, name := range names {
			entries = append(entries, symlink("usr/local/bin/"+name, kubernetesProgram))
		}
		return entries
	}
	layers := map[string][]entry{
		"kubernetes":     kubernetes("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"),
		"coredns":        {program("coredns", filepath.Join(p.kubernetes, "coredns"))},
		"etcd":           {program("usr/local/bin/etcd", filepath.Join(p.kubernetes, etcdProgram))},
		"metrics-server": {program("metrics-server", filepath.Join(p.kubernetes, "metrics-server"))},
		"podnet":         {program("podnet", filepath.Join(p.kubernetes, "podnet"))},
		"local-path":     {program("usr/local/bin/"+localPathProgram, filepath.Join(p.kubernetes, localPathProgram))},
		"pause":          {program("pause", filepath.Join(p.own, "pause"))},
	}
	files := map[string]string{}
	for name, entries := range layers {
		files[name] = filepath.Join(dir, name+".tar")
		if err := writeLayer(files[name], fill(entries...)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// writeImages writes all images into one archive in Docker's format; a layer that several share is there once.
func writeImages(file string, contents map[string]content) error {
	layers := map[string]v1.Layer{}
	images := map[name.Tag]v1.Image{}
	for reference, content := range contents {
		tag, err := name.NewTag(reference)
		if err != nil {
			return fmt.Errorf("name an image: %w", err)
		}
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
			OS: "linux", Architecture: architecture(), RootFS: v1.RootFS{Type: "layers"},
			Config: v1.Config{
				Entrypoint: content.entrypoint,
				Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			},
		})
		if err != nil {
			return fmt.Errorf("make the image %s: %w", reference, err)
		}
		for _, path := range content.layers {
			if layers[path] == nil {
				if layers[path], err = openLayer(path); err != nil {
					return err
				}
			}
			if image, err = mutate.AppendLayers(image, layers[path]); err != nil {
				return fmt.Errorf("make the image %s: %w", reference, err)
			}
		}
		images[tag] = image
	}
	if err := tarball.MultiWriteToFile(file, images); err != nil {
		return fmt.Errorf("write the images: %w", err)
	}
	return nil
}

// openLayer compresses lightly: each node holds a copy of the archive, and unpacks it when a pod first needs it.
func openLayer(path string) (v1.Layer, error) {
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	layer, err := tarball.LayerFromOpener(open,
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("read the layer %s: %w", filepath.Base(path), err)
	}
	return layer, nil
}
