package portal

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// selectDevice finds the member of a device pool that has an address, if it can be connected to.
func (p *Portal) selectDevice(c *client, r *resource, target netip.Addr) (signal.ID, signal.Reason) {
	d := p.directory.byAddr[addrKey{c.account.ID, target}]
	switch {
	case d == nil || !r.isMember(d):
		return signal.ID{}, signal.Forbidden
	case d.id == c.id:
		return signal.ID{}, signal.InvalidAddress
	}
	other := p.clients[d.id]
	switch {
	case other == nil:
		return signal.ID{}, signal.Offline
	case !knows(other.Agent, other.version, r.Type),
		other.version.major != c.version.major, other.version.minor != c.version.minor:
		return signal.ID{}, signal.VersionMismatch
	}
	return d.id, ""
}

// introduce tells a client that another may connect to it. The other one is told when that has gone
// out: it starts at once, and the target would not know whom it hears.
func (p *Portal) introduce(q *pending, r *resource, now time.Time) {
	a, c := q.auth, q.client
	target := p.clients[a.gateway]
	if target == nil {
		p.retry(a)
		return
	}
	psk, err := signal.DerivePeerPSK(c.self(), target.self(), c.base, target.base)
	token, tokenErr := p.ingestToken(c, a, r, signal.Responder, now)
	if errors.Join(err, tokenErr) != nil {
		p.refuse(q, signal.Offline, nil)
		return
	}
	ofClient, ofTarget := signal.DeriveICE(c.self(), target.self())
	q.sentTo, q.iceless = target.conn, p.iceless(&c.member, &target.member)
	a.applied = true // of a pool a target keeps nothing but filters, which it is told after its init
	p.send(target.conn, signal.DeviceAccessAuthorized{
		ClientID: c.id, ClientName: c.device.name, ClientPublicKey: c.Device.PublicKey,
		ClientIPv4: signal.Addr4{Addr: c.device.ipv4}, ClientIPv6: signal.Addr6{Addr: c.device.ipv6}, PresharedKey: psk,
		LocalICE: ofTarget, RemoteICE: ofClient, Role: signal.Controlled, UseICEless: q.iceless, ExpiresAt: a.expiresAt(),
		Resource: r.asPool(), Subject: c.subject(), IngestToken: token, Push: a.id,
	})
}

// pushed takes that the target of an introduction has been told. Only a request that still waits for
// it gets to know.
func (p *Portal) pushed(target *client, m signal.Pushed, now time.Time) {
	a := p.grants.byID[m.ID]
	if a == nil || a.pending == nil || a.gateway != target.id || a.pending.sentTo != target.conn {
		p.stats.LateAnswers++
		return
	}
	if !now.Before(a.expires) {
		p.retry(a)
		return
	}
	p.introduced(a.pending, target, now)
}

// introduced tells the client that has asked, and passes on what its target has said meanwhile.
func (p *Portal) introduced(q *pending, target *client, now time.Time) {
	a, c := q.auth, q.client
	r := c.account.resources[a.resource]
	psk, err := signal.DerivePeerPSK(c.self(), target.self(), c.base, target.base)
	token, tokenErr := p.ingestToken(c, a, r, signal.Initiator, now)
	if errors.Join(err, tokenErr) != nil {
		p.refuse(q, signal.Offline, nil)
		return
	}
	ofClient, ofTarget := signal.DeriveICE(c.self(), target.self())
	p.send(c.conn, signal.DeviceAccessAuthorized{
		ClientID: target.id, ClientName: target.device.name, ClientPublicKey: target.Device.PublicKey,
		ClientIPv4: signal.Addr4{Addr: target.device.ipv4}, ClientIPv6: signal.Addr6{Addr: target.device.ipv6}, PresharedKey: psk,
		LocalICE: ofClient, RemoteICE: ofTarget, Role: signal.Controlling, UseICEless: q.iceless,
		IngestToken: token,
	})
	p.stats.Authorized++
	n := p.grants.pair(c.id, target.id)
	n.introduced(c, &target.member)
	if len(n.held) > 0 {
		p.send(c.conn, signal.CandidatesFromPeer{ClientID: target.id, Candidates: n.held})
		n.held = nil
	}
	p.close(q)
}

