package topology

import (
	"fmt"
	"net/netip"
)

// Endpoint is what a program on the client needs to be a peer of the gateway all by itself,
// without a tunnel process and beside the one that may run there: it speaks WireGuard on a
// socket of its own.
type Endpoint struct {
	// Key is its private key, GatewayKey the gateway's public one, both in the base64 of wg(8).
	Key, GatewayKey string
	// Local is where the gateway expects it and Gateway where the gateway listens. The
	// gateway need not learn either.
	Local, Gateway netip.AddrPort
}

// Endpoint is the gateway's peer at EndpointInner.
func (n *Network) Endpoint() Endpoint {
	return Endpoint{
		Key: n.endpoint.private, GatewayKey: n.keys[Gateway].public,
		Local: n.at(ClientOuter, endpointPort), Gateway: n.at(GatewayOuter, port(Gateway)),
	}
}

// Segmented makes packets that the client sends to the gateway as trains arrive one by one, as
// from a network: the client's kernel cuts them up (net_device's gso_max_segs). Sending them one by one
// would have the same outcome for several times the CPU.
func (n *Network) Segmented(on bool) error {
	l, err := n.links[Client].LinkByName("to-" + Gateway.String())
	if err != nil {
		return err
	}
	segments := gsoMaxSegs
	if on {
		segments = 1
	}
	if err := n.links[Client].LinkSetGSOMaxSegs(l, segments); err != nil {
		return fmt.Errorf("limit segments of the client's trains: %w", err)
	}
	return nil
}

// at is the port at the address of the family that tunnels use.
func (n *Network) at(a Addr, port uint16) netip.AddrPort {
	if n.cfg.Outer6 {
		return netip.AddrPortFrom(a.V6.Addr(), port)
	}
	return netip.AddrPortFrom(a.V4.Addr(), port)
}

// endpointPort follows the ports of the tunnels.
const endpointPort = 51820 + uint16(hosts)

// gsoMaxSegs is the kernel's default (GSO_MAX_SEGS).
const gsoMaxSegs = 65535
