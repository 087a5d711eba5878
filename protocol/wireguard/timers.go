package wireguard

import "time"

// Activity is what the data plane knows of a peer: when it last did what. Times that are zero,
// or older than ones observed before, change nothing. Handshake messages are not counted here.
type Activity struct {
	DataSent     time.Time // last message with a plaintext sealed
	DataReceived time.Time // last message with a plaintext opened
	Sent         time.Time // last message sealed, keepalives included
	Received     time.Time // last message opened, keepalives included
	Confirmed    uint32    // local index of the newest session that opened something; 0 for none
}

// timers is the part of a peer that depends on time. The zero time means "never" in stamps and
// "not armed" in deadlines.
type timers struct {
	wakeAt time.Time // the deadline it is queued under
	heapAt int       // its place in the queue, -1 for none

	seen       Activity  // newest stamps
	observedAt time.Time // when they were fed
	active     bool      // stamps have changed since checkAt was armed
	quiet      bool      // the bell is armed
	checkAt    time.Time

	ownSent     time.Time // last handshake message sent, or keepalive asked for
	ownReceived time.Time // last handshake message accepted

	unanswered time.Time // data came then, and nothing was sent since
	unreplied  time.Time // data was sent then, and nothing came since
	answeredTo time.Time // DataReceived when a keepalive was last due for it
	gaveUp     time.Time // DataSent when its lack of replies was last acted upon
	jittered   time.Duration

	attemptSince time.Time // first initiation of the current attempt
	retryAt      time.Time // next one
	lastInit     time.Time // last initiation asked for
	nominatedAt  time.Time // last one for WhyNominated

	persistent time.Duration
	persistAt  time.Time

	wipeAt      time.Time // three times RejectAfterTime after the last session
	handshakeAt time.Time // the newest confirmed session was made
}

// Why is the reason for an initiation.
type Why uint8

// The reasons.
const (
	WhyData      Why = iota + 1 // data, but no session that may seal
	WhyRekey                    // a key is old or used up
	WhyNoReply                  // data was sent and nothing came back
	WhyNominated                // a path was found, or a connection is used again
	WhyKeepalive                // a keepalive is due, but no session may seal
)

// Initiate starts an attempt at a handshake and reports whether one is now under way. It does
// nothing if one was already, if the policy does not want it for this reason, or without a
// private key. Initiations to a peer are at least RekeyTimeout apart: one wished for earlier is
// put off.
func (p *Peer) Initiate(why Why, now time.Time) bool {
	d := p.device
	d.now = now
	switch {
	case p.removed || d.id == nil:
		return false
	case p.attempting():
		return true
	case (why == WhyData || why == WhyKeepalive) && !d.policy.InitiateOnData:
		return false
	case why == WhyNominated && !p.nominatedAt.IsZero() && now.Sub(p.nominatedAt) < d.policy.NominationDebounce:
		return false
	}
	if why == WhyNominated {
		p.nominatedAt = now
	}
	p.attemptSince = now
	if !p.lastInit.IsZero() && now.Sub(p.lastInit) < d.policy.RekeyTimeout {
		p.retryAt = p.lastInit.Add(d.policy.RekeyTimeout)
	} else {
		p.sendInitiation(now)
	}
	d.schedule(p)
	return true
}

// attempting reports whether a handshake of ours is under way.
func (p *Peer) attempting() bool { return !p.attemptSince.IsZero() }

func (p *Peer) sentInitiation(now time.Time) {
	p.lastInit = now
	p.retryAt = now.Add(p.device.policy.RekeyTimeout + p.device.jitter())
}

// completed ends an attempt.
func (p *Peer) completed() {
	p.attemptSince, p.retryAt = time.Time{}, time.Time{}
}

// traversed notes a handshake message sent or accepted.
func (p *Peer) traversed(sent bool, now time.Time) {
	if sent {
		p.ownSent = now
	} else {
		p.ownReceived = now
	}
	p.settle()
	p.armPersistent()
}

func (p *Peer) sent() time.Time     { return later(p.seen.Sent, p.ownSent) }
func (p *Peer) received() time.Time { return later(p.seen.Received, p.ownReceived) }

