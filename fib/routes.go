package fib

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// MaxPrefixes bounds the allowed IPs of all peers together: 16 for each of MaxPeers. Control
// refuses more with an error to whoever configures it.
const MaxPrefixes = 16 * MaxPeers

// Routes leads from inner addresses to peers: exact for tunnel addresses, longest prefix for
// allowed IPs of static mode. Immutable: With and Without return a changed copy that shares
// what is unchanged.
type Routes struct{ prefixes *bart.Table[*Peer] }

// NewRoutes returns an empty mapping.
func NewRoutes() *Routes { return &Routes{new(bart.Table[*Peer])} }

// With returns r with prefix leading to p, whoever had it before.
func (r *Routes) With(prefix netip.Prefix, p *Peer) *Routes {
	return &Routes{r.prefixes.InsertPersist(prefix.Masked(), p)}
}

// Without returns r with prefix leading nowhere.
func (r *Routes) Without(prefix netip.Prefix) *Routes {
	return &Routes{r.prefixes.DeletePersist(prefix.Masked())}
}

// Owner returns the peer that prefix itself, not a shorter one around it, leads to.
func (r *Routes) Owner(prefix netip.Prefix) *Peer {
	p, _ := r.prefixes.Get(prefix.Masked())
	return p
}

// Len returns the number of prefixes.
func (r *Routes) Len() int { return r.prefixes.Size() }

// Peer returns the peer whose longest prefix contains a, or nil.
func (r *Routes) Peer(a netip.Addr) *Peer {
	p, _ := r.prefixes.Lookup(a)
	return p
}
