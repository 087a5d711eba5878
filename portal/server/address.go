package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxForwarded bounds the entries of X-Forwarded-For that are looked at, from the right: a chain of
// proxies that are all ours is short.
const maxForwarded = 32

// clientAddr is the address a request comes from: the TCP peer or, if that is one of our proxies, the
// last address in X-Forwarded-For that is not. What stands left of it was written by the client and
// may be a lie.
func (s *Server) clientAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	from := peer.Addr().Unmap().WithZone("")
	if !s.trusts(from) {
		return from
	}
	entries := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	slices.Reverse(entries)
	for _, e := range entries[:min(len(entries), maxForwarded)] {
		a, ok := forwarded(strings.TrimSpace(e))
		if !ok {
			return from
		}
		from = a
		if !s.trusts(a) {
			return a
		}
	}
	return from
}

// forwarded reads one entry: an address, which some proxies write with a port or in brackets.
func forwarded(e string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(e); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(e, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

func (s *Server) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(s.options.Proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}
