package netnstest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Protocols, by their IANA numbers.
const (
	protoHopByHop    = 0
	protoICMP        = 1
	protoTCP         = 6
	protoUDP         = 17
	protoRouting     = 43
	protoFragment    = 44
	protoICMPv6      = 58
	protoDestination = 60
)

// sample says what a packet is like, which is easier to ask than its bytes.
type sample struct {
	v6       bool
	src, dst netip.Addr
	tos, ttl uint8
	id       uint32 // identification; of IPv6, in the fragment header
	df       bool   // of IPv4
	options  []byte // of IPv4, a multiple of 4 bytes
	chain    []extension
	// fragmented means in IPv6 that there is a fragment header, maybe an atomic one. offset is in
	// bytes and a multiple of 8.
	fragmented, more bool
	offset           int
	proto            uint8
	body             []byte // transport header and payload, unless icmp is set
	icmp             *message
}

// extension is an IPv6 extension header without its first byte.
type extension struct {
	proto uint8
	rest  []byte
}

// message is an ICMP message. The quote of an error is cut to a length, padded with zeros to one,
// and followed by an extension; 0 leaves it.
type message struct {
	kind, code uint8
	rest       uint32
	quote      *sample
	cut, pad   int
	extension  []byte
	payload    []byte // where there is no quote
	wrongSum   bool
}

func (s *sample) bytes() []byte {
	body := s.body
	if s.icmp != nil {
		body = s.icmp.bytes(s)
	}
	if s.v6 {
		return s.bytes6(body)
	}
	header := 20 + len(s.options)
	b := make([]byte, header, header+len(body))
	b[0], b[1], b[8], b[9] = 0x40|byte(header/4), s.tos, s.ttl, s.proto
	binary.BigEndian.PutUint16(b[2:], uint16(header+len(body)))
	binary.BigEndian.PutUint16(b[4:], uint16(s.id))
	flags := uint16(s.offset / 8)
	if s.df {
		flags |= 0x4000
	}
	if s.more {
		flags |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], flags)
	copy(b[12:], s.src.AsSlice())
	copy(b[16:], s.dst.AsSlice())
	copy(b[20:], s.options)
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b))
	return append(b, body...)
}

