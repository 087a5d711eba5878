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
	// DenyPrivate refuses 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 and fc00::/7,
	// but no public address of the relay, as Deny.
	// Off by default: clients bind channels to every candidate of a peer, and relay and peer may
	// well share a private network.
	DenyPrivate bool
	// AllowOwn allows any port of this host's addresses, but for the public ones and the relay's
	// listening port.
	AllowOwn bool
	// Deny refuses these too, other addresses of this host included. The public ones lead to
	// allocations whatever it says: this is how two clients of one relay meet, and no way to
	// anything else.
	Deny []netip.Prefix
}

var (
	sharedSpace  = netip.MustParsePrefix("100.64.0.0/10")
	thisNetwork  = netip.MustParsePrefix("0.0.0.0/8")
	reservedOld  = netip.MustParsePrefix("240.0.0.0/4") // with the broadcast address
	siteLocal    = netip.MustParsePrefix("fec0::/10")   // deprecated by RFC 3879
	lowestOfIPv6 = netip.MustParsePrefix("::/96")       // unspecified, loopback, IPv4-compatible

	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
)

// reach says how far a channel to a peer leads.
type reach uint32

// From the freest to none.
const (
	// toAnyone: whatever answers there.
	toAnyone reach = iota
	// toAllocations4 and toAllocations6: the peer's address is one of this host, of IPv4 or IPv6.
	// Only while its port is that of an allocation of the family does the channel carry data: two
	// clients of one relay talk through two allocations, but the port of one that is gone may be
	// another program's tomorrow, and that of one in the other family may be today.
	toAllocations4
	toAllocations6
	// toNobody: refused.
	toNobody
)

// reach returns how far a channel to peer leads. An IPv6 address that a translator or tunnel turns
// into one of IPv4 leads no further than that one.
func (s *Server) reach(peer netip.AddrPort) reach {
	a := peer.Addr()
	switch {
	case peer.Port() == 0 || a.Is4In6(), s.isListening(peer):
		return toNobody
	case a == s.cfg.Public4 || a == s.cfg.Public6:
		return toAllocations(a)
	case !s.cfg.Peers.allows(a):
		return toNobody
	case s.isOwn(a) && !s.cfg.Peers.AllowOwn && !a.IsLoopback() && !a.IsLinkLocalUnicast():
		if !s.bindsTo(a) {
			return toNobody
		}
		return toAllocations(a)
	}
	inner, is := embedded(a)
	if is && !slices.ContainsFunc(inner[:], netip.Addr.IsValid) {
		return toNobody
	}
	far := toAnyone
	for _, v4 := range inner {
		if v4.IsValid() {
			far = max(far, s.reach(netip.AddrPortFrom(v4, peer.Port())))
		}
	}
	return far
}

// toAllocations is how far a channel leads to an address of this host.
func toAllocations(a netip.Addr) reach {
	if a.Is4() {
		return toAllocations4
	}
	return toAllocations6
}

// isOwn reports whether an address is this host's, the public ones apart.
func (s *Server) isOwn(a netip.Addr) bool { return localTo(s.own, a) || a.IsLoopback() }

// bindsTo reports whether allocations are bound to an address of this host.
func (s *Server) bindsTo(a netip.Addr) bool {
	bind := s.cfg.Bind6
	if a.Is4() {
		bind = s.cfg.Bind4
	}
	return !bind.IsValid() || bind == a
}

// isListening reports whether peer is the relay's own listening port, at any address of this host.
func (s *Server) isListening(peer netip.AddrPort) bool {
	a := peer.Addr().Unmap()
	return s.port != 0 && peer.Port() == s.port && (a == s.cfg.Public4 || a == s.cfg.Public6 || s.isOwn(a))
}

// SetHost says what this host is: the addresses and networks whose packets end at it, where clients
// shall reach nothing but allocated ports, and the relay's listening port, which they shall reach at
// none of them. To be called before the first request and whenever the addresses have changed;
// channels that exist obey from then on. own is kept and sorted.
func (s *Server) SetHost(own []netip.Prefix, port uint16) {
	s.own, s.port = disjoint(own), port
	for _, l := range s.leases {
		for _, b := range l.byNumber {
			b.channel.reach.Store(uint32(s.reach(b.channel.Peer)))
		}
	}
}

// embedded returns the IPv4 addresses that an IPv6 address may stand for, and whether it is of a
// kind that stands for one. In the prefix for local translation only its operator knows which of
// the layouts of RFC 6052 section 2.2 is in use; one that comes to 0.0.0.0/8, which no translator
// sends to, is left out.
func embedded(a netip.Addr) (all [4]netip.Addr, is bool) {
	if !a.Is6() {
		return all, false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a), translated.Contains(a):
		all[0] = netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(a):
		all[0] = netip.AddrFrom4([4]byte(b[2:]))
	case nat64Local.Contains(a):
		for i, v4 := range [4][4]byte{
			{b[6], b[7], b[9], b[10]},   // a prefix of 48 bits
			{b[7], b[9], b[10], b[11]},  // 56
			{b[9], b[10], b[11], b[12]}, // 64
			[4]byte(b[12:]),             // 96
		} {
			if v4[0] != 0 {
				all[i] = netip.AddrFrom4(v4)
			}
		}
	default:
		return all, false
	}
	return all, true
}

func (r *PeerRules) allows(a netip.Addr) bool {
	if a.IsLoopback() {
		return r.AllowLoopback && !r.listed(a)
	}
	if a.IsLinkLocalUnicast() {
		return r.AllowLinkLocal && !r.listed(a)
	}
	if a.IsMulticast() || a.IsUnspecified() || thisNetwork.Contains(a) || reservedOld.Contains(a) ||
		lowestOfIPv6.Contains(a) || siteLocal.Contains(a) {
		return false
	}
	if r.DenyPrivate && (a.IsPrivate() || sharedSpace.Contains(a)) {
		return false
	}
	return !r.listed(a)
}

func (r *PeerRules) listed(a netip.Addr) bool {
	return slices.ContainsFunc(r.Deny, func(p netip.Prefix) bool { return p.Contains(a) })
}
