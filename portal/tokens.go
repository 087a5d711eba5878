package portal

import (
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// revokedKept is how many revoked tokens are remembered for channels that were let in just before:
// between authentication and join a device has fifteen seconds, in which nobody revokes as many.
const revokedKept = 4096

// revokedTokens remembers the last revoked tokens.
type revokedTokens struct {
	ids  map[string]bool
	ring []string
	next int
}

func newRevokedTokens() revokedTokens { return revokedTokens{ids: map[string]bool{}} }

func (r *revokedTokens) add(id string) {
	if r.ids[id] {
		return
	}
	r.ids[id] = true
	if len(r.ring) < revokedKept {
		r.ring = append(r.ring, id)
		return
	}
	delete(r.ids, r.ring[r.next])
	r.ring[r.next] = id
	r.next = (r.next + 1) % revokedKept
}

func (r *revokedTokens) has(id string) bool { return r.ids[id] }

// HandleTokenRevoked ends the channels of a token that has been revoked in the store, which has
// deleted its authorizations; their gateways are told here.
func (p *Portal) HandleTokenRevoked(id string, now time.Time) {
	p.now = now
	if id != "" {
		p.revoked.add(id)
		p.endChannels(now, func(c *Connect) bool { return c.TokenID == id })
		p.revokeAll(func(a *authorization) bool { return a.token == id })
	}
	p.settle(now)
}

// HandleActor takes what a directory says about a person now, or that the actor may not do anything
// any more, for which ok is false. It is about groups: sessions keep the provider that vouched for
// them, and those of a disabled person end by HandleTokenRevoked.
func (p *Portal) HandleActor(id string, actor config.Actor, ok bool, now time.Time) {
	p.now = now
	delete(p.actors, id)
	if ok {
		p.actors[id] = actor
	}
	for _, c := range inOrder(p.clients) {
		if c.device.owner == id {
			provider := c.Actor.Provider
			c.Actor = actor
			c.Actor.Provider = provider
		}
	}
	p.revokeAll(func(a *authorization) bool {
		d := p.directory.byID[a.client]
		return d != nil && d.owner == id && !p.holds(a)
	})
	for _, c := range inOrder(p.clients) {
		switch {
		case c.device.owner != id:
		case !ok || !c.account.admits(c.Actor):
			p.expel(c.conn, c.Role)
			p.forget(c.conn, now)
		default:
			p.checkGrants(c, now)
			p.refresh(c, nil, now)
		}
	}
	p.settle(now)
}

// HandleDeviceChanged takes a row that an administrator has changed: its name, or whether the device
// is verified. One that is no longer loses its authorizations.
func (p *Portal) HandleDeviceChanged(row store.Device, now time.Time) {
	p.now = now
	d, before, ok := p.directory.put(&row)
	if ok {
		p.adopt(d)
		if before == nil || before.name != d.name {
			if a := p.accounts[d.account]; a != nil {
				p.showPools(a, d.id)
			}
		}
		if before != nil && before.verified && !d.verified {
			p.revokeAll(func(a *authorization) bool { return a.client == d.id })
		}
		if c := p.clients[d.id]; c != nil {
			p.refresh(c, nil, now)
		}
	}
	p.settle(now)
}

// adopt gives a connected device its new entry in the directory.
func (p *Portal) adopt(d *device) {
	if c := p.clients[d.id]; c != nil {
		c.device = d
		d.key = c.Device.PublicKey
	}
	if g := p.gateways[d.id]; g != nil {
		g.device = d
		d.key = g.Device.PublicKey
	}
}

// HandleDeviceDeleted takes that a device and its authorizations are no longer in the store. Its
// channel ends; if it comes back it is another device.
func (p *Portal) HandleDeviceDeleted(id string, now time.Time) {
	p.now = now
	if d := p.directory.byID[uuid(id)]; d != nil {
		p.revokeAll(func(a *authorization) bool { return a.client == d.id || a.gateway == d.id })
		p.directory.remove(d)
		if a := p.accounts[d.account]; a != nil {
			p.showPools(a, d.id)
		}
		for _, m := range p.channelsOf(d.id) {
			p.end(m.conn, Leave)
			p.forget(m.conn, now)
		}
	}
	p.settle(now)
}

func (p *Portal) channelsOf(id signal.ID) (all []*member) {
	if c := p.clients[id]; c != nil {
		all = append(all, &c.member)
	}
	if g := p.gateways[id]; g != nil {
		all = append(all, &g.member)
	}
	return all
}

// endChannels expels the channels that fit.
func (p *Portal) endChannels(now time.Time, fits func(*Connect) bool) {
	expel := func(conn ConnID, c *Connect) {
		if fits(c) {
			p.expel(conn, c.Role)
			p.forget(conn, now)
		}
	}
	for _, c := range inOrder(p.clients) {
		expel(c.conn, &c.Connect)
	}
	for _, g := range inOrder(p.gateways) {
		expel(g.conn, &g.Connect)
	}
	for _, r := range p.relays.inOrder() {
		expel(r.conn, &r.Connect)
	}
}
