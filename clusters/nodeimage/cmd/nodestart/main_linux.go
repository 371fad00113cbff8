// Package main is the first process of a node: it fits the node's files to the host and becomes the command that its
// arguments name, which is kind's entrypoint.
package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/capability"
	"github.com/rebound-chaos/rebound/clusters/nodeimage/nodestart"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "nodestart:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("no command to become")
	}
	bounding, err := capability.Bounding()
	if err != nil {
		return err
	}
	changed, err := nodestart.Adapt("/", bounding)
	if err != nil {
		return err
	}
	for _, path := range changed {
		fmt.Fprintln(os.Stderr, "nodestart: fitted to this host:", path)
	}
	if err := syscall.Exec(os.Args[1], os.Args[1:], os.Environ()); err != nil {
		return fmt.Errorf("become %s: %w", os.Args[1], err)
	}
	return nil
}
