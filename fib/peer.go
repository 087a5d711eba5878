package fib

import (
	"net/netip"
	"sync/atomic"
)

// Path is where a peer's packets go now. Immutable once published; paths are compared by
// pointer, so control publishes a new one only when something differs.
type Path struct {
	// Remote is the peer's address.
	Remote netip.AddrPort
	// Local is our address to send from (packet info): the zero Addr leaves it to the kernel.
	Local netip.Addr
}

// LocalPort returns Local as batch.Train wants it; the port is the sending socket's.
func (p *Path) LocalPort() netip.AddrPort { return netip.AddrPortFrom(p.Local, 0) }

// Roaming says what an authenticated message from a new address does to a peer's path.
type Roaming uint8

// The kinds of roaming.
const (
	// RoamNever: paths come from control alone (portal-driven).
	RoamNever Roaming = iota
	// RoamFollow: the path follows the newest authenticated message, at once (plain WireGuard).
	RoamFollow
)

// Peer is one client as packets see it.
type Peer struct {
	// Set before publication, never written again.

	// ID is control's number for the peer; unique for the life of the process.
	ID uint64
	// Roaming says whether the loops report messages from new addresses.
	Roaming Roaming
	// Pad: messages to the peer are padded to 16 bytes (plain WireGuard; not portal-driven).
	Pad bool

	// Written by control, whole values only; the path also by the loops, when the peer roams.
	path    atomic.Pointer[Path]
	policy  atomic.Pointer[Policy]
	current atomic.Pointer[Session]
	next    atomic.Pointer[Session]

	// Written by the loops.
	_        [64]byte // keeps the loops' writes off the line that every batch loads
	activity struct {
		sent, received, dataSent, dataReceived atomic.Int64
	}
	awake   atomic.Bool
	untold  atomic.Bool // the path has moved and control did not hear of it
	wanting atomic.Bool
	answers atomic.Int64 // MayAnswer
	_       [64]byte
	lanes   []lane
	flows   Flows // locked by itself
}

// lane is one worker's traffic counters of one peer: one writer, on a cache line of its own, so
// that two workers that carry the same peer do not share a line.
type lane struct {
	received, sent atomic.Uint64
	_              [48]byte
}

// A lane has one writer, so a load and a store do.
func (l *lane) addReceived(n int) { l.received.Store(l.received.Load() + uint64(n)) }
func (l *lane) addSent(n int)     { l.sent.Store(l.sent.Load() + uint64(n)) }

// NewPeer returns a peer without path or session. lanes is the number of writers of its traffic
// counters: the workers, and one for control.
func NewPeer(id uint64, roaming Roaming, lanes int) *Peer {
	return &Peer{ID: id, Roaming: roaming, lanes: make([]lane, lanes)}
}

// Path returns where the peer's packets go now; nil if that is not known.
func (p *Peer) Path() *Path { return p.path.Load() }

// Policy returns what the peer may reach; nil for a peer that is held to its allowed IPs instead.
func (p *Peer) Policy() *Policy { return p.policy.Load() }

// Flows returns the peer's NAT table.
func (p *Peer) Flows() *Flows { return &p.flows }

// NextHop returns the path and the newest confirmed session to send under, or why there is none.
// Once per superpacket.
func (p *Peer) NextHop(now int64) (*Path, *Session, Verdict) {
	s := p.current.Load()
	if n := p.next.Load(); n != nil && n.confirmed.Load() {
		s = n
	}
	if s == nil || now >= s.lifetime.SendUntil {
		return nil, nil, DropNoSession
	}
	path := p.path.Load()
	if path == nil {
		return nil, nil, DropNoPath
	}
	return path, s, Pass
}

// Want reports the wish for a session, once until control has answered it (SetCurrent, or
// Unwanted).
func (p *Peer) Want() Wish {
	if p.wanting.Load() || !p.wanting.CompareAndSwap(false, true) {
		return 0
	}
	return WishSession
}

