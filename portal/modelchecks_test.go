package portal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// clientOf is which client of the world a device is, deleted ones included, and actorOf whose.
func clientOf(id signal.ID) int { return number(id) % worldGenerations }
func actorOf(id signal.ID) int  { return clientOf(id) % worldActors }

// allowed asks the world, with what is known about the client.
func (m *model) allowed(client, resource signal.ID) bool { return m.allowedAt(client, resource, false) }

func (m *model) allowedAt(client, resource signal.ID, timeless bool) bool {
	x, d := m.parties[client], m.devices[client]
	if d == nil || actorOf(client) == worldPerson && m.disabled {
		return false
	}
	return m.world.allows(actorOf(client), number(resource), seat{x != nil && x.office, x != nil, d.Verified, timeless}, m.now)
}

// isMember asks the world whether a device is in a pool.
func (m *model) isMember(pool, device signal.ID) bool {
	d := m.devices[device]
	switch number(pool) {
	case worldStatic:
		return d != nil && number(device) < worldClients && m.world.members[number(device)]
	case worldDynamic:
		return d != nil && strings.HasSuffix(d.Name, ".dyn")
	}
	return false
}

// mayGrant asks the world whether a grant may be. Its end takes care of the times of policies, unless
// the clock was set back.
func (m *model) mayGrant(k grantKey) bool {
	n := number(k.resource)
	if n < worldStatic && number(k.holder)%worldSites != m.world.resources[n].site || n >= worldStatic && !m.isMember(k.resource, k.holder) {
		return false
	}
	return m.allowedAt(k.client, k.resource, m.setBack)
}

// checkGrants: no connected holder has a grant that policy denies, or whose token is revoked, or with
// another address or filters than the resource's.
func (m *model) checkGrants() {
	for k, g := range m.grants {
		if x := m.parties[k.holder]; x == nil || !x.began || x.dead || !m.now.Before(g.expires) {
			continue
		}
		if !m.mayGrant(k) || m.revoked[g.token] {
			m.Fatalf("%v still grants %v the resource %v", k.holder, k.client, k.resource)
		}
		r := &m.world.resources[number(k.resource)]
		if want := fmt.Sprint(r.wireFilters()); g.filters != want {
			m.Fatalf("%v grants %v with filters %s, should be %s", k.holder, k.resource, g.filters, want)
		}
		if n := number(k.resource); n < worldStatic && g.address != r.network(n) {
			m.Fatalf("%v grants %v at %s, should be %s", k.holder, k.resource, g.address, r.network(n))
		}
	}
}

// checkViews: every client sees what it may use. Times are looked at once a minute.
func (m *model) checkViews() {
	for _, x := range m.parties {
		if x.role != signal.RoleClient || !x.began || x.dead {
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

// checkRequests: none is unanswered for longer than it may be.
func (m *model) checkRequests() {
	if m.late {
		return
	}
	for _, x := range m.conns {
		if x.dead {
			continue
		}
		for r, at := range x.requests {
			if m.now.Sub(at) > requestTimeout {
				m.Fatalf("request for %v is unanswered after %v", r.resource, m.now.Sub(at))
			}
		}
	}
}

// relaysQuiet is how long after the last change of relays every device has been told.
const relaysQuiet = presenceQuiet + time.Second

// checkPresence: the portal has exactly those channels that are there, from the moment they join; and
// when relays have been quiet, every device has as many as it should.
func (m *model) checkPresence() {
	clients, gateways := 0, 0
	for id, x := range m.parties {
		var conn ConnID
		if c := m.p.clients[id]; c != nil && x.role == signal.RoleClient {
			conn, clients = c.conn, clients+1
		} else if g := m.p.gateways[id]; g != nil && x.role == signal.RoleGateway {
			conn, gateways = g.conn, gateways+1
		}
		if conn != x.conn || !x.began {
			m.Fatalf("%v is on channel %d, the portal has %d; told of its state: %v", id, x.conn, conn, x.began)
		}
		if !m.late && !x.dead && m.now.Sub(m.relaysAt) >= relaysQuiet {
			m.checkRelays(x)
		}
	}
	s := m.p.Stats()
	if s.Clients != clients || s.Gateways != gateways || s.Relays != len(m.relays) || len(m.p.conns) != len(m.conns) {
		m.Fatalf("portal has %d clients, %d gateways, %d relays and %d channels; there are %d, %d, %d and %d",
			s.Clients, s.Gateways, s.Relays, len(m.p.conns), clients, gateways, len(m.relays), len(m.conns))
	}
}

func (m *model) checkRelays(x *party) {
	if len(x.relays) != min(relaysEach, len(m.relays)) {
		m.Fatalf("%v has %d relays of %d", x.id, len(x.relays), len(m.relays))
	}
	for _, id := range x.relays {
		if m.relays[id] == nil {
			m.Fatalf("%v has a relay that has gone", x.id)
		}
	}
}

// address is where the world has the resource of an authorization; empty for device pools.
func (m *model) address(a *store.Authorization) string {
	n := number(uuid(a.Resource))
	if n >= worldStatic {
		return ""
	}
	return m.world.resources[n].network(n)
}

// checkSettled: a portal that starts with the file that was kept finds no authorization that an edit up to
// it has ended. (One that had expired is there again if the clock is set back.)
func (m *model) checkSettled() {
	if m.setBack || m.kept != m.file {
		return
	}
	for id, a := range m.shelf.rows {
		if want := m.address(&a); m.now.Before(a.Expires) && m.made[id] != want {
			m.Fatalf("the file is settled, yet the store keeps an authorization for %s, now %s", m.made[id], want)
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
		if !m.mayGrant(grantKey{uuid(r.Gateway), uuid(r.Client), uuid(r.Resource)}) || m.revoked[r.Token] {
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

func (m *model) mustKnow(x *party, other signal.ID) {
	o := m.parties[other]
	if o == nil || !m.know[keyPair{x.id, o.id, x.key, o.key}] {
		m.Fatalf("candidates of %v reach %v, which does not know it", other, x.id)
	}
}

// useRelays is a device taking a list of relays.
func (m *model) useRelays(x *party, gone []signal.ID, list []signal.Relay) {
	for _, id := range gone {
		if m.relays[id] != nil || !slices.Contains(x.relays, id) {
			m.Fatalf("relay %v is said to be gone", id)
		}
	}
	x.relays = nil
	for _, r := range list {
		if m.relays[r.ID] == nil {
			m.Fatalf("relay %v is not there", r.ID)
		}
		if n := len(x.relays); n == 0 || x.relays[n-1] != r.ID { // the other address of the same is next to it
			x.relays = append(x.relays, r.ID)
		}
	}
}
