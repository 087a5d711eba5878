package control

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// PolicyBase is what the policies of all clients of a gateway have in common.
type PolicyBase struct {
	// Gateway4 and Gateway6 are our own tunnel addresses; the zero Addr for none of a family.
	Gateway4, Gateway6 netip.Addr
	// TunnelRanges and ProxyRanges replace those of the address plan; empty for these.
	TunnelRanges, ProxyRanges []netip.Prefix
	// Prefix64 is the NAT64 prefix; the zero Prefix for none.
	Prefix64 netip.Prefix
	// Stateless and Fragments are as in fib.PolicySpec.
	Stateless, Fragments bool
}

// ClientPolicy is all that one client may do, where a file says so instead of a portal.
type ClientPolicy struct {
	PublicKey wireguard.PublicKey
	// Addr4 and Addr6 are the client's tunnel addresses; the zero Addr for none of a family.
	Addr4, Addr6 netip.Addr
	Resources    []Resource
	Names        []Assignment
}

// PolicySet is what a policy file holds.
type PolicySet struct {
	Base    PolicyBase
	Clients []ClientPolicy
}

// MaxResources bounds the resources of one client, MaxFilters the filter list of one resource.
// The portal makes one filter of each range that a person has typed.
const (
	MaxResources = fib.MaxGrants
	MaxFilters   = 128
)

// maxRanges bounds the tunnel and the proxy ranges: each is compared with every packet.
const maxRanges = 8

// Check reports what is wrong with the base, as an error that wraps ErrConfig.
func (b *PolicyBase) Check() error {
	if err := b.checkRanges(); err != nil {
		return err
	}
	if b.Prefix64.IsValid() {
		if _, err := packet.NewPrefix64(b.Prefix64); err != nil {
			return configError("NAT64 prefix: %w", err)
		}
		for _, p := range slices.Concat(b.tunnelRanges(), b.proxyRanges()) {
			if p.Overlaps(b.Prefix64) {
				return configError("NAT64 prefix %v overlaps %v, which holds the addresses of clients or names", b.Prefix64, p)
			}
		}
	} else if b.Stateless {
		return configError("stateless translation needs a NAT64 prefix")
	}
	return b.checkAddrs("gateway", b.Gateway4, b.Gateway6)
}

func (b *PolicyBase) checkRanges() error {
	tunnel, proxy := b.tunnelRanges(), b.proxyRanges()
	if len(tunnel) > maxRanges || len(proxy) > maxRanges {
		return configError("more than %d tunnel or proxy ranges", maxRanges)
	}
	for _, p := range slices.Concat(tunnel, proxy) {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return configError("range %v is not a network of IPv4 or IPv6", p)
		}
	}
	for _, p := range tunnel {
		for _, q := range proxy {
			if p.Overlaps(q) {
				return configError("tunnel range %v and proxy range %v overlap", p, q)
			}
		}
	}
	return nil
}

// checkAddrs checks tunnel addresses: each of its family, and in a tunnel range.
func (b *PolicyBase) checkAddrs(whose string, v4, v6 netip.Addr) error {
	for _, a := range []netip.Addr{v4, v6} {
		if !a.IsValid() {
			continue
		}
		if a.Is4() != (a == v4) || a.Is4In6() || a.Zone() != "" {
			return configError("%s address %v is not of its family", whose, a)
		}
		if !holds(b.tunnelRanges(), a) {
			return configError("%s address %v lies in none of the tunnel ranges %v", whose, a, b.tunnelRanges())
		}
	}
	return nil
}

// IsProxy reports whether an address lies in a proxy range.
func (b *PolicyBase) IsProxy(a netip.Addr) bool { return holds(b.proxyRanges(), a) }

func (b *PolicyBase) tunnelRanges() []netip.Prefix {
	if len(b.TunnelRanges) > 0 {
		return b.TunnelRanges
	}
	return []netip.Prefix{fib.TunnelRange4, fib.TunnelRange6}
}

func (b *PolicyBase) proxyRanges() []netip.Prefix {
	if len(b.ProxyRanges) > 0 {
		return b.ProxyRanges
	}
	return []netip.Prefix{fib.ProxyRange4, fib.ProxyRange6}
}

