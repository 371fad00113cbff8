package recipe

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// rootArchive is an image of one uncompressed layer in the format that `docker load` reads. The library that writes
// the small images compresses every layer, which for a whole node takes longer than all the rest of the step.
type rootArchive struct {
	layer     string // path of the layer
	sizeBytes int64
	digest    string // of the layer, in hex
	config    v1.Config
	image     string
}

// newRootArchive writes the layer to path.
func newRootArchive(path, image string, config v1.Config, write func(*layer) error) (result rootArchive, err error) {
	file, err := os.Create(path)
	if err != nil {
		return rootArchive{}, fmt.Errorf("make the node's layer: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	l := newLayer(io.MultiWriter(file, sum))
	if err := errors.Join(write(l), l.close()); err != nil {
		return rootArchive{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return rootArchive{}, fmt.Errorf("measure the node's layer: %w", err)
	}
	return rootArchive{
		layer: path, sizeBytes: info.Size(), digest: hex.EncodeToString(sum.Sum(nil)), config: config, image: image,
	}, nil
}

// writeTo writes the whole archive.
func (a rootArchive) writeTo(out io.Writer) error {
	config, err := json.Marshal(v1.ConfigFile{
		OS: "linux", Architecture: architecture(), Config: a.config, Created: v1.Time{Time: time.Now()},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{{Algorithm: "sha256", Hex: a.digest}}},
	})
	if err != nil {
		return fmt.Errorf("encode the image's configuration: %w", err)
	}
	sum := sha256.Sum256(config)
	configName, layerName := hex.EncodeToString(sum[:])+".json", a.digest+"/layer.tar"
	manifest, err := json.Marshal([]map[string]any{
		{"Config": configName, "RepoTags": []string{a.image}, "Layers": []string{layerName}},
	})
	if err != nil {
		return fmt.Errorf("encode the image's manifest: %w", err)
	}
	layer, err := os.Open(a.layer)
	if err != nil {
		return fmt.Errorf("open the node's layer: %w", err)
	}
	defer layer.Close()
	archive := tar.NewWriter(out)
	for _, part := range []struct {
		name      string
		sizeBytes int64
		content   io.Reader
	}{
		{configName, int64(len(config)), bytes.NewReader(config)},
		{layerName, a.sizeBytes, layer},
		{"manifest.json", int64(len(manifest)), bytes.NewReader(manifest)},
	} {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: part.name, Mode: 0o644, Size: part.sizeBytes}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s: %w", part.name, err)
		}
		if _, err := io.Copy(archive, part.content); err != nil {
			return fmt.Errorf("write %s: %w", part.name, err)
		}
	}
	return archive.Close()
}
