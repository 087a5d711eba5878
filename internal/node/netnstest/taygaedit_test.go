package netnstest

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// sum4 writes the header checksum of the IPv4 packet that begins b.
func sum4(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b[:20]))
}

// atomic4 gives the IPv4 header that begins b identification 0 and DF.
func atomic4(b []byte) {
	copy(b[4:], []byte{0, 0, 0x40, 0})
	sum4(b)
}

// identify gives the IPv4 packet b, which never was in fragments, tayga's identification and DF, after a
// look at whether tayga has a reason for them.
func identify(w *world, s *sample, b, theirs []byte) {
	atomic4(b)
	peer := netip.AddrFrom4([4]byte(b[16:]))
	may := !s.error() && w.tooBig[peer] != never && s.length()-40 <= 1280
	must := may && w.tooBig[peer] == surely
	if must || may && theirs[6]&0x40 == 0 {
		copy(b[4:8], []byte{theirs[4], theirs[5], 0, 0})
		sum4(b)
	}
}

// told says whether tayga has taken an error that says packets to a peer are too big, at less than 1,280.
type told int

const (
	never  told = iota
	maybe       // it may have dropped the error, before or after it took note
	surely      // it has translated the error
)

// noteTooBig keeps account of s, of which tayga made what theirs has.
func (w *world) noteTooBig(s *sample, theirs [][]byte) {
	if !s.is(false, 3, 4) {
		return
	}
	peer, mtu := s.icmp.quote.dst, s.icmp.rest&0xffff
	if len(theirs) > 0 && mtu >= 68 && mtu < 1260 {
		w.tooBig[peer] = surely
	}
	w.tooBig[peer] = max(w.tooBig[peer], maybe)
}

// sumICMP writes the checksum of the ICMP message in b, which has no IPv4 options or extension headers.
func sumICMP(b []byte) {
	if b[0]>>4 == 4 {
		b[22], b[23] = 0, 0
		binary.BigEndian.PutUint16(b[22:], ^onesSum(b[20:]))
		return
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	b[42], b[43] = 0, 0
	binary.BigEndian.PutUint16(b[42:], ^onesSum(pseudo(src, dst, protoICMPv6, len(b)-40), b[40:]))
}

// zeroUDP writes a UDP checksum of ffff as 0.
func zeroUDP(b []byte) {
	at := 20
	if b[0]>>4 == 6 {
		at = 40
		if b[6] == protoFragment {
			at = 48
			if binary.BigEndian.Uint16(b[42:])&^7 != 0 { // cut by the translator: a later part
				return
			}
		}
	}
	if f := b[at+6:]; f[0]&f[1] == 0xff {
		f[0], f[1] = 0, 0
	}
}

// mtuOfTayga writes the MTU that tayga says for an IPv4 router's.
func mtuOfTayga(_ *world, s *sample, b, _ []byte) {
	length, mtu := uint32(s.icmp.quote.length()), uint32(68)
	if i := slices.IndexFunc(plateaus, func(p uint32) bool { return p < length }); i >= 0 {
		mtu = plateaus[i]
	}
	binary.BigEndian.PutUint32(b[44:], max(min(mtu+20, 1500), 1280))
	sumICMP(b)
}

// plateaus are those of RFC 1191, section 7.1.
var plateaus = []uint32{65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296}

// withoutExtension leaves only the quote of an error, and no length attribute.
func withoutExtension(s *sample) *sample {
	x, m := *s, *s.icmp
	quote := s.icmp.bytes(s)[8:][:s.attribute()]
	m.extension, m.pad = nil, 0
	if n := m.lengthOfQuote(); n > len(quote) {
		m.cut = len(quote)
	} else {
		m.pad = len(quote)
	}
	if s.v6 {
		m.rest &= 1<<24 - 1
	} else {
		m.rest &^= 0xff << 16
	}
	x.icmp = &m
	return &x
}

// attribute returns the length attribute of an error in bytes, 0 if there is none (RFC 4884).
func (s *sample) attribute() int {
	switch {
	case s.is(true, 1), s.is(true, 3):
		return int(s.icmp.rest>>24) * 8
	case s.is(false, 3), s.is(false, 11), s.is(false, 12):
		return int(s.icmp.rest>>16&0xff) * 4
	}
	return 0
}

// quotedTransport is what there is behind the IP headers of a quote, with padding that belongs to the
// packet by its length.
func (s *sample) quotedTransport() []byte {
	quote, q := s.icmp.bytes(s)[8:], s.icmp.quote
	if a := s.attribute(); a > 0 && a < len(quote) {
		quote = quote[:a]
	}
	quote = quote[:min(len(quote), q.length())]
	return quote[min(len(quote), q.length()-q.payload()):]
}

// sourceRouted reports whether IPv4 options say which way a packet has still to go.
func (s *sample) sourceRouted() bool {
	return len(s.options) > 2 && (s.options[0] == 131 || s.options[0] == 137) && s.options[2] < 8
}

// foreign reports whether the protocol number has no meaning, or another, in the other IP version.
func (s *sample) foreign() bool {
	numbers := []uint8{2, 0, 43, 44, 51, 60, 135, 139, 140, 58}
	if s.v6 {
		numbers[len(numbers)-1] = 1
	}
	return slices.Contains(numbers, s.proto) && (s.icmp == nil || s.v6 != (s.proto == protoICMPv6))
}

// lies reports whether the transport header tells a length that is not there.
func (s *sample) lies() bool {
	b := s.body
	switch s.proto {
	case protoUDP:
		if len(b) < 8 {
			return true
		}
		n := int(binary.BigEndian.Uint16(b[4:]))
		return n < 8 || n > len(b) && !s.more
	case protoTCP:
		if len(b) < 20 {
			return true
		}
		n := int(b[12]>>4) * 4
		return n < 20 || n > len(b)
	}
	return false
}

// suffixed reports whether a has the prefix and a suffix other than zero.
func (w *world) suffixed(a netip.Addr) bool {
	v4, ok := w.prefix.Extract(a)
	return ok && w.prefix.Embed(v4) != a && a.As16()[8] == 0 // the reserved octet is none
}

// uses reports whether a, of IPv4, is an address of s or of what it quotes.
func (w *world) uses(s *sample, a netip.Addr) bool {
	if s.error() && w.uses(s.icmp.quote, a) {
		return true
	}
	for _, x := range []netip.Addr{s.src, s.dst} {
		if v4, ok := w.prefix.Extract(x); x == a || ok && v4 == a {
			return true
		}
	}
	return false
}

// mayBeAnswered reports whether tayga has a reason to answer s itself.
func (s *sample) mayBeAnswered(w *world) bool {
	_, mapped := w.other(s.dst)
	return s.ttl == 1 || !s.v6 && s.length() > w.mtu-20 || w.suffixed(s.dst) || !mapped || w.uses(s, w.local)
}