func holds(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Apply makes a client's grants those of c and no others: what is not listed is revoked. What
// precedes an error stays applied. Names are assigned in order, after all resources. now is when.
func (g *Grants) Apply(c ClientPolicy, now time.Time) error {
	listed := make(map[ResourceID]*Resource, len(c.Resources))
	for i := range c.Resources {
		listed[c.Resources[i].ID] = &c.Resources[i]
	}
	for id, old := range g.resources {
		if r := listed[id]; r == nil || !old.sameTarget(r) {
			g.Revoke(id, now)
		}
	}
	for _, r := range c.Resources {
		if err := g.Authorize(r, now); err != nil {
			return err
		}
	}
	var errs []error
	for _, a := range c.Names {
		if g.AssignNames(a, now) != Active {
			errs = append(errs, configError("name %q: resource %q does not exist, is no DNS resource, or does not match; or the proxy addresses are not in a proxy range", a.Domain, a.Resource))
		}
	}
	return errors.Join(errs...)
}

// spec lists what the client may do now.
func (g *Grants) spec() fib.PolicySpec {
	b := &g.cfg.Base
	spec := fib.PolicySpec{
		Client4: g.cfg.Addr4, Client6: g.cfg.Addr6, Gateway4: b.Gateway4, Gateway6: b.Gateway6,
		TunnelRanges: b.TunnelRanges, ProxyRanges: b.ProxyRanges,
		Prefix64: b.Prefix64, Stateless: b.Stateless, Fragments: b.Fragments,
		InternetNoTranslate: true, Epoch: g.cfg.Epoch,
	}
	for _, r := range g.resources {
		switch r.Kind {
		case KindInternet:
			spec.Internet = true
			spec.InternetNoTranslate = spec.InternetNoTranslate && r.NoTranslate
		case KindCIDR:
			spec.Grants = append(spec.Grants, fib.Grant{Prefix: r.Prefix, Filters: r.Filters, NoTranslate: r.NoTranslate})
		}
	}
	for proxy, n := range g.names {
		if name := g.named(proxy, n); len(name.Lists) > 0 {
			spec.Names = append(spec.Names, name)
		}
	}
	return spec
}

// named returns what a proxy address stands for, with the filters of those of its resources that
// are authorized now.
func (g *Grants) named(proxy netip.Addr, n *proxyName) fib.Name {
	name := fib.Name{Proxy: proxy, Real: n.real, NoTranslate: true}
	for _, id := range n.resources {
		if r := g.resources[id]; r != nil && r.Kind == KindDNS {
			name.Lists = append(name.Lists, r.Filters)
			name.NoTranslate = name.NoTranslate && r.NoTranslate
		}
	}
	return name
}

// check reports what is wrong with a resource; its errors wrap ErrConfig.
func (r *Resource) check() error {
	if r.ID == "" {
		return configError("a resource needs an id")
	}
	if len(r.Filters) > MaxFilters {
		return configError("resource %q: %d filters, the most one resource takes is %d", r.ID, len(r.Filters), MaxFilters)
	}
	for _, f := range r.Filters {
		if f.First > f.Last {
			return configError("resource %q: port range %d-%d runs backwards", r.ID, f.First, f.Last)
		}
	}
	ok := false
	switch r.Kind {
	case KindCIDR:
		ok = r.Prefix.IsValid() && r.Prefix == r.Prefix.Masked()
	case KindDNS:
		ok = r.Pattern.String() != ""
	case KindInternet:
		if ok = len(r.Filters) == 0; !ok {
			return configError("resource %q: the Internet resource has no filters", r.ID)
		}
	}
	if !ok {
		return fmt.Errorf("%w: resource %q: no valid address for its type", ErrConfig, r.ID)
	}
	return nil
}

// sameTarget reports whether two resources lead to the same.
func (r *Resource) sameTarget(o *Resource) bool {
	return r.Kind == o.Kind && r.Prefix == o.Prefix && r.Pattern.String() == o.Pattern.String() && r.NoTranslate == o.NoTranslate
}
