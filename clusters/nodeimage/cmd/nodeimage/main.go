// Package main is the command behind `make engine` and `make node-image`.
//
// It reads flags, listens for signals and prints; the engine is package engine's, the image package recipe's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/engine"
	"github.com/rebound-chaos/rebound/clusters/nodeimage/recipe"
)

const usage = `usage: nodeimage [flags] engine   find a Docker that answers, or install and start one
       nodeimage [flags] image    find, pull or build a node image; its name is the last line printed

Run it from the directory of this module: the image is built from the sources there.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "nodeimage: interrupted; what was half made is gone, what was finished is kept")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "nodeimage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("nodeimage", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	state := flags.String("engine-state", "/var/lib/rebound/engine", "where a Docker started here keeps its log")
	from := flags.String("from", string(recipe.Auto), "where the image comes from: auto, pull or build")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if os.Getenv("ENGINE") == "skip" {
		fmt.Fprintln(os.Stderr, "nodeimage: ENGINE=skip, nothing to do")
		return nil
	}
	module, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the module's directory: %w", err)
	}
	switch flags.Arg(0) {
	case "engine":
		return engine.Ensure(ctx, engine.Options{Out: os.Stderr, StateDir: *state, BuildRuntime: runtimeBuilder(module)})
	case "image":
		return image(ctx, module, recipe.Source(*from))
	}
	flags.Usage()
	return fmt.Errorf("unknown command %q", flags.Arg(0))
}

// image prints the name of the node image to use, as the last line.
func image(ctx context.Context, module string, from recipe.Source) error {
	if from != recipe.Auto && from != recipe.Pull && from != recipe.Build {
		return fmt.Errorf("-from=%s: it is auto, pull or build", from)
	}
	cache, err := recipe.CacheDir()
	if err != nil {
		return err
	}
	name, err := recipe.Ensure(ctx, recipe.Options{Out: os.Stderr, Module: module, Cache: cache, From: from})
	if err != nil {
		return err
	}
	fmt.Println(name)
	return nil
}

// runtimeBuilder compiles our OCI runtime out of the module's directory.
func runtimeBuilder(module string) func(context.Context, string) error {
	return func(ctx context.Context, path string) error {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("make the path absolute: %w", err)
		}
		command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", absolute, "./cmd/rebound-oci")
		command.Dir = module
		command.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w: %s", err, out)
		}
		return nil
	}
}