func (s *sample) bytes6(body []byte) []byte {
	chain := s.chain
	if s.fragmented {
		f := make([]byte, 7)
		at := uint16(s.offset)
		if s.more {
			at |= 1
		}
		binary.BigEndian.PutUint16(f[1:], at)
		binary.BigEndian.PutUint32(f[3:], s.id)
		chain = append(chain[:len(chain):len(chain)], extension{protoFragment, f})
	}
	b := make([]byte, 40)
	b[0], b[1] = 0x60|s.tos>>4, s.tos<<4|byte(s.id>>16&15)
	b[2], b[3], b[7] = byte(s.id>>8), byte(s.id), s.ttl // any flow label
	copy(b[8:], s.src.AsSlice())
	copy(b[24:], s.dst.AsSlice())
	next := 6
	for _, e := range chain {
		b[next] = e.proto
		next = len(b)
		b = append(append(b, 0), e.rest...)
	}
	b[next] = s.proto
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

func (m *message) bytes(outer *sample) []byte {
	b := make([]byte, 8)
	b[0], b[1] = m.kind, m.code
	binary.BigEndian.PutUint32(b[4:], m.rest)
	if m.quote == nil {
		b = append(b, m.payload...)
	} else {
		q := m.quote.bytes()
		if m.cut > 0 {
			q = q[:min(len(q), m.cut)]
		}
		b = append(b, q...)
		if n := 8 + m.pad - len(b); n > 0 {
			b = append(b, make([]byte, n)...)
		}
		b = append(b, m.extension...)
	}
	sum := ^onesSum(b)
	if outer.v6 {
		sum = ^onesSum(pseudo(outer.src, outer.dst, protoICMPv6, len(b)), b)
	}
	if m.wrongSum {
		sum ^= 0x0101
	}
	binary.BigEndian.PutUint16(b[2:], sum)
	return b
}

// onesSum is the ones' complement sum of pieces that have an even length but for the last.
func onesSum(pieces ...[]byte) uint16 {
	sum := 0
	for _, b := range pieces {
		for i, c := range b {
			sum += int(c) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func pseudo(src, dst netip.Addr, proto uint8, length int) []byte {
	p := append(src.AsSlice(), dst.AsSlice()...)
	return append(binary.BigEndian.AppendUint32(p, uint32(length)), 0, 0, 0, proto)
}

func udpSegment(src, dst netip.Addr, sport, dport uint16, payload []byte) []byte {
	b := append(make([]byte, 8), payload...)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	sum := ^onesSum(pseudo(src, dst, protoUDP, len(b)), b)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

func tcpSegment(src, dst netip.Addr, sport, dport uint16, seq uint32, options, payload []byte) []byte {
	b := append(append(make([]byte, 20), options...), payload...)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ^seq)
	b[12], b[13] = byte(20+len(options))<<2, byte(seq>>3)
	binary.BigEndian.PutUint16(b[14:], uint16(seq>>7))
	binary.BigEndian.PutUint16(b[16:], ^onesSum(pseudo(src, dst, protoTCP, len(b)), b))
	return b
}

// What follows are the questions that the list of differences asks.

// whole means neither a first nor a later fragment; atomic ones are whole.
func (s *sample) whole() bool { return s.offset == 0 && !s.more }

func (s *sample) length() int { return len(s.bytes()) }

// payload is how many bytes follow the IP header and all extension headers.
func (s *sample) payload() int {
	if s.icmp != nil {
		return len(s.icmp.bytes(s))
	}
	return len(s.body)
}

// echo means an echo message with its header, and error an ICMP error that is no fragment.
func (s *sample) echo() bool { return s.icmp != nil && s.icmp.quote == nil && s.isEchoType() }

func (s *sample) isEchoType() bool {
	if s.v6 {
		return s.icmp.kind == 128 || s.icmp.kind == 129
	}
	return s.icmp.kind == 8 || s.icmp.kind == 0
}

func (s *sample) error() bool { return s.icmp != nil && s.icmp.quote != nil }

// is reports whether s is an error of the kind, in its version of IP, and has one of the codes.
func (s *sample) is(v6 bool, kind uint8, codes ...uint8) bool {
	if !s.error() || s.v6 != v6 || s.icmp.kind != kind {
		return false
	}
	for _, c := range codes {
		if c == s.icmp.code {
			return true
		}
	}
	return len(codes) == 0
}

// udpWithoutSum means that the header of a UDP datagram is there and its checksum is 0.
func (s *sample) udpWithoutSum() bool {
	return s.proto == protoUDP && s.offset == 0 && withoutSum(s.body)
}

func withoutSum(udp []byte) bool { return len(udp) >= 8 && udp[6]|udp[7] == 0 }

func (s *sample) String() string {
	x := fmt.Sprintf("v6 %v proto %d tos %#x ttl %d df %v options %x fragmented %v offset %d more %v length %d %v>%v",
		s.v6, s.proto, s.tos, s.ttl, s.df, s.options, s.fragmented, s.offset, s.more, s.length(), s.src, s.dst)
	for _, e := range s.chain {
		x += fmt.Sprintf(" header %d %x", e.proto, e.rest)
	}
	if m := s.icmp; m != nil {
		x += fmt.Sprintf(" ICMP %d/%d rest %#x wrong %v", m.kind, m.code, m.rest, m.wrongSum)
		if m.quote != nil {
			x += fmt.Sprintf(" cut %d pad %d extension %x quote {%v}", m.cut, m.pad, m.extension, m.quote)
		}
	}
	return x
}
