package topology

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// The addresses of the translator: the server's IPv4 address behind the translator's prefix, that
// prefix, and the IPv4 addresses that it gives to IPv6 clients.
var (
	Translated      = netip.MustParseAddr("fd96::10.92.0.2")
	translatePrefix = netip.MustParsePrefix("fd96::/96")
	translatePool   = netip.MustParsePrefix("10.96.0.0/24")
)

// StartTranslator starts tayga(8) on the gateway, behind its tunnel: a stateless NAT64 in a
// process of its own, which the kernel routes packets to and from by an interface of its own.
func (n *Network) StartTranslator(ctx context.Context) error {
	conf, err := n.writeFile("tayga.conf", fmt.Appendf(nil, "tun-device %s\nipv4-addr %v\nprefix %v\ndynamic-pool %v\n",
		translateDevice, translatePool.Addr().Next(), translatePrefix, translatePool))
	if err != nil {
		return err
	}
	p, err := n.Start(Gateway, Spec{Argv: []string{"tayga", "-d", "-c", conf}})
	if err != nil {
		return err
	}
	n.translator = p
	l, err := n.awaitLink(ctx, translateDevice, p)
	if err != nil {
		return fmt.Errorf("start tayga: %w%s", err, p.logged())
	}
	if err := n.links[Gateway].LinkSetUp(l); err != nil {
		return fmt.Errorf("set tayga's interface up: %w", err)
	}
	return n.routeTo(Gateway, l, translatePrefix, translatePool)
}

// Translator is the process that StartTranslator has started, nil when there is none.
func (n *Network) Translator() *Process { return n.translator }

// awaitLink waits for the process to make an interface on the gateway.
func (n *Network) awaitLink(ctx context.Context, name string, p *Process) (netlink.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		l, err := n.links[Gateway].LinkByName(name)
		if err == nil {
			return l, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("ended at once: %v", p.err)
		case <-ctx.Done():
			return nil, fmt.Errorf("no interface %s within %v: %w", name, startTime, err)
		case <-time.After(pollEvery):
		}
	}
}

// routeTo has h send packets for networks to an interface.
func (n *Network) routeTo(h Host, l netlink.Link, nets ...netip.Prefix) error {
	for _, p := range nets {
		to := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := n.links[h].RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to}); err != nil {
			return fmt.Errorf("route %v through %s on %v: %w", p, l.Attrs().Name, h, err)
		}
	}
	return nil
}

const translateDevice = "nat64"
