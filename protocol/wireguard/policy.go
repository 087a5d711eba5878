package wireguard

import "time"

// Policy is how a device differs between plain WireGuard and the two portal-driven modes. It is
// one machine with parameters, not three machines. Durations are those of the WireGuard paper,
// section 6, unless a field says otherwise.
type Policy struct {
	// InitiateOnData lets data (WhyData) and keepalives without a usable session start a
	// handshake. Portal-driven peers start them by their role instead.
	InitiateOnData bool
	// ReplyToSource sends a response to where its initiation came from (roaming); otherwise it
	// goes to the peer's current path.
	ReplyToSource bool
	// ExpireWithoutSession reports a peer as expired (NoSession) that had no new session for
	// three times RejectAfterTime, counted from AddPeer.
	ExpireWithoutSession bool
	// CookieBindsPort binds a cookie to source address and port instead of the address alone.
	CookieBindsPort bool
	// PadTo16 tells who seals to pad plaintexts to a multiple of 16 bytes. Not used here.
	PadTo16 bool

	// RekeyAfterTime is the age of a session at which its initiator, sending, starts anew.
	RekeyAfterTime time.Duration
	// RejectAfterTime is the age at which a session is dead.
	RejectAfterTime time.Duration
	// InitiatorSendTime is the age up to which the initiator of a session may seal with it;
	// the responder may until RejectAfterTime.
	InitiatorSendTime time.Duration
	// RekeyTimeout is the distance between two initiations to one peer, at least.
	RekeyTimeout time.Duration
	// RekeyAttemptTime is after how long without a response an attempt is given up.
	RekeyAttemptTime time.Duration
	// KeepaliveTimeout is after how long of receiving data without sending anything an empty
	// message is sent.
	KeepaliveTimeout time.Duration
	// JitterMax bounds the random delay of initiations that a timer causes.
	JitterMax time.Duration
	// NominationDebounce is the distance between two initiations for WhyNominated, at least.
	NominationDebounce time.Duration

	// HandshakeBudget is how many initiations and responses per second, over all peers, are
	// accepted without a cookie.
	HandshakeBudget int
	// LoadJobs is the number of unanswered jobs made by incoming messages from which on the
	// device counts as loaded, for one second, whatever the rate.
	LoadJobs int
}

// PlainPolicy is WireGuard as the paper has it.
//
// Load: beyond 500 handshake messages within a second, or with 32 jobs waiting, a cookie is
// demanded. 500 answered initiations cost about a tenth of one core (0.2 ms each); 32 jobs are
// some 6 ms of work, more than a round of honest peers brings at once.
func PlainPolicy() Policy {
	return Policy{
		InitiateOnData:    true,
		ReplyToSource:     true,
		CookieBindsPort:   true,
		PadTo16:           true,
		RekeyAfterTime:    120 * time.Second,
		RejectAfterTime:   180 * time.Second,
		InitiatorSendTime: 180 * time.Second,
		RekeyTimeout:      5 * time.Second,
		RekeyAttemptTime:  90 * time.Second,
		KeepaliveTimeout:  10 * time.Second,
		JitterMax:         333 * time.Millisecond,
		HandshakeBudget:   500,
		LoadJobs:          32,
	}
}

// PortalICEPolicy is for connections whose path ICE finds. An attempt is given up after 20 s,
// a little more than ICE needs to notice that the peer is gone.
func PortalICEPolicy() Policy {
	p := PlainPolicy()
	p.InitiateOnData = false
	p.ReplyToSource = false
	p.ExpireWithoutSession = true
	p.CookieBindsPort = false
	p.PadTo16 = false
	p.InitiatorSendTime = 170 * time.Second
	p.RekeyAttemptTime = 20 * time.Second
	p.NominationDebounce = 20 * time.Second
	p.HandshakeBudget = 100
	return p
}

// PortalICELessPolicy is for connections whose paths are probed without ICE: failures must be
// seen sooner, because nothing else sees them.
func PortalICELessPolicy() Policy {
	p := PortalICEPolicy()
	p.RekeyTimeout = 2 * time.Second
	p.KeepaliveTimeout = 5 * time.Second
	p.RekeyAttemptTime = 90 * time.Second
	return p
}

// Divided returns the policy with all its durations divided by n, to speed a test up.
func (p Policy) Divided(n int64) Policy {
	for _, d := range []*time.Duration{
		&p.RekeyAfterTime, &p.RejectAfterTime, &p.InitiatorSendTime, &p.RekeyTimeout,
		&p.RekeyAttemptTime, &p.KeepaliveTimeout, &p.JitterMax, &p.NominationDebounce,
	} {
		*d /= time.Duration(n)
	}
	return p
}

// rekeyOnReceive is the age of a session at which its initiator, receiving, starts anew: in time
// for a handshake before the session dies.
func (p *Policy) rekeyOnReceive() time.Duration {
	return p.RejectAfterTime - p.KeepaliveTimeout - p.RekeyTimeout
}

// noReply is how long sent data may go without any answer before a new handshake.
func (p *Policy) noReply() time.Duration { return p.KeepaliveTimeout + p.RekeyTimeout }

// observeEvery is the distance of looks at an active peer's stamps. Half the keepalive time
// bounds how much later than the paper a lazily computed timer may fire.
func (p *Policy) observeEvery() time.Duration { return p.KeepaliveTimeout / 2 }

// noSession is how long after its last handshake a peer's remaining secrets are wiped.
func (p *Policy) noSession() time.Duration { return 3 * p.RejectAfterTime }
