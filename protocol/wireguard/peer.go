package wireguard

import (
	"crypto/ecdh"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/firelane/firelane/protocol/wireguard/aead"
)

// maxSessions is how many sessions a peer may have at a time, one per value of the lower three
// bits of the session number: as many as existing peers keep, so that none that they may still
// use is lost.
const maxSessions = 8

// maxAnswering is how many initiations claiming to come from one peer, or responses to one
// initiation, are examined at a time: one that is genuine, and some forged in its name.
const maxAnswering = 4

// initiationGap is the distance of initiations accepted from one peer, at least: a peer in
// possession of its key cannot make us do more than 50 handshakes per second.
const initiationGap = 20 * time.Millisecond

// Peer is one peer of a Device. Its methods are called by the goroutine that owns the device.
type Peer struct {
	device  *Device
	public  PublicKey
	psk     PresharedKey
	conn    uint32
	removed bool

	number      uint8 // of the last session index handed out
	sessions    [maxSessions]*session
	established uint64        // sessions so far
	handshakes  [2]*handshake // open initiations of ours, newest first
	jar         cookieJar
	ss          *[keySize]byte // static-static secret once known; immutable, shared with jobs

	latest    timestamp // of the initiations accepted
	latestAt  time.Time // when
	answering int       // jobs examining initiations in the peer's name

	timers
}

// session is a keypair in its slot.
type session struct {
	keypair   *Keypair
	confirmed bool // the other side is known to have it: it may seal
	order     uint64
}

// handshake is an initiation of ours that may still be answered.
type handshake struct {
	index   uint32
	private *ecdh.PrivateKey
	state   symmetric
	busy    int // responses being examined, at most maxAnswering
}

// PublicKey returns the peer's public key.
func (p *Peer) PublicKey() PublicKey { return p.public }

// ConnectionID returns the upper 24 bits of our session indices for this peer.
func (p *Peer) ConnectionID() uint32 { return p.conn }

// LastHandshake returns when the newest session was made that the other side is known to have;
// zero for never. It outlives the session.
func (p *Peer) LastHandshake() time.Time { return p.handshakeAt }

// SetPresharedKey replaces the preshared key; it counts from the next handshake on.
func (p *Peer) SetPresharedKey(psk PresharedKey) { p.psk = psk }

// Current returns the newest confirmed session, the one to seal with, or nil. The caller still
// checks Keypair.SendUntil.
func (p *Peer) Current() *Keypair {
	if s := p.current(); s != nil {
		return s.keypair
	}
	return nil
}

func (p *Peer) current() *session {
	var newest *session
	for _, s := range p.sessions {
		if s != nil && s.confirmed && (newest == nil || s.order > newest.order) {
			newest = s
		}
	}
	return newest
}

// Sessions returns how many sessions are live.
func (p *Peer) Sessions() int {
	n := 0
	for _, s := range p.sessions {
		if s != nil {
			n++
		}
	}
	return n
}

// nextIndex hands out a session index that no live session or open handshake has, and whose slot
// is not that of the current session: initiations whose responses are lost would otherwise push
// out the one session that works.
func (p *Peer) nextIndex() uint32 {
	for {
		p.number++
		index := p.conn<<sessionNumberBits | uint32(p.number)
		s := p.sessions[index%maxSessions]
		free := s == nil || s.keypair.local != index && s != p.current()
		if free && p.openHandshakeAny(index) == nil {
			return index
		}
	}
}

// openHandshake returns the handshake of ours with that index whose response is awaited.
func (p *Peer) openHandshake(index uint32) *handshake {
	h := p.openHandshakeAny(index)
	if h == nil || h.busy >= maxAnswering {
		return nil
	}
	return h
}

func (p *Peer) openHandshakeAny(index uint32) *handshake {
	for _, h := range p.handshakes {
		if h != nil && h.index == index {
			return h
		}
	}
	return nil
}

// sendInitiation asks for an initiation to be made.
func (p *Peer) sendInitiation(now time.Time) {
	d := p.device
	p.sentInitiation(now)
	j := &writeInitiation{id: d.id, peer: p, public: p.public, ss: p.ss, stamp: d.nextStamp(now)}
	mustRead(d.rng, j.ephemeral[:])
	d.out.Jobs = append(d.out.Jobs, j)
}

func (r *initiationWritten) apply(d *Device, now time.Time) {
	p := r.job.peer
	if p.removed || d.id != r.job.id || !p.attempting() {
		r.state.wipe()
		d.drop(DropStale)
		return
	}
	p.ss = r.ss
	if !r.ok {
		return // a public key of low order: the attempt runs into its end
	}
	h := &handshake{index: p.nextIndex(), private: r.private, state: r.state}
	r.state.wipe()
	p.dropHandshake(1)
	p.handshakes[1], p.handshakes[0] = p.handshakes[0], h
	binary.LittleEndian.PutUint32(r.message[offSender:], h.index)
	p.jar.stamp(r.message[:], now)
	d.out.Datagrams = append(d.out.Datagrams, Datagram{Peer: p, Bytes: r.message[:]})
	p.traversed(true, now)
	d.schedule(p)
}

// dropHandshake wipes and closes the open handshakes from i on.
func (p *Peer) dropHandshake(i int) {
	for ; i < len(p.handshakes); i++ {
		if h := p.handshakes[i]; h != nil {
			h.state.wipe()
			h.private = nil
			p.handshakes[i] = nil
		}
	}
}