// deny answers a request that names no device.
func (p *Portal) deny(c *client, m signal.RequestAuthorization, why signal.Reason) {
	p.stats.Refused[why]++
	p.send(c.conn, signal.DeviceAccessDenied{IPv4: m.IPv4, IPv6: m.IPv6, ResourceID: m.ResourceID, Reason: why})
}

func (p *Portal) sendDenied(c *client, resource signal.ID, target netip.Addr, why signal.Reason) {
	m := signal.DeviceAccessDenied{ResourceID: resource, Reason: why}
	if target.Is4() {
		m.IPv4 = signal.Addr4{Addr: target}
	} else {
		m.IPv6 = signal.Addr6{Addr: target}
	}
	if d := p.directory.byAddr[addrKey{c.account.ID, target}]; d != nil && why != signal.NotFound && why != signal.Forbidden {
		m.ClientID = d.id
	}
	p.send(c.conn, m)
}

// resolve answers for the name of a device in a dynamic pool.
func (p *Portal) resolve(c *client, m signal.ResolvePoolDomain, now time.Time) {
	fail := signal.PoolDomainFailed{ResourceID: m.ResourceID, Domain: m.Domain, Reason: signal.NotFound}
	r := c.account.resources[m.ResourceID]
	if r == nil || r.Type != config.DynamicDevicePool {
		p.send(c.conn, fail)
		return
	}
	d := p.directory.named(c.account.ID, m.Domain)
	if _, _, ok := c.account.Authorize(r.ID, c.Actor, c.context(), now); !ok || d == nil || !r.isMember(d) {
		p.send(c.conn, fail)
		return
	}
	p.send(c.conn, signal.PoolDomainResolved{
		ResourceID: r.id, Domain: m.Domain, IPv4: signal.Addr4{Addr: d.ipv4}, IPv6: signal.Addr6{Addr: d.ipv6},
	})
}

// showPools follows a device that is new, renamed or gone: pools that list it read differently, and
// it may have left others.
func (p *Portal) showPools(a *account, device signal.ID) {
	text := device.String()
	for _, r := range a.order {
		if r.Type != config.StaticDevicePool {
			continue
		}
		if _, listed := slices.BinarySearch(r.Devices, text); !listed {
			continue
		}
		before := r.shown
		if a.show(r, &p.directory); reflect.DeepEqual(before, r.shown) {
			r.shown = before
			continue
		}
		for _, c := range inOrder(a.clients) {
			if c.visible[r.id] != nil {
				c.visible[r.id] = r.shown
				p.send(c.conn, r.told(c))
			}
		}
	}
	for _, of := range p.grants.atGateway(device) {
		if !p.holds(of) {
			p.revoke(of)
		}
	}
}

// matches reports whether a name in lower case fits a pattern: ** stands for anything, * for
// anything but dots, ? for one character that is no dot.
func matches(pattern, name string) bool {
	// reached[i] says whether the pattern so far can match name[:i]; patterns and names are at most
	// 255 bytes, so this is bounded where backtracking would not be.
	reached := make([]bool, len(name)+1)
	reached[0] = true
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*':
			any := i+1 < len(pattern) && pattern[i+1] == '*'
			if any {
				i++
			}
			for j := range name {
				reached[j+1] = reached[j+1] || reached[j] && (any || name[j] != '.')
			}
		default:
			for j := len(name); j > 0; j-- {
				reached[j] = reached[j-1] && (c == name[j-1] || c == '?' && name[j-1] != '.')
			}
			reached[0] = false
		}
	}
	return reached[len(name)]
}
