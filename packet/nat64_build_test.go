package packet

import (
	"encoding/binary"
	"net/netip"
)

var (
	near4, far4 = netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("192.0.2.7")
	near6, far6 = netip.MustParseAddr("fd00:2021:1111::1"), netip.MustParseAddr("2001:db8::7")
)

// rawPacket builds a packet between near and far without options around a transport segment, with
// any protocol; the type of service is 0x2a and the time to live 61.
func rawPacket(version, proto uint8, segment []byte) []byte {
	return rawBetween(version, proto, segment, version == 4)
}

func rawBetween(version, proto uint8, segment []byte, dontFragment bool) []byte {
	if version == 6 {
		b := make([]byte, ip6HeaderLen+len(segment))
		binary.BigEndian.PutUint32(b, 0x62a12345)
		put16(b[ip6Length:], uint16(len(segment)))
		b[ip6Next], b[ip6Hops] = proto, 61
		src, dst := near6.As16(), far6.As16()
		copy(b[ip6Src:], src[:])
		copy(b[ip6Dst:], dst[:])
		copy(b[ip6HeaderLen:], segment)
		return b
	}
	b := make([]byte, ip4HeaderLen+len(segment))
	b[0], b[1], b[ip4TTL], b[ip4Proto] = 0x45, 0x2a, 61, proto
	put16(b[ip4Length:], uint16(len(b)))
	put16(b[ip4ID:], 0x1234)
	if dontFragment {
		put16(b[ip4Fragment:], ip4DontFragment)
	}
	src, dst := near4.As4(), far4.As4()
	copy(b[ip4Src:], src[:])
	copy(b[ip4Dst:], dst[:])
	copy(b[ip4HeaderLen:], segment)
	put16(b[ip4Checksum:], ^slowSum(b[:ip4HeaderLen]))
	return b
}

// icmpPacket builds an ICMP message with a right checksum.
func icmpPacket(version, kind, code uint8, rest uint32, body []byte) []byte {
	m := append(make([]byte, icmpHeaderLen), body...)
	m[0], m[1] = kind, code
	binary.BigEndian.PutUint32(m[icmpID:], rest)
	if version == 4 {
		put16(m[icmpChecksum:], ^slowSum(m))
		return rawPacket(4, ProtoICMP, m)
	}
	put16(m[icmpChecksum:], ^slowSum(append(pseudo6(len(m), ProtoICMPv6), m...)))
	return rawPacket(6, ProtoICMPv6, m)
}

func pseudo6(length int, proto uint8) []byte {
	src, dst := near6.As16(), far6.As16()
	p := append(src[:], dst[:]...)
	return append(binary.BigEndian.AppendUint32(p, uint32(length)), 0, 0, 0, proto)
}

func echoPacket(version, kind uint8, data []byte) []byte {
	return icmpPacket(version, kind, 0, 0x12340001, data)
}

// errorPacket builds an ICMP error about offending, all of which it quotes, with an extension where
// that is not nil; then the length attribute is set.
func errorPacket(version, kind, code uint8, rest uint32, offending, extension []byte) []byte {
	body := append([]byte(nil), offending...)
	if extension != nil {
		unit, shift := 4, 16
		if version == 6 {
			unit, shift = 8, 24
		}
		for len(body) < minExtendedQuote || len(body)%unit != 0 {
			body = append(body, 0)
		}
		rest |= uint32(len(body)/unit) << shift
		body = append(body, extension...)
	}
	return icmpPacket(version, kind, code, rest, body)
}

// outerFor gives a translated error the addresses of a router and of the one whom it is for.
func outerFor(info *Info) ErrorHeader {
	if info.Version == 4 {
		return ErrorHeader{Src: netip.MustParseAddr("64:ff9b::cb00:7101"), Dst: site6, ID: 99}
	}
	return ErrorHeader{Src: netip.MustParseAddr("203.0.113.1"), Dst: site4, ID: 99}
}
