package control

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/dns"
	"github.com/firelane/firelane/fib"
)

// ResourceID names a resource; the portal's are UUIDs.
type ResourceID string

// ResourceKind is what a resource leads to.
type ResourceKind uint8

// The kinds of resource.
const (
	// KindCIDR leads to the addresses of a prefix.
	KindCIDR ResourceKind = iota + 1
	// KindDNS leads to the names that match a pattern, by proxy addresses.
	KindDNS
	// KindInternet leads to every public address, without filters.
	KindInternet
)

// Resource is one thing that a client is authorized for.
type Resource struct {
	ID   ResourceID
	Kind ResourceKind
	// Prefix is where a CIDR resource leads, without host bits; Pattern the names of a DNS
	// resource.
	Prefix  netip.Prefix
	Pattern dns.Pattern
	// Filters permit what any of them permits; none at all permits everything. An Internet
	// resource has none.
	Filters []fib.Filter
	// NoTranslate: the resource is not reached in the other family than it is addressed in.
	NoTranslate bool
	// Expires is when the authorization ends, on the machine's clock (see Expiry); the zero
	// Time for never.
	Expires time.Time
}

// Grants is all that one client is authorized for: a machine that turns authorizations into the
// client's fib.Policy. Its owner drains it in its own Handle calls and passes timeouts on.
type Grants struct {
	cfg       GrantsConfig
	resources map[ResourceID]*grant
	names     map[netip.Addr]*proxyName // by proxy address
	now       time.Time                 // of the latest call
	soonest   time.Time                 // the earliest end; the zero Time for none
	unsure    bool                      // soonest is to be found again
	dirty     bool                      // the published policy is not what it should be
	reset     bool                      // the client's NAT flows are to be dropped
}

// GrantsConfig says whose grants they are.
type GrantsConfig struct {
	Peer *fib.Peer
	// Base is common to all clients; Check has found nothing wrong with it.
	Base PolicyBase
	// Addr4 and Addr6 are the client's tunnel addresses; the zero Addr for none of a family.
	Addr4, Addr6 netip.Addr
	// Epoch counts how often the client's names were dropped before, see fib.PolicySpec.
	Epoch uint64
	// Start is when the machine was started. Authorizations end on whole seconds from then, so
	// that all clients' expiries need one wake-up a second at most.
	Start time.Time
}

// grant is an authorization that holds.
type grant struct {
	Resource
	end time.Time // the tick at which it ends; the zero Time for never
}

// NewGrants returns the grants of a client that has none yet. Its first Drain publishes a policy
// that permits nothing but the gateway itself, so that no packet is ever without one. Errors wrap
// ErrConfig.
func NewGrants(cfg GrantsConfig, now time.Time) (*Grants, error) {
	if err := cfg.Base.checkAddrs("client", cfg.Addr4, cfg.Addr6); err != nil {
		return nil, err
	}
	for _, a := range []netip.Addr{cfg.Addr4, cfg.Addr6} {
		if a.IsValid() && (a == cfg.Base.Gateway4 || a == cfg.Base.Gateway6) {
			return nil, configError("client address %v is the gateway's own", a)
		}
	}
	return &Grants{
		cfg:       cfg,
		resources: make(map[ResourceID]*grant),
		names:     make(map[netip.Addr]*proxyName),
		now:       now,
		dirty:     true,
	}, nil
}

// Authorize grants a resource, or replaces the filters and the expiry of one that is granted
// already: never its address or type, which the portal changes by revoking first. Errors wrap
// ErrConfig; the grants are then as before.
func (g *Grants) Authorize(r Resource, now time.Time) error {
	g.now = now
	if err := r.check(); err != nil {
		return err
	}
	old := g.resources[r.ID]
	switch {
	case old == nil && len(g.resources) >= MaxResources:
		return configError("resource %q: the client has %d already, the most one takes", r.ID, MaxResources)
	case old == nil:
		r.Filters = slices.Clone(r.Filters)
		g.resources[r.ID] = &grant{r, g.end(r.Expires, now)}
		g.dirty, g.unsure = true, true
		return nil
	case old.Kind != r.Kind:
		return configError("resource %q: its type cannot change; revoke it first", r.ID)
	}
	g.setFilters(old, r.Filters)
	old.Expires, old.end = r.Expires, g.end(r.Expires, now)
	g.unsure = true
	return nil
}

// UpdateFilters replaces the filters of a resource, if it is granted. Of kind only that it has not
// changed is checked. Errors wrap ErrConfig.
func (g *Grants) UpdateFilters(id ResourceID, kind ResourceKind, filters []fib.Filter, now time.Time) error {
	g.now = now
	old := g.resources[id]
	if old == nil {
		return nil
	}
	if old.Kind != kind {
		return configError("resource %q: its type cannot change; revoke it first", id)
	}
	changed := old.Resource
	changed.Filters = filters
	if err := changed.check(); err != nil {
		return err
	}
	g.setFilters(old, filters)
	return nil
}

