package relay

import (
	"net/netip"
	"slices"
)

// PeerRules say which addresses no channel may lead to. The zero value refuses what only this
// host or its link can mean; whoever runs clients, gateways and relay on one host or link has to
// allow it.
type PeerRules struct {
	// AllowLoopback allows 127.0.0.0/8 and ::1.
	AllowLoopback bool
	// AllowLinkLocal allows 169.254.0.0/16 and fe80::/10. The former is where clouds keep the
	// credentials of their machines.
	AllowLinkLocal bool
	// DenyPrivate refuses 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 and fc00::/7.
	// Off by default: clients bind channels to every candidate of a peer, and relay and peer may
	// well share a private network.
	DenyPrivate bool
	// Deny refuses these too.
	Deny []netip.Prefix
}

var (
	sharedSpace  = netip.MustParsePrefix("100.64.0.0/10")
	thisNetwork  = netip.MustParsePrefix("0.0.0.0/8")
	reservedOld  = netip.MustParsePrefix("240.0.0.0/4") // with the broadcast address
	nat64        = netip.MustParsePrefix("64:ff9b::/96")
	lowestOfIPv6 = netip.MustParsePrefix("::/96") // unspecified, loopback, IPv4-compatible
)

// allows reports whether a channel may lead to peer. On an address of this host only ports of the
// relay's range are allowed: two clients of one relay talk through two allocations.
func (c *Config) allows(peer netip.AddrPort) bool {
	a := peer.Addr()
	if peer.Port() == 0 || a.Is4In6() {
		return false
	}
	if a == c.Public4 || a == c.Public6 || slices.Contains(c.Own, a) {
		return c.LowestPort <= peer.Port() && peer.Port() <= c.HighestPort
	}
	return c.Peers.allows(a)
}

func (r *PeerRules) allows(a netip.Addr) bool {
	if a.IsLoopback() {
		return r.AllowLoopback && !r.listed(a)
	}
	if a.IsLinkLocalUnicast() {
		return r.AllowLinkLocal && !r.listed(a)
	}
	if a.IsMulticast() || a.IsUnspecified() || thisNetwork.Contains(a) || reservedOld.Contains(a) || lowestOfIPv6.Contains(a) {
		return false
	}
	if r.DenyPrivate && (a.IsPrivate() || sharedSpace.Contains(a)) {
		return false
	}
	if nat64.Contains(a) {
		b := a.As16()
		return !r.listed(a) && r.allows(netip.AddrFrom4([4]byte(b[12:])))
	}
	return !r.listed(a)
}

func (r *PeerRules) listed(a netip.Addr) bool {
	return slices.ContainsFunc(r.Deny, func(p netip.Prefix) bool { return p.Contains(a) })
}
