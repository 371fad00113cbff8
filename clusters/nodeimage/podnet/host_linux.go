package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeOwner marks our routes in the kernel's table (`ip route show proto 82`), so that none of another's is removed.
const routeOwner = 82

// Host is the network of the node that this process runs on.
type Host struct{}

// Routes lists our routes of both families.
func (Host) Routes() ([]Route, error) {
	filter := &netlink.Route{Protocol: routeOwner}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	var routes []Route
	for _, entry := range list {
		gateway, ok := netip.AddrFromSlice(entry.Gw)
		if entry.Dst == nil || !ok {
			continue
		}
		address, ok := netip.AddrFromSlice(entry.Dst.IP)
		if !ok {
			continue
		}
		bits, _ := entry.Dst.Mask.Size()
		routes = append(routes, Route{
			Destination: netip.PrefixFrom(address.Unmap(), bits), Gateway: gateway.Unmap(),
		})
	}
	return routes, nil
}

// Put sets the route, whatever was set for its destination before.
func (Host) Put(route Route) error {
	if err := netlink.RouteReplace(kernelRoute(route)); err != nil {
		return fmt.Errorf("set the route to %s via %s: %w", route.Destination, route.Gateway, err)
	}
	return nil
}

// Remove takes the route away; one that is gone already is no error.
func (Host) Remove(route Route) error {
	if err := netlink.RouteDel(kernelRoute(route)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove the route to %s: %w", route.Destination, err)
	}
	return nil
}

func kernelRoute(route Route) *netlink.Route {
	address := route.Destination.Addr()
	return &netlink.Route{
		Dst: &net.IPNet{
			IP: address.AsSlice(), Mask: net.CIDRMask(route.Destination.Bits(), address.BitLen()),
		},
		Gw: route.Gateway.AsSlice(), Protocol: routeOwner,
	}
}

// Masquerade makes sure that our table is there with its rules, and reports whether it had to be made. With renew it
// is made anew in any case.
func (Host) Masquerade(subnets []netip.Prefix, renew bool) (bool, error) {
	connection, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	if !renew {
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}
		rules, err := connection.GetRules(table, &nftables.Chain{Name: chainName, Table: table})
		if err == nil && len(rules) == len(masquerade(subnets)) {
			return false, nil
		}
	}
	addTable(connection, subnets)
	if err := connection.Flush(); err != nil {
		return false, fmt.Errorf("write the table %s: %w", TableName, err)
	}
	return true, nil
}

// MTU is that of the link which carries the first of these addresses that is this host's, and 0 if none is.
func (Host) MTU(addresses []netip.Addr) (int, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return 0, fmt.Errorf("list the links: %w", err)
	}
	for _, link := range links {
		held, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return 0, fmt.Errorf("list the addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, entry := range held {
			address, _ := netip.AddrFromSlice(entry.IP)
			for _, wanted := range addresses {
				if address.Unmap() == wanted {
					return link.Attrs().MTU, nil
				}
			}
		}
	}
	return 0, nil
}

// Lost sends a signal whenever the kernel drops one of our routes, as it does when a link goes down, until done is
// closed.
func (Host) Lost(done <-chan struct{}) (<-chan struct{}, error) {
	updates := make(chan netlink.RouteUpdate, 64)
	if err := netlink.RouteSubscribe(updates, done); err != nil {
		return nil, fmt.Errorf("watch the routes: %w", err)
	}
	lost := make(chan struct{}, 1)
	go func() {
		for update := range updates {
			if update.Type != unix.RTM_DELROUTE && update.Type != unix.RTM_NEWROUTE {
				continue
			}
			// A link that went down takes the routes with it and tells of the link's own routes only, so any
			// removal and any new connected route is a reason to look.
			if update.Protocol != routeOwner && update.Protocol != unix.RTPROT_KERNEL {
				continue
			}
			select {
			case lost <- struct{}{}:
			default: // a signal is waiting already
			}
		}
	}()
	return lost, nil
}
