package wireguard

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// maxIncomingJobs bounds the jobs that messages from outside have caused and whose results have
// not come back: some 25 ms of work for one core. Beyond it messages are dropped (DropBusy);
// honest peers retransmit.
const maxIncomingJobs = 128

// Device holds the peers of one static key. It belongs to one goroutine.
type Device struct {
	id     *identity // nil without a private key: nothing is sent or answered then
	policy Policy
	rng    io.Reader

	peers  map[PublicKey]*Peer
	byConn map[uint32]*Peer
	wake   wakeHeap
	due    []*Peer

	load    loadMeter
	cookies cookieMaker
	sources sourceLimiter

	incoming  int // jobs caused by messages, not yet returned
	lastStamp timestamp
	now       time.Time // of the last call
	dropped   [dropCount]uint64
	out       Output
}

// Drop is why a handshake message was not acted upon; it indexes Device.Dropped.
type Drop uint8

// The reasons.
const (
	DropNotHandshake Drop = iota // not an initiation, response or cookie, or we have no key
	DropMac1                     // the sender does not know our public key
	DropLoad                     // a cookie was sent instead
	DropSource                   // a source with a valid cookie sends too many
	DropBusy                     // too many jobs are waiting
	DropNoHandshake              // a response or cookie to nothing that is open
	DropUnknownPeer              // initiation of a stranger
	DropForged                   // a field does not authenticate
	DropReplayed                 // initiation not newer than one accepted before
	DropFlood                    // initiation too soon after the one before
	DropStale                    // the peer or our key was gone when the job was done
	dropCount
)

// String names the reason as metrics do.
func (why Drop) String() string {
	names := [dropCount]string{
		DropNotHandshake: "DropNotHandshake", DropMac1: "DropMac1", DropLoad: "DropLoad",
		DropSource: "DropSource", DropBusy: "DropBusy", DropNoHandshake: "DropNoHandshake",
		DropUnknownPeer: "DropUnknownPeer", DropForged: "DropForged", DropReplayed: "DropReplayed",
		DropFlood: "DropFlood", DropStale: "DropStale",
	}
	if why >= dropCount {
		return "DropUnnamed"
	}
	return names[why]
}

// Drops returns all reasons, for who shows the counters.
func Drops() []Drop {
	all := make([]Drop, dropCount)
	for i := range all {
		all[i] = Drop(i)
	}
	return all
}

// ErrPeer is wrapped by the errors of AddPeer.
var ErrPeer = errors.New("wireguard peer refused")

// NewDevice makes a device without peers. priv may be zero and set later. rng must be a
// cryptographic source; a failure of it panics.
func NewDevice(priv PrivateKey, policy Policy, rng io.Reader, now time.Time) *Device {
	return &Device{
		id: newIdentity(&priv), policy: policy, rng: rng, now: now,
		peers: make(map[PublicKey]*Peer), byConn: make(map[uint32]*Peer),
		load:    loadMeter{budget: policy.HandshakeBudget, jobs: policy.LoadJobs},
		cookies: cookieMaker{bindsPort: policy.CookieBindsPort},
	}
}

// PublicKey returns our public key; zero without a private key.
func (d *Device) PublicKey() PublicKey {
	if d.id == nil {
		return PublicKey{}
	}
	return d.id.public
}

// Dropped returns how many handshake messages were dropped for a reason.
func (d *Device) Dropped(why Drop) uint64 { return d.dropped[why] }

// SetPrivateKey replaces the static key (zero: none). All sessions and handshakes end, and a
// peer that has our own public key is removed.
func (d *Device) SetPrivateKey(priv PrivateKey, now time.Time) {
	d.now = now
	d.id = newIdentity(&priv)
	for _, p := range d.inOrder() {
		p.forget(now)
		p.ss = nil // of the old key
		d.schedule(p)
	}
	if d.id != nil {
		d.RemovePeer(d.id.public, now)
	}
}

// PeerConfig is what AddPeer needs to know of a peer beside its keys.
type PeerConfig struct {
	// ConnectionID is the upper 24 bits of our session indices, unique within the device and
	// not zero.
	ConnectionID uint32
	// PersistentKeepalive is the interval of keepalives that are sent whatever happens; 0 for
	// none.
	PersistentKeepalive time.Duration
}

// AddPeer adds a peer. Its number is bounded by the connection ids, that is by who hands these
// out. The error wraps ErrPeer.
func (d *Device) AddPeer(pub PublicKey, psk PresharedKey, cfg PeerConfig, now time.Time) (*Peer, error) {
	d.now = now
	switch {
	case d.id != nil && pub == d.id.public:
		return nil, fmt.Errorf("%w: it has our own public key", ErrPeer)
	case d.peers[pub] != nil:
		return nil, fmt.Errorf("%w: the public key is taken", ErrPeer)
	case cfg.ConnectionID == 0 || cfg.ConnectionID > maxConnectionID:
		return nil, fmt.Errorf("%w: connection id %d is not within 24 bits", ErrPeer, cfg.ConnectionID)
	case d.byConn[cfg.ConnectionID] != nil:
		return nil, fmt.Errorf("%w: connection id %d is taken", ErrPeer, cfg.ConnectionID)
	}
	p := &Peer{
		device: d, public: pub, psk: psk, conn: cfg.ConnectionID, jar: newCookieJar(&pub),
		timers: timers{heapAt: -1, quiet: true},
	}
	d.peers[pub] = p
	d.byConn[p.conn] = p
	if d.policy.ExpireWithoutSession {
		p.wipeAt = now.Add(d.policy.noSession())
	}
	p.SetPersistentKeepalive(cfg.PersistentKeepalive, now)
	return p, nil
}

