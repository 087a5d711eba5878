package portal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

func (m *model) connectClient(r *rand.Rand) {
	n := r.IntN(worldClients)
	if n%worldActors == worldPerson && m.disabled {
		return // nobody gives this person a token
	}
	row := m.device(m.client(n), r.IntN(6) == 0)
	c := clientConnect(row)
	office := r.IntN(2) == 0
	if !office {
		c.Remote = netip.MustParseAddr("203.0.113.9")
	}
	c.Actor = m.actor(n % worldActors)
	c.TokenID = m.token("client", n)
	c.TokenExpires = m.now.Add(time.Duration(oneOf(r, []int{5, 600, 3 * 3600, 8 * 3600})) * time.Second)
	m.join(c, &party{role: signal.RoleClient, office: office})
}

func (m *model) connectGateway(r *rand.Rand) {
	n := r.IntN(worldGateways)
	row := m.device(worldGateway(n), r.IntN(4) == 0)
	c := gatewayConnect(row)
	c.Agent.Version = oneOf(r, []string{"1.6.1", "1.6.1", "1.6.1", "1.6.1", "1.5.0", "1.9.0", "x"})
	c.TokenID = m.token("gateway", n)
	if m.parties[uuid(row.ID)] == nil && r.IntN(4) == 0 { // the process is another one
		for k := range m.grants {
			if k.holder == uuid(row.ID) {
				delete(m.grants, k)
			}
		}
	}
	m.join(c, &party{role: signal.RoleGateway})
}

// client is the row with which the n-th client connects for the first time.
func (m *model) client(n int) store.Device {
	d := worldClient(n)
	d.ID = testID(idClient, n+worldGenerations*m.clients[n])
	return d
}

// device is the row with which a device connects.
func (m *model) device(fresh store.Device, newKey bool) store.Device {
	id := uuid(fresh.ID)
	if m.devices[id] == nil {
		m.devices[id] = &fresh
	}
	if newKey {
		m.devices[id].PublicKey[31]++
	}
	return *m.devices[id]
}

// token is the one that somebody has now.
func (m *model) token(kind string, n int) string {
	who := fmt.Sprintf("%s-%d", kind, n)
	return fmt.Sprintf("%s-%d", who, m.tokens[who])
}

func (m *model) join(c Connect, x *party) {
	m.next++
	x.conn = m.next
	x.connect, x.token = c, c.TokenID
	x.id, x.key = uuid(c.Device.ID), c.Device.PublicKey
	x.requests, x.lastPush = map[openRequest]time.Time{}, map[signal.ID]signal.ID{}
	m.enter(x)
}

// enter tells the portal of a channel that has joined. From now on it may only speak of this one.
func (m *model) enter(x *party) {
	m.conns[x.conn], m.parties[x.id] = x, x
	m.p.HandleConnect(x.conn, x.connect, m.now)
	m.drain()
}

// rejoin is a device that joins again on its channel, as it was when it was let in.
func (m *model) rejoin(r *rand.Rand) {
	if old := m.pickAny(r, oneOf(r, []signal.Role{signal.RoleClient, signal.RoleGateway})); old != nil {
		x := &party{
			conn: old.conn, connect: old.connect, role: old.role, id: old.id, key: old.key, office: old.office, token: old.token,
			requests: map[openRequest]time.Time{}, lastPush: map[signal.ID]signal.ID{}, pushes: old.pushes,
		}
		m.enter(x)
	}
}

// pick picks somebody who can still speak.
func (m *model) pick(r *rand.Rand, role signal.Role) *party {
	return m.pickOf(r, func(x *party) bool { return x.role == role && !x.dead })
}

func (m *model) pickAny(r *rand.Rand, role signal.Role) *party {
	return m.pickOf(r, func(x *party) bool { return x.role == role })
}

func (m *model) pickOf(r *rand.Rand, fits func(*party) bool) *party {
	var all []*party
	for _, id := range sortedIDs(m.parties) {
		if fits(m.parties[id]) {
			all = append(all, m.parties[id])
		}
	}
	if len(all) == 0 {
		return nil
	}
	return oneOf(r, all)
}

