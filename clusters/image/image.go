// Package image puts one static Linux program into a container image of its own and into the nodes of a cluster. It
// needs no container engine, no registry and no base image.
//
// The same program always gives the same image, and its reference carries the program's hash, so that a node which has
// the reference has the program. What runs in the image, and how pods use it, is left to the caller.
package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

const (
	// Repository is the image's name without its tag. It names no registry: the image is only ever loaded.
	Repository = "rebound.dev/rebound"
	// Program is where the program lies in the image; it is the image's entry point.
	Program = "/rebound"
	// User runs the program where a pod does not say otherwise: nobody in particular. A pod that must write to a host
	// path sets runAsUser: 0.
	User = "65532:65532"

	// tagLength is how much of the hash makes a tag: 48 bits.
	tagLength = 12
)

// ErrNotStatic: the program is not a static Linux executable, so that it cannot run in an image that holds nothing
// else.
var ErrNotStatic = errors.New("not a static Linux program (build it with CGO_ENABLED=0 GOOS=linux)")

// Image is an image around one program, ready to be written. The program's file must stay as it is meanwhile.
type Image struct {
	// Ref is the image's reference: Repository and a tag from the program's hash.
	Ref string
	// Arch is the architecture that the program was built for, in Go's words.
	Arch string

	tag   name.Tag
	image v1.Image
}

// New reads the program at binaryPath once, for its hash.
func New(binaryPath string) (*Image, error) {
	arch, err := architecture(binaryPath)
	if err != nil {
		return nil, err
	}
	layer, err := newLayer(binaryPath)
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", binaryPath, err)
	}
	built, err := assemble(layer, arch)
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", binaryPath, err)
	}
	id, err := built.ConfigName() // covers the layer, the architecture and the configuration
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", binaryPath, err)
	}
	ref := Repository + ":" + id.Hex[:tagLength]
	tag, err := name.NewTag(ref)
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", binaryPath, err)
	}
	return &Image{Ref: ref, Arch: arch, tag: tag, image: built}, nil
}

// Write writes the image as an archive, as `docker save` does. It can be called any number of times, also at once.
func (i *Image) Write(w io.Writer) error {
	if err := tarball.Write(i.tag, i.image, w); err != nil {
		return fmt.Errorf("write image %s: %w", i.Ref, err)
	}
	return nil
}

// assemble adds the layer and the configuration to the empty image. No part of it holds a time.
func assemble(layer v1.Layer, arch string) (v1.Image, error) {
	withLayer, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := withLayer.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config = v1.Config{
		Entrypoint: []string{Program},
		User:       User,
		WorkingDir: "/",
		Env:        []string{"PATH=/", "TMPDIR=/tmp"},
	}
	return mutate.ConfigFile(withLayer, config)
}

// architecture also makes sure that the program needs no loader and no library.
func architecture(binaryPath string) (string, error) {
	file, err := elf.Open(binaryPath)
	var format *elf.FormatError
	if errors.As(err, &format) {
		return "", fmt.Errorf("%s: %w", binaryPath, ErrNotStatic)
	}
	if err != nil {
		return "", fmt.Errorf("program: %w", err)
	}
	defer file.Close() // read only: nothing can be lost
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s: %w", binaryPath, ErrNotStatic)
		}
	}
	arch, known := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[file.Machine]
	if !known {
		return "", fmt.Errorf("%s: %v: %w", binaryPath, file.Machine, ErrNotStatic)
	}
	return arch, nil
}

// layer is the image's one layer: the program and an empty /tmp. It is read from the program's file whenever it is
// asked for, and not compressed, because to unpack it costs more than to carry it over a pipe.
type layer struct {
	path string
	size int64
	hash v1.Hash
}

var _ v1.Layer = (*layer)(nil)

func newLayer(binaryPath string) (*layer, error) {
	l := &layer{path: binaryPath}
	sum := counter{hash: sha256.New()}
	if err := l.write(&sum); err != nil {
		return nil, err
	}
	l.size = sum.size
	l.hash = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.hash.Sum(nil))}
	return l, nil
}

// counter hashes and counts what is written to it.
type counter struct {
	hash hash.Hash
	size int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	return c.hash.Write(p)
}

// write writes the layer's tar. Its headers hold no time and no name of a user, so that it is the same everywhere.
func (l *layer) write(w io.Writer) (err error) {
	file, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	program := &tar.Header{Typeflag: tar.TypeReg, Name: path.Base(Program), Mode: 0o755, Size: info.Size()}
	if err := archive.WriteHeader(program); err != nil {
		return err
	}
	if _, err := io.Copy(archive, file); err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return err
	}
	return archive.Close()
}

func (l *layer) Digest() (v1.Hash, error) { return l.hash, nil }
func (l *layer) DiffID() (v1.Hash, error) { return l.hash, nil }
func (l *layer) Size() (int64, error)     { return l.size, nil }

func (l *layer) MediaType() (types.MediaType, error) { return types.DockerUncompressedLayer, nil }

func (l *layer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed streams the layer; closing it early ends the stream.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(l.write(writer)) }()
	return reader, nil
}

// holder is a node that can be given images.
type holder interface {
	HasImage(ctx context.Context, ref string) (bool, error)
	LoadImage(ctx context.Context, archive io.Reader) error
}

// Ensure makes sure that every node has an image around the program at binaryPath, and returns its reference. Nodes
// that have it are left alone, the others are given it at the same time. Nodes are named in errors by their position.
func Ensure[N any](ctx context.Context, nodes []N, binaryPath string) (ref string, err error) {
	built, err := New(binaryPath)
	if err != nil {
		return "", err
	}
	targets := make([]holder, len(nodes))
	for i, node := range nodes {
		target, ok := any(node).(holder)
		if !ok {
			return "", fmt.Errorf("image %s: node %d cannot be given images", built.Ref, i+1)
		}
		targets[i] = target
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, target := range targets {
		group.Go(func() error { return built.ensure(ctx, target) })
	}
	return built.Ref, group.Wait()
}

func (i *Image) ensure(ctx context.Context, target holder) error {
	has, err := target.HasImage(ctx, i.Ref)
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	if has {
		return nil
	}
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := i.Write(writer)
		written <- err
		writer.CloseWithError(err)
	}()
	err = target.LoadImage(ctx, reader)
	// A node that refuses the image leaves the rest of the archive unread.
	reader.CloseWithError(io.ErrClosedPipe)
	if failed := <-written; failed != nil && err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	return nil
}
