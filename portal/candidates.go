package portal

import (
	"slices"

	"github.com/firelane/firelane/protocol/signal"
)

// maxHeld bounds the candidates of one pair that wait until the client has been told of the
// gateway: an agent with two relays and two addresses of each family has a dozen.
const maxHeld = 64

// match reports whether both ends still have the keys under which one was told of the other.
func (k keys) match(client, gateway *member) bool {
	return k == keys{client.Device.PublicKey, gateway.Device.PublicKey}
}

// toGateway passes a client's message on to a gateway that has been told of the client.
func (p *Portal) toGateway(c *client, gateway signal.ID, m signal.Message) {
	g, n := p.gateways[gateway], p.grants.pairs[pairKey{c.id, gateway}]
	if g == nil || n == nil || !n.gatewayKnows.match(&c.member, &g.member) {
		p.stats.CandidatesDropped++
		return
	}
	p.send(g.conn, m)
}

// candidatesFromGateway passes candidates on to a client that has been told of the gateway, or holds
// them until it is.
func (p *Portal) candidatesFromGateway(g *gateway, client signal.ID, all signal.Candidates) {
	c, n := p.clients[client], p.grants.pairs[pairKey{client, g.id}]
	switch {
	case c == nil || n == nil:
		p.stats.CandidatesDropped++
	case n.clientKnows.match(&c.member, &g.member):
		p.send(c.conn, signal.CandidatesFromGateway{GatewayID: g.id, Candidates: all})
	case !n.asked(g):
		p.stats.CandidatesDropped++
	default:
		n.hold(all, &p.stats)
	}
}

// asked reports whether a request waits for the gateway's answer.
func (n *pair) asked(g *gateway) bool {
	for _, a := range n.current {
		if a.pending != nil && a.pending.sentTo == g.conn {
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

// invalidFromGateway passes on that candidates are gone, or drops them from those that are held.
func (p *Portal) invalidFromGateway(g *gateway, client signal.ID, all signal.Candidates) {
	c, n := p.clients[client], p.grants.pairs[pairKey{client, g.id}]
	switch {
	case c == nil || n == nil:
		p.stats.CandidatesDropped++
	case n.clientKnows.match(&c.member, &g.member):
		p.send(c.conn, signal.InvalidFromGateway{GatewayID: g.id, Candidates: all})
	default:
		n.held = slices.DeleteFunc(n.held, func(h signal.Candidate) bool { return slices.Contains(all, h) })
	}
}

// toPeer passes a client's message on to another client, if each has been told of the other.
func (p *Portal) toPeer(c *client, peer signal.ID, m signal.Message) bool {
	other := p.clients[peer]
	if other == nil || !p.introduced(c, other) && !p.introduced(other, c) {
		p.stats.CandidatesDropped++
		return false
	}
	p.send(other.conn, m)
	return true
}

func (p *Portal) introduced(initiator, target *client) bool {
	n := p.grants.pairs[pairKey{initiator.id, target.id}]
	return n != nil && n.clientKnows.match(&initiator.member, &target.member)
}
