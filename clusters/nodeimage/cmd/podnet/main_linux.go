// Package main runs the pod network's daemon on a node; `podnet ready` tells whether it has done its work.
//
// It reads its settings from the environment that the DaemonSet sets, and leaves the work to package podnet.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/rebound-chaos/rebound/clusters/nodeimage/podnet"
)

const confDir = "/etc/cni/net.d"

func main() {
	if len(os.Args) == 2 && os.Args[1] == "ready" {
		if _, err := os.Stat(filepath.Join(confDir, podnet.ConfName)); err != nil {
			fmt.Fprintln(os.Stderr, "podnet: the CNI configuration is not written yet")
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, log); err != nil && !errors.Is(err, context.Canceled) {
		log.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger) error {
	subnets, err := podnet.ParseSubnets(os.Getenv("POD_SUBNET"))
	if err != nil {
		return err
	}
	name := os.Getenv("NODE_NAME")
	if name == "" {
		return errors.New("NODE_NAME is not set")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the API: %w", err)
	}
	// The service address works only once kube-proxy does; kind names the server itself.
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	client, err := typed.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	log.Info("starting", "node", name, "pod subnets", subnets, "server", config.Host)
	daemon := &podnet.Daemon{NodeName: name, Subnets: subnets, ConfDir: confDir, Log: log}
	return daemon.Run(ctx, client)
}
