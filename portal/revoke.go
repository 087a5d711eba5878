package portal

import (
	"slices"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// holds reports whether the file in force still allows an authorization, as far as that can be said
// without the client's connection: by its policy, the actor, the resource and the site.
func (p *Portal) holds(a *authorization) bool {
	of := p.accounts[a.account]
	client, gateway := p.directory.byID[a.client], p.directory.byID[a.gateway]
	if of == nil || client == nil || gateway == nil || client.account != a.account || gateway.account != a.account {
		return false
	}
	policy, r := of.policies[a.policy], of.resources[a.resource]
	if policy == nil || policy.Disabled || r == nil || policy.Resource != r.ID {
		return false
	}
	if isPool(r.Type) {
		if !r.isMember(gateway) {
			return false
		}
	} else if uuid(gateway.owner) != r.site {
		return false
	}
	actor, known := p.actors[client.owner]
	actor.Provider = a.provider
	group := of.groups[policy.Group]
	return known && group != nil && of.admits(actor) && group.Has(actor) &&
		(!policy.Conditions.ClientVerified || client.verified)
}

// checkGrants revokes what a connected client may not have any more, its connection considered.
func (p *Portal) checkGrants(c *client, now time.Time) {
	for _, a := range p.grants.ofClient(c.id) {
		ok := p.holds(a)
		if ok {
			ok, _, _ = c.account.policies[a.policy].Allowed(c.context(), now)
		}
		if !ok {
			p.revoke(a)
		}
	}
}

// revokeAll revokes the authorizations that fit, in the order of their ids.
func (p *Portal) revokeAll(fits func(*authorization) bool) {
	var of []*authorization
	for _, a := range p.grants.byID {
		if fits(a) {
			of = append(of, a)
		}
	}
	slices.SortFunc(of, byID)
	for _, a := range of {
		p.revoke(a)
	}
}

// revoke takes an authorization away: the gateway is told at once, the store meanwhile.
func (p *Portal) revoke(a *authorization) {
	if a.doomed {
		return
	}
	p.retry(a)
	if a.storing {
		a.doomed = true // nobody knows it yet; it goes when the store has answered
		return
	}
	p.stats.Revoked++
	p.timers.cancel(a.end)
	n := p.grants.remove(a)
	p.tellRevoked(a)
	p.writes.revoke(a.account, a.id.String())
	p.grants.tidy(n)
}

// retry has the request that waits for a decided anew.
func (p *Portal) retry(a *authorization) {
	if q := a.pending; q != nil {
		q.auth, a.pending, q.sentTo = nil, nil, 0
		p.again = append(p.again, q)
	}
}

func (p *Portal) tellRevoked(a *authorization) {
	m := signal.RejectAccess{ClientID: a.client, ResourceID: a.resource}
	if g := p.gateways[a.gateway]; g != nil {
		p.send(g.conn, m)
	} else if c := p.clients[a.gateway]; c != nil {
		p.send(c.conn, m)
	}
}

// isMember reports whether a device is in the pool r.
func (r *resource) isMember(d *device) bool {
	if r.Type == config.StaticDevicePool {
		_, found := slices.BinarySearch(r.Devices, d.id.String())
		return found
	}
	return matches(r.Address, hostname(d.name))
}
