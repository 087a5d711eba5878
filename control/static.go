package control

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
	"github.com/firelane/firelane/protocol/wireguard/aead"
)

// ErrConfig is wrapped by the errors of Configure: the request, not the machine, is at fault.
var ErrConfig = errors.New("configuration refused")

// StaticConfig is what a static machine is made of.
type StaticConfig struct {
	// Table is the forwarding table whose connection ids the machine takes. Everything else it
	// changes through its output.
	Table *fib.Table
	// Lanes is the number of writers of a peer's traffic counters: workers, and one more.
	Lanes int
	// Policy holds the timers; wireguard.PlainPolicy but in tests that speed them up.
	Policy wireguard.Policy
	// Entropy is a cryptographic source for keys and nonces.
	Entropy io.Reader
	// Seed makes choices that need no secrecy reproducible: connection ids.
	Seed [32]byte
	// Epoch is the instant at which the fast path's clock read zero.
	Epoch time.Time
}

// Static is the control plane of static mode.
type Static struct {
	cfg    StaticConfig
	device *wireguard.Device
	rng    *rand.Rand
	key    wireguard.PrivateKey
	up     bool

	peers  map[wireguard.PublicKey]*staticPeer
	byWire map[*wireguard.Peer]*staticPeer
	byFib  map[*fib.Peer]*staticPeer
	lastID uint64
	kept   int // packets kept, over all peers
	lost   Losses

	routes    *fib.Routes
	policies  *staticPolicies // nil: peers are held to their allowed IPs only
	flowsGone fib.FlowCounts  // of peers that were removed
	most      int             // prefixes: fib.MaxPrefixes, fewer in tests
	arrived   arrivals
	scratch   aead.Scratch
	wire      wireguard.Output
	out       Output
}

// Losses counts what static control had to drop.
type Losses struct {
	// KeptOverflow: packets pushed out of a full store of packets that wait for a session.
	KeptOverflow uint64
	// KeptExpired: packets that waited for a session that did not come.
	KeptExpired uint64
	// NoPath: messages to a peer whose address is not known.
	NoPath uint64
	// NotHandshake: outer datagrams for control that are no handshake message.
	NotHandshake uint64
	// KeyExhausted: messages to a peer whose session's counters are used up.
	KeyExhausted uint64
	// Unanswerable: refused packets that must not be answered: errors, later fragments, packets
	// from or to what is no host.
	Unanswerable uint64
	// Late: packets and messages that came when their peer was gone or the link was down.
	Late uint64
}

// NewStatic returns a machine without key or peers, its link down.
func NewStatic(cfg StaticConfig, now time.Time) *Static {
	return &Static{
		cfg:    cfg,
		device: wireguard.NewDevice(wireguard.PrivateKey{}, cfg.Policy, cfg.Entropy, now),
		rng:    rand.New(rand.NewChaCha8(cfg.Seed)),
		peers:  make(map[wireguard.PublicKey]*staticPeer),
		byWire: make(map[*wireguard.Peer]*staticPeer),
		byFib:  make(map[*fib.Peer]*staticPeer),
		routes: cfg.Table.Routes(),
		most:   fib.MaxPrefixes,
	}
}

// Losses returns the counters of what was dropped.
func (s *Static) Losses() Losses { return s.lost }

// Size is how much a static machine holds at one time.
type Size struct{ Peers, Sessions, Kept int }

// Size returns the number of peers, of their live sessions, and of packets that wait for one.
func (s *Static) Size() Size {
	n := Size{Peers: len(s.peers), Kept: s.kept}
	for _, p := range s.peers {
		n.Sessions += len(p.sessions)
	}
	return n
}

// Device returns the handshake machine, for its counters.
func (s *Static) Device() *wireguard.Device { return s.device }

// HandleLink takes the state of the tunnel's link: whether it is up, and how many bytes an inner
// packet may have. A link that goes down ends all sessions; peers and their paths stay.
func (s *Static) HandleLink(up bool, mtu int, now time.Time) {
	if mtu != s.cfg.Table.MTU() {
		s.change(fib.SetMTU{Bytes: mtu})
	}
	if up == s.up {
		return
	}
	s.up = up
	if !up {
		s.device.SetPrivateKey(s.key, now)
		for _, p := range s.inOrder() {
			p.wire.SetPersistentKeepalive(0, now)
			s.dropKept(p)
		}
		s.pump(now)
		return
	}
	for _, p := range s.inOrder() {
		p.wire.SetPersistentKeepalive(p.keepalive, now)
	}
	s.pump(now)
}

// HandleDatagram takes an outer datagram that the loops handed up.
func (s *Static) HandleDatagram(d Datagram, now time.Time) {
	if !s.up {
		s.lost.Late++
		return
	}
	if wireguard.Kind(d.Bytes) == wireguard.KindInvalid {
		s.lost.NotHandshake++
		return
	}
	s.arrived.note(d.Remote, d.Local.Addr())
	s.device.HandleMessage(d.Bytes, d.Remote, now)
	s.pump(now)
}

