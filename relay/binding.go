package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/firelane/firelane/protocol/stun"
)

// Verdict says what is to become of a STUN message after Bindings.Answer.
type Verdict uint8

// The verdicts.
const (
	// Punt: not a Binding request; give it to the server.
	Punt Verdict = iota
	// Answered: send the answer to where the request came from.
	Answered
	// Dropped: counted, and nothing to do.
	Dropped
)

// maxBindingAnswer is how long in bytes an answer to a Binding request is at most: a header and one
// IPv6 address.
const maxBindingAnswer = stun.HeaderSize + 4 + 20

// Bindings answers Binding requests, for which a relay needs no state: workers do it on the spot.
// It is shared by all workers and the server.
type Bindings struct {
	table    *Table
	limiter  *Limiter
	counters *Counters
}

// Answer looks at a datagram that starts like STUN and appends the answer to dst if it is a
// Binding request. now is in nanoseconds of the workers' clock. It does not allocate if dst has
// room for maxBindingAnswer bytes.
//
// A client with an allocation is answered without limit: whoever forges packets from its address
// could otherwise use up what the limit leaves it.
//
// Nobody vouches for the request, so the answer holds nothing that can be done without: neither
// SOFTWARE nor a reason phrase.
func (b *Bindings) Answer(dst, datagram []byte, from Tuple, now int64) ([]byte, Verdict) {
	if len(datagram) < stun.HeaderSize || binary.BigEndian.Uint16(datagram) != uint16(stun.Binding) {
		return dst, Punt
	}
	var m stun.Message
	err := m.Parse(datagram)
	if err == stun.ErrHeader {
		b.counters.count(EventNotRequest)
		return dst, Dropped
	}
	if from.Remote.Port() == 0 {
		b.counters.count(EventPortZero)
		return dst, Dropped
	}
	if b.table.Client(from.Remote, from.Local) == nil && !b.limiter.Allow(from.Remote.Addr(), now) {
		b.counters.count(EventBindingRate)
		return dst, Dropped
	}
	code := 0
	class := stun.Success
	if err != nil {
		code, class = 400, stun.Failure
	}
	w := stun.Start(dst, class, stun.Binding, m.ID)
	if code == 0 {
		w.Address(stun.XORMappedAddress, unmapped(from.Remote))
	} else {
		w.Error(code, "")
	}
	b.counters.responded(stun.Binding, code)
	return w.Bytes(), Answered
}

// unmapped turns an IPv4 address in IPv6 clothes into what it is. A link-local address keeps its
// zone, without which nothing reaches it.
func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