func (m *model) disconnect(r *rand.Rand) {
	x := m.pickAny(r, oneOf(r, []signal.Role{signal.RoleClient, signal.RoleGateway}))
	if x == nil {
		return
	}
	delete(m.conns, x.conn)
	delete(m.parties, x.id)
	m.p.HandleDisconnect(x.conn, m.now)
	m.drain()
}

func (m *model) request(r *rand.Rand) {
	x := m.pick(r, signal.RoleClient)
	if x == nil {
		return
	}
	n := r.IntN(worldResources)
	if view := sortedIDs(x.view); len(view) > 0 && r.IntN(5) > 0 {
		n = number(oneOf(r, view))
	}
	msg := signal.RequestAuthorization{ResourceID: uuid(testID(idResource, n))}
	open := openRequest{resource: msg.ResourceID}
	if n >= worldStatic {
		open = openRequest{pool: true}
		if _, asked := x.requests[open]; asked {
			return
		}
		x.wanted = msg.ResourceID
		msg.IPv4 = signal.Addr4{Addr: worldClient(m.target(r, x, msg.ResourceID)).IPv4}
	}
	x.requests[open] = m.now
	m.p.HandleMessage(x.conn, msg, m.now)
	m.drain()
}

// target picks whom to connect to in a device pool: mostly one that is there.
func (m *model) target(r *rand.Rand, x *party, pool signal.ID) int {
	var there []int
	for _, id := range sortedIDs(m.parties) {
		if id != x.id && m.parties[id].role == signal.RoleClient && m.isMember(pool, id) {
			there = append(there, clientOf(id))
		}
	}
	if len(there) == 0 || r.IntN(5) == 0 {
		return r.IntN(worldClients)
	}
	return oneOf(r, there)
}

func (m *model) gatewayAnswers(r *rand.Rand) {
	x := m.pick(r, signal.RoleGateway)
	if x == nil || len(x.asked) == 0 {
		return
	}
	i := r.IntN(len(x.asked))
	ref := x.asked[i]
	x.asked = slices.Delete(x.asked, i, i+1)
	if r.IntN(5) == 0 {
		return
	}
	if r, answer := m.p.HandleMessage(x.conn, signal.AuthorizationApplied{Ref: ref}, m.now); !answer || !r.OK && r.Reason != signal.ReasonInvalidRef {
		m.Fatalf("gateway is replied %v", r)
	}
	m.drain()
}

// pushesGoOut says that a message to a client has gone out.
func (m *model) pushesGoOut(r *rand.Rand) {
	if x := m.pick(r, signal.RoleClient); x != nil && len(x.pushes) > 0 {
		m.pushGoesOut(x)
	}
}

func (m *model) pushGoesOut(x *party) {
	id := x.pushes[0]
	x.pushes = x.pushes[1:]
	m.pushed[id] = true
	m.p.HandleMessage(x.conn, signal.Pushed{ID: id}, m.now)
	m.drain()
}

func (m *model) candidates(r *rand.Rand) {
	list := signal.Candidates{signal.Candidate(fmt.Sprintf("candidate:%d 1 udp 7 x", r.IntN(10)))}
	n := r.IntN(worldClients)
	client := uuid(m.client(n).ID)
	gateway := uuid(testID(idGateway, r.IntN(worldGateways)))
	x := m.pick(r, oneOf(r, []signal.Role{signal.RoleClient, signal.RoleGateway}))
	if x == nil {
		return
	}
	msg := oneOf(r, []signal.Message{
		signal.CandidatesToPeer{ClientID: client, Candidates: list}, signal.CandidatesToGateway{GatewayID: gateway, Candidates: list},
		signal.InvalidToPeer{ClientID: client, Candidates: list}, signal.BroadcastToGateways{GatewayIDs: signal.List[signal.ID]{gateway}, Candidates: list},
	})
	if x.role == signal.RoleGateway {
		msg = oneOf(r, []signal.Message{
			signal.BroadcastInvalid{ClientIDs: signal.List[signal.ID]{client}, Candidates: list},
			signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{client}, Candidates: list},
		})
	}
	m.p.HandleMessage(x.conn, msg, m.now)
	m.drain()
}

// store carries out some of the writes, in any order, not always with success.
func (m *model) store(r *rand.Rand) {
	for n := 1 + r.IntN(8); n > 0 && len(m.writes) > 0; n-- {
		i := r.IntN(len(m.writes))
		w := m.writes[i]
		m.writes = slices.Delete(m.writes, i, i+1)
		err := m.carryOut(r, w)
		m.p.HandleStored(w.ID, err, m.now)
		m.drain()
	}
}