// SendKeepalive asks for one empty data message, or for a handshake if no session may seal and
// the policy allows it.
func (p *Peer) SendKeepalive(now time.Time) {
	p.device.now = now
	if p.removed {
		return
	}
	p.keepalive(now)
	p.device.schedule(p)
}

func (p *Peer) keepalive(now time.Time) {
	if s := p.current(); s == nil || !now.Before(s.keypair.sendUntil) {
		p.Initiate(WhyKeepalive, now)
		return
	}
	p.device.out.Keepalives = append(p.device.out.Keepalives, p)
	p.ownSent = now
	p.settle()
	p.armPersistent()
}

// SetPersistentKeepalive changes the interval; 0 turns it off. The first one is due at once.
func (p *Peer) SetPersistentKeepalive(every time.Duration, now time.Time) {
	p.persistent, p.persistAt = max(every, 0), time.Time{}
	if every > 0 {
		p.persistAt = now
	}
	p.device.now = now
	p.device.schedule(p)
}

// armPersistent moves the persistent keepalive behind the last packet in either direction.
func (p *Peer) armPersistent() {
	if p.persistent > 0 {
		p.persistAt = later(p.sent(), p.received()).Add(p.persistent)
	}
}

// Observe feeds the newest stamps of the data plane. To be called for each peer of Due, when the
// peer's bell rings, and whenever the driver likes.
func (p *Peer) Observe(a Activity, now time.Time) {
	if p.removed {
		return
	}
	p.device.now = now
	before := p.seen
	p.merge(a)
	if a.Confirmed != 0 {
		p.confirm(a.Confirmed)
	}
	changed := p.seen != before
	wasQuiet := p.quiet
	if changed {
		p.active = true
		if p.quiet {
			p.quiet = false
			p.checkAt = now.Add(p.device.policy.observeEvery())
		}
		p.armPersistent()
	}
	p.settle()
	p.arm(wasQuiet)
	p.observedAt = now
	if changed {
		p.rekey(now)
	}
	p.device.schedule(p)
}

func (p *Peer) merge(a Activity) {
	s := &p.seen
	s.DataSent = later(s.DataSent, a.DataSent)
	s.DataReceived = later(s.DataReceived, a.DataReceived)
	s.Sent = later(later(s.Sent, a.Sent), a.DataSent)
	s.Received = later(later(s.Received, a.Received), a.DataReceived)
}

// confirm notes that the other side uses a session: it may seal now, and an attempt of ours that
// began before it is settled.
func (p *Peer) confirm(index uint32) {
	s := p.sessions[index%maxSessions]
	if s == nil || s.keypair.local != index || s.confirmed {
		return
	}
	s.confirmed = true
	p.handshakeAt = later(p.handshakeAt, s.keypair.created)
	if p.attempting() && !s.keypair.created.Before(p.attemptSince) {
		p.completed()
	}
}

// settle disarms what a packet in the other direction has settled.
func (p *Peer) settle() {
	if !p.unanswered.IsZero() && !p.sent().Before(p.unanswered) {
		p.unanswered = time.Time{}
	}
	if !p.unreplied.IsZero() && !p.received().Before(p.unreplied) {
		p.unreplied = time.Time{}
	}
}

// arm starts the passive keepalive and the wait for a reply. Stamps tell the last packet, and
// these timers run from the first: after a bell they are the same. Otherwise the keepalive
// assumes the earliest possible (too early is harmless) and the wait the latest (too early would
// be a handshake for nothing).
func (p *Peer) arm(wasQuiet bool) {
	if p.unanswered.IsZero() && p.seen.DataReceived.After(p.sent()) && p.seen.DataReceived.After(p.answeredTo) {
		p.unanswered = p.seen.DataReceived
		if first := later(p.sent(), p.observedAt); !wasQuiet && first.Before(p.unanswered) {
			p.unanswered = first
		}
		// settle must not take the packet before for the answer
		p.unanswered = later(p.unanswered, p.sent().Add(1))
	}
	if p.unreplied.IsZero() && p.seen.DataSent.After(p.received()) && p.seen.DataSent.After(p.gaveUp) {
		p.unreplied = p.seen.DataSent
		p.jittered = p.device.jitter()
	}
}

