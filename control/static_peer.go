package control

import (
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// keptPerPeer bounds the packets that wait for a peer's session: as many as existing WireGuard
// implementations keep.
const keptPerPeer = 128

// keptInAll bounds them over all peers, at most 6 MiB.
const keptInAll = 4096

// staticPeer is one configured peer.
type staticPeer struct {
	wire          *wireguard.Peer
	fib           *fib.Peer
	psk           wireguard.PresharedKey
	endpoint      netip.AddrPort // zero when unknown
	path          *fib.Path
	keepalive     time.Duration
	allowed       []netip.Prefix
	sessions      map[uint32]*fib.Session // by local index; at most fib.SessionsPerPeer
	awaited       []*fib.Session          // those of them not known to be confirmed, oldest first
	lastHandshake time.Time
	kept          [][]byte // oldest first
	grants        *Grants  // nil unless there are policies
	epoch         uint64   // of the names in them
}

// publish makes a new session known to the loops and, if it may be used at once, sends what
// waited for it.
func (s *Static) publish(e wireguard.SessionEvent, now time.Time) {
	p := s.byWire[e.Peer]
	if p == nil {
		return
	}
	k := e.Keypair
	life := fib.Lifetime{
		RejectAt:         s.nanos(k.Expires()),
		SendUntil:        s.nanos(k.SendUntil()),
		RekeyOnSendAt:    fib.Never,
		RekeyOnReceiveAt: fib.Never, // looked at with the stamps, every few seconds
	}
	received := wireguard.InitiationSize
	if k.Initiator() {
		life.RekeyOnSendAt = s.nanos(k.RekeyAt())
		received = wireguard.ResponseSize
	}
	p.fib.Handshook(received, 0)
	session := fib.NewSession(p.fib, k, e.Confirmed, life)
	p.sessions[session.Index] = session
	s.change(fib.PutSession{Session: session})
	s.setPath(p, e.Endpoint)
	if !e.Confirmed {
		p.awaited = append(p.awaited, session)
		s.change(fib.SetNext{Session: session})
		return
	}
	p.lastHandshake = now
	s.change(fib.SetCurrent{Session: session})
	if !s.release(p, session, now) {
		s.seal(p, session, nil, now) // the responder waits for a first message
	}
}

// withdraw ends a session for the loops.
func (s *Static) withdraw(w wireguard.Withdrawn) {
	p := s.byWire[w.Peer]
	if p == nil {
		return
	}
	if session := p.sessions[w.LocalIndex]; session != nil {
		delete(p.sessions, w.LocalIndex)
		p.awaited = slices.DeleteFunc(p.awaited, func(a *fib.Session) bool { return a == session })
		s.change(fib.DelSession{Session: session})
	}
}

// setPath makes remote where a peer's packets go.
func (s *Static) setPath(p *staticPeer, remote netip.AddrPort) {
	if !remote.IsValid() {
		return
	}
	local := s.arrived.of(remote)
	if old := p.path; old != nil && old.Remote == remote && old.Local == local && old == p.fib.Path() {
		return
	}
	p.endpoint = remote
	p.path = &fib.Path{Remote: remote, Local: local}
	s.change(fib.SetPath{Peer: p.fib, Path: p.path})
}

// keep stores a copy of a packet until the peer has a session. At the bounds the oldest packet of
// the peer goes, or the new one if the peer has none.
func (s *Static) keep(p *staticPeer, b []byte) {
	if len(p.kept) == keptPerPeer || s.kept == keptInAll {
		s.lost.KeptOverflow++
		if len(p.kept) == 0 {
			return
		}
		p.kept = slices.Delete(p.kept, 0, 1)
		s.kept--
	}
	p.kept = append(p.kept, slices.Clone(b))
	s.kept++
}

// release sends what a peer's packets have waited for, and reports whether there was any.
func (s *Static) release(p *staticPeer, session *fib.Session, now time.Time) bool {
	sent := false
	for _, b := range p.kept {
		sent = s.seal(p, session, b, now) || sent
	}
	s.kept -= len(p.kept)
	p.kept = nil
	return sent
}

// dropKept gives up what waits for a peer's session, and lets the next packet ask again.
func (s *Static) dropKept(p *staticPeer) {
	s.lost.KeptExpired += uint64(len(p.kept))
	s.kept -= len(p.kept)
	p.kept = nil
	p.fib.Unwanted()
}

// sendKeepalive seals an empty message under the newest session.
func (s *Static) sendKeepalive(p *staticPeer, now time.Time) {
	if p == nil {
		return
	}
	if session := s.newest(p); session != nil {
		s.seal(p, session, nil, now)
	}
}

// newest returns the session that the handshake machine would seal with.
func (s *Static) newest(p *staticPeer) *fib.Session {
	k := p.wire.Current()
	if k == nil {
		return nil
	}
	return p.sessions[k.LocalIndex()]
}

// seal queues a data message around b, padded as the peer's messages are; an empty b makes a
// keepalive.
func (s *Static) seal(p *staticPeer, session *fib.Session, b []byte, now time.Time) bool {
	if p.path == nil {
		s.lost.NoPath++
		return false
	}
	first, ok := session.Keys.Take(1)
	if !ok {
		s.lost.KeyExhausted++
		return false
	}
	padded := len(b)
	if p.fib.Pad {
		padded = min((len(b)+15)&^15, max(len(b), s.cfg.Table.MTU()))
	}
	msg := make([]byte, wireguard.DataMinSize+padded)
	copy(msg[wireguard.HeaderSize:], b)
	session.Keys.Seal(&s.scratch, [][]byte{msg}, first)
	s.send(p.path.Remote, p.path.Local, msg)
	if len(b) == 0 {
		p.fib.SentKeepalive(len(msg), s.nanos(now))
	} else {
		p.fib.SentByControl(len(msg), s.nanos(now))
	}
	return true
}

// sendHandshake queues a handshake message.
func (s *Static) sendHandshake(d wireguard.Datagram) {
	p := s.byWire[d.Peer]
	to, local := d.To, s.arrived.of(d.To)
	if !to.IsValid() && p != nil && p.path != nil {
		to, local = p.path.Remote, p.path.Local
	}
	if !to.IsValid() {
		s.lost.NoPath++
		return
	}
	s.send(to, local, d.Bytes)
	if p != nil {
		p.fib.Handshook(0, len(d.Bytes))
	}
}

func (s *Static) send(to netip.AddrPort, local netip.Addr, b []byte) {
	if !s.up {
		s.lost.Late++
		return
	}
	s.out.Datagrams = append(s.out.Datagrams, Datagram{Local: netip.AddrPortFrom(local, 0), Remote: to, Bytes: b})
}

// inOrder returns the peers in the order they were made.
func (s *Static) inOrder() []*staticPeer {
	all := make([]*staticPeer, 0, len(s.peers))
	for _, p := range s.peers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *staticPeer) int { return int(a.fib.ID) - int(b.fib.ID) })
	return all
}
