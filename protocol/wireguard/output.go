package wireguard

import "net/netip"

// Output is everything a device wants done, in the order of its fields: sessions must be known
// before the datagrams that make the other side use them leave. The driver owns it after Drain.
type Output struct {
	// Withdrawn sessions must no longer be found by their index.
	Withdrawn []Withdrawn
	// NewSessions are to be published.
	NewSessions []SessionEvent
	// Datagrams are initiations, responses and cookie replies to be sent.
	Datagrams []Datagram
	// Keepalives are peers that shall get an empty data message under their current session.
	Keepalives []*Peer
	// Quiet are peers whose stamps the device stops looking at: the driver arms a one-shot
	// bell, and the next packet sent or received by the peer must lead to an Observe.
	Quiet []*Peer
	// Expired are peers the device has given up on for now.
	Expired []Expiry
	// Jobs are to be run anywhere; each result comes back by HandleJob exactly once.
	Jobs []Job
}

// Datagram is one handshake message to be sent.
type Datagram struct {
	Peer  *Peer          // nil for a cookie reply, whose receiver is not known
	To    netip.AddrPort // invalid: to the peer's current path
	Bytes []byte         // owned by the output
}

// SessionEvent announces a session.
type SessionEvent struct {
	Peer    *Peer
	Keypair *Keypair
	// Confirmed sessions may seal at once: we initiated. Control then sends what it has queued
	// for the peer, or else one keepalive, because the responder waits for a first message.
	// Other sessions may seal once they have opened something (Activity.Confirmed).
	Confirmed bool
	// Endpoint is where the message came from that completed the handshake.
	Endpoint netip.AddrPort
}

// Withdrawn names a session that has ended.
type Withdrawn struct {
	Peer       *Peer
	LocalIndex uint32
	Keypair    *Keypair
}

// Expiry says why a peer is given up. The peer stays configured; control decides about it.
type Expiry struct {
	Peer *Peer
	Why  ExpiryReason
}

// ExpiryReason is why a peer is given up.
type ExpiryReason uint8

// The reasons.
const (
	NoResponse ExpiryReason = iota + 1 // RekeyAttemptTime went by without a response
	NoSession                          // no new session for three times RejectAfterTime
)

// String names the reason.
func (r ExpiryReason) String() string {
	switch r {
	case NoResponse:
		return "no response"
	case NoSession:
		return "no session"
	}
	return "unknown"
}

// pending reports whether there is anything to drain.
func (o *Output) pending() bool {
	return len(o.Withdrawn)+len(o.NewSessions)+len(o.Datagrams)+len(o.Keepalives)+
		len(o.Quiet)+len(o.Expired)+len(o.Jobs) > 0
}

// reset empties o and keeps its memory.
func (o *Output) reset() {
	clear(o.Withdrawn)
	clear(o.NewSessions)
	clear(o.Datagrams)
	clear(o.Keepalives)
	clear(o.Quiet)
	clear(o.Expired)
	clear(o.Jobs)
	*o = Output{
		Withdrawn: o.Withdrawn[:0], NewSessions: o.NewSessions[:0], Datagrams: o.Datagrams[:0],
		Keepalives: o.Keepalives[:0], Quiet: o.Quiet[:0], Expired: o.Expired[:0], Jobs: o.Jobs[:0],
	}
}
