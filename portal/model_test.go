package portal

import (
	"fmt"
	"math/rand/v2"
	"time"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// grantKey is a grant on a gateway, or on a client that others connect to.
type grantKey struct{ holder, client, resource signal.ID }

// grantHeld is what its holder knows about a grant.
type grantHeld struct {
	expires          time.Time
	token            string
	address, filters string
}

// openRequest is an unanswered request. The model follows one for a device pool at a time, since the
// answer does not name it.
type openRequest struct {
	resource signal.ID
	pool     bool
}

// party is a connected device as the model sees it.
type party struct {
	conn    ConnID
	connect Connect
	role    signal.Role
	id      signal.ID
	key     signal.PublicKey
	office  bool
	token   string
	began   bool
	// dead says that its channel is dead, and neither it nor the portal has noticed: nothing arrives.
	dead     bool
	view     map[signal.ID]bool
	requests map[openRequest]time.Time
	// wanted is the device pool of the request for one.
	wanted signal.ID
	// asked are refs of unanswered create_authorization.
	asked []string
	// pushes are messages that have not gone out yet, lastPush the last one about each client.
	pushes   []signal.ID
	lastPush map[signal.ID]signal.ID
	// relays are those it was told of last, presences how often it was without init.
	relays    []signal.ID
	presences int
	// changed says that the current input has brought a resource.
	changed bool
}

// keyPair is two ends that know of each other.
type keyPair struct {
	a, b       signal.ID
	keyA, keyB signal.PublicKey
}

// model is the reference: it follows the messages as the devices would, and complains.
type model struct {
	*rapid.T
	p       *Portal
	now     time.Time
	world   *world
	shelf   *shelf
	revoked map[string]bool
	// late says that time has passed of which the portal has not been told by HandleTimeout;
	// setBack that it has once gone back, between two runs.
	late, setBack bool

	next     ConnID
	boots    byte
	devices  map[signal.ID]*store.Device
	clients  [worldClients]int // how many of them have been deleted
	disabled bool              // the person
	tokens   map[string]int    // of whom how many have been revoked
	conns    map[ConnID]*party
	parties  map[signal.ID]*party
	relays   map[signal.ID]*party
	// relaysAt is when a relay came or went last.
	relaysAt time.Time
	grants   map[grantKey]grantHeld
	know     map[keyPair]bool // a knows b
	// pushed are pushes that have gone out.
	pushed map[signal.ID]bool
	writes []Write
	// made are the addresses of resources when authorizations for them were handed to the store.
	made map[string]string
	// authorizations and introductions are how many came about, lost how many messages have not arrived.
	authorizations, introductions, lost int
	// file is the policy file, running the one the portal has, kept the one it would start from.
	file, running, kept *config.File
}

func newModel(t *rapid.T, r *rand.Rand) *model {
	m := &model{
		T: t, now: start, world: drawWorld(r), shelf: &shelf{rows: map[string]store.Authorization{}}, revoked: map[string]bool{},
		devices: map[signal.ID]*store.Device{}, tokens: map[string]int{}, conns: map[ConnID]*party{}, parties: map[signal.ID]*party{},
		relays: map[signal.ID]*party{}, grants: map[grantKey]grantHeld{}, know: map[keyPair]bool{}, pushed: map[signal.ID]bool{},
		made: map[string]string{},
	}
	m.file = m.parse()
	m.kept = m.file
	m.boot(r)
	return m
}

func (m *model) parse() *config.File {
	f, err := config.Parse("policy", []byte(m.world.yaml()))
	if err != nil {
		m.Fatalf("%v\n%s", err, m.world.yaml())
	}
	return f
}

// actor is the n-th actor as a directory knows it now.
func (m *model) actor(n int) config.Actor {
	if n != worldPerson {
		return config.Actor{ServiceAccount: testID(idActor, n)}
	}
	var groups []string
	for i := range m.world.groups {
		if m.world.groups[i][worldPerson] {
			groups = append(groups, fmt.Sprintf("g%d", i))
		}
	}
	idp := testID(idProvider, 0)
	return config.Actor{Provider: idp, Claims: map[string]map[string][]string{idp: {"groups": groups}}}
}

// state is what a portal finds when it starts.
func (m *model) state() State {
	s := State{File: m.kept, Actors: map[string]config.Actor{}, Providers: map[string]string{}}
	for i := range worldActors {
		if i != worldPerson || !m.disabled {
			s.Actors[testID(idActor, i)] = m.actor(i)
		}
	}
	for _, id := range sortedIDs(m.devices) {
		s.Devices = append(s.Devices, *m.devices[id])
	}
	for _, row := range m.shelf.rows {
		s.Authorizations = append(s.Authorizations, row)
		if actorOf(uuid(row.Client)) == worldPerson {
			s.Providers[row.Token] = testID(idProvider, 0)
		}
	}
	return s
}

// boot starts a portal. What it may tell piece by piece is sometimes next to nothing.
func (m *model) boot(r *rand.Rand) {
	m.boots++
	m.p = New(Settings{Secret: key(7), Seed: key(m.boots), FlowLogs: signal.FlowLogs{APIURL: "https://localhost/"}}, m.state(), m.now)
	if r.IntN(2) == 0 {
		m.p.bounds = bounds{rejects: r.IntN(3), pieces: r.IntN(800), returning: r.IntN(3), updates: r.IntN(1000)}
	}
	m.running = m.kept
	m.follow()
	if m.running != m.file {
		m.running = m.file
		m.p.HandleConfig(m.file, m.now)
		m.drain()
	}
}

// drain follows what the portal puts out, and checks what must hold after every input.
func (m *model) drain() {
	m.follow()
	m.checkGrants()
	m.checkViews()
	m.checkRequests()
	m.checkPresence()
}

func (m *model) follow() {
	var out Output
	m.p.Drain(&out)
	for _, x := range m.conns {
		x.changed = false
	}
	for _, d := range out.Deliveries {
		m.deliver(d)
	}
	for _, w := range out.Writes {
		if w.put != nil {
			m.made[w.put.ID] = m.address(w.put)
		}
	}
	m.writes = append(m.writes, out.Writes...)
	if _, _, pending := m.p.NextTimeout(); pending && !m.p.out.empty() {
		m.Fatal("output is left after draining")
	}
	if m.p.Settled() {
		m.kept = m.running
	}
}

func (m *model) deliver(d Delivery) {
	x := m.conns[d.Conn]
	if x == nil {
		m.Fatalf("delivery %T to channel %d, which is not there", d.Message, d.Conn)
	}
	if d.Message != nil {
		if _, err := signal.EncodeFromPortal(x.role, signal.V2, d.Message); err != nil {
			m.Fatalf("message cannot be written: %v", err)
		}
		if x.dead {
			m.lose(x, d.Message)
		} else {
			m.message(x, d.Message)
		}
	}
	if d.End != Stay {
		delete(m.conns, d.Conn)
		if m.parties[x.id] == x {
			delete(m.parties, x.id)
		}
		if m.relays[x.id] == x {
			delete(m.relays, x.id)
			m.relaysAt = m.now
		}
	}
}

// message is a device taking a message.
func (m *model) message(x *party, msg signal.Message) {
	switch msg := msg.(type) {
	case signal.GatewayInit:
		x.began = true
		m.retain(x.id, msg.Authorizations)
		m.useRelays(x, nil, msg.Relays)
		return
	case signal.ClientInit:
		x.began, x.view = true, map[signal.ID]bool{}
		for _, r := range msg.Resources {
			x.view[r.ID] = true
		}
		m.retain(x.id, msg.Authorizations)
		m.useRelays(x, nil, msg.Relays)
		return
	case signal.RelayInit:
		x.began = true
		return
	case signal.Disconnect:
		return
	}
	if !x.began {
		m.Fatalf("%s before init", msg.Event())
	}
	switch msg := msg.(type) {
	case signal.RelaysPresence:
		x.presences++
		m.useRelays(x, msg.DisconnectedIDs, msg.Connected)
	case signal.ResourceChanged:
		x.view[msg.ID], x.changed = true, true
	case signal.ResourceDeleted:
		if !x.view[msg.ID] || x.changed {
			m.Fatalf("resource %v is deleted but unknown, or after an addition", msg.ID)
		}
		delete(x.view, msg.ID)
	case signal.RejectAccess:
		delete(m.grants, grantKey{x.id, msg.ClientID, msg.ResourceID})
	case signal.ResourceUpdated:
		m.refilter(x, msg.ID, msg.Filters)
	case signal.FiltersUpdated:
		m.refilter(x, msg.ID, msg.Filters)
	default:
		m.introduction(x, msg)
	}
}

// introduction is a device taking a message about another device.
func (m *model) introduction(x *party, msg signal.Message) {
	switch msg := msg.(type) {
	case signal.CreateAuthorization:
		m.create(x, msg)
	case signal.AuthorizationCreated:
		m.created(x, msg)
	case signal.AuthorizationFailed:
		m.answer(x, openRequest{msg.ResourceID, false})
	case signal.DeviceAccessAuthorized:
		m.introduced(x, msg)
	case signal.DeviceAccessDenied:
		if msg.ResourceID != x.wanted {
			m.Fatalf("answer about %v, %v was asked for", msg.ResourceID, x.wanted)
		}
		m.answer(x, openRequest{pool: true})
	case signal.CandidatesFromClient:
		m.mustKnow(x, msg.ClientID)
	case signal.CandidatesFromGateway:
		m.mustKnow(x, msg.GatewayID)
	case signal.CandidatesFromPeer:
		m.mustKnow(x, msg.ClientID)
	}
}

// retain is what init does to grants.
func (m *model) retain(holder signal.ID, listed []signal.Authorization) {
	expires := map[grantKey]time.Time{}
	for _, a := range listed {
		unix, _ := a.ExpiresAt.Unix()
		expires[grantKey{holder, a.ClientID, a.ResourceID}] = time.Unix(unix, 0)
	}
	for k, g := range m.grants {
		if k.holder != holder {
			continue
		}
		at, ok := expires[k]
		if !ok {
			delete(m.grants, k)
			continue
		}
		g.expires = at
		m.grants[k] = g
	}
}

func (m *model) refilter(x *party, resource signal.ID, filters []signal.Filter) {
	for k, g := range m.grants {
		if k.holder == x.id && k.resource == resource {
			g.filters = fmt.Sprint(filters)
			m.grants[k] = g
		}
	}
}

// grant is what a holder does when it is told to grant something. It would not change the address
// of what it grants already.
func (m *model) grant(k grantKey, g grantHeld) {
	if old, held := m.grants[k]; held && old.address != g.address && m.now.Before(old.expires) {
		m.Fatalf("%v is to grant %v at %s while it grants it at %s", k.holder, k.resource, g.address, old.address)
	}
	if c := m.parties[k.client]; g.expires.After(c.connect.TokenExpires) {
		m.Fatalf("a grant outlives the token of %v", k.client)
	}
	m.grants[k] = g
}

func (m *model) create(x *party, msg signal.CreateAuthorization) {
	row, stored := m.shelf.rows[msg.Ref]
	if !stored || row.Gateway != x.id.String() || row.Client != msg.Client.ID.String() || row.Resource != msg.Resource.ID.String() {
		m.Fatalf("authorization %s is told before it is stored", msg.Ref)
	}
	c := m.parties[msg.Client.ID]
	if c == nil || c.key != msg.Client.PublicKey {
		m.Fatal("authorization for a client that is not there, or has another key")
	}
	unix, _ := msg.ExpiresAt.Unix()
	m.grant(grantKey{x.id, c.id, msg.Resource.ID}, grantHeld{time.Unix(unix, 0), c.token, msg.Resource.Address, fmt.Sprint(msg.Resource.Filters)})
	m.know[keyPair{x.id, c.id, x.key, c.key}] = true
	x.asked = append(x.asked, msg.Ref)
}

func (m *model) created(x *party, msg signal.AuthorizationCreated) {
	g := m.parties[msg.GatewayID]
	if g == nil || g.key != msg.GatewayPublicKey {
		m.Fatal("client is sent to a gateway that is not there, or has another key")
	}
	if !m.allowed(x.id, msg.ResourceID) {
		m.Fatalf("client %v is told of an authorization for %v, which policy denies", x.id, msg.ResourceID)
	}
	if held, ok := m.grants[grantKey{g.id, x.id, msg.ResourceID}]; !ok || !m.now.Before(held.expires) {
		m.Fatal("client is sent to a gateway without a grant")
	}
	m.know[keyPair{x.id, g.id, x.key, g.key}] = true
	m.authorizations++
	m.answer(x, openRequest{msg.ResourceID, false})
}

func (m *model) introduced(x *party, msg signal.DeviceAccessAuthorized) {
	other := m.parties[msg.ClientID]
	if other == nil || other.key != msg.ClientPublicKey {
		m.Fatal("client is sent to one that is not there")
	}
	if msg.Role == signal.Controlled {
		unix, _ := msg.ExpiresAt.Unix()
		m.grant(grantKey{x.id, other.id, msg.Resource.ID}, grantHeld{expires: time.Unix(unix, 0), token: other.token, filters: fmt.Sprint(msg.Resource.Filters)})
		m.know[keyPair{x.id, other.id, x.key, other.key}] = true
		x.pushes = append(x.pushes, msg.Push)
		x.lastPush[other.id] = msg.Push
		return
	}
	if push := other.lastPush[x.id]; push.IsZero() || !m.pushed[push] {
		m.Fatal("initiator is told before its target's message has gone out")
	}
	held, ok := m.grants[grantKey{other.id, x.id, x.wanted}]
	if !m.allowed(x.id, x.wanted) || !m.isMember(x.wanted, other.id) || !ok || !m.now.Before(held.expires) {
		m.Fatal("initiator is told against the policy, or of a target without a grant")
	}
	m.know[keyPair{x.id, other.id, x.key, other.key}] = true
	m.introductions++
	m.answer(x, openRequest{pool: true})
}

func (m *model) answer(x *party, r openRequest) {
	if _, open := x.requests[r]; !open {
		m.Fatalf("answer about %v without a request", r.resource)
	}
	delete(x.requests, r)
}
