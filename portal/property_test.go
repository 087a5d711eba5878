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
	row := m.device(worldClient(n), r.IntN(6) == 0)
	c := clientConnect(row)
	office := r.IntN(2) == 0
	if !office {
		c.Remote = netip.MustParseAddr("203.0.113.9")
	}
	c.TokenID = fmt.Sprintf("token-%d-%d", n, m.tokens[uuid(row.ID)])
	c.TokenExpires = m.now.Add(time.Duration(oneOf(r, []int{5, 600, 3 * 3600})) * time.Second)
	m.join(c, &party{role: signal.RoleClient, office: office, token: c.TokenID})
}

func (m *model) connectGateway(r *rand.Rand) {
	row := m.device(worldGateway(r.IntN(worldGateways)), r.IntN(4) == 0)
	c := gatewayConnect(row)
	c.Agent.Version = oneOf(r, []string{"1.6.1", "1.6.1", "1.6.1", "1.6.1", "1.5.0", "1.9.0", "x"})
	if m.parties[uuid(row.ID)] == nil && r.IntN(4) == 0 {
		for k := range m.grants {
			if k.holder == uuid(row.ID) {
				delete(m.grants, k)
			}
		}
	}
	m.join(c, &party{role: signal.RoleGateway})
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

func (m *model) join(c Connect, x *party) {
	m.next++
	x.conn, x.id, x.key, x.requests = m.next, uuid(c.Device.ID), c.Device.PublicKey, map[openRequest]time.Time{}
	m.conns[x.conn] = x
	// From now on the portal may only speak of the new channel.
	m.parties[x.id] = x
	m.p.HandleConnect(x.conn, c, m.now)
	m.drain()
}

func (m *model) pick(r *rand.Rand, role signal.Role) *party {
	var all []*party
	for _, id := range sortedKeys(m.parties) {
		if m.parties[id].role == role {
			all = append(all, m.parties[id])
		}
	}
	if len(all) == 0 {
		return nil
	}
	return oneOf(r, all)
}

func (m *model) disconnect(r *rand.Rand) {
	x := m.pick(r, oneOf(r, []signal.Role{signal.RoleClient, signal.RoleGateway}))
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
	if view := sortedKeys(x.view); len(view) > 0 && r.IntN(5) > 0 {
		n = number(oneOf(r, view))
	}
	msg := signal.RequestAuthorization{ResourceID: uuid(testID(idResource, n))}
	pool := n == worldResources-1
	if pool {
		msg.IPv4 = signal.Addr4{Addr: worldClient(r.IntN(worldClients)).IPv4}
		if _, open := x.requests[openRequest{msg.ResourceID, true}]; open {
			return // the model follows one request for the pool at a time
		}
	}
	x.requests[openRequest{msg.ResourceID, pool}] = m.now
	m.p.HandleMessage(x.conn, msg, m.now)
	m.drain()
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

func (m *model) candidates(r *rand.Rand) {
	list := signal.Candidates{signal.Candidate(fmt.Sprintf("candidate:%d 1 udp 7 x", r.IntN(10)))}
	client := uuid(testID(idClient, r.IntN(worldClients)))
	gateway := uuid(testID(idGateway, r.IntN(worldGateways)))
	x := m.pick(r, oneOf(r, []signal.Role{signal.RoleClient, signal.RoleGateway}))
	if x == nil {
		return
	}
	var msg signal.Message
	switch {
	case x.role == signal.RoleGateway && r.IntN(2) == 0:
		msg = signal.BroadcastInvalid{ClientIDs: signal.List[signal.ID]{client}, Candidates: list}
	case x.role == signal.RoleGateway:
		msg = signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{client}, Candidates: list}
	case r.IntN(2) == 0:
		msg = signal.CandidatesToPeer{ClientID: client, Candidates: list}
	default:
		msg = signal.CandidatesToGateway{GatewayID: gateway, Candidates: list}
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
	if w.put != nil && m.revoked[w.put.Token] {
		return store.ErrNotFound
	}
	switch r.IntN(10) {
	case 0:
		return store.ErrBusy
	case 1:
		if r.IntN(2) == 0 {
			_ = w.Do(context.Background(), m.shelf) // nobody will know
		}
		return store.ErrUncertain
	}
	return w.Do(context.Background(), m.shelf)
}

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
	id := uuid(testID(idClient, r.IntN(worldClients)))
	token := fmt.Sprintf("token-%d-%d", number(id), m.tokens[id])
	m.tokens[id]++
	m.revoked[token] = true
	for row, a := range m.shelf.rows {
		if a.Token == token {
			delete(m.shelf.rows, row)
		}
	}
	m.p.HandleTokenRevoked(token, m.now)
	m.drain()
}

func (m *model) verify(r *rand.Rand) {
	id := uuid(testID(idClient, r.IntN(worldClients)))
	if m.devices[id] == nil {
		return
	}
	m.devices[id].Verified = !m.devices[id].Verified
	m.p.HandleDeviceChanged(*m.devices[id], m.now)
	m.drain()
}

func (m *model) advance(r *rand.Rand) {
	d := time.Duration(oneOf(r, []int{1, 1, 2, 5, 10, 61, 1200})) * time.Second
	for end := m.now.Add(d); m.now.Before(end); {
		m.now = m.now.Add(time.Second)
		if at, _, ok := m.p.NextTimeout(); ok && !m.now.Before(at) {
			m.p.HandleTimeout(m.now)
		}
		m.drain()
	}
}

// restart ends the portal in the middle of its writes: some are on the disk, some not.
func (m *model) restart(r *rand.Rand) {
	for _, w := range m.writes {
		if r.IntN(2) == 0 && (w.put == nil || !m.revoked[w.put.Token]) {
			_ = w.Do(context.Background(), m.shelf) // nobody waits for it
		}
	}
	m.writes = nil
	clear(m.conns)
	clear(m.parties)
	m.restored()
	m.boot()
}

// restored: what the portal finds in the store, it takes for known to both ends.
func (m *model) restored() {
	for _, a := range m.shelf.rows {
		c, g := m.devices[uuid(a.Client)], m.devices[uuid(a.Gateway)]
		m.know[keyPair{uuid(c.ID), uuid(g.ID), c.PublicKey, g.PublicKey}] = true
		m.know[keyPair{uuid(g.ID), uuid(c.ID), g.PublicKey, c.PublicKey}] = true
	}
}

// quiesce lets everything that is under way come to its end.
func (m *model) quiesce() {
	for i := 0; len(m.writes) > 0 || !m.p.Settled(); i++ {
		for _, w := range m.writes {
			err := error(store.ErrNotFound)
			if w.put == nil || !m.revoked[w.put.Token] {
				err = w.Do(context.Background(), m.shelf)
			}
			m.writes = m.writes[1:]
			m.p.HandleStored(w.ID, err, m.now)
			m.drain()
		}
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
	actions := []func(*rand.Rand){
		m.connectClient, m.connectClient, m.connectGateway, m.disconnect, m.request, m.request, m.request, m.serve, m.serve,
		m.gatewayAnswers, m.gatewayAnswers, m.store, m.store, m.candidates, m.candidates, m.editPolicy, m.revokeToken, m.verify, m.advance,
	}
	if r.IntN(40) == 0 {
		m.restart(r)
		return
	}
	actions[r.IntN(len(actions))](r)
}

// serve is a good moment: the store and the gateways answer all they are asked.
func (m *model) serve(r *rand.Rand) {
	for len(m.writes) > 0 {
		w := m.writes[0]
		m.writes = m.writes[1:]
		err := error(store.ErrNotFound)
		if w.put == nil || !m.revoked[w.put.Token] {
			err = w.Do(context.Background(), m.shelf)
		}
		m.p.HandleStored(w.ID, err, m.now)
		m.drain()
	}
	for _, id := range sortedKeys(m.parties) {
		x := m.parties[id]
		for _, ref := range x.asked {
			m.p.HandleMessage(x.conn, signal.AuthorizationApplied{Ref: ref}, m.now)
			m.drain()
		}
		x.asked = nil
	}
}

// TestPortalKeepsItsPromises runs the portal against the model: whatever joins, drops, asks, is
// edited, revoked and restarted, no message comes out of order, no client is told of what policy
// denies, what is taken away is taken away within the same input, and every request is answered
// within its limit.
func TestPortalKeepsItsPromises(t *testing.T) {
	rapid.Check(t, checkPromises)
}

// checkPromises draws how it begins and how long it is. What happens is drawn uniformly, for rapid
// prefers small numbers, and then next to nothing would ever be authorized.
func checkPromises(t *rapid.T) {
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
}
