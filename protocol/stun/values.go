package stun

import (
	"encoding/binary"
	"net/netip"
	"unicode/utf8"
)

func (m *Message) text(dst *[]byte, bit Presence, v []byte, longest int) bool {
	if len(v) > longest || !utf8.Valid(v) {
		return false
	}
	if m.first(bit) {
		*dst = v
	}
	return true
}

func (m *Message) address(dst *netip.AddrPort, bit Presence, v []byte) bool {
	a, ok := m.xored(v)
	if ok && m.first(bit) {
		*dst = a
	}
	return ok
}

func (m *Message) relayed(v []byte) bool {
	a, ok := m.xored(v)
	if !ok {
		return false
	}
	i, bit := 0, HasRelayed4
	if a.Addr().Is6() {
		i, bit = 1, HasRelayed6
	}
	if m.first(bit) {
		m.Relayed[i] = a
	}
	return true
}

// xored reads an address of the XOR kind (RFC 8489 section 14.2): one byte of no meaning, family,
// port and address, the latter two exclusive-ored with cookie and transaction id. An IPv6
// address that is a mapped IPv4 address stays an IPv6 address, on which nobody can listen.
func (m *Message) xored(v []byte) (netip.AddrPort, bool) {
	if len(v) < 4 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:]) ^ cookie>>16
	switch {
	case Family(v[1]) == IPv4 && len(v) == 8:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(v[4:])^cookie)
		return netip.AddrPortFrom(netip.AddrFrom4(b), port), true
	case Family(v[1]) == IPv6 && len(v) == 20:
		b := [16]byte(v[4:])
		xor16(&b, m.ID)
		return netip.AddrPortFrom(netip.AddrFrom16(b), port), true
	}
	return netip.AddrPort{}, false
}

func xor16(b *[16]byte, id TransactionID) {
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])^cookie)
	for i, x := range id {
		b[4+i] ^= x
	}
}

// errorCode reads ERROR-CODE (RFC 8489 section 14.8): 21 bits of no meaning, the hundreds in
// three bits, the rest in eight, and a text.
func (m *Message) errorCode(v []byte) bool {
	if len(v) < 4 || len(v) > 4+maxText || !utf8.Valid(v[4:]) {
		return false
	}
	class, number := int(v[2]&7), int(v[3])
	if class < 3 || class > 6 || number > 99 {
		return false
	}
	if m.first(HasErrorCode) {
		m.Code, m.Reason = 100*class+number, v[4:]
	}
	return true
}

// ice takes in ICE's attributes if their size is right.
func (m *Message) ice(t Attribute, v []byte) {
	switch {
	case t == Priority && len(v) == 4 && m.first(HasPriority):
		m.Priority = binary.BigEndian.Uint32(v)
	case t == UseCandidate && len(v) == 0:
		m.Has |= HasUseCandidate
	case t == ICEControlled && len(v) == 8 && m.Has&HasControlling == 0 && m.first(HasControlled),
		t == ICEControlling && len(v) == 8 && m.Has&HasControlled == 0 && m.first(HasControlling):
		m.TieBreaker = binary.BigEndian.Uint64(v)
	}
}
