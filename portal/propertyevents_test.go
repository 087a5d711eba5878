package portal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

func (m *model) editPolicy(r *rand.Rand) {
	for n := 1 + r.IntN(3); n > 0; n-- {
		m.world.edit(r)
	}
	m.file = m.parse()
	m.running = m.file
	m.p.HandleConfig(m.file, m.now)
	m.drain()
}

func (m *model) revokeToken(r *rand.Rand) {
	switch r.IntN(4) {
	case 0:
		m.revoke("gateway", r.IntN(worldGateways))
	case 1:
		m.revoke("relay", r.IntN(worldRelays))
	default:
		m.revoke("client", r.IntN(worldClients))
	}
}

// revoke revokes the token that somebody has. The next one is another.
func (m *model) revoke(kind string, n int) {
	token := m.token(kind, n)
	m.tokens[fmt.Sprintf("%s-%d", kind, n)]++
	m.revoked[token] = true
	m.forgetRows(func(a *store.Authorization) bool { return a.Token == token })
	m.p.HandleTokenRevoked(token, m.now)
	m.drain()
	for _, x := range m.conns {
		if x.token == token {
			m.Fatalf("channel %d outlives its token", x.conn)
		}
	}
}

// forgetRows is what the store does of its own.
func (m *model) forgetRows(fits func(*store.Authorization) bool) {
	maps.DeleteFunc(m.shelf.rows, func(_ string, a store.Authorization) bool { return fits(&a) })
}

// known picks a client that has connected before.
func (m *model) known(r *rand.Rand) *store.Device {
	return m.devices[uuid(m.client(r.IntN(worldClients)).ID)]
}

func (m *model) verify(r *rand.Rand) {
	if d := m.known(r); d != nil {
		d.Verified = !d.Verified
		m.p.HandleDeviceChanged(*d, m.now)
		m.drain()
	}
}

// rename moves a client into the dynamic pool or out of it.
func (m *model) rename(r *rand.Rand) {
	if d := m.known(r); d != nil {
		if name, in := strings.CutSuffix(d.Name, ".dyn"); in {
			d.Name = name
		} else {
			d.Name += ".dyn"
		}
		m.p.HandleDeviceChanged(*d, m.now)
		m.drain()
	}
}

// deleteDevice deletes a client. If it connects again it has another id.
func (m *model) deleteDevice(r *rand.Rand) {
	if r.IntN(3) > 0 {
		return
	}
	d := m.known(r)
	if d == nil {
		return
	}
	delete(m.devices, uuid(d.ID))
	m.clients[clientOf(uuid(d.ID))]++
	m.forgetRows(func(a *store.Authorization) bool { return a.Client == d.ID || a.Gateway == d.ID })
	m.p.HandleDeviceDeleted(d.ID, m.now)
	m.drain()
	if m.parties[uuid(d.ID)] != nil {
		m.Fatal("a deleted device stays")
	}
}

// signIn is the person signing in: the provider says something else.
func (m *model) signIn(r *rand.Rand) {
	m.disabled = false
	for i := range m.world.groups {
		m.world.groups[i][worldPerson] = r.IntN(3) > 0
	}
	m.p.HandleActor(testID(idActor, worldPerson), m.actor(worldPerson), true, m.now)
	m.drain()
}

// disablePerson takes the person's tokens away and then says that nobody is there.
func (m *model) disablePerson(r *rand.Rand) {
	if r.IntN(3) > 0 || m.disabled {
		return
	}
	for n := range worldClients {
		if n%worldActors == worldPerson {
			m.revoke("client", n)
		}
	}
	m.disabled = true
	m.p.HandleActor(testID(idActor, worldPerson), m.actor(worldPerson), false, m.now)
	m.drain()
	for _, x := range m.parties {
		if x.role == signal.RoleClient && actorOf(x.id) == worldPerson {
			m.Fatal("a disabled person stays")
		}
	}
}

