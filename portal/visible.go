package portal

import (
	"slices"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// reviewInterval is how often a client's resources are looked at again where policies have times.
const reviewInterval = time.Minute

// initClient tells a client everything.
func (p *Portal) initClient(c *client, now time.Time) {
	all := c.resources(now)
	c.visible = make(map[signal.ID]*signal.ClientResource, len(all))
	for _, r := range all {
		c.visible[r.id] = r.shown
	}
	p.send(c.conn, p.clientInit(c))
	p.reviewLater(c, now)
}

// clientInit is everything a client has been told, or is about to be. What it does not list, the
// client lets go of: resources, and what others may do on it.
func (p *Portal) clientInit(c *client) signal.ClientInit {
	return signal.ClientInit{
		Interface: c.clientInterface(), Resources: c.list(), Relays: p.giveRelays(&c.member, false),
		Authorizations: p.grants.inForce(&c.member), FlowLogs: p.settings.FlowLogs,
	}
}

// listed is a list of resources and what it was made of.
type listed struct {
	shown  []*signal.ClientResource
	legacy bool
	list   signal.Resources
}

// list is what a client sees, in the order of the file. Clients that see the same share it: nobody changes
// what is in a message.
func (c *client) list() signal.Resources {
	shown := make([]*signal.ClientResource, 0, len(c.visible))
	for _, r := range c.account.order {
		if s := c.visible[r.id]; s != nil {
			shown = append(shown, s)
		}
	}
	if last := &c.account.listed; last.legacy == c.legacy && slices.Equal(last.shown, shown) {
		return last.list
	}
	list := make(signal.Resources, len(shown))
	for i, s := range shown {
		list[i] = *s
		list[i].LegacyNames = c.legacy
	}
	c.account.listed = listed{shown, c.legacy, list}
	return list
}

// initGateway tells a gateway everything.
func (p *Portal) initGateway(g *gateway) { p.send(g.conn, p.gatewayInit(g)) }

// gatewayInit is everything a gateway is to know; grants that are not listed end there.
func (p *Portal) gatewayInit(g *gateway) signal.GatewayInit {
	return signal.GatewayInit{
		AccountSlug: signal.Text(g.account.Slug),
		Interface:   signal.Interface{IPv4: signal.Addr4{Addr: g.device.ipv4}, IPv6: signal.Addr6{Addr: g.device.ipv6}},
		Config:      signal.Masquerade{IPv4: true, IPv6: true},
		Relays:      p.giveRelays(&g.member, false), Authorizations: p.grants.inForce(&g.member), FlowLogs: p.settings.FlowLogs,
	}
}

// resources returns what a client may connect to now, in the order of the file. It asks policies
// themselves: which of them lasts longest does not matter here, and everybody's resources are looked
// at after an edit.
func (c *client) resources(now time.Time) (all []*resource) {
	groups, context := c.account.GroupsOf(c.Actor), c.context()
	allows := func(p *config.Policy) bool {
		if !groups[p.Group] {
			return false
		}
		ok, _, _ := p.Allowed(context, now)
		return ok
	}
	for _, r := range c.account.order {
		if slices.ContainsFunc(r.policies, allows) && knows(c.Agent, c.version, r.Type) {
			all = append(all, r)
		}
	}
	return all
}

// told is what a client is told about a resource: the same message for all that read the same names,
// for there may be thousands of clients and resources.
func (r *resource) told(c *client) signal.Message {
	if r.toldOf != r.shown {
		r.toldOf, r.changed = r.shown, [2]signal.Message{}
	}
	m := &r.changed[b2i(c.legacy)]
	if *m == nil {
		of := signal.ResourceChanged{ClientResource: *r.shown}
		of.LegacyNames = c.legacy
		*m = of
	}
	return *m
}

// refresh tells a client how its resources differ from what it was told: deletions first. Those of
// anew are deleted even if they come back.
func (p *Portal) refresh(c *client, anew map[signal.ID]bool, now time.Time) {
	all := c.resources(now)
	stays := make(map[signal.ID]bool, len(all))
	for _, r := range all {
		stays[r.id] = !anew[r.id]
	}
	var gone []signal.ID
	for id := range c.visible {
		if !stays[id] {
			gone = append(gone, id)
		}
	}
	slices.SortFunc(gone, signal.ID.Compare)
	for _, id := range gone {
		delete(c.visible, id)
		p.send(c.conn, signal.ResourceDeleted{ID: id})
	}
	for _, r := range all {
		if c.visible[r.id] != r.shown {
			c.visible[r.id] = r.shown
			p.send(c.conn, r.told(c))
		}
	}
	p.reviewLater(c, now)
}

// reviewLater sets the next look at a client's resources, if time alone may change them.
func (p *Portal) reviewLater(c *client, now time.Time) {
	p.timers.cancel(c.review)
	c.review = nil
	if !c.account.timed() {
		return
	}
	c.review = p.timers.start(now.Add(reviewInterval), "time window", func(now time.Time) { p.refresh(c, nil, now) })
}

// timed reports whether any policy has times.
func (a *account) timed() bool {
	return slices.ContainsFunc(a.Policies, func(p config.Policy) bool { return !p.Disabled && len(p.Conditions.Times) > 0 })
}
