package portal

import (
	"slices"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

const (
	// maxHeld bounds the candidates of one pair that wait until the client has been told of the
	// gateway: an agent with two relays and two addresses of each family has a dozen.
	maxHeld = 64
	// A device may have candidateBurst candidates, new and withdrawn ones, passed on to one other at
	// once, and another one every candidateInterval: an agent that gathers a dozen, twenty times.
	// So nobody can occupy somebody else, and a broadcast grows by no more than that.
	candidateBurst    = 256
	candidateInterval = time.Second / 16
)

// allowance is a token bucket of candidates, kept as the time at which it will be full.
type allowance struct{ fullAt time.Time }

// take takes n, if they are there.
func (a *allowance) take(n int, now time.Time) bool {
	at := a.fullAt
	if at.Before(now) {
		at = now
	}
	at = at.Add(time.Duration(n) * candidateInterval)
	if at.Sub(now) > candidateBurst*candidateInterval {
		return false
	}
	a.fullAt = at
	return true
}

// match reports whether both ends still have the keys under which one was told of the other.
func (k keys) match(client, gateway *member) bool {
	return k == keys{client.Device.PublicKey, gateway.Device.PublicKey}
}

// introduced notes that both ends have been told of each other.
func (n *pair) introduced(c *client, other *member) {
	n.known = keys{c.Device.PublicKey, other.Device.PublicKey}
}

// dropped counts candidates that go nowhere.
func (p *Portal) dropped(all signal.Candidates) { p.stats.CandidatesDropped += uint64(len(all)) }

// toGateway passes a client's candidates on to a gateway that has been told of the client, or that
// they are gone.
func (p *Portal) toGateway(c *client, gateway signal.ID, all signal.Candidates, gone bool, now time.Time) {
	g, n := p.gateways[gateway], p.grants.pairs[pairKey{c.id, gateway}]
	switch {
	case g == nil || n == nil || !n.known.match(&c.member, &g.member) || !n.fromClient.take(len(all), now):
		p.dropped(all)
	case gone:
		p.send(g.conn, signal.InvalidFromClient{ClientID: c.id, Candidates: all})
	default:
		p.send(g.conn, signal.CandidatesFromClient{ClientID: c.id, Candidates: all})
	}
}

// candidatesFromGateway passes candidates on to a client that has been told of the gateway, or holds
// them until it is.
func (p *Portal) candidatesFromGateway(g *gateway, client signal.ID, all signal.Candidates, now time.Time) {
	c, n := p.clients[client], p.grants.pairs[pairKey{client, g.id}]
	switch {
	case c == nil || n == nil || !n.fromGateway.take(len(all), now):
		p.dropped(all)
	case n.known.match(&c.member, &g.member):
		p.send(c.conn, signal.CandidatesFromGateway{GatewayID: g.id, Candidates: all})
	case n.asked(g.conn):
		n.hold(all, &p.stats)
	default:
		p.dropped(all)
	}
}

// invalidFromGateway passes on that candidates are gone, or drops them from those that are held.
func (p *Portal) invalidFromGateway(g *gateway, client signal.ID, all signal.Candidates, now time.Time) {
	c, n := p.clients[client], p.grants.pairs[pairKey{client, g.id}]
	switch {
	case c == nil || n == nil || !n.fromGateway.take(len(all), now):
		p.dropped(all)
	case n.known.match(&c.member, &g.member):
		p.send(c.conn, signal.InvalidFromGateway{GatewayID: g.id, Candidates: all})
	default:
		n.release(all)
	}
}

// asked reports whether a request waits for the answer of the gateway or client on this channel.
func (n *pair) asked(conn ConnID) bool {
	for _, a := range n.current {
		if a.pending != nil && a.pending.sentTo == conn {
			return true
		}
	}
	return false
}

func (n *pair) hold(all signal.Candidates, s *Stats) {
	for _, candidate := range all {
		switch {
		case slices.Contains(n.held, candidate):
		case len(n.held) >= maxHeld:
			s.CandidatesDropped++
		default:
			n.held = append(n.held, candidate)
		}
	}
}

// release lets go of candidates that are held.
func (n *pair) release(all signal.Candidates) {
	n.held = slices.DeleteFunc(n.held, func(h signal.Candidate) bool { return slices.Contains(all, h) })
}

// candidatesToPeer passes a client's candidates on to another client that has been told of it, or
// holds them until it is.
func (p *Portal) candidatesToPeer(c *client, peer signal.ID, all signal.Candidates, now time.Time) {
	n, from := p.between(c, peer)
	other := p.clients[peer]
	switch {
	case other == nil || n == nil || !from.take(len(all), now):
		p.dropped(all)
	case p.knows(other, c):
		p.send(other.conn, signal.CandidatesFromPeer{ClientID: c.id, Candidates: all})
	case n.gateway == c.id && n.asked(c.conn):
		n.hold(all, &p.stats)
	default:
		p.dropped(all)
	}
}

// invalidToPeer passes on that candidates are gone, or drops them from those that are held. It
// reports false if there is nobody who knew of them.
func (p *Portal) invalidToPeer(c *client, peer signal.ID, all signal.Candidates, now time.Time) bool {
	n, from := p.between(c, peer)
	other := p.clients[peer]
	switch {
	case other == nil || n == nil:
		p.dropped(all)
		return false
	case !from.take(len(all), now):
		p.dropped(all)
	case p.knows(other, c):
		p.send(other.conn, signal.InvalidFromPeer{ClientID: c.id, Candidates: all})
	case n.gateway == c.id && n.asked(c.conn):
		n.release(all)
	default:
		p.dropped(all)
		return false
	}
	return true
}

// between returns the pair of two clients and what c may still have passed on in it. Of two pairs it
// is the one in which the other has asked, for there c may have to wait.
func (p *Portal) between(c *client, other signal.ID) (*pair, *allowance) {
	if n := p.grants.pairs[pairKey{other, c.id}]; n != nil {
		return n, &n.fromGateway
	}
	if n := p.grants.pairs[pairKey{c.id, other}]; n != nil {
		return n, &n.fromClient
	}
	return nil, nil
}

// knows reports whether a client has been told of another: as the one who has asked, or as the one
// who is connected to.
func (p *Portal) knows(c, other *client) bool {
	asked, target := p.grants.pairs[pairKey{c.id, other.id}], p.grants.pairs[pairKey{other.id, c.id}]
	return asked != nil && asked.known.match(&c.member, &other.member) ||
		target != nil && target.known.match(&other.member, &c.member)
}
