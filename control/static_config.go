package control

import (
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// DeviceChange is a change of the device's own key and its peers. Nil leaves a setting as it is.
type DeviceChange struct {
	// PrivateKey replaces the static key; all zeroes removes it.
	PrivateKey *wireguard.PrivateKey
	// ReplacePeers removes all peers first.
	ReplacePeers bool
	// Peers are applied in order; a key may appear more than once.
	Peers []PeerChange
}

// PeerChange is a change of one peer, which is made if it does not exist.
type PeerChange struct {
	PublicKey wireguard.PublicKey
	// Remove deletes the peer; UpdateOnly ignores a peer that does not exist.
	Remove, UpdateOnly bool
	PresharedKey       *wireguard.PresharedKey
	// Endpoint is where packets go until the peer is heard from; the zero value leaves it.
	Endpoint netip.AddrPort
	// Keepalive is the persistent keepalive interval; 0 turns it off.
	Keepalive *time.Duration
	// ReplaceAllowed empties the allowed IPs first.
	ReplaceAllowed bool
	Allowed        []AllowedChange
}

// AllowedChange gives a prefix to a peer, taking it from whoever had it, or takes it away.
type AllowedChange struct {
	Prefix netip.Prefix
	Remove bool
}

// PeerState is what is known of one peer.
type PeerState struct {
	PublicKey     wireguard.PublicKey
	PresharedKey  wireguard.PresharedKey
	Endpoint      netip.AddrPort
	LastHandshake time.Time
	Received      uint64 // bytes of messages
	Sent          uint64
	Keepalive     time.Duration
	Allowed       []netip.Prefix
}

// PrivateKey returns the static key; all zeroes for none.
func (s *Static) PrivateKey() wireguard.PrivateKey { return s.key }

// Peers returns the state of all peers, in the order they were made. The caller owns it.
func (s *Static) Peers() []PeerState {
	all := make([]PeerState, 0, len(s.peers))
	for _, p := range s.inOrder() {
		received, sent := p.fib.Traffic()
		all = append(all, PeerState{
			PublicKey:     p.wire.PublicKey(),
			PresharedKey:  p.psk,
			Endpoint:      p.endpoint,
			LastHandshake: p.lastHandshake,
			Received:      received,
			Sent:          sent,
			Keepalive:     p.keepalive,
			Allowed:       slices.Clone(p.allowed),
		})
	}
	return all
}

// Configure applies a change. What precedes an error stays applied, as with the kernel's
// WireGuard. Errors wrap ErrConfig.
func (s *Static) Configure(c DeviceChange, now time.Time) error {
	routes := s.routes
	err := s.configure(c, now)
	if s.routes != routes {
		s.change(fib.SetRoutes{Routes: s.routes})
	}
	s.pump(now)
	return err
}

func (s *Static) configure(c DeviceChange, now time.Time) error {
	if c.PrivateKey != nil && *c.PrivateKey != s.key {
		s.setPrivateKey(*c.PrivateKey, now)
	}
	if c.ReplacePeers {
		for _, p := range s.inOrder() {
			s.remove(p, now)
		}
	}
	for i := range c.Peers {
		if err := s.configurePeer(&c.Peers[i], now); err != nil {
			return err
		}
	}
	return nil
}

func (s *Static) setPrivateKey(key wireguard.PrivateKey, now time.Time) {
	s.key = key
	if p := s.peers[key.Public()]; p != nil && !key.IsZero() {
		s.remove(p, now) // nobody is a peer of itself
	}
	s.device.SetPrivateKey(key, now)
	for _, p := range s.inOrder() {
		if len(p.kept) == 0 || !p.wire.Initiate(wireguard.WhyData, now) {
			s.dropKept(p) // the attempt that packets waited for has ended with the old key
		}
	}
}

func (s *Static) configurePeer(c *PeerChange, now time.Time) error {
	p := s.peers[c.PublicKey]
	if c.Remove {
		if p != nil {
			s.remove(p, now)
		}
		return nil
	}
	if p == nil {
		if c.UpdateOnly || c.PublicKey == s.device.PublicKey() {
			return nil // like the kernel, which ignores a peer that is oneself
		}
		var err error
		if p, err = s.add(c, now); err != nil {
			return err
		}
	} else if c.PresharedKey != nil {
		p.wire.SetPresharedKey(*c.PresharedKey)
	}
	if c.PresharedKey != nil {
		p.psk = *c.PresharedKey
	}
	s.arrived.forget(c.Endpoint) // the kernel shall choose anew where to send from
	s.setPath(p, c.Endpoint)
	if err := s.configureAllowed(p, c); err != nil {
		return err
	}
	if c.Keepalive != nil && *c.Keepalive != p.keepalive {
		p.keepalive = *c.Keepalive
		if s.up {
			p.wire.SetPersistentKeepalive(p.keepalive, now)
		}
	}
	return nil
}

// add makes a peer that the loops know but cannot reach yet.
func (s *Static) add(c *PeerChange, now time.Time) (*staticPeer, error) {
	id, ok := uint32(0), len(s.peers) < fib.MaxPeers
	if ok {
		id, ok = s.connectionID()
	}
	if !ok {
		return nil, configError("add peer: there are %d already, the most one device takes", fib.MaxPeers)
	}
	var psk wireguard.PresharedKey
	if c.PresharedKey != nil {
		psk = *c.PresharedKey
	}
	wire, err := s.device.AddPeer(c.PublicKey, psk, wireguard.PeerConfig{ConnectionID: id}, now)
	if err != nil {
		s.cfg.Table.FreeConnectionID(id)
		return nil, configError("add peer: %w", err)
	}
	s.lastID++
	p := &staticPeer{
		wire:     wire,
		fib:      fib.NewPeer(s.lastID, fib.RoamFollow, s.cfg.Lanes),
		sessions: make(map[uint32]*fib.Session, fib.SessionsPerPeer),
	}
	p.fib.Pad = s.cfg.Policy.PadTo16
	s.peers[c.PublicKey], s.byWire[wire], s.byFib[p.fib] = p, p, p
	s.holdToPolicy(p, now)
	return p, nil
}

// connectionID takes a connection id that is not zero, which the handshake machine refuses.
func (s *Static) connectionID() (uint32, bool) {
	return s.cfg.Table.TakeConnectionID(func() uint32 { return s.rng.Uint32N(1<<24-1) + 1 })
}

// remove forgets a peer: addresses first, then its path and sessions, then its connection id.
func (s *Static) remove(p *staticPeer, now time.Time) {
	for _, prefix := range p.allowed {
		s.routes = s.routes.Without(prefix)
	}
	s.dropKept(p)
	s.change(fib.SetRoutes{Routes: s.routes})
	s.change(fib.DelPeer{Peer: p.fib})
	s.closeFlows(p)
	s.device.RemovePeer(p.wire.PublicKey(), now)
	s.pump(now) // its sessions are withdrawn while it is still known
	delete(s.peers, p.wire.PublicKey())
	delete(s.byWire, p.wire)
	delete(s.byFib, p.fib)
	s.change(fib.DropConnection{ID: p.wire.ConnectionID()})
}

func (s *Static) configureAllowed(p *staticPeer, c *PeerChange) error {
	if c.ReplaceAllowed {
		for _, prefix := range p.allowed {
			s.routes = s.routes.Without(prefix)
		}
		p.allowed = nil
	}
	for _, a := range c.Allowed {
		prefix := a.Prefix.Masked()
		if !prefix.IsValid() {
			return configError("add allowed IP: %v is no prefix", a.Prefix)
		}
		owner := s.byFib[s.routes.Owner(prefix)]
		switch {
		case a.Remove && owner == p:
			s.routes = s.routes.Without(prefix)
			p.disallow(prefix)
		case a.Remove || owner == p:
		case owner == nil && s.routes.Len() >= s.most:
			return configError("add allowed IP: there are %d already, the most one device takes", s.most)
		default:
			if owner != nil {
				owner.disallow(prefix)
			}
			s.routes = s.routes.With(prefix, p.fib)
			p.allowed = append(p.allowed, prefix)
		}
	}
	return nil
}

func (p *staticPeer) disallow(prefix netip.Prefix) {
	p.allowed = slices.DeleteFunc(p.allowed, func(q netip.Prefix) bool { return q == prefix })
}
