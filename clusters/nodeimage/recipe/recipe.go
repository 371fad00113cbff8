// Package recipe gets a node image for kind: it pulls kind's own where there is a registry, and builds one from
// pinned sources where there is none.
//
// It expects a Docker that answers (package engine). Making clusters from the image is left to others; they find it
// by its label.
package recipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/apt"
)

// Label is on every node image that was built here; its value is the hash of what the image was built from.
const Label = "dev.rebound.node-image"

// repository is the name of our images. It is no registry: nothing is ever pulled from it.
const repository = "rebound.local/node"

// version is raised when the way of building changes the image and no source file shows it.
const version = "1"

// Source says where an image may come from.
type Source string

// The sources.
const (
	Auto  Source = "auto"  // pull, and build where that does not work
	Pull  Source = "pull"  // pull or fail
	Build Source = "build" // build, whether or not one can be pulled
)

// Options are what Ensure needs to know about its surroundings.
type Options struct {
	// Out gets the progress.
	Out io.Writer
	// Module is the directory of this module, with the sources that the image is built from.
	Module string
	// Cache keeps finished steps and logs.
	Cache string
	// From says where the image may come from.
	From Source
}

// Ensure returns the name of a node image that is on this machine.
func Ensure(ctx context.Context, options Options) (string, error) {
	pins, err := readPins(options.Module)
	if err != nil {
		return "", err
	}
	release, _ := apt.ReadRelease("/") // one that can't be read can't be built on; the build says so
	hash, err := inputs(options.Module, runtime.GOARCH, release.Codename)
	if err != nil {
		return "", err
	}
	image := fmt.Sprintf("%s:%s-%s", repository, pins.kubernetes, hash[:12])
	if options.From != Pull && label(ctx, image) == hash {
		fmt.Fprintf(options.Out, "node image: %s is here\n", image)
		return image, nil
	}
	if options.From != Build {
		err := pull(ctx, options.Out, defaults.Image)
		if err == nil {
			return defaults.Image, nil
		}
		if options.From == Pull || ctx.Err() != nil {
			return "", err
		}
		fmt.Fprintf(options.Out, "node image: kind's own can't be had (%v); building one from source\n", err)
	}
	b := &build{options: options, pins: pins, hash: hash, image: image, release: release}
	if err := b.run(ctx); err != nil {
		return "", err
	}
	return image, nil
}

// label is the value of our label on the image, and empty where image or label is not there.
func label(ctx context.Context, image string) string {
	out, err := output(ctx, "docker", "image", "inspect", "--format", `{{index .Config.Labels "`+Label+`"}}`, image)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// CacheDir is where finished steps are kept unless somebody says otherwise.
func CacheDir() (string, error) {
	root := os.Getenv("REBOUND_CACHE")
	if root == "" {
		var err error
		if root, err = os.UserCacheDir(); err != nil { // XDG_CACHE_HOME, or ~/.cache
			return "", fmt.Errorf("find a cache directory: %w (REBOUND_CACHE names one)", err)
		}
	}
	if !filepath.IsAbs(root) {
		return "", errors.New("REBOUND_CACHE must be an absolute path")
	}
	return filepath.Join(root, "rebound", "nodeimage"), nil
}
