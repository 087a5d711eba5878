package fastpath

import (
	"net/netip"
	"sync/atomic"

	"github.com/firelane/firelane/fib"
)

// PuntKind says what a punt is.
type PuntKind uint8

// The kinds of punt.
const (
	// PuntOuter: an outer datagram that is control's: a handshake message, STUN.
	PuntOuter PuntKind = iota
	// PuntInner: an inner packet for a peer that has no session yet. Control keeps it and sends
	// it under the next session.
	PuntInner
	// PuntRefused: an inner packet, or the headers of a superpacket, that Verdict says how to
	// answer: one from the peer, or with ReplyTooBig one from a resource to the peer.
	PuntRefused
	// PuntWish: no packet, only what a loop noticed about a peer or session.
	PuntWish
)

// Punted is one entry of a punt ring.
type Punted struct {
	Kind PuntKind
	// Wish is what control should act on.
	Wish fib.Wish
	// Verdict is why a refused packet is to be answered.
	Verdict fib.Verdict
	// Peer is set for inner packets and wishes; Session where the wish is about one.
	Peer    *fib.Peer
	Session *fib.Session
	// Local is our socket, with the address that was addressed; Remote is who sent it.
	Local, Remote netip.AddrPort
	// Payload is the ring's own copy. After Pop it is the popper's, until the next Pop into the
	// same Punted.
	Payload []byte
}

// puntBytes is the longest payload a punt carries: a STUN message or an inner packet of the
// largest usual MTU. Longer ones are dropped and counted; superpackets are not punted.
const puntBytes = 1536

type puntSlot struct {
	p    Punted
	n    int
	data [puntBytes]byte
}

// Punts is a bounded ring from one worker to control: one pusher, one popper, no lock.
type Punts struct {
	head  atomic.Uint64 // next slot to push; written by the worker
	_     [56]byte
	tail  atomic.Uint64 // next slot to pop; written by control
	_     [56]byte
	slots []puntSlot
}

// NewPunts returns an empty ring of slots entries (a power of two).
func NewPunts(slots int) *Punts {
	if slots <= 0 || slots&(slots-1) != 0 {
		panic("fastpath: punt slots must be a power of two")
	}
	return &Punts{slots: make([]puntSlot, slots)}
}

// Push copies p and payload into the ring and reports false when it is full or the payload is
// too long: data never waits for control.
func (r *Punts) Push(p *Punted, payload []byte) bool {
	head := r.head.Load()
	if head-r.tail.Load() == uint64(len(r.slots)) || len(payload) > puntBytes {
		return false
	}
	s := &r.slots[head&uint64(len(r.slots)-1)]
	s.p = *p
	s.p.Payload = nil
	s.n = copy(s.data[:], payload)
	r.head.Store(head + 1)
	return true
}

// Full reports whether Push would refuse. Only the pusher may rely on the answer.
func (r *Punts) Full() bool { return r.head.Load()-r.tail.Load() == uint64(len(r.slots)) }

// Pop moves the oldest entry into p, its payload into p's own buffer, and reports false when the
// ring is empty.
func (r *Punts) Pop(p *Punted) bool {
	tail := r.tail.Load()
	if tail == r.head.Load() {
		return false
	}
	s := &r.slots[tail&uint64(len(r.slots)-1)]
	payload := append(p.Payload[:0], s.data[:s.n]...)
	*p = s.p
	p.Payload = payload
	s.p = Punted{} // let go of the peer
	r.tail.Store(tail + 1)
	return true
}
