package fastpath

import (
	"encoding/binary"
	"net/netip"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/packet"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// flow describes an inner packet. The zero value of most fields is the usual packet.
type flow struct {
	v6, udp          bool
	src, dst         netip.Addr // of the link under test when zero
	from, link       int        // side and link that addresses are taken from
	sport, dport     uint16
	tos, ttl         uint8
	id               uint16
	mayFragment      bool // IPv4 without DF
	fragment         uint16
	seq, ack         uint32
	window, urgent   uint16
	flags            uint8
	options          []byte
	ipOptions        []byte
	zeroSum, badSum  bool
	badHeader        bool
	payload          []byte
	label            uint32
	proto            uint8 // another protocol, payload only
	claimed, padding int   // UDP length that differs; bytes behind the packet
}

func (f flow) addresses() (src, dst netip.Addr) {
	src, dst = inner4(f.from, f.link), inner4(1-f.from, f.link)
	if f.v6 {
		src, dst = inner6(f.from, f.link), inner6(1-f.from, f.link)
	}
	if f.src.IsValid() {
		src = f.src
	}
	if f.dst.IsValid() {
		dst = f.dst
	}
	return src, dst
}

// transport is the transport header and payload, its checksum still 0.
func (f flow) transport() (proto uint8, b []byte, sumAt int) {
	be := binary.BigEndian
	switch {
	case f.proto != 0:
		return f.proto, append([]byte(nil), f.payload...), -1
	case f.udp:
		b = make([]byte, 8, 8+len(f.payload))
		be.PutUint16(b[4:], uint16(8+len(f.payload)-f.claimed))
		sumAt = 6
	default:
		b = make([]byte, 20, 20+len(f.options)+len(f.payload))
		be.PutUint32(b[4:], f.seq)
		be.PutUint32(b[8:], f.ack)
		b[12] = uint8(5+len(f.options)/4) << 4
		if b[13] = f.flags; b[13] == 0 {
			b[13] = packet.FlagACK
		}
		be.PutUint16(b[14:], 500+f.window)
		be.PutUint16(b[18:], f.urgent)
		b = append(b, f.options...)
		sumAt = 16
	}
	be.PutUint16(b, 4000+f.sport)
	be.PutUint16(b[2:], 443+f.dport)
	proto = packet.ProtoTCP
	if f.udp {
		proto = packet.ProtoUDP
	}
	return proto, append(b, f.payload...), sumAt
}

// build makes the packet with its checksums, by the slowest and plainest means.
func (f flow) build() []byte {
	be := binary.BigEndian
	proto, l4, sumAt := f.transport()
	src, dst := f.addresses()
	var b []byte
	if f.v6 {
		b = make([]byte, 40)
		be.PutUint32(b, 6<<28|uint32(f.tos)<<20|f.label)
		be.PutUint16(b[4:], uint16(len(l4)))
		b[6], b[7] = proto, 64+f.ttl
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	} else {
		b = append(make([]byte, 20), f.ipOptions...)
		b[0], b[1] = 0x40|uint8(len(b)/4), f.tos
		be.PutUint16(b[2:], uint16(len(b)+len(l4)))
		be.PutUint16(b[4:], f.id)
		if be.PutUint16(b[6:], f.fragment); !f.mayFragment && f.fragment == 0 {
			b[6] |= 0x40
		}
		b[8], b[9] = 64+f.ttl, proto
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		be.PutUint16(b[10:], ^slowSum(b, 0))
		if f.badHeader {
			b[10] ^= 0x55
		}
	}
	at := len(b)
	b = append(b, l4...)
	if sumAt >= 0 && !f.zeroSum {
		sum := ^slowSum(b[at:len(b)-f.claimed], uint32(pseudo(b[:len(b)-f.claimed], at)))
		if sum == 0 && f.udp {
			sum = 0xffff
		}
		be.PutUint16(b[at+sumAt:], sum)
		if f.badSum {
			b[at+sumAt] ^= 0x55
		}
	}
	return append(b, make([]byte, f.padding)...)
}

// pseudo sums the pseudo-header of the packet b whose transport header is at l4.
func pseudo(b []byte, l4 int) uint16 {
	rest := uint32(len(b) - l4)
	if b[0]>>4 == 4 {
		return slowSum(b[12:20], rest+uint32(b[9]))
	}
	return slowSum(b[8:40], rest+uint32(b[6]))
}

// slowSum is RFC 1071 as it is written, two bytes at a time.
func slowSum(b []byte, s uint32) uint16 {
	for i, v := range b {
		if i%2 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s>>16 + s&0xffff)
}

// asRead is the flow's packet as a tunnel queue delivers it: of segment bytes a segment, or whole.
func (f flow) asRead(segment int) batch.Packet {
	p := batch.Packet{Buf: f.build()}
	if segment == 0 {
		return p
	}
	l4, sum := uint16(20), uint16(16)
	p.Offload.Kind = batch.OffloadTCP4
	if f.v6 {
		p.Offload.Kind, l4 = batch.OffloadTCP6, 40
	}
	if f.udp {
		p.Offload.Kind, sum = batch.OffloadUDP, 6
	}
	p.Offload.NeedsCsum, p.Offload.CsumStart, p.Offload.CsumOffset = true, l4, sum
	p.Offload.SegmentSize = uint16(segment)
	p.Offload.HdrLen = uint16(len(p.Buf) - len(f.payload))
	binary.BigEndian.PutUint16(p.Buf[l4+sum:], pseudo(p.Buf, int(l4)))
	return p
}

// seen is what the independent decoder reads.
type seen struct {
	src, dst     netip.Addr
	sport, dport uint16
	udp          bool
	seq, ack     uint32
	flags        uint8
	tos          uint8
	payload      []byte
}

// judge decodes a TCP or UDP packet with an independent decoder, fails unless it is well-formed
// with right checksums, and returns what it says.
func judge(t fataler, b []byte) (s seen) {
	t.Helper()
	first, l4 := layers.LayerTypeIPv4, 20
	if b[0]>>4 == 6 {
		first, l4 = layers.LayerTypeIPv6, 40
	}
	p := gopacket.NewPacket(b, first, gopacket.NoCopy)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("independent decoder: %v in %x", e.Error(), b[:min(len(b), 64)])
	}
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		s.tos, l4 = ip.TOS, int(ip.IHL)*4
		if int(ip.Length) != len(b) || slowSum(b[:l4], 0) != 0xffff {
			t.Fatalf("IPv4 length %d of %d bytes, header sum %04x", ip.Length, len(b), slowSum(b[:l4], 0))
		}
	case *layers.IPv6:
		s.tos = ip.TrafficClass
		if int(ip.Length) != len(b)-40 {
			t.Fatalf("IPv6 length %d of %d bytes", ip.Length, len(b))
		}
	}
	flow := p.NetworkLayer().NetworkFlow()
	s.src, _ = netip.AddrFromSlice(flow.Src().Raw())
	s.dst, _ = netip.AddrFromSlice(flow.Dst().Raw())
	switch h := p.TransportLayer().(type) {
	case *layers.TCP:
		s.sport, s.dport, s.seq, s.ack, s.flags = uint16(h.SrcPort), uint16(h.DstPort), h.Seq, h.Ack, b[l4+13]
		s.payload = h.Payload
	case *layers.UDP:
		s.sport, s.dport, s.udp, s.payload = uint16(h.SrcPort), uint16(h.DstPort), true, h.Payload
		if int(h.Length) != len(b)-l4 {
			t.Fatalf("UDP length %d of %d bytes", h.Length, len(b)-l4)
		}
	default:
		t.Fatalf("neither TCP nor UDP: %x", b[:min(len(b), 64)])
	}
	if s.udp && b[l4+6]|b[l4+7] == 0 && b[0]>>4 == 4 {
		return s
	}
	if sum := slowSum(b[l4:], uint32(pseudo(b, l4))); sum != 0xffff {
		t.Fatalf("transport checksum sums to %04x: %x", sum, b[:min(len(b), 64)])
	}
	return s
}

// fill returns n bytes that differ from place to place.
func fill(n int, seed uint32) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}
