package fib

import "net/netip"

// Answers to refused packets are made by control, one by one; a client that keeps sending what is
// refused must not keep control from the others. A thousand attempts in a row, as a scan of a
// prefix makes them, are answered as fast as control takes them; after that fifty a second, which is
// more than a person's programs try in vain. What resources send too big for a client counts too.
const (
	answerInterval = 20_000_000 // nanoseconds
	answerBurst    = 1000
)

// MayAnswer takes one answer to the client from its allowance and reports whether there was one.
// The allowance is one value of time that a token bucket is full again (the generic cell rate
// algorithm, ITU-T I.371), so that loops and control may share it without a lock.
func (p *Peer) MayAnswer(now int64) bool {
	for {
		full := p.answers.Load()
		from := max(full, now)
		if from+answerInterval-now > answerBurst*answerInterval {
			return false
		}
		if p.answers.CompareAndSwap(full, from+answerInterval) {
			return true
		}
	}
}

// Answered reports whether a packet with this verdict is to be answered with an ICMP error.
func (v Verdict) Answered() bool {
	return v == ReplyProhibited || v == ReplyUnreachable || v == ReplyTooBig
}

// Owns reports whether an address is one of the client's own.
func (p *Policy) Owns(a netip.Addr) bool { return p.client.has(a) }

// FromGateway reports whether an address is one of the gateway's own.
func (p *Policy) FromGateway(a netip.Addr) bool { return p.gateway.has(a) }
