package fib

import (
	"net/netip"

	"github.com/firelane/firelane/packet"
)

// MaxGrants bounds the grants, MaxNames the proxy addresses of one client. A client of an account
// with ten thousand resources may hold all of them; 4,096 names of eight proxy addresses each are more
// than a client meets in a day under a wide pattern.
const (
	MaxGrants = 1 << 14
	MaxNames  = 1 << 15
)

// NewPolicy compiles a policy. The result shares no memory with spec.
func NewPolicy(spec PolicySpec) *Policy {
	p := &Policy{
		client:     addrPair{spec.Client4, spec.Client6},
		gateway:    addrPair{spec.Gateway4, spec.Gateway6},
		internet:   spec.Internet,
		internet64: spec.Internet && !spec.InternetNoTranslate,
		stateless:  spec.Stateless,
		fragments:  spec.Fragments,
		epoch:      spec.Epoch,
	}
	p.zones.add(zoneTunnel, rangesOr(spec.TunnelRanges, TunnelRange4, TunnelRange6))
	p.zones.add(zoneProxy, rangesOr(spec.ProxyRanges, ProxyRange4, ProxyRange6))
	if x, err := packet.NewPrefix64(spec.Prefix64); err == nil {
		p.prefix64, p.translates = x, true
	}
	for _, g := range spec.Grants[:min(len(spec.Grants), MaxGrants)] {
		p.grant(g)
	}
	for _, n := range spec.Names[:min(len(spec.Names), MaxNames)] {
		p.name(n)
	}
	p.flatten()
	return p
}

func rangesOr(given []netip.Prefix, defaults ...netip.Prefix) []netip.Prefix {
	if len(given) == 0 {
		return defaults
	}
	return given
}

// grant adds what a grant permits to its prefix.
func (p *Policy) grant(g Grant) {
	if !g.Prefix.IsValid() {
		return
	}
	r := p.at(g.Prefix)
	r.rules.add(g.Filters)
	if p.translates && !g.NoTranslate {
		if r.embedded == nil {
			r.embedded = new(rules)
		}
		r.embedded.add(g.Filters)
	}
}

// name adds a proxy address.
func (p *Policy) name(n Name) {
	if len(n.Lists) == 0 || p.zones.of(n.Proxy) != zoneProxy {
		return
	}
	r := p.at(netip.PrefixFrom(n.Proxy, n.Proxy.BitLen()))
	for _, list := range n.Lists {
		r.rules.add(list)
	}
	if p.usable(n) {
		r.real = n.Real
	}
}

// usable reports whether packets to a name may go to its real address. Whoever answers for the
// name's zone chooses that address, so it must not lead to another client, back to a name, or to
// the gateway's own loopback.
func (p *Policy) usable(n Name) bool {
	a := n.Real
	switch {
	case !a.IsValid(), a.Is4In6(), a.IsUnspecified(), a.IsLoopback(), a.IsMulticast():
		return false
	case p.zones.of(a) != zoneOther, p.gateway.has(a):
		return false
	case a.Is4() == n.Proxy.Is4():
		return true
	}
	return !n.NoTranslate && p.Addr(a.Is6()).IsValid()
}

// at returns the entry of a prefix, which is made if there is none. Its rules are still its own.
func (p *Policy) at(prefix netip.Prefix) *reach {
	prefix = prefix.Masked()
	if r, ok := p.table.Get(prefix); ok {
		return r
	}
	r := &reach{rules: new(rules)}
	p.table.Insert(prefix, r)
	return r
}

// flatten gives each prefix, beside its own rules, those of all prefixes around it, so that one
// look-up of the longest finds the rules of all. Sorted, a prefix comes after those around it.
func (p *Policy) flatten() {
	type around struct {
		prefix netip.Prefix
		reach  *reach
	}
	var stack []around
	c := compiler{made: make(map[string]*rules), room: maxFlatRanges}
	for prefix, r := range p.table.AllSorted() {
		for len(stack) > 0 && !stack[len(stack)-1].prefix.Contains(prefix.Addr()) {
			stack = stack[:len(stack)-1]
		}
		var outer reach
		if len(stack) > 0 {
			outer = *stack[len(stack)-1].reach
		}
		r.rules = c.joined(r.rules, outer.rules)
		if r.embedded == nil {
			r.embedded = outer.embedded
		} else {
			r.embedded = c.joined(r.embedded, outer.embedded)
		}
		stack = append(stack, around{prefix, r})
	}
}
