package portal

import (
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// grantKey is a grant on a gateway, or on a client that others connect to.
type grantKey struct{ holder, client, resource signal.ID }

type grantHeld struct {
	expires time.Time
	token   string
}

type openRequest struct {
	resource signal.ID
	pool     bool
}

// party is a connected device as the model sees it.
type party struct {
	conn     ConnID
	role     signal.Role
	id       signal.ID
	key      signal.PublicKey
	office   bool
	token    string
	began    bool
	view     map[signal.ID]bool
	requests map[openRequest]time.Time
	// asked are refs of unanswered create_authorization.
	asked []string
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

	next     ConnID
	boots    byte
	devices  map[signal.ID]*store.Device
	tokens   map[signal.ID]int
	conns    map[ConnID]*party
	parties  map[signal.ID]*party
	grants   map[grantKey]grantHeld
	answered map[ConnID]map[string]bool
	know     map[keyPair]bool // a knows b
	writes   []Write
	// file is the policy file, running the one the portal has, kept the one it would start from.
	file, running, kept *config.File
}

func newModel(t *rapid.T, r *rand.Rand) *model {
	m := &model{
		T: t, now: start, world: drawWorld(r), shelf: &shelf{rows: map[string]store.Authorization{}}, revoked: map[string]bool{},
		devices: map[signal.ID]*store.Device{}, tokens: map[signal.ID]int{}, conns: map[ConnID]*party{}, parties: map[signal.ID]*party{},
		grants: map[grantKey]grantHeld{}, answered: map[ConnID]map[string]bool{}, know: map[keyPair]bool{},
	}
	m.file = m.parse()
	m.kept = m.file
	m.boot()
	return m
}

func (m *model) parse() *config.File {
	f, err := config.Parse("policy", []byte(m.world.yaml()))
	if err != nil {
		m.Fatalf("%v\n%s", err, m.world.yaml())
	}
	return f
}

func (m *model) boot() {
	var rows []store.Device
	for _, id := range sortedKeys(m.devices) {
		rows = append(rows, *m.devices[id])
	}
	m.boots++
	m.p = New(Settings{Secret: key(7), Seed: key(m.boots), FlowLogs: signal.FlowLogs{APIURL: "https://localhost/"}}, worldState(m.kept, rows, m.shelf.rows), m.now)
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
		m.message(x, d.Message)
	}
	if d.End != Stay {
		delete(m.conns, d.Conn)
		if m.parties[x.id] == x {
			delete(m.parties, x.id)
		}
	}
}

// message is a device taking a message.
func (m *model) message(x *party, msg signal.Message) {
	switch msg.(type) {
	case signal.GatewayInit, signal.ClientInit, signal.RelayInit, signal.Disconnect:
	default:
		if !x.began {
			m.Fatalf("%s before init", msg.Event())
		}
	}
	switch msg := msg.(type) {
	case signal.GatewayInit:
		x.began = true
		m.retain(x.id, msg.Authorizations)
	case signal.ClientInit:
		x.began, x.view = true, map[signal.ID]bool{}
		for _, r := range msg.Resources {
			x.view[r.ID] = true
		}
		m.retain(x.id, msg.Authorizations)
	case signal.ResourceChanged:
		x.view[msg.ID], x.changed = true, true
	case signal.ResourceDeleted:
		if !x.view[msg.ID] || x.changed {
			m.Fatalf("resource %v is deleted but unknown, or after an addition", msg.ID)
		}
		delete(x.view, msg.ID)
	case signal.CreateAuthorization:
		m.create(x, msg)
	case signal.RejectAccess:
		delete(m.grants, grantKey{x.id, msg.ClientID, msg.ResourceID})
	case signal.AuthorizationCreated:
		m.created(x, msg)
	case signal.AuthorizationFailed:
		m.answer(x, openRequest{msg.ResourceID, false})
	case signal.DeviceAccessAuthorized:
		m.introduced(x, msg)
	case signal.DeviceAccessDenied:
		m.answer(x, openRequest{msg.ResourceID, true})
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
		m.grants[k] = grantHeld{at, g.token}
	}
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
	m.grants[grantKey{x.id, c.id, msg.Resource.ID}] = grantHeld{time.Unix(unix, 0), c.token}
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
	if _, ok := m.grants[grantKey{g.id, x.id, msg.ResourceID}]; !ok {
		m.Fatal("client is sent to a gateway without a grant")
	}
	m.know[keyPair{x.id, g.id, x.key, g.key}] = true
	m.answer(x, openRequest{msg.ResourceID, false})
}