// Unwanted lets the next packet without a session report again. Called by control when it gave
// up, or has dropped what it kept.
func (p *Peer) Unwanted() { p.wanting.Store(false) }

// ArrivedFrom makes the path of a peer that roams lead to where an authenticated message came
// from, and reports the wish to tell control when that is new. The loops do this themselves
// because the next packet to the peer may be the answer to this very message: on the old path it
// would be lost, or, arriving from there, make the peer move back. local is the address of ours
// that the message was sent to: answers leave from there. It allocates when the peer moves, and only then.
func (p *Peer) ArrivedFrom(remote netip.AddrPort, local netip.Addr) Wish {
	if p.Roaming == RoamNever {
		return 0
	}
	path := p.path.Load()
	if path != nil && path.Remote == remote && (path.Local == local || !local.IsValid()) {
		if p.untold.Load() && p.untold.CompareAndSwap(true, false) {
			return WishRoam
		}
		return 0
	}
	if !p.path.CompareAndSwap(path, &Path{Remote: remote, Local: local}) {
		return 0 // control, or the other loop, has a newer one
	}
	return WishRoam
}

// wake reports the wish for timers when control has let them rest.
func (p *Peer) wake() Wish {
	if p.awake.Load() || !p.awake.CompareAndSwap(false, true) {
		return 0
	}
	return WishTimers
}

// Unheard takes back that control was told of the wishes w, because the ring towards it was full.
func (p *Peer) Unheard(w Wish) {
	if w&WishTimers != 0 {
		p.awake.Store(false)
	}
	if w&WishSession != 0 {
		p.wanting.Store(false)
	}
	if w&WishRoam != 0 {
		p.untold.Store(true)
	}
}

// Rest lets the next data packet report WishTimers. Called by control when no timer of the peer
// depends on traffic any more.
func (p *Peer) Rest() { p.awake.Store(false) }

// Activity is when a peer was last heard and spoken to, in fast-path time; 0 for never. Stamps
// lag the truth by up to StampGrain.
type Activity struct {
	// Sent and Received count every data message, keepalives included.
	Sent, Received int64
	// DataSent and DataReceived count only messages that carry a packet.
	DataSent, DataReceived int64
}

// Activity returns the stamps.
func (p *Peer) Activity() Activity {
	return Activity{
		Sent:         p.activity.sent.Load(),
		Received:     p.activity.received.Load(),
		DataSent:     p.activity.dataSent.Load(),
		DataReceived: p.activity.dataReceived.Load(),
	}
}

// SentKeepalive stamps a keepalive that control sealed itself, size bytes long.
func (p *Peer) SentKeepalive(size int, now int64) {
	p.lanes[len(p.lanes)-1].addSent(size)
	p.activity.sent.Store(now)
}

// SentByControl stamps a packet that control sealed itself, size bytes long.
func (p *Peer) SentByControl(size int, now int64) {
	p.SentKeepalive(size, now)
	p.activity.dataSent.Store(now)
}

// Handshook counts size bytes of handshake messages sent or received by control.
func (p *Peer) Handshook(received, sent int) {
	l := &p.lanes[len(p.lanes)-1]
	l.addReceived(received)
	l.addSent(sent)
}

// Traffic returns the bytes of messages received and sent so far, over all workers.
func (p *Peer) Traffic() (received, sent uint64) {
	for i := range p.lanes {
		received += p.lanes[i].received.Load()
		sent += p.lanes[i].sent.Load()
	}
	return received, sent
}

// StampGrain is by how many nanoseconds an activity stamp may lag: a line that several workers
// read is then written a hundred times a second at most. WireGuard's shortest timer is 10 s,
// and tests that speed timers up stay above 20 ms.
const StampGrain = 2_000_000

func stamp(at *atomic.Int64, now int64) {
	if now-at.Load() >= StampGrain {
		at.Store(now)
	}
}
