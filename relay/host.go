package relay

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is what this host is, as the kernel sees it.
type host struct {
	addrs []netip.Addr   // of its interfaces, sorted
	local []netip.Prefix // what ends here, addrs among it; see localTo
}

func (h *host) equal(other *host) bool {
	return slices.Equal(h.addrs, other.addrs) && slices.Equal(h.local, other.local)
}

// seeHost reads the addresses and the local routes of this host.
func seeHost() (*host, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read this host's addresses: %w", err)
	}
	h := new(host)
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue // an address of no kind that we serve
		}
		a := p.Addr().Unmap()
		h.addrs = append(h.addrs, a)
		h.local = append(h.local, netip.PrefixFrom(a, a.BitLen()))
		if hasRouters(p) {
			h.local = append(h.local, netip.PrefixFrom(p.Masked().Addr(), a.BitLen()))
		}
	}
	slices.SortFunc(h.addrs, netip.Addr.Compare)
	routes, err := localRoutes(h.addrs)
	if err != nil {
		return nil, err
	}
	h.local = disjoint(append(h.local, routes...))
	return h, nil
}

// hasRouters reports whether the first address of an interface's network may be the host's, too:
// that of all routers of the network in IPv6 (RFC 4291 section 2.6.1), a broadcast address of old
// in IPv4. It is an ordinary one where there are only two (RFC 6164, RFC 3021).
func hasRouters(p netip.Prefix) bool { return p.Bits() < p.Addr().BitLen()-1 }

// localRoutes returns the destinations that the kernel keeps for itself by its local table: besides
// the addresses of interfaces those for broadcast and anycast, and whole networks that somebody
// routed here. A family in which the host has no addresses may be missing in the kernel.
func localRoutes(addrs []netip.Addr) (all []netip.Prefix, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("read this host's local routes: %w", err)
	}
	defer h.Close()
	_ = h.SetStrictCheck(true) // the kernel then leaves out other tables, which may be large
	table := &netlink.Route{Table: unix.RT_TABLE_LOCAL}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteListFiltered(family, table, netlink.RT_FILTER_TABLE)
		if err != nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is4() == (family == netlink.FAMILY_V4) }) {
			return nil, fmt.Errorf("read this host's local routes: %w", err)
		}
		for i := range routes {
			if p, ok := endsHere(&routes[i]); ok {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// endsHere returns the destination of a route whose packets go no further than this host.
func endsHere(r *netlink.Route) (p netip.Prefix, ok bool) {
	if r.Type != unix.RTN_LOCAL && r.Type != unix.RTN_BROADCAST && r.Type != unix.RTN_ANYCAST || r.Dst == nil {
		return p, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, size := r.Dst.Mask.Size()
	if !ok || size == 0 {
		return p, false
	}
	if size == 32 {
		a = a.Unmap()
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}

// disjoint sorts prefixes, masks them and leaves out what others contain.
func disjoint(all []netip.Prefix) (out []netip.Prefix) {
	for i := range all {
		all[i] = all[i].Masked()
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, p := range all {
		if n := len(out); n == 0 || !out[n-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// localTo reports whether one of the prefixes, which disjoint returned, contains a.
func localTo(prefixes []netip.Prefix, a netip.Addr) bool {
	n, found := slices.BinarySearchFunc(prefixes, a, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return found || n > 0 && prefixes[n-1].Contains(a)
}
