package podnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	settle     = 100 * time.Millisecond // several nodes change at once when a cluster starts: act once
	retryAfter = 2 * time.Second        // after a failure
	lookAgain  = 30 * time.Second       // in case the kernel's state changed and nobody told
)

// Daemon keeps the pod network of one node in order.
type Daemon struct {
	NodeName string
	Subnets  []netip.Prefix
	ConfDir  string
	Host     Host
	Log      *slog.Logger

	tableMade bool
}

// Run watches the nodes and reconciles until the context ends.
func (d *Daemon) Run(ctx context.Context, client typed.CoreV1Interface) error {
	changed := make(chan struct{}, 1)
	signal := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client.RESTClient(), "nodes", "", fields.Everything()),
		ObjectType:    &corev1.Node{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { signal() },
			UpdateFunc: func(old, updated any) {
				if relevant(old, updated) {
					signal()
				}
			},
			DeleteFunc: func(any) { signal() },
		},
	})
	lost, err := d.Host.Lost(ctx.Done())
	if err != nil {
		return err
	}
	go informer.RunWithContext(ctx)
	d.Log.Info("waiting for the list of nodes")
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
			timer.Reset(settle)
		case <-lost:
			timer.Reset(settle)
		case <-timer.C:
			next := lookAgain
			if err := d.reconcile(store.List()); err != nil {
				d.Log.Error("not in order yet", "error", err, "retry in", retryAfter)
				next = retryAfter
			}
			timer.Reset(next)
		}
	}
}

// relevant keeps heartbeats from causing work: only addresses and ranges matter.
func relevant(old, updated any) bool {
	before, isNode := old.(*corev1.Node)
	after, isNodeToo := updated.(*corev1.Node)
	if !isNode || !isNodeToo {
		return true
	}
	a, errA := FromAPI(before)
	b, errB := FromAPI(after)
	return errors.Join(errA, errB) != nil || fmt.Sprint(a) != fmt.Sprint(b)
}

// reconcile brings table, routes and configuration in line with the nodes. The configuration comes last: it is what
// lets pods start, and what readiness reports.
func (d *Daemon) reconcile(objects []any) error {
	nodes, self, problems := d.read(objects)
	made, err := d.Host.Masquerade(d.Subnets, !d.tableMade)
	if err != nil {
		return errors.Join(problems, err)
	}
	d.tableMade = true
	if made {
		d.Log.Info("wrote the nftables table", "table", TableName, "subnets", d.Subnets)
	}
	if err := d.route(Routes(d.NodeName, nodes)); err != nil {
		return errors.Join(problems, err)
	}
	if self == nil {
		return errors.Join(problems, fmt.Errorf("the API does not know this node, %s", d.NodeName))
	}
	mtu, err := d.Host.MTU(self.Addresses)
	if err != nil {
		return errors.Join(problems, err)
	}
	text, err := Conf(self.PodRanges, mtu)
	if err != nil {
		return errors.Join(problems, err)
	}
	written, err := WriteConf(d.ConfDir, text)
	if err != nil {
		return errors.Join(problems, err)
	}
	if written {
		d.Log.Info("wrote the CNI configuration", "pod ranges", self.PodRanges, "mtu", mtu)
	}
	return problems
}

func (d *Daemon) read(objects []any) (nodes []Node, self *Node, problems error) {
	for _, entry := range objects {
		node, isNode := entry.(*corev1.Node)
		if !isNode {
			continue
		}
		read, err := FromAPI(node)
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		nodes = append(nodes, read)
		if read.Name == d.NodeName {
			self = &read
		}
	}
	return nodes, self, problems
}

func (d *Daemon) route(want []Route) error {
	have, err := d.Host.Routes()
	if err != nil {
		return err
	}
	var problems error
	put, remove := Changes(have, want)
	for _, route := range put {
		err := d.Host.Put(route)
		if err == nil {
			d.Log.Info("set a route", "to", route.Destination, "via", route.Gateway)
		}
		problems = errors.Join(problems, err)
	}
	for _, route := range remove {
		err := d.Host.Remove(route)
		if err == nil {
			d.Log.Info("removed a route", "to", route.Destination)
		}
		problems = errors.Join(problems, err)
	}
	return problems
}