// HandlePacket takes an inner packet for a peer that has no session: it is kept, within bounds,
// and a handshake started. b is lent.
func (s *Static) HandlePacket(to *fib.Peer, b []byte, now time.Time) {
	p := s.byFib[to]
	if p == nil || !s.up {
		s.lost.Late++
		return
	}
	s.observe(p, now)
	if session := s.newest(p); session != nil && now.Before(session.Keys.SendUntil()) {
		s.seal(p, session, b, now) // the session came while the packet was on its way here
	} else {
		s.keep(p, b)
		if !p.wire.Initiate(wireguard.WhyData, now) {
			s.dropKept(p) // without a private key no session can come
		}
	}
	s.pump(now)
}

// HandleWish takes what a loop noticed about a peer, and about session if the wish names one.
func (s *Static) HandleWish(to *fib.Peer, session *fib.Session, w fib.Wish, now time.Time) {
	p := s.byFib[to]
	if p == nil || !s.up {
		return // what was noticed ended with the peer, or with the link
	}
	if path := to.Path(); w&fib.WishRoam != 0 && path != nil {
		p.path, p.endpoint = path, path.Remote // where the loops have moved it, perhaps further since
	}
	s.observe(p, now) // sees what WishConfirmed and WishTimers tell
	if w&fib.WishRekey != 0 && session != nil && session == s.newest(p) {
		p.wire.Initiate(wireguard.WhyRekey, now)
	}
	if w&fib.WishSession != 0 && !p.wire.Initiate(wireguard.WhyData, now) {
		p.fib.Unwanted()
	}
	s.pump(now)
}

// HandleJob takes the result of a job.
func (s *Static) HandleJob(r wireguard.JobResult, now time.Time) {
	s.device.HandleJob(r, now)
	s.pump(now)
}

// HandleTimeout does what is due.
func (s *Static) HandleTimeout(now time.Time) {
	for _, w := range s.device.Due(now) {
		if p := s.byWire[w]; p != nil {
			s.observe(p, now)
		}
	}
	s.device.HandleTimeout(now)
	s.tickPolicies(now)
	s.pump(now)
}

// NextTimeout returns when HandleTimeout is to be called, and false for never.
func (s *Static) NextTimeout() (time.Time, bool) {
	if s.out.pending() {
		return s.cfg.Epoch, true
	}
	at, ok := s.device.NextTimeout()
	if ps := s.policies; ps != nil && (!ok || ps.nextTick.Before(at)) {
		return ps.nextTick, true
	}
	return at, ok
}

// Drain moves everything that must now be done to out, whose former content is dropped.
func (s *Static) Drain(out *Output) {
	out.reset()
	*out, s.out = s.out, *out
}

// pump turns what the handshake machine wants into changes, datagrams and jobs.
func (s *Static) pump(now time.Time) {
	for {
		s.device.Drain(&s.wire)
		s.out.Jobs = append(s.out.Jobs, s.wire.Jobs...)
		for _, w := range s.wire.Withdrawn {
			s.withdraw(w)
		}
		for _, e := range s.wire.NewSessions {
			s.publish(e, now)
		}
		for _, d := range s.wire.Datagrams {
			s.sendHandshake(d)
		}
		for _, w := range s.wire.Keepalives {
			s.sendKeepalive(s.byWire[w], now)
		}
		for _, w := range s.wire.Quiet {
			s.rest(s.byWire[w], now)
		}
		for _, e := range s.wire.Expired {
			if p := s.byWire[e.Peer]; p != nil {
				s.dropKept(p)
			}
		}
		if at, ok := s.device.NextTimeout(); !ok || at.After(now) {
			return
		}
		if len(s.device.Due(now)) > 0 {
			return // a deadline, not output: HandleTimeout's
		}
	}
}

// rest lets a quiet peer's next packet ring the bell. Packets of the moment before are looked
// for once more, lest their bell was not armed yet.
func (s *Static) rest(p *staticPeer, now time.Time) {
	if p == nil {
		return
	}
	p.fib.Rest()
	s.observe(p, now)
}

// observe shows the handshake machine a peer's stamps and the sessions that the peer has confirmed
// since the last look. A bell that was lost is thus made up for by the next look.
func (s *Static) observe(p *staticPeer, now time.Time) {
	p.wire.Observe(s.activity(p), now)
	for i := 0; i < len(p.awaited); {
		session := p.awaited[i]
		if !session.Confirmed() {
			i++
			continue
		}
		p.awaited = slices.Delete(p.awaited, i, i+1)
		p.wire.Observe(wireguard.Activity{Confirmed: session.Index}, now)
		p.lastHandshake = p.wire.LastHandshake()
		if session == s.newest(p) { // not if a handshake of ours was complete before the peer's message
			s.change(fib.SetCurrent{Session: session})
			s.release(p, session, now)
		}
	}
}

func (s *Static) change(c fib.Change) { s.out.Changes = append(s.out.Changes, c) }

// nanos returns t on the fast path's clock.
func (s *Static) nanos(t time.Time) int64 { return t.Sub(s.cfg.Epoch).Nanoseconds() }

// activity reads a peer's stamps for the handshake machine.
func (s *Static) activity(p *staticPeer) wireguard.Activity {
	a := p.fib.Activity()
	return wireguard.Activity{
		DataSent:     s.instant(a.DataSent),
		DataReceived: s.instant(a.DataReceived),
		Sent:         s.instant(a.Sent),
		Received:     s.instant(a.Received),
	}
}

func (s *Static) instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return s.cfg.Epoch.Add(time.Duration(ns))
}

func configError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
}
