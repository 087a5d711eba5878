package portal

import (
	"net/netip"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// Connect describes a channel that has joined, as it was when the device was let in. What may have
// changed since, the machine knows better: see HandleConnect.
type Connect struct {
	Role   signal.Role
	Params signal.Params
	// Agent is what the User-Agent says, UserAgent the whole of it.
	Agent     signal.Agent
	UserAgent string
	// Remote is the address the device connected from, Location where that is.
	Remote   netip.Addr
	Location Location
	// TokenID is the token's id, TokenExpires when it ends; the zero time for never.
	TokenID      string
	TokenExpires time.Time

	// Device is a client's or gateway's row with the public key of this connection. Its owner is
	// the actor or the site.
	Device store.Device
	// Actor is a client's; ActorName and ActorKind ("account_user", "service_account") are for
	// those who read records.
	Actor                config.Actor
	ActorName, ActorKind string

	// Stamp is what a relay joined with.
	Stamp signal.Secret
}

// maxConnections bounds the channels in hand: as many as internal/channel serves.
const maxConnections = 20000

// member is what clients and gateways have in common.
type member struct {
	Connect
	conn    ConnID
	account *account
	device  *device
	id      signal.ID
	base    signal.PSKBase
	version version
	iceless bool
	// held are the relays the device was told of last.
	held   []signal.ID
	expiry *timer
}

// client is a connected client.
type client struct {
	member
	// visible is what it was told about resources.
	visible map[signal.ID]*signal.ClientResource
	pending map[pendingKey]*pending
	// legacy says that it knows sites by their older name only.
	legacy bool
	// review looks at its resources again, if time alone may change them.
	review *timer
}

// gateway is a connected gateway.
type gateway struct {
	member
	site signal.ID
}

func (m *member) self() signal.End { return signal.End{ID: m.id, PublicKey: m.Device.PublicKey} }

// context is what conditions look at.
func (c *client) context() config.Context {
	return config.Context{
		RemoteIP: c.Remote, Region: c.Location.Region, Provider: c.Actor.Provider, Verified: c.device.verified,
	}
}

// HandleConnect takes a channel that has joined, or joined again, and sends init. A channel that
// must not be, because token, account, site or actor have gone in the meantime, is ended instead.
// Of devices and people that the machine knows, c does not say what an administrator or a provider
// has said since: name, verification and claims stay as they were told last.
func (p *Portal) HandleConnect(conn ConnID, c Connect, now time.Time) {
	p.now = now
	p.forget(conn, now)
	switch {
	case len(p.conns) >= maxConnections:
		p.stats.Full++
		p.end(conn, Restart)
	case p.revoked.has(c.TokenID) || !c.TokenExpires.IsZero() && !now.Before(c.TokenExpires):
		p.expel(conn, c.Role)
	case c.Role == signal.RoleRelay:
		p.connectRelay(conn, c, now)
	default:
		p.connectDevice(conn, c, now)
	}
	p.settle(now)
}

func (p *Portal) connectDevice(conn ConnID, c Connect, now time.Time) {
	a := p.accounts[c.Device.Account]
	if a == nil {
		p.expel(conn, c.Role)
		return
	}
	// What comes from a store may be of another program's making; messages need all of it.
	if uuid(c.Device.Owner).IsZero() || !c.Device.IPv4.Is4() || !c.Device.IPv6.Is6() {
		p.end(conn, Leave)
		return
	}
	if old := p.directory.byID[uuid(c.Device.ID)]; old != nil {
		c.Device.Name, c.Device.Verified = old.name, old.verified
	}
	if actor, ok := p.actors[c.Device.Owner]; ok {
		actor.Provider = c.Actor.Provider
		c.Actor = actor
	}
	d, before, ok := p.directory.put(&c.Device)
	if !ok {
		p.end(conn, Leave)
		return
	}
	p.stats.Connects++
	m := member{
		Connect: c, conn: conn, account: a, device: d, id: d.id, base: signal.NewPresharedKey(c.Device.PSKBase),
		version: parseVersion(c.Agent.Version),
	}
	if c.Role == signal.RoleClient {
		p.connectClient(m, before, now)
	} else {
		p.connectGateway(m, now)
	}
}

func (p *Portal) connectClient(m member, before *device, now time.Time) {
	if !m.account.admits(m.Actor) {
		p.expel(m.conn, m.Role)
		return
	}
	if old := p.clients[m.id]; old != nil { // the last one wins, and the other must not come back
		p.stats.Duplicates++
		p.expel(old.conn, signal.RoleClient)
		p.forget(old.conn, now)
	}
	p.actors[m.device.owner] = m.Actor
	c := &client{member: m, pending: map[pendingKey]*pending{}, legacy: legacyNames(m.Agent, m.version)}
	held := p.filtersHeld(&c.member)
	p.conns[m.conn], p.clients[m.id], m.account.clients[m.id] = c, c, c
	p.expireToken(&c.member)
	if before == nil || before.name != m.device.name {
		p.showPools(m.account, m.id)
	}
	p.checkGrants(c, now)
	p.initClient(c, now)
	p.sendFilters(&c.member, held)
}

func (p *Portal) connectGateway(m member, now time.Time) {
	site := uuid(m.Device.Owner)
	if m.account.sites[site] == nil {
		p.expel(m.conn, m.Role)
		return
	}
	if old := p.gateways[m.id]; old != nil { // the old socket may be half-dead: nothing fatal on it
		p.stats.Duplicates++
		p.end(old.conn, Cut)
		p.forget(old.conn, now)
	}
	g := &gateway{member: m, site: site}
	held := p.filtersHeld(&g.member)
	p.conns[m.conn], p.gateways[m.id], m.account.gateways[m.id] = g, g, g
	p.expireToken(&g.member)
	p.initGateway(g)
	p.sendFilters(&g.member, held)
}

// Knows reports whether the machine has been told of a device and its owner other than by c.
func (p *Portal) Knows(c *Connect) bool {
	_, actor := p.actors[c.Device.Owner]
	return p.directory.byID[uuid(c.Device.ID)] != nil && (actor || c.Role != signal.RoleClient)
}

// expireToken ends the channel when its token does.
func (p *Portal) expireToken(m *member) {
	if m.TokenExpires.IsZero() {
		return
	}
	conn, role := m.conn, m.Role
	m.expiry = p.timers.start(m.TokenExpires, "token expires", func(now time.Time) {
		p.expel(conn, role)
		p.forget(conn, now)
	})
}

// expel ends a channel for good: a device does not come back with this token.
func (p *Portal) expel(conn ConnID, r signal.Role) {
	if r == signal.RoleRelay {
		p.end(conn, Away)
		return
	}
	p.out.Deliveries = append(p.out.Deliveries, Delivery{
		Conn: conn, Message: signal.Disconnect{Reason: signal.ReasonTokenExpired}, End: Leave,
	})
}

// HandleDisconnect takes the end of a channel.
func (p *Portal) HandleDisconnect(conn ConnID, now time.Time) {
	p.now = now
	p.forget(conn, now)
	p.settle(now)
}

// forget removes a channel from everywhere.
func (p *Portal) forget(conn ConnID, now time.Time) {
	who := p.conns[conn]
	delete(p.conns, conn)
	switch m := who.(type) {
	case *client:
		p.timers.cancel(m.expiry)
		p.timers.cancel(m.review)
		delete(p.clients, m.id)
		delete(m.account.clients, m.id)
		p.forgetRequests(m)
		p.holderLost(&m.member)
	case *gateway:
		p.timers.cancel(m.expiry)
		delete(p.gateways, m.id)
		delete(m.account.gateways, m.id)
		p.holderLost(&m.member)
	case *relay:
		p.timers.cancel(m.expiry)
		delete(p.relays.byID, m.id)
		p.relaysChanged(now)
	}
}