func (r *responseRead) apply(d *Device, now time.Time) {
	d.incoming--
	p, h := r.job.peer, r.job.handshake
	h.busy--
	if p.removed || d.id != r.job.id || p.openHandshakeAny(h.index) != h {
		d.drop(DropStale)
		return
	}
	if !r.ok {
		d.drop(DropForged)
		return
	}
	remote := binary.LittleEndian.Uint32(r.job.msg[offSender:])
	if p.handshakes[0] == h {
		p.dropHandshake(0)
	} else {
		p.dropHandshake(1) // the newer one stays open: the other side may have answered it last
	}
	p.traversed(false, now)
	p.completed()
	p.install(p.keypair(h.index, remote, true, r.send, r.receive, now), true, r.job.from, now)
	d.schedule(p)
}

func (r *initiationRead) apply(d *Device, now time.Time) {
	p := d.peers[r.static]
	switch {
	case d.id != r.job.id:
		d.drop(DropStale)
	case !r.ok:
		d.drop(DropForged)
	case p == nil:
		d.drop(DropUnknownPeer)
	case p.floods(now):
		d.drop(DropFlood)
	case p.answering >= maxAnswering:
		d.drop(DropBusy)
	default:
		p.answering++
		j := &answerInitiation{
			id: d.id, peer: p, public: p.public, psk: p.psk, ss: p.ss, state: r.state,
			msg: r.job.msg, from: r.job.from, latest: p.latest,
		}
		r.state.wipe()
		mustRead(d.rng, j.ephemeral[:])
		d.out.Jobs = append(d.out.Jobs, j)
		return // still one incoming job
	}
	r.state.wipe()
	d.incoming--
}

// floods reports whether an initiation would follow the last accepted one too soon.
func (p *Peer) floods(now time.Time) bool {
	return !p.latestAt.IsZero() && now.Sub(p.latestAt) < initiationGap
}

func (r *initiationAnswered) apply(d *Device, now time.Time) {
	d.incoming--
	p := r.job.peer
	p.answering--
	if p.removed || d.id != r.job.id {
		d.drop(DropStale)
		return
	}
	p.ss = r.ss
	switch {
	case !r.genuine:
		d.drop(DropForged)
	case !r.fresh || !r.stamp.after(p.latest): // another one may have been accepted meanwhile
		d.drop(DropReplayed)
	case p.floods(now):
		d.drop(DropFlood)
	case !r.ok:
		d.drop(DropForged)
	default:
		p.latest, p.latestAt = r.stamp, now
		p.answer(r, now)
	}
}

// answer publishes the session of an initiation that was accepted and sends the response.
func (p *Peer) answer(r *initiationAnswered, now time.Time) {
	d := p.device
	remote := binary.LittleEndian.Uint32(r.response[respReceiver:])
	index := p.nextIndex()
	binary.LittleEndian.PutUint32(r.response[offSender:], index)
	p.jar.stamp(r.response[:], now)
	p.install(p.keypair(index, remote, false, r.send, r.receive, now), false, r.job.from, now)
	to := netip.AddrPort{}
	if d.policy.ReplyToSource {
		to = r.job.from
	}
	d.out.Datagrams = append(d.out.Datagrams, Datagram{Peer: p, To: to, Bytes: r.response[:]})
	p.traversed(false, now)
	p.traversed(true, now)
	d.schedule(p)
}

func (p *Peer) keypair(local, remote uint32, initiator bool, send, receive *aead.Key, now time.Time) *Keypair {
	policy := &p.device.policy
	k := &Keypair{
		send: send, receive: receive, local: local, remote: remote, initiator: initiator,
		created: now, sendUntil: now.Add(policy.RejectAfterTime), expires: now.Add(policy.RejectAfterTime),
	}
	if initiator {
		k.rekeyAt = now.Add(policy.RekeyAfterTime)
		k.sendUntil = now.Add(policy.InitiatorSendTime)
	}
	return k
}

// install puts a session into its slot and announces it.
func (p *Peer) install(k *Keypair, confirmed bool, from netip.AddrPort, now time.Time) {
	slot := k.local % maxSessions
	p.withdraw(int(slot))
	p.established++
	p.sessions[slot] = &session{keypair: k, confirmed: confirmed, order: p.established}
	p.wipeAt = now.Add(p.device.policy.noSession())
	if confirmed {
		p.handshakeAt = now
	}
	out := &p.device.out
	out.NewSessions = append(out.NewSessions,
		SessionEvent{Peer: p, Keypair: k, Confirmed: confirmed, Endpoint: from})
}

// withdraw ends the session in a slot, if there is one.
func (p *Peer) withdraw(slot int) {
	s := p.sessions[slot]
	if s == nil {
		return
	}
	p.sessions[slot] = nil
	out := &p.device.out
	out.Withdrawn = append(out.Withdrawn,
		Withdrawn{Peer: p, LocalIndex: s.keypair.local, Keypair: s.keypair})
}

// forget ends everything the peer has going.
func (p *Peer) forget(now time.Time) {
	for i := range p.sessions {
		p.withdraw(i)
	}
	p.dropHandshake(0)
	p.jar = newCookieJar(&p.public)
	p.resetTimers(now)
}