// rekey starts a new handshake when the current session is old or used up. Only called on
// activity: an idle session is left to die.
func (p *Peer) rekey(now time.Time) {
	s := p.current()
	if s == nil {
		return
	}
	k, policy := s.keypair, &p.device.policy
	old := k.initiator && (!p.seen.Sent.Before(k.created.Add(policy.RekeyAfterTime)) ||
		!p.seen.Received.Before(k.created.Add(policy.rekeyOnReceive())))
	if old || k.NeedsRekey() {
		p.Initiate(WhyRekey, now)
	}
}

// Quiet reports whether the device does not look at the peer's stamps, so that the bell must be
// armed.
func (p *Peer) Quiet() bool { return p.quiet }

// deadline is the earliest of the peer's deadlines; zero for none.
func (p *Peer) deadline() time.Time {
	policy := &p.device.policy
	at := earlier(p.retryAt, p.checkAt)
	at = earlier(at, p.persistAt)
	at = earlier(at, p.wipeAt)
	if !p.unanswered.IsZero() {
		at = earlier(at, p.unanswered.Add(policy.KeepaliveTimeout))
	}
	if !p.unreplied.IsZero() {
		at = earlier(at, p.unreplied.Add(policy.noReply()+p.jittered))
	}
	for _, s := range p.sessions {
		if s != nil {
			at = earlier(at, s.keypair.expires)
		}
	}
	return at
}

// reached reports whether a deadline is armed and has come.
func reached(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

func (p *Peer) handleTimeout(now time.Time) {
	p.device.now = now
	policy := &p.device.policy
	for i, s := range p.sessions {
		if s != nil && reached(s.keypair.expires, now) {
			p.withdraw(i)
		}
	}
	if reached(p.retryAt, now) {
		p.retry(now)
	}
	if !p.unanswered.IsZero() && reached(p.unanswered.Add(policy.KeepaliveTimeout), now) {
		p.unanswered, p.answeredTo = time.Time{}, p.seen.DataReceived
		p.keepalive(now)
	}
	if !p.unreplied.IsZero() && reached(p.unreplied.Add(policy.noReply()+p.jittered), now) {
		p.unreplied, p.gaveUp = time.Time{}, p.seen.DataSent
		p.Initiate(WhyNoReply, now)
	}
	if reached(p.persistAt, now) {
		p.persistAt = now.Add(p.persistent)
		p.keepalive(now)
	}
	if reached(p.checkAt, now) {
		p.check(now)
	}
	if reached(p.wipeAt, now) {
		p.wipe()
	}
}

// retry sends the next initiation of an attempt, or gives it up.
func (p *Peer) retry(now time.Time) {
	if now.Sub(p.attemptSince) < p.device.policy.RekeyAttemptTime {
		p.sendInitiation(now)
		return
	}
	p.completed()
	p.dropHandshake(0)
	p.expire(NoResponse)
}

// check goes on looking at an active peer, or leaves one to the bell that did nothing since the
// last look.
func (p *Peer) check(now time.Time) {
	if p.active {
		p.active = false
		p.checkAt = now.Add(p.device.policy.observeEvery())
		return
	}
	p.quiet, p.checkAt = true, time.Time{}
	p.device.out.Quiet = append(p.device.out.Quiet, p)
}

// wipe forgets what is left of old handshakes, and reports a peer that has no session if the
// policy wants to know.
func (p *Peer) wipe() {
	p.wipeAt = time.Time{}
	if !p.attempting() {
		p.dropHandshake(0)
	}
	p.jar = newCookieJar(&p.public)
	if p.device.policy.ExpireWithoutSession {
		p.expire(NoSession)
	}
}

func (p *Peer) expire(why ExpiryReason) {
	p.device.out.Expired = append(p.device.out.Expired, Expiry{Peer: p, Why: why})
}

// resetTimers stops everything but persistent keepalives and the look that arms the bell.
func (p *Peer) resetTimers(now time.Time) {
	was := p.timers
	p.timers = timers{
		persistent: was.persistent, handshakeAt: was.handshakeAt,
		wakeAt: was.wakeAt, heapAt: was.heapAt, quiet: was.quiet, checkAt: was.checkAt,
	}
	if p.persistent > 0 {
		p.persistAt = now.Add(p.persistent)
	}
	if p.device.policy.ExpireWithoutSession {
		p.wipeAt = now.Add(p.device.policy.noSession())
	}
}