func (g *Grants) setFilters(old *grant, filters []fib.Filter) {
	if !slices.Equal(old.Filters, filters) {
		old.Filters = slices.Clone(filters)
		g.dirty = true
	}
}

// Revoke takes a resource away at once, and reports whether it was granted.
func (g *Grants) Revoke(id ResourceID, now time.Time) bool {
	g.now = now
	_, ok := g.resources[id]
	delete(g.resources, id)
	g.dirty, g.unsure = g.dirty || ok, true
	return ok
}

// Retain revokes every resource that is not listed and sets the expiry of the others: what a
// portal says when the connection to it is made again. It returns what was revoked, in order.
func (g *Grants) Retain(listed map[ResourceID]time.Time, now time.Time) (revoked []ResourceID) {
	g.now = now
	for _, id := range slices.Sorted(maps.Keys(g.resources)) {
		expires, ok := listed[id]
		if !ok {
			g.Revoke(id, now)
			revoked = append(revoked, id)
			continue
		}
		r := g.resources[id]
		r.Expires, r.end = expires, g.end(expires, now)
	}
	g.unsure = true
	return revoked
}

// Empty reports whether the client is authorized for nothing: its connection ends then.
func (g *Grants) Empty() bool { return len(g.resources) == 0 }

// Resources returns the ids of what the client is authorized for, in order.
func (g *Grants) Resources() []ResourceID { return slices.Sorted(maps.Keys(g.resources)) }

// HandleTimeout ends what has expired, and returns it in order.
func (g *Grants) HandleTimeout(now time.Time) (expired []ResourceID) {
	g.now = now
	if at := g.nextEnd(); at.IsZero() || now.Before(at) {
		return nil
	}
	for id, r := range g.resources {
		if !r.end.IsZero() && !now.Before(r.end) {
			expired = append(expired, id)
		}
	}
	slices.Sort(expired)
	for _, id := range expired {
		g.Revoke(id, now)
	}
	return expired
}

// NextTimeout returns when HandleTimeout wants to be called, or false for never. It is never later
// than pending output.
func (g *Grants) NextTimeout() (at time.Time, ok bool) {
	if g.dirty || g.reset {
		return g.now, true
	}
	at = g.nextEnd()
	return at, !at.IsZero()
}

// nextEnd returns the earliest end of an authorization; the zero Time for none.
func (g *Grants) nextEnd() time.Time {
	if g.unsure {
		g.soonest, g.unsure = time.Time{}, false
		for _, r := range g.resources {
			if !r.end.IsZero() && (g.soonest.IsZero() || r.end.Before(g.soonest)) {
				g.soonest = r.end
			}
		}
	}
	return g.soonest
}

// Drain appends the changes to publish, and takes them as done. However many authorizations
// came since the last Drain, the policy is compiled once.
func (g *Grants) Drain(changes []fib.Change) []fib.Change {
	if g.dirty {
		changes = append(changes, fib.SetPolicy{Peer: g.cfg.Peer, Policy: fib.NewPolicy(g.spec())})
	}
	if g.reset {
		changes = append(changes, fib.ResetFlows{Peer: g.cfg.Peer, Epoch: g.cfg.Epoch})
	}
	g.dirty, g.reset = false, false
	return changes
}

// tick is the grain of expiry: an authorization that has expired lives until the next whole second.
const tick = time.Second

// end returns the tick at which an authorization ends: the first that is not before it expires,
// and for one that has expired already the first after now.
func (g *Grants) end(expires, now time.Time) time.Time {
	if expires.IsZero() {
		return time.Time{}
	}
	if !expires.After(now) {
		return g.cfg.Start.Add(now.Sub(g.cfg.Start)/tick*tick + tick)
	}
	return g.cfg.Start.Add((expires.Sub(g.cfg.Start) + tick - 1) / tick * tick)
}

// Expiry returns when an authorization ends on the machine's clock: unix is the portal's stamp in
// seconds, start when the machine was started by both clocks. From then on the host's idea
// of the date is not asked again. A stamp before start has expired at start; one too far ahead
// for the clock ends in a day, when the portal will have said more.
func Expiry(unix int64, start time.Time) time.Time {
	base := start.Unix()
	if unix <= base {
		return start
	}
	if ahead := uint64(unix) - uint64(base); ahead < math.MaxInt64/uint64(time.Second) {
		return start.Add(time.Duration(ahead)*time.Second - time.Duration(start.Nanosecond()))
	}
	return start.Add(24 * time.Hour)
}