func (m *model) introduced(x *party, msg signal.DeviceAccessAuthorized) {
	other := m.parties[msg.ClientID]
	if other == nil || other.key != msg.ClientPublicKey {
		m.Fatal("client is sent to one that is not there")
	}
	m.know[keyPair{x.id, other.id, x.key, other.key}] = true
	if msg.Role == signal.Controlled {
		unix, _ := msg.ExpiresAt.Unix()
		m.grants[grantKey{x.id, other.id, msg.Resource.ID}] = grantHeld{time.Unix(unix, 0), other.token}
		return
	}
	pool := uuid(testID(idResource, worldResources-1))
	if !m.know[keyPair{other.id, x.id, other.key, x.key}] || !m.allowed(x.id, pool) {
		m.Fatal("initiator is told before the target, or against the policy")
	}
	m.answer(x, openRequest{pool, true})
}

func (m *model) answer(x *party, r openRequest) {
	if _, open := x.requests[r]; !open {
		m.Fatalf("answer about %v without a request", r.resource)
	}
	delete(x.requests, r)
}

func (m *model) mustKnow(x *party, other signal.ID) {
	o := m.parties[other]
	if o == nil || !m.know[keyPair{x.id, o.id, x.key, o.key}] {
		m.Fatalf("candidates of %v reach %v, which does not know it", other, x.id)
	}
}

// allowed asks the world, with what is known about the client.
func (m *model) allowed(client, resource signal.ID) bool {
	x, verified := m.parties[client], m.devices[client].Verified
	return m.world.allows(number(client)%worldActors, number(resource), x != nil && x.office, x != nil, verified, m.now)
}

// checkGrants: no connected holder has a grant that policy denies, or whose token is revoked.
func (m *model) checkGrants() {
	for k, g := range m.grants {
		if x := m.parties[k.holder]; x == nil || !x.began || !m.now.Before(g.expires) {
			continue
		}
		if !m.allowed(k.client, k.resource) || m.revoked[g.token] {
			m.Fatalf("%v still grants %v the resource %v", k.holder, k.client, k.resource)
		}
	}
}

// checkViews: every client sees what it may use. Times are looked at once a minute.
func (m *model) checkViews() {
	for _, x := range m.parties {
		if x.role != signal.RoleClient || !x.began {
			continue
		}
		for i := range worldResources {
			r := uuid(testID(idResource, i))
			timed := slices.ContainsFunc(m.world.policies[:], func(p worldPolicy) bool { return p.resource == i && p.condition == atDaytime })
			if want := m.allowed(x.id, r); want != x.view[r] && !timed {
				m.Fatalf("client %v sees resource %d: %v, should be %v", x.id, i, x.view[r], want)
			}
		}
	}
}

func (m *model) checkRequests() {
	for _, x := range m.conns {
		for r, at := range x.requests {
			if m.now.Sub(at) > requestTimeout {
				m.Fatalf("request for %v is unanswered after %v", r.resource, m.now.Sub(at))
			}
		}
	}
}

// checkStore: with nothing under way, the store has what the portal has, and policy allows.
func (m *model) checkStore() {
	var have, want []string
	for id, r := range m.shelf.rows {
		if !m.now.Before(r.Expires) {
			continue
		}
		have = append(have, id)
		if !m.allowed(uuid(r.Client), uuid(r.Resource)) || m.revoked[r.Token] {
			m.Fatalf("store keeps an authorization of %s for %s", r.Client, r.Resource)
		}
	}
	for id, a := range m.p.grants.byID {
		if !a.storing {
			want = append(want, id.String())
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		m.Fatalf("store has %v, portal %v", have, want)
	}
}
