package portal

import (
	"errors"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

// HandleMessage takes a message from a channel. If answer is true the device gets the reply.
func (p *Portal) HandleMessage(conn ConnID, m signal.Message, now time.Time) (reply signal.Reply, answer bool) {
	p.now = now
	switch from := p.conns[conn].(type) {
	case *client:
		p.clientMessage(from, m, now)
	case *gateway:
		reply, answer = p.gatewayMessage(from, m, now)
	case *relay: // relays have nothing to say
	}
	p.settle(now)
	return reply, answer
}

func (p *Portal) clientMessage(c *client, m signal.Message, now time.Time) {
	switch m := m.(type) {
	case signal.Capabilities:
		c.iceless = m.ICEless
	case signal.RequestAuthorization:
		p.request(c, m, now)
	case signal.CandidatesToGateway:
		p.toGateway(c, m.GatewayID, m.Candidates, false, now)
	case signal.InvalidToGateway:
		p.toGateway(c, m.GatewayID, m.Candidates, true, now)
	case signal.BroadcastToGateways:
		for _, id := range unique(m.GatewayIDs) {
			p.toGateway(c, id, m.Candidates, false, now)
		}
	case signal.InvalidBroadcastToGateways:
		for _, id := range unique(m.GatewayIDs) {
			p.toGateway(c, id, m.Candidates, true, now)
		}
	case signal.CandidatesToPeer:
		p.candidatesToPeer(c, m.ClientID, m.Candidates, now)
	case signal.InvalidToPeer:
		if !p.invalidToPeer(c, m.ClientID, m.Candidates, now) {
			p.send(c.conn, signal.PeerCandidateError{ClientID: m.ClientID, Reason: signal.Offline})
		}
	case signal.ResolvePoolDomain:
		p.resolve(c, m, now)
	case signal.NoRelays:
		p.reselectRelays(&c.member)
	case signal.Pushed:
		p.pushed(c, m, now)
	}
}

func (p *Portal) gatewayMessage(g *gateway, m signal.Message, now time.Time) (reply signal.Reply, answer bool) {
	switch m := m.(type) {
	case signal.Capabilities:
		g.iceless = m.ICEless
	case signal.AuthorizationApplied:
		return p.applied(g, m, now), true
	case signal.BroadcastCandidates:
		for _, id := range unique(m.ClientIDs) {
			p.candidatesFromGateway(g, id, m.Candidates, now)
		}
	case signal.BroadcastInvalid:
		for _, id := range unique(m.ClientIDs) {
			p.invalidFromGateway(g, id, m.Candidates, now)
		}
	case signal.NoRelays:
		p.reselectRelays(&g.member)
	}
	return signal.Reply{}, false
}

// createAuthorization asks a gateway to grant what has been stored.
func (p *Portal) createAuthorization(q *pending, r *resource, g *gateway, now time.Time) {
	a, c := q.auth, q.client
	psk, err := signal.DerivePSK(c.self(), g.self(), c.base, g.base)
	token, tokenErr := p.ingestToken(c, a, r, signal.Responder, now)
	if errors.Join(err, tokenErr) != nil {
		p.refuse(q, signal.Offline, nil)
		return
	}
	ofClient, ofGateway := signal.DeriveICE(c.self(), g.self())
	q.sentTo, q.iceless, a.toldOn = g.conn, p.iceless(&c.member, &g.member), g.conn
	p.send(g.conn, signal.CreateAuthorization{
		Ref:      a.id.String(),
		Resource: r.atGateway(),
		Client: signal.Client{
			ID: c.id, PublicKey: c.Device.PublicKey, PresharedKey: psk,
			IPv4: signal.Addr4{Addr: c.device.ipv4}, IPv6: signal.Addr6{Addr: c.device.ipv6},
			Version: signal.Text(c.Agent.Version), DeviceOSName: signal.Text(c.Agent.OS), DeviceOSVersion: signal.Text(c.Agent.OSVersion),
			DeviceSerial: signal.Text(c.Params.DeviceSerial), DeviceUUID: signal.Text(c.Params.DeviceUUID),
			IdentifierForVendor:    signal.Text(c.Params.IdentifierForVendor),
			FirebaseInstallationID: signal.Text(c.Params.FirebaseInstallationID),
		},
		ClientICE: ofClient, GatewayICE: ofGateway, ExpiresAt: a.expiresAt(), UseICEless: q.iceless,
		IngestToken: token, Subject: c.subject(),
	})
}

func (p *Portal) iceless(a, b *member) bool { return p.settings.ICEless && a.iceless && b.iceless }

// applied takes a gateway's answer. Only a request that still waits for it gets to know.
func (p *Portal) applied(g *gateway, m signal.AuthorizationApplied, now time.Time) signal.Reply {
	id, err := signal.ParseID(m.Ref)
	a := p.grants.byID[id]
	if err != nil || a == nil || a.gateway != g.id || a.storing {
		p.stats.LateAnswers++
		return signal.Reply{Reason: signal.ReasonInvalidRef}
	}
	a.applied = a.applied || a.toldOn == g.conn
	q := a.pending
	if q == nil || q.sentTo != g.conn {
		p.stats.LateAnswers++
		return signal.Reply{OK: true}
	}
	if !now.Before(a.expires) {
		p.retry(a)
		return signal.Reply{OK: true}
	}
	p.authorizationCreated(q, g, now)
	return signal.Reply{OK: true}
}

func (p *Portal) authorizationCreated(q *pending, g *gateway, now time.Time) {
	a, c := q.auth, q.client
	r := c.account.resources[a.resource]
	psk, err := signal.DerivePSK(c.self(), g.self(), c.base, g.base)
	token, tokenErr := p.ingestToken(c, a, r, signal.Initiator, now)
	if errors.Join(err, tokenErr) != nil {
		p.refuse(q, signal.Offline, nil)
		return
	}
	ofClient, ofGateway := signal.DeriveICE(c.self(), g.self())
	p.send(c.conn, signal.AuthorizationCreated{
		ResourceID: r.id, SiteID: g.site, GatewayID: g.id, GatewayPublicKey: g.Device.PublicKey,
		GatewayIPv4: signal.Addr4{Addr: g.device.ipv4}, GatewayIPv6: signal.Addr6{Addr: g.device.ipv6},
		PresharedKey: psk, ClientICE: ofClient, GatewayICE: ofGateway,
		UseICEless: q.iceless, IngestToken: token, LegacyNames: c.legacy,
	})
	p.stats.Authorized++
	n := p.grants.pair(c.id, g.id)
	n.introduced(c, &g.member)
	if len(n.held) > 0 {
		p.send(c.conn, signal.CandidatesFromGateway{GatewayID: g.id, Candidates: n.held})
		n.held = nil
	}
	p.close(q)
}

// subject tells gateways who asks.
func (c *client) subject() *signal.Subject {
	s := &signal.Subject{
		ActorID: signal.Text(c.device.owner), ActorName: signal.Text(c.ActorName), ActorEmail: signal.Text(c.Actor.Email),
		ActorType: signal.Text(c.ActorKind), AuthProviderID: signal.Text(c.Actor.Provider),
		IPRegion: signal.Text(c.Location.Region), IPCity: signal.Text(c.Location.City), UserAgent: signal.Text(c.UserAgent),
	}
	if c.Remote.IsValid() {
		s.IP = signal.Text(c.Remote.String())
	}
	if c.Location.Located {
		lat, lon := c.Location.Latitude, c.Location.Longitude
		s.IPLat, s.IPLon = &lat, &lon
	}
	return s
}

// unique returns the ids without repetitions, in the order of the first ones. Devices name one.
func unique(ids []signal.ID) []signal.ID {
	if len(ids) < 2 {
		return ids
	}
	seen := make(map[signal.ID]bool, len(ids))
	return having(ids, func(id signal.ID) bool {
		again := seen[id]
		seen[id] = true
		return !again
	})
}
