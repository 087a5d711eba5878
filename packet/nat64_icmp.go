package packet

import "encoding/binary"

// icmpError is the header of an ICMP error without its checksum; rest are its last four bytes.
type icmpError struct {
	kind, code uint8
	rest       uint32
}

// error6 returns the ICMPv6 header for an ICMPv4 error, and false if it is to be dropped (RFC 7915,
// section 4.2).
func error6(m []byte, quoted *Info, outer *ErrorHeader) (icmpError, bool) {
	code := m[1]
	switch m[0] {
	case icmpUnreachable:
		if code == icmpCodeTooBig {
			mtu := mtu6(binary.BigEndian.Uint16(m[6:]), quoted.Len, outer)
			return icmpError{kind: icmp6TooBig, rest: mtu}, true
		}
		return unreachable6(code)
	case icmpTimeExceeded:
		return icmpError{kind: icmp6TimeExceeded, code: code}, true
	case icmpParameterProblem:
		pointer := m[4]
		if code != 0 && code != icmpCodeBadLength || int(pointer) >= len(pointers6) || pointers6[pointer] < 0 {
			return icmpError{}, false
		}
		return icmpError{kind: icmp6ParameterProblem, rest: uint32(pointers6[pointer])}, true
	}
	return icmpError{}, false
}

// unreachable6 translates the codes of destination unreachable other than fragmentation needed.
func unreachable6(code uint8) (icmpError, bool) {
	switch code {
	case 0, 1, 5, 6, 7, 8, 11, 12: // network, host, source route, unknown, isolated, type of service
		return icmpError{kind: icmp6Unreachable, code: icmp6CodeNoRoute}, true
	case icmpCodeProtocol:
		return icmpError{kind: icmp6ParameterProblem, code: icmp6CodeUnknownHeader, rest: ip6Next}, true
	case icmpCodePort:
		return icmpError{kind: icmp6Unreachable, code: icmp6CodePort}, true
	case 9, icmpCodeHostProhibited, 13, 15: // prohibited for network, host, by filter; precedence cut off
		return icmpError{kind: icmp6Unreachable, code: icmp6CodeProhibited}, true
	}
	return icmpError{}, false // 14, precedence violation, and unknown ones
}

// error4 returns the ICMPv4 header for an ICMPv6 error, and false if it is to be dropped (RFC 7915,
// section 5.2).
func error4(m []byte, outer *ErrorHeader) (icmpError, bool) {
	code, rest := m[1], binary.BigEndian.Uint32(m[4:])
	switch m[0] {
	case icmp6Unreachable:
		switch code {
		case icmp6CodeNoRoute, 2, icmp6CodeAddress: // 2 is beyond scope
			return icmpError{kind: icmpUnreachable, code: icmpCodeHost}, true
		case icmp6CodeProhibited:
			return icmpError{kind: icmpUnreachable, code: icmpCodeHostProhibited}, true
		case icmp6CodePort:
			return icmpError{kind: icmpUnreachable, code: icmpCodePort}, true
		}
	case icmp6TooBig:
		return icmpError{kind: icmpUnreachable, code: icmpCodeTooBig, rest: mtu4(rest, outer)}, true
	case icmp6TimeExceeded:
		return icmpError{kind: icmpTimeExceeded, code: code}, true
	case icmp6ParameterProblem:
		switch code {
		case icmp6CodeBadField:
			if rest >= uint32(len(pointers4)) || pointers4[rest] < 0 {
				return icmpError{}, false
			}
			return icmpError{kind: icmpParameterProblem, rest: uint32(pointers4[rest]) << 24}, true
		case icmp6CodeUnknownHeader:
			return icmpError{kind: icmpUnreachable, code: icmpCodeProtocol}, true
		}
	}
	return icmpError{}, false
}

// mtu6 returns the MTU for packet too big from that of fragmentation needed, where 0 means that the
// router does not say (before RFC 1191): then it is the next plateau below the quoted packet.
//
// It is never less than 1,280, which IPv6 senders do not go below; packets of that size come out
// as fragmentable ones (RFC 7915, sections 5.1 and 6).
func mtu6(advertised uint16, quoted int, outer *ErrorHeader) uint32 {
	mtu := int(advertised)
	if mtu == 0 {
		for _, mtu = range plateaus {
			if mtu < quoted {
				break
			}
		}
	}
	mtu += headerGrowth
	if outer.MTU6 > 0 {
		mtu = min(mtu, outer.MTU6)
	}
	if outer.MTU4 > 0 {
		mtu = min(mtu, outer.MTU4+headerGrowth)
	}
	return uint32(max(mtu, minMTU6))
}

// mtu4 returns the MTU for fragmentation needed from that of packet too big. A value below 1,280
// cannot be true and is taken for that: no IPv6 path has less, and hosts are not to believe it
// (RFC 8201, section 4).
func mtu4(advertised uint32, outer *ErrorHeader) uint32 {
	mtu := int(max(advertised, minMTU6)) - headerGrowth
	if outer.MTU4 > 0 {
		mtu = min(mtu, outer.MTU4)
	}
	if outer.MTU6 > 0 {
		mtu = min(mtu, outer.MTU6-headerGrowth)
	}
	return uint32(min(max(mtu, minMTU4), maxPacket))
}

// pointers6 gives for each byte of the IPv4 header where the field is in IPv6, and pointers4 the
// other way; -1 where it has no counterpart (RFC 7915, figures 3 and 6).
var (
	pointers6 = [ip4HeaderLen]int8{
		0, 1, 4, 4, // version and header length, type of service, length
		-1, -1, -1, -1, // identification, flags and offset
		7, 6, -1, -1, // time to live, protocol, checksum
		8, 8, 8, 8, 24, 24, 24, 24, // addresses
	}
	pointers4 = [ip6HeaderLen]int8{
		0, 1, -1, -1, // version, traffic class, flow label
		2, 2, 9, 8, // length, next header, hop limit
		12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, // addresses
		16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16,
	}
)

// plateaus are MTUs in use, for routers that do not say which is theirs (RFC 1191, section 7.1).
var plateaus = [...]int{65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, minMTU4}

const (
	minMTU4 = 68   // RFC 791
	minMTU6 = 1280 // RFC 8200, section 5

	// headerGrowth is by how many bytes an IPv6 header is longer than an IPv4 one.
	headerGrowth = ip6HeaderLen - ip4HeaderLen

	// Codes of destination unreachable and parameter problem in ICMPv4 (RFC 792, RFC 1812) and
	// ICMPv6 (RFC 4443), beside those that this node itself sends.
	icmpCodeHost           = 1
	icmpCodeProtocol       = 2
	icmpCodeHostProhibited = 10
	icmpCodeBadLength      = 2
	icmp6CodeNoRoute       = 0
	icmp6CodeBadField      = 0
	icmp6CodeUnknownHeader = 1
)
