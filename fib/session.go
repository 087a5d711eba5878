package fib

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/firelane/firelane/protocol/wireguard"
)

// Never is a fast-path instant that does not come.
const Never int64 = math.MaxInt64

// Lifetime holds the instants at which a session changes what it may be used for, in monotonic
// nanoseconds of the fast-path clock; Never where it does not apply.
type Lifetime struct {
	// RejectAt: nothing is sent or accepted under the session from then on.
	RejectAt int64
	// SendUntil: nothing is sent under the session from then on.
	SendUntil int64
	// RekeyOnSendAt: sending from then on asks control for a new session.
	RekeyOnSendAt int64
	// RekeyOnReceiveAt: receiving from then on asks control for a new session.
	RekeyOnReceiveAt int64
}

// Session is one handshake's result as the loops see it. Control creates it, publishes it with
// PutSession and withdraws it with DelSession.
type Session struct {
	// Set before publication, never written again.

	// Peer is whose session it is.
	Peer *Peer
	// Keys seals and opens; its counters are atomics of its own.
	Keys *wireguard.Keypair
	// Index is our receiver index: connection id in the upper 24 bits, session number in the
	// lower 8.
	Index    uint32
	lifetime Lifetime

	// Written by the loops.

	confirmed  atomic.Bool // the peer has proved that it holds the keys
	rekeyAsked atomic.Bool // control was told that a new session is wanted
	unheard    atomic.Bool // control was not told yet that the session is confirmed

	window struct {
		sync.Mutex
		wireguard.Window
	}
}

// NewSession returns a session ready to be published. confirmed is true on the side that
// initiated: the response proved that the peer holds the keys; a responder's session confirms
// itself with the first data message that opens.
func NewSession(p *Peer, keys *wireguard.Keypair, confirmed bool, l Lifetime) *Session {
	s := &Session{Peer: p, Keys: keys, Index: keys.LocalIndex(), lifetime: l}
	s.confirmed.Store(confirmed)
	return s
}

// Expired reports whether the session is past its reject-after time at now.
func (s *Session) Expired(now int64) bool { return now >= s.lifetime.RejectAt }

// Confirmed reports whether the peer has proved that it holds the keys.
func (s *Session) Confirmed() bool { return s.confirmed.Load() }

// Accept runs the replay window over the counters of authenticated messages of one run, in
// order: fresh[i] becomes true if counters[i] was not seen before. Entries whose fresh is false
// on entry are passed over. One lock per run; safe from several workers.
func (s *Session) Accept(counters []uint64, fresh []bool) {
	s.window.Lock()
	s.window.Accept(counters, fresh)
	s.window.Unlock()
}

// Touch records that a run of authenticated messages arrived: packets of them carried data, of
// bytes bytes in all, messages included; the rest were keepalives. It confirms the session, and
// reports what control should hear of.
func (s *Session) Touch(lane int, packets, bytes int, now int64) Wish {
	p := s.Peer
	var wish Wish
	if !s.confirmed.Load() && s.confirmed.CompareAndSwap(false, true) {
		wish |= WishConfirmed
	} else if s.unheard.Load() && s.unheard.CompareAndSwap(true, false) {
		wish |= WishConfirmed
	}
	p.lanes[lane].addReceived(bytes)
	stamp(&p.activity.received, now)
	if packets > 0 {
		stamp(&p.activity.dataReceived, now)
		wish |= p.wake()
	}
	if now >= s.lifetime.RekeyOnReceiveAt {
		wish |= s.askRekey()
	}
	return wish
}

// Sent records that a run of data messages was sealed for sending: bytes bytes in all, headers
// and tags included. It reports what control should hear of.
func (s *Session) Sent(lane int, bytes int, now int64) Wish {
	p := s.Peer
	p.lanes[lane].addSent(bytes)
	stamp(&p.activity.sent, now)
	stamp(&p.activity.dataSent, now)
	wish := p.wake()
	if now >= s.lifetime.RekeyOnSendAt || s.Keys.NeedsRekey() {
		wish |= s.askRekey()
	}
	return wish
}

// askRekey reports the wish for a new session the first time it is called.
func (s *Session) askRekey() Wish {
	if s.rekeyAsked.Load() || !s.rekeyAsked.CompareAndSwap(false, true) {
		return 0
	}
	return WishRekey
}

// Unheard takes back that control was told of the wishes w, because the ring towards it was full:
// the next run of packets tells it again.
func (s *Session) Unheard(w Wish) {
	if w&WishConfirmed != 0 {
		s.unheard.Store(true)
	}
	if w&WishRekey != 0 {
		s.rekeyAsked.Store(false)
	}
	s.Peer.Unheard(w)
}

// Wish is what a loop noticed that control should act on: a set of bits.
type Wish uint8

// The wishes.
const (
	// WishConfirmed: a responder's session was confirmed by its first data message.
	WishConfirmed Wish = 1 << iota
	// WishRekey: the session is old enough that a new one should follow.
	WishRekey
	// WishTimers: the peer became active after control had let its timers rest.
	WishTimers
	// WishSession: there is data for the peer and no session to send it under.
	WishSession
	// WishRoam: an authenticated message came from an address that is not the peer's path.
	WishRoam
)
