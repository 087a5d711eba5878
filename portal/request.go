package portal

import (
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// pending is a client's request without an answer yet.
type pending struct {
	client    *client
	resource  signal.ID
	target    netip.Addr // of a device pool
	connected []signal.ID
	deadline  *timer
	// auth is what the request waits for; nil while it waits for an earlier write.
	auth *authorization
	// sentTo is the channel of the gateway that has been asked, or of the client that is connected
	// to; zero before.
	sentTo ConnID
	// iceless is what it was told.
	iceless bool
	closed  bool
}

// pendingKey tells a client's requests apart: a newer one takes the place of an older one.
type pendingKey struct {
	resource signal.ID
	target   netip.Addr
}

const (
	// requestTimeout is how long a client is left without an answer.
	requestTimeout = 15 * time.Second
	// maxPending bounds the open requests of one client: far above the resources that somebody
	// opens within requestTimeout.
	maxPending = 256
	// maxConnected bounds how many of the gateways that a client names are looked at. One knows a
	// handful.
	maxConnected = 128
	// maxGrant bounds an authorization whose token and policy have no end; tokens of clients have.
	maxGrant = 7 * 24 * time.Hour
)

func (q *pending) key() pendingKey { return pendingKey{q.resource, q.target} }

// open reports whether the request still waits for an answer.
func (q *pending) open() bool { return !q.closed }

// request takes a client's wish for a resource.
func (p *Portal) request(c *client, m signal.RequestAuthorization, now time.Time) {
	p.stats.Requests++
	q := &pending{client: c, resource: m.ResourceID, connected: m.ConnectedGatewayIDs}
	if len(q.connected) > maxConnected {
		q.connected = q.connected[:maxConnected]
	}
	switch {
	case m.IPv4.IsValid() && m.IPv6.IsValid():
		p.deny(c, m, signal.AmbiguousAddress)
		return
	case m.IPv4.IsValid():
		q.target = m.IPv4.Addr
	case m.IPv6.IsValid():
		q.target = m.IPv6.Addr
	default:
		if r := c.account.resources[m.ResourceID]; r != nil && isPool(r.Type) {
			p.deny(c, m, signal.MissingAddress)
			return
		}
	}
	if old := c.pending[q.key()]; old != nil {
		p.close(old)
	}
	if len(c.pending) >= maxPending {
		p.stats.Full++
		p.answerRefusal(q, signal.Offline, nil)
		return
	}
	c.pending[q.key()] = q
	q.deadline = p.timers.start(now.Add(requestTimeout), "request unanswered", func(time.Time) {
		p.stats.TimedOut++
		p.refuse(q, signal.Offline, nil)
	})
	p.decide(q, now)
}

// decide answers no, or picks who is to answer and has the authorization stored.
func (p *Portal) decide(q *pending, now time.Time) {
	c := q.client
	r := c.account.resources[q.resource]
	if r == nil || !knows(c.Agent, c.version, r.Type) || isPool(r.Type) != q.target.IsValid() {
		p.refuse(q, signal.NotFound, nil)
		return
	}
	g, violated, ok := c.account.Authorize(r.ID, c.Actor, c.context(), now)
	if !ok && len(violated) == 0 {
		p.refuse(q, signal.NotFound, nil)
		return
	}
	expires := p.expiry(c, g, now)
	if !ok || expires.Unix() <= now.Unix() {
		p.refuse(q, signal.Forbidden, violated)
		return
	}
	var responder signal.ID
	var reason signal.Reason
	if isPool(r.Type) {
		responder, reason = p.selectDevice(c, r, q.target)
	} else {
		responder, reason = p.selectGateway(c, r, q.connected)
	}
	if reason != "" {
		p.refuse(q, reason, nil)
		return
	}
	p.authorize(q, responder, uuid(g.Policy.ID), expires, now)
}

func (p *Portal) expiry(c *client, g config.Grant, now time.Time) time.Time {
	if e := config.Expiry(g.Until, c.TokenExpires); !e.IsZero() {
		return e
	}
	return now.Add(maxGrant)
}

// authorize has an authorization stored, or waits until an earlier one for the same is.
func (p *Portal) authorize(q *pending, responder, policy signal.ID, expires, now time.Time) {
	c := q.client
	if c.account.id.IsZero() || policy.IsZero() || q.resource.IsZero() { // which nothing on the wire may be
		p.refuse(q, signal.NotFound, nil)
		return
	}
	if n := p.grants.pairs[pairKey{c.id, responder}]; n != nil && n.storing[q.resource] != nil {
		n.waiting[q.resource] = q
		return
	}
	a := &authorization{
		id: p.newID(), account: c.account.ID, client: c.id, gateway: responder, resource: q.resource, policy: policy,
		token: c.TokenID, provider: c.Actor.Provider, created: now, expires: expires, pending: q,
	}
	if len(p.grants.byID) >= maxAuthorizations || !p.writes.put(a) {
		p.stats.Full++
		p.refuse(q, signal.Offline, nil)
		return
	}
	p.grants.begin(a)
	q.auth = a
}

// tell passes a stored authorization on to who is to grant it.
func (p *Portal) tell(q *pending, now time.Time) {
	a := q.auth
	r := q.client.account.resources[a.resource]
	if r == nil || !now.Before(a.expires) {
		p.retry(a)
		return
	}
	if isPool(r.Type) {
		p.introduce(q, r, now)
		return
	}
	g := p.gateways[a.gateway]
	if g == nil {
		p.retry(a) // another gateway, perhaps
		return
	}
	p.createAuthorization(q, r, g, now)
}

// refuse answers no and closes the request.
func (p *Portal) refuse(q *pending, why signal.Reason, violated []config.Property) {
	p.close(q)
	p.answerRefusal(q, why, violated)
}

func (p *Portal) answerRefusal(q *pending, why signal.Reason, violated []config.Property) {
	p.stats.Refused[why]++
	if q.target.IsValid() {
		p.sendDenied(q.client, q.resource, q.target, why)
		return
	}
	m := signal.AuthorizationFailed{ResourceID: q.resource, Reason: why}
	for _, v := range violated {
		m.ViolatedProperties = append(m.ViolatedProperties, string(v))
	}
	p.send(q.client.conn, m)
}

// close ends a request without an answer. Its authorization stays: the gateway may have it already.
func (p *Portal) close(q *pending) {
	q.closed = true
	p.timers.cancel(q.deadline)
	if q.client.pending[q.key()] == q {
		delete(q.client.pending, q.key())
	}
	if a := q.auth; a != nil {
		q.auth, a.pending = nil, nil
		p.dropHeld(a)
	}
}

// dropHeld forgets candidates that no request of the pair will ever release.
func (p *Portal) dropHeld(a *authorization) {
	n := p.grants.pairs[pairKey{a.client, a.gateway}]
	if n == nil || len(n.held) == 0 {
		return
	}
	for _, other := range n.current {
		if other.pending != nil {
			return
		}
	}
	p.stats.CandidatesDropped += uint64(len(n.held))
	n.held = nil
}

// forgetRequests closes the requests of a client that has gone.
func (p *Portal) forgetRequests(c *client) {
	for _, q := range c.pending {
		p.close(q)
	}
}

// holderLost has the requests decided anew that waited for a gateway, or for a client that others
// connect to.
func (p *Portal) holderLost(m *member) {
	var again []*pending
	for _, n := range p.grants.byGateway[m.id] {
		n.held = nil
		for _, a := range n.current {
			if a.toldOn == m.conn {
				a.toldOn = 0
			}
			if q := a.pending; q != nil && q.sentTo == m.conn {
				q.auth, a.pending, q.sentTo = nil, nil, 0
				again = append(again, q)
			}
		}
	}
	slices.SortFunc(again, func(a, b *pending) int {
		if n := a.client.id.Compare(b.client.id); n != 0 {
			return n
		}
		return a.resource.Compare(b.resource)
	})
	p.again = append(p.again, again...)
}
