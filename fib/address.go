package fib

import (
	"encoding/binary"
	"net/netip"

	"github.com/firelane/firelane/packet"
)

// zone says which part of the address plan an address lies in.
type zone uint8

const (
	zoneOther zone = iota
	zoneTunnel
	zoneProxy
)

// zones finds the zone of an address. Immutable.
type zones struct {
	four []zone4
	six  []zone6
}

type zone4 struct {
	base, mask uint32
	zone       zone
}

type zone6 struct {
	high, highMask, low, lowMask uint64
	zone                         zone
}

// of returns where a lies: in the first range added that holds it. An IPv4 address in IPv6
// clothes is an IPv6 address.
func (z *zones) of(a netip.Addr) zone {
	if a.Is4() {
		b := a.As4()
		n := binary.BigEndian.Uint32(b[:])
		for i := range z.four {
			if r := &z.four[i]; n&r.mask == r.base {
				return r.zone
			}
		}
		return zoneOther
	}
	b := a.As16()
	high, low := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	for i := range z.six {
		if r := &z.six[i]; high&r.highMask == r.high && low&r.lowMask == r.low {
			return r.zone
		}
	}
	return zoneOther
}

func (z *zones) add(zone zone, prefixes []netip.Prefix) {
	for _, p := range prefixes {
		if !p.IsValid() {
			continue
		}
		a, bits := p.Masked().Addr(), p.Bits()
		if a.Is4() {
			b := a.As4()
			z.four = append(z.four, zone4{binary.BigEndian.Uint32(b[:]), ^uint32(0) << (32 - bits), zone})
			continue
		}
		b := a.As16()
		z.six = append(z.six, zone6{
			binary.BigEndian.Uint64(b[:]), ^uint64(0) << (64 - min(bits, 64)),
			binary.BigEndian.Uint64(b[8:]), ^uint64(0) << (128 - max(bits, 64)), zone})
	}
}

// notInternet reports whether an address is none that the Internet resource leads to: private
// networks, this host, links, multicast and what is reserved.
func notInternet(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		switch b[0] {
		case 10, 127:
			return true
		case 100:
			return b[1]&0xc0 == 64
		case 169:
			return b[1] == 254
		case 172:
			return b[1]&0xf0 == 16
		case 192:
			return b[1] == 168
		}
		return b[0] >= 224
	}
	if a.Is4In6() || a.IsLoopback() {
		return true
	}
	b := a.As16()
	// What some translator or tunnel beyond us would take for the IPv4 address that it embeds: the
	// NAT64 prefixes of RFC 6052 and RFC 8215, where the address is last, and 6to4.
	switch {
	case [12]byte(b[:12]) == [12]byte{0x00, 0x64, 0xff, 0x9b}, [6]byte(b[:6]) == [6]byte{0x00, 0x64, 0xff, 0x9b, 0, 1}:
		return notInternet(netip.AddrFrom4([4]byte(b[12:])))
	case [2]byte(b[:2]) == [2]byte{0x20, 0x02}:
		return notInternet(netip.AddrFrom4([4]byte(b[2:6])))
	}
	return b[0]&0xfe == 0xfc || b[0] == 0xfe && b[1]&0xc0 == 0x80 || b[0] == 0xff
}

// Types of ICMP messages (RFC 792, RFC 4443).
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpSourceQuench = 4
	icmpRedirect     = 5
	icmpEchoRequest  = 8
	icmpTimeExceeded = 11
	icmpParameter    = 12

	icmp6Parameter   = 4
	icmp6EchoRequest = 128
	icmp6EchoReply   = 129
)

// outboundError reports whether a packet of a client is an ICMP error: any that a host could act
// on (RFC 1122, 3.2.2; RFC 4443, 2.1).
func outboundError(info *packet.Info) bool {
	if kindOf(info) != kindICMP {
		return false
	}
	if info.Version == 6 {
		return info.ICMPType < icmp6EchoRequest
	}
	switch info.ICMPType {
	case icmpUnreachable, icmpSourceQuench, icmpRedirect, icmpTimeExceeded, icmpParameter:
		return true
	}
	return false
}

// inboundError reports whether a packet to a client is an ICMP error that passes whatever the
// filters say: one that tells what became of a packet of the client. Redirects and source quench
// do not.
func inboundError(info *packet.Info) bool {
	if kindOf(info) != kindICMP {
		return false
	}
	if info.Version == 6 {
		return info.ICMPType >= 1 && info.ICMPType <= icmp6Parameter
	}
	return info.ICMPType == icmpUnreachable || info.ICMPType == icmpTimeExceeded || info.ICMPType == icmpParameter
}

// translatable reports whether the state of a NAT can tell flows of such packets apart.
func translatable(info *packet.Info, t traffic) bool {
	switch t.kind {
	case kindTCP, kindUDP:
		return true
	case kindICMP:
		if info.Version == 6 {
			return info.ICMPType == icmp6EchoRequest || info.ICMPType == icmp6EchoReply
		}
		return info.ICMPType == icmpEchoRequest || info.ICMPType == icmpEchoReply
	}
	return false
}