func (m *model) carryOut(r *rand.Rand, w Write) error {
	switch r.IntN(10) {
	case 0:
		return store.ErrBusy
	case 1:
		if r.IntN(2) == 0 {
			_ = m.write(w) // nobody will know
		}
		return store.ErrUncertain
	}
	return m.write(w)
}

// write carries out a write. The store refuses what its foreign keys do not let in.
func (m *model) write(w Write) error {
	if a := w.put; a != nil && (m.revoked[a.Token] || m.devices[uuid(a.Client)] == nil || m.devices[uuid(a.Gateway)] == nil) {
		return store.ErrNotFound
	}
	return w.Do(context.Background(), m.shelf)
}

// serve is a good moment: the store and the devices answer all they are asked.
func (m *model) serve(*rand.Rand) {
	for len(m.writes) > 0 {
		w := m.writes[0]
		m.writes = m.writes[1:]
		m.p.HandleStored(w.ID, m.write(w), m.now)
		m.drain()
	}
	for _, id := range sortedIDs(m.parties) {
		x := m.parties[id]
		if x.dead {
			continue
		}
		for _, ref := range x.asked {
			m.p.HandleMessage(x.conn, signal.AuthorizationApplied{Ref: ref}, m.now)
			m.drain()
		}
		x.asked = nil
		for m.parties[id] == x && len(x.pushes) > 0 {
			m.pushGoesOut(x)
		}
	}
}

// quiesce lets everything that is under way come to its end.
func (m *model) quiesce() {
	for i := 0; len(m.writes) > 0 || !m.p.Settled(); i++ {
		m.serve(nil)
		m.now = m.now.Add(revokePause)
		m.p.HandleTimeout(m.now)
		m.drain()
		if i > 100 {
			m.Fatal("writes never end")
		}
	}
	m.p.HandleTimeout(m.now)
	m.drain()
	m.checkStore()
}

// step is one thing that happens. Many are for authorizations to come about at all.
func (m *model) step(r *rand.Rand) {
	if r.IntN(60) == 0 {
		m.restart(r)
		return
	}
	often := []func(*rand.Rand){
		m.connectClient, m.connectClient, m.connectGateway, m.request, m.request, m.request, m.request, m.request, m.serve, m.serve,
		m.serve, m.gatewayAnswers, m.pushesGoOut, m.store, m.candidates, m.candidates, m.advance,
	}
	seldom := []func(*rand.Rand){
		m.disconnect, m.die, m.rejoin, m.editPolicy, m.revokeToken, m.verify, m.rename, m.deleteDevice, m.signIn, m.disablePerson,
		m.connectRelay, m.connectRelay, m.disconnectRelay, m.lackRelays, m.jump,
	}
	if all := often; r.IntN(5) > 0 {
		all[r.IntN(len(all))](r)
	} else {
		seldom[r.IntN(len(seldom))](r)
	}
}

// TestPortalKeepsItsPromises runs the portal against the model: whatever joins, drops, asks, is
// edited, revoked and restarted, no message comes out of order, no client is told of what policy
// denies, what is taken away is taken away within the same input, and every request is answered
// within its limit.
func TestPortalKeepsItsPromises(t *testing.T) {
	runs, authorizations, introductions, lost := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := checkPromises(t)
		runs, authorizations, introductions, lost = runs+1, authorizations+m.authorizations, introductions+m.introductions, lost+m.lost
	})
	if authorizations < runs || introductions < runs/4 || lost < runs {
		t.Errorf("%d runs with %d authorizations, %d introductions and %d lost messages prove little", runs, authorizations, introductions, lost)
	}
}

// checkPromises draws how it begins and how long it is. What happens is drawn uniformly, for rapid
// prefers small numbers, and then next to nothing would ever be authorized.
func checkPromises(t *rapid.T) *model {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "chance"), 1))
	m := newModel(t, r)
	for range 3 {
		m.connectGateway(r)
		m.connectClient(r)
	}
	for range rapid.IntRange(100, 400).Draw(t, "steps") {
		m.step(r)
	}
	m.quiesce()
	return m
}