// RemovePeer ends all sessions of a peer and forgets it; an unknown key is ignored.
func (d *Device) RemovePeer(pub PublicKey, now time.Time) {
	d.now = now
	p := d.peers[pub]
	if p == nil {
		return
	}
	p.forget(now)
	p.removed = true
	clear(p.psk[:])
	delete(d.peers, pub)
	delete(d.byConn, p.conn)
	if p.heapAt >= 0 {
		heap.Remove(&d.wake, p.heapAt)
	}
}

// Peer returns the peer with a public key, or nil.
func (d *Device) Peer(pub PublicKey) *Peer { return d.peers[pub] }

// PeerByIndex returns the peer a session index of ours belongs to, or nil.
func (d *Device) PeerByIndex(index uint32) *Peer { return d.byConn[ConnectionID(index)] }

// Len returns the number of peers.
func (d *Device) Len() int { return len(d.peers) }

// HandleMessage takes an initiation, response or cookie reply. msg is lent for the call; from is
// its source (of relayed messages: the peer of the channel).
func (d *Device) HandleMessage(msg []byte, from netip.AddrPort, now time.Time) {
	d.now = now
	if d.id == nil {
		d.drop(DropNotHandshake)
		return
	}
	switch Kind(msg) {
	case KindInitiation:
		d.handleInitiation(msg, from, now)
	case KindResponse:
		d.handleResponse(msg, from, now)
	case KindCookie:
		p := d.PeerByIndex(binary.LittleEndian.Uint32(msg[cookieReceiver:]))
		if p == nil || !p.jar.accept(msg, now) {
			d.drop(DropNoHandshake)
		}
	default:
		d.drop(DropNotHandshake)
	}
}

func (d *Device) handleInitiation(msg []byte, from netip.AddrPort, now time.Time) {
	if !d.admit(msg, from, now) {
		return
	}
	d.startIncoming(&readInitiation{id: d.id, msg: [InitiationSize]byte(msg), from: from})
}

func (d *Device) handleResponse(msg []byte, from netip.AddrPort, now time.Time) {
	index := binary.LittleEndian.Uint32(msg[respReceiver:])
	p := d.PeerByIndex(index)
	var h *handshake
	if p != nil {
		h = p.openHandshake(index)
	}
	if h == nil {
		d.drop(DropNoHandshake)
		return
	}
	if !d.admit(msg, from, now) {
		return
	}
	h.busy++
	d.startIncoming(&readResponse{
		id: d.id, peer: p, handshake: h, psk: p.psk, private: h.private, state: h.state,
		msg: [ResponseSize]byte(msg), from: from,
	})
}

// admit makes the cheap checks that come before any curve operation.
func (d *Device) admit(msg []byte, from netip.AddrPort, now time.Time) bool {
	if !d.id.checkMac1(msg) {
		return d.drop(DropMac1)
	}
	if d.load.loaded(d.incoming, now) {
		cookie := d.cookies.cookieFor(d.rng, from, now)
		if !checkMac2(&cookie, msg) {
			d.out.Datagrams = append(d.out.Datagrams,
				Datagram{To: from, Bytes: d.id.cookieReply(d.rng, msg, &cookie)})
			return d.drop(DropLoad)
		}
		if !d.sources.allow(from.Addr(), now) {
			return d.drop(DropSource)
		}
	}
	if d.incoming >= maxIncomingJobs {
		return d.drop(DropBusy)
	}
	return true
}

func (d *Device) startIncoming(j Job) {
	d.incoming++
	d.out.Jobs = append(d.out.Jobs, j)
}

// drop counts and returns false, so that a check can return it.
func (d *Device) drop(why Drop) bool {
	d.dropped[why]++
	return false
}

// HandleJob takes the result of a job.
func (d *Device) HandleJob(r JobResult, now time.Time) {
	d.now = now
	r.apply(d, now)
}

// Due returns the peers whose deadline has come. The driver observes each of them and then calls
// HandleTimeout. The slice is lent until the next call; peers are in order of connection id.
func (d *Device) Due(now time.Time) []*Peer {
	d.due = d.wake.until(now, 0, d.due[:0])
	sortByConn(d.due)
	return d.due
}

// HandleTimeout does what is due.
func (d *Device) HandleTimeout(now time.Time) {
	for _, p := range d.Due(now) {
		if !p.removed {
			p.handleTimeout(now)
			d.schedule(p)
		}
	}
	d.now = now
}

// NextTimeout returns when HandleTimeout is to be called next, false for never. It is never later
// than pending output.
func (d *Device) NextTimeout() (time.Time, bool) {
	if d.out.pending() {
		return d.now, true
	}
	if len(d.wake) == 0 {
		return time.Time{}, false
	}
	return d.wake[0].wakeAt, true
}

// Drain moves everything that must now be done to out, whose former content is dropped.
func (d *Device) Drain(out *Output) {
	out.reset()
	*out, d.out = d.out, *out
}

// inOrder returns all peers by connection id: the order of a map is chance.
func (d *Device) inOrder() []*Peer {
	all := make([]*Peer, 0, len(d.peers))
	for _, p := range d.peers {
		all = append(all, p)
	}
	sortByConn(all)
	return all
}

// nextStamp labels an initiation; labels of a device strictly increase.
func (d *Device) nextStamp(now time.Time) timestamp {
	d.lastStamp = stampAt(now, d.lastStamp)
	return d.lastStamp
}

// jitter is a random duration of 0 … JitterMax.
func (d *Device) jitter() time.Duration {
	if d.policy.JitterMax <= 0 {
		return 0
	}
	var b [8]byte
	mustRead(d.rng, b[:])
	return time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(d.policy.JitterMax+1))
}
