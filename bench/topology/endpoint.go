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

// Singly makes packets that h, Client or Server, hands over in trains (UDP_SEGMENT) reach the
// gateway one by one, as from a network: its kernel cuts them up (gso_max_segs). To send them
// one by one would have the same outcome for twice the sender's CPU. undo ends that.
func (n *Network) Singly(h Host) (undo func() error, err error) {
	l, err := n.links[h].LinkByName("to-" + Gateway.String())
	if err != nil {
		return nil, err
	}
	if err := n.links[h].LinkSetGSOMaxSegs(l, 1); err != nil {
		return nil, fmt.Errorf("have %v's kernel cut up trains: %w", h, err)
	}
	return func() error { return n.links[h].LinkSetGSOMaxSegs(l, int(l.Attrs().GSOMaxSegs)) }, nil
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
