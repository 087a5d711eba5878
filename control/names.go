package control

import (
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/dns"
	"github.com/firelane/firelane/fib"
)

// Assignment is a client's announcement of the proxy addresses it invented for a name, with what
// the name was found to stand for.
type Assignment struct {
	Resource ResourceID
	// Domain is the name, without a final dot.
	Domain string
	// Proxies are the client's; Resolved the resource's. In any order, of either family.
	Proxies, Resolved []netip.Addr
}

// NameStatus is the answer to an announcement.
type NameStatus bool

// The answers, as they are spelled in the client's protocol.
const (
	Active   NameStatus = true
	Inactive NameStatus = false
)

// String returns the status as the client's protocol spells it.
func (s NameStatus) String() string {
	if s {
		return "Active"
	}
	return "Inactive"
}

// maxProxies bounds the proxy addresses of one announcement: clients send four of either family.
// maxResolved bounds what a name may stand for; answers with more do not fit a DNS message.
// maxSharing bounds the resources that share a name.
const (
	maxProxies  = 8
	maxResolved = 1024
	maxSharing  = 16
)

// proxyName is what a proxy address stands for. It outlives the authorization of its resources,
// so that they find it again when they are authorized anew.
type proxyName struct {
	domain    string
	resources []ResourceID
	real      netip.Addr // of either family; the zero Addr for none
}

// MayAssign reports whether a name may be resolved for a client: its resource is authorized, is a
// DNS resource and matches the name.
func (g *Grants) MayAssign(id ResourceID, domain string) bool {
	r := g.resources[id]
	return r != nil && r.Kind == KindDNS && r.Pattern.Match(domain)
}

// AssignNames gives proxy addresses their meaning. A client that gives one of them another meaning
// than it had was started anew and has numbered its names from the beginning: all it announced
// before, and the NAT flows, are dropped, whether the announcement itself is valid or not.
//
// The i-th proxy address of a family, sorted, leads to the resolved address i mod n of the same
// family. Of a family without any it leads to those of the other family in the same way, if
// translation is on.
//
// Beyond the checks of the protocol, an announcement is refused for proxy addresses outside the
// proxy ranges, which would lead around the policy for what they really are, and at the bounds of
// its size.
func (g *Grants) AssignNames(a Assignment, now time.Time) NameStatus {
	g.now = now
	domain := dns.Canonical(a.Domain)
	proxies := sorted(a.Proxies)
	if len(domain) > dns.MaxName || len(proxies) > maxProxies || slices.ContainsFunc(proxies, g.notProxy) {
		return Inactive
	}
	g.renumbered(domain, proxies)
	if !g.MayAssign(a.Resource, domain) || !g.room(a.Resource, proxies) {
		return Inactive
	}
	resolved := sorted(a.Resolved)
	resolved = resolved[:min(len(resolved), maxResolved)]
	for _, v6 := range []bool{false, true} {
		own, other := family(resolved, v6), family(resolved, !v6)
		if len(own) == 0 {
			own = other
		}
		for i, proxy := range family(proxies, v6) {
			real := netip.Addr{}
			if len(own) > 0 {
				real = own[i%len(own)]
			}
			g.assign(proxy, domain, a.Resource, real)
		}
	}
	return Active
}

func (g *Grants) notProxy(a netip.Addr) bool { return !g.cfg.Base.IsProxy(a) }

// renumbered drops all names if one of the proxy addresses has another name.
func (g *Grants) renumbered(domain string, proxies []netip.Addr) {
	for _, proxy := range proxies {
		if n := g.names[proxy]; n != nil && n.domain != domain {
			clear(g.names)
			g.cfg.Epoch++
			g.dirty, g.reset = true, true
			return
		}
	}
}

// room reports whether there is room for the names of an announcement, and makes it from names
// whose resources are gone.
func (g *Grants) room(id ResourceID, proxies []netip.Addr) bool {
	added := 0
	for _, proxy := range proxies {
		n := g.names[proxy]
		if n == nil {
			added++
			continue
		}
		if len(n.resources) >= maxSharing && !slices.Contains(n.resources, id) {
			n.resources = slices.DeleteFunc(n.resources, func(id ResourceID) bool { return g.resources[id] == nil })
			if len(n.resources) >= maxSharing {
				return false
			}
		}
	}
	if len(g.names)+added <= fib.MaxNames {
		return true
	}
	for proxy, n := range g.names {
		if !slices.ContainsFunc(n.resources, func(id ResourceID) bool { return g.resources[id] != nil }) {
			delete(g.names, proxy)
		}
	}
	return len(g.names)+len(proxies) <= fib.MaxNames
}

// assign gives one proxy address its meaning. Flows that exist keep the real address they have.
func (g *Grants) assign(proxy netip.Addr, domain string, id ResourceID, real netip.Addr) {
	n := g.names[proxy]
	if n == nil {
		n = &proxyName{domain: domain}
		g.names[proxy] = n
		g.dirty = true
	}
	if n.real != real {
		n.real = real
		g.dirty = true
	}
	if !slices.Contains(n.resources, id) {
		n.resources = append(n.resources, id)
		g.dirty = true
	}
}

// sorted returns a sorted copy without duplicates.
func sorted(addrs []netip.Addr) []netip.Addr {
	s := slices.Clone(addrs)
	slices.SortFunc(s, netip.Addr.Compare)
	return slices.Compact(s)
}

// family returns those of sorted addresses that are of one family, still sorted.
func family(addrs []netip.Addr, v6 bool) (of []netip.Addr) {
	for _, a := range addrs {
		if a.Is4() == !v6 {
			of = append(of, a)
		}
	}
	return of
}