// connectRelay has a relay join, or join again under the same identity.
func (m *model) connectRelay(r *rand.Rand) {
	n := r.IntN(worldRelays)
	c := relayConnect(strings.Repeat(fmt.Sprint(n), 64))
	c.TokenID = m.token("relay", n)
	if r.IntN(2) == 0 {
		c.Params.IPv6 = worldClient(n).IPv6
	}
	m.next++
	x := &party{conn: m.next, connect: c, role: signal.RoleRelay, id: signal.RelayID(c.Stamp), token: c.TokenID}
	m.conns[x.conn], m.relays[x.id] = x, x
	m.relaysAt = m.now
	m.p.HandleConnect(x.conn, c, m.now)
	m.drain()
}

func (m *model) disconnectRelay(r *rand.Rand) {
	if len(m.relays) == 0 {
		return
	}
	x := m.relays[oneOf(r, sortedIDs(m.relays))]
	delete(m.conns, x.conn)
	delete(m.relays, x.id)
	m.relaysAt = m.now
	m.p.HandleDisconnect(x.conn, m.now)
	m.drain()
}

// lackRelays is a device that cannot use those it has: it is answered once.
func (m *model) lackRelays(r *rand.Rand) {
	x := m.pick(r, oneOf(r, []signal.Role{signal.RoleClient, signal.RoleGateway}))
	if x == nil {
		return
	}
	before := x.presences
	m.p.HandleMessage(x.conn, signal.NoRelays{}, m.now)
	m.drain()
	if x.presences != before+1 {
		m.Fatalf("a device without relays gets %d answers", x.presences-before)
	}
}

func (m *model) advance(r *rand.Rand) {
	d := time.Duration(oneOf(r, []int{1, 1, 1, 1, 2, 2, 5, 10, 61, 1200})) * time.Second
	for end := m.now.Add(d); m.now.Before(end); {
		m.now = m.now.Add(time.Second)
		m.tick()
	}
}

func (m *model) tick() {
	if at, _, ok := m.p.NextTimeout(); ok && !m.now.Before(at) {
		m.p.HandleTimeout(m.now)
	}
	m.drain()
}

// jump is the clock set forward, and something else that the portal hears of first.
func (m *model) jump(r *rand.Rand) {
	m.now = m.now.Add(time.Duration(1+r.IntN(oneOf(r, []int{20, 20, 600, 4 * 3600}))) * time.Second)
	m.late = true
	oneOf(r, []func(*rand.Rand){
		m.connectClient, m.connectGateway, m.request, m.serve, m.gatewayAnswers, m.pushesGoOut, m.store, m.candidates, m.editPolicy,
		m.rejoin, m.disconnect, m.verify,
	})(r)
	m.late = false
	m.tick()
}

// restart ends the portal in the middle of everything: of its writes some are on the disk, some not.
// When it is there again the clock may have been set.
func (m *model) restart(r *rand.Rand) {
	for _, w := range m.writes {
		if r.IntN(2) == 0 {
			_ = m.write(w) // nobody waits for it
		}
	}
	m.writes = nil
	m.checkSettled()
	for _, all := range []map[signal.ID]*party{m.parties, m.relays} {
		clear(all)
	}
	clear(m.conns)
	m.relaysAt = m.now
	if r.IntN(2) == 0 {
		d := time.Duration(r.IntN(5*3600)-2*3600) * time.Second
		m.now = m.now.Add(d)
		m.setBack = m.setBack || d < 0
		m.relaysAt = m.now
	}
	m.restored()
	m.boot(r)
}

// restored: what the portal finds in the store, it takes for known to both ends.
func (m *model) restored() {
	for _, id := range slices.Sorted(maps.Keys(m.shelf.rows)) {
		a := m.shelf.rows[id]
		c, g := m.devices[uuid(a.Client)], m.devices[uuid(a.Gateway)]
		m.know[keyPair{uuid(c.ID), uuid(g.ID), c.PublicKey, g.PublicKey}] = true
		m.know[keyPair{uuid(g.ID), uuid(c.ID), g.PublicKey, c.PublicKey}] = true
	}
}
