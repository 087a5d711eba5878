package packet

import (
	"encoding/binary"
	"net/netip"
)

// Info is what Parse learns about a packet. It holds no reference to the packet's bytes.
type Info struct {
	// Src and Dst are the addresses of the IP header. An IPv6 header with an IPv4-mapped
	// address yields a mapped Addr, which equals no IPv4 one.
	Src, Dst netip.Addr
	// Len is the packet's length in bytes by its IP header, ≤ len(b): what follows is padding.
	Len int
	// L4 is the offset in bytes of the transport header, Payload that of what follows it. Where
	// there is no transport header that Parse knows, as in later fragments, both are equal.
	L4, Payload int
	// SrcPort and DstPort are the ports of TCP and UDP. ICMP echo requests and replies have
	// their identifier in both, so that either direction of an exchange shows the same pair.
	// 0 where there is none.
	SrcPort, DstPort uint16
	// Version is 4 or 6.
	Version uint8
	// Proto is the transport protocol, behind all extension headers (ProtoTCP and so on). In a
	// later fragment of IPv6 it is what the fragment header says, which may be an extension.
	Proto uint8
	// TOS is the type of service or traffic class: DSCP and, in the low two bits, ECN.
	TOS uint8
	// HopLimit is the time to live or hop limit.
	HopLimit uint8
	// TCPFlags is byte 13 of the TCP header (FlagFIN and so on); 0 where there is none.
	TCPFlags uint8
	// ICMPType and ICMPCode are set when Proto is ProtoICMP in IPv4 or ProtoICMPv6 in IPv6.
	ICMPType, ICMPCode uint8
	// Fragment: the packet is a part of a larger one; FirstFragment: the part with the
	// transport header. An atomic fragment (RFC 6946) is whole and sets neither.
	Fragment, FirstFragment bool
}

// Parse reads the headers of the IP packet in b, which is lent and may have padding behind it,
// and reports whether it is well-formed. When it returns false, info is worthless.
//
// It refuses, beside lengths that do not add up: source routes that still have a way to go (they
// would carry a packet past the policy for its destination; RFC 5095, RFC 7126), more than
// maxExtensions extension headers, first fragments without the whole transport header (RFC 7112)
// and fragments of TCP that would overwrite one (RFC 3128), fragments that reach past the longest
// packet, and jumbograms. It does not verify checksums.
func Parse(b []byte, info *Info) bool {
	if len(b) < ip4HeaderLen {
		return false
	}
	*info = Info{Version: b[0] >> 4}
	switch info.Version {
	case 4:
		return parse4(b, info)
	case 6:
		return parse6(b, info)
	}
	return false
}

func parse4(b []byte, info *Info) bool {
	h := b[:ip4HeaderLen]
	header := int(h[0]&0x0f) * 4
	length := int(binary.BigEndian.Uint16(h[ip4Length:]))
	if header < ip4HeaderLen || length < header || length > len(b) {
		return false
	}
	if header > ip4HeaderLen && !options4(b[ip4HeaderLen:header]) {
		return false
	}
	info.TOS, info.HopLimit, info.Proto = h[1], h[ip4TTL], h[ip4Proto]
	info.Src = netip.AddrFrom4([4]byte(h[ip4Src:]))
	info.Dst = netip.AddrFrom4([4]byte(h[ip4Dst:]))
	info.Len, info.L4, info.Payload = length, header, header

	if frag := binary.BigEndian.Uint16(h[ip4Fragment:]); frag&(ip4More|ip4OffsetMask) != 0 {
		offset := int(frag&ip4OffsetMask) * 8
		if !fragment(info, offset, header) {
			return false
		}
		if offset > 0 {
			return true
		}
	}
	return transport(b[:length], info)
}

// options4 walks IPv4 options and refuses malformed ones and source routes.
func options4(o []byte) bool {
	for len(o) > 0 {
		switch o[0] {
		case 0: // end of list
			return true
		case 1: // no operation
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return false
		}
		if o[0] == ip4LooseRoute || o[0] == ip4StrictRoute {
			// The pointer (from 1) is past the option when the route is used up.
			if len(o) < 3 || o[2] <= o[1] {
				return false
			}
		}
		o = o[o[1]:]
	}
	return true
}

func parse6(b []byte, info *Info) bool {
	if len(b) < ip6HeaderLen {
		return false
	}
	h := b[:ip6HeaderLen]
	length := ip6HeaderLen + int(binary.BigEndian.Uint16(h[ip6Length:]))
	if length > len(b) {
		return false
	}
	info.TOS = h[0]<<4 | h[1]>>4
	info.Proto, info.HopLimit = h[ip6Next], h[ip6Hops]
	info.Src = netip.AddrFrom16([16]byte(h[ip6Src:]))
	info.Dst = netip.AddrFrom16([16]byte(h[ip6Dst:]))
	info.Len, info.L4, info.Payload = length, ip6HeaderLen, ip6HeaderLen
	switch info.Proto {
	case ProtoTCP, ProtoUDP, ProtoICMPv6:
	default:
		if !extensions(b[:length], info) {
			return false
		}
		if info.Fragment && !info.FirstFragment {
			return true
		}
	}
	return transport(b[:length], info)
}

// extensions walks the extension headers of an IPv6 packet and leaves L4 and Proto behind the
// last. It stops at the fragment header of a later fragment: the rest of the chain is elsewhere.
func extensions(b []byte, info *Info) bool {
	at, next, fragmented := ip6HeaderLen, info.Proto, false
	for n := 0; ; n++ {
		size := 0
		switch next {
		case extHopByHop, extRouting, extFragment, extDestination, extAuth, extMobility, extHIP, extShim6:
			if n == maxExtensions || at+8 > len(b) {
				return false
			}
			size = (int(b[at+1]) + 1) * 8
		default:
			info.Proto, info.L4, info.Payload = next, at, at
			return true
		}
		switch next {
		case extHopByHop:
			if n > 0 { // RFC 8200, 4.1
				return false
			}
		case extRouting:
			if b[at+3] != 0 { // segments left
				return false
			}
		case extAuth:
			size = (int(b[at+1]) + 2) * 4
		case extFragment:
			if fragmented {
				return false
			}
			fragmented, size = true, 8
			frag := binary.BigEndian.Uint16(b[at+2:])
			offset := int(frag &^ 7)
			if offset == 0 && frag&1 == 0 {
				break // atomic
			}
			info.Proto, info.L4, info.Payload = b[at], at+8, at+8
			if !fragment(info, offset, info.L4) {
				return false
			}
			if offset > 0 {
				return true
			}
		}
		if at+size > len(b) {
			return false
		}
		next, at = b[at], at+size
	}
}

// fragment marks a part of a packet whose data, from L4 on, belongs at offset of a whole with
// headers of the given length.
func fragment(info *Info, offset, headers int) bool {
	size := info.Len - info.L4
	if headers+offset+size > maxPacket || info.Proto == ProtoTCP && offset > 0 && offset < tcpHeaderLen {
		return false
	}
	info.Fragment, info.FirstFragment = true, offset == 0
	return true
}

// transport reads the transport header at info.L4 of b, which ends where the packet ends.
func transport(b []byte, info *Info) bool {
	h := b[info.L4:]
	switch info.Proto {
	case ProtoTCP:
		if len(h) < tcpHeaderLen {
			return false
		}
		size := int(h[tcpOffset]>>4) * 4
		if size < tcpHeaderLen || size > len(h) {
			return false
		}
		info.TCPFlags = h[tcpFlags]
		info.ports(h, size)
	case ProtoUDP:
		if len(h) < udpHeaderLen {
			return false
		}
		size := int(binary.BigEndian.Uint16(h[udpLength:]))
		if size < udpHeaderLen || size > len(h) && !info.Fragment {
			return false
		}
		info.ports(h, udpHeaderLen)
	case ProtoICMP:
		return info.Version != 4 || info.icmp(h, icmpEchoRequest, icmpEchoReply)
	case ProtoICMPv6:
		return info.Version != 6 || info.icmp(h, icmp6EchoRequest, icmp6EchoReply)
	}
	return true
}

func (info *Info) ports(h []byte, size int) {
	info.SrcPort = binary.BigEndian.Uint16(h[0:])
	info.DstPort = binary.BigEndian.Uint16(h[2:])
	info.Payload = info.L4 + size
}

func (info *Info) icmp(h []byte, request, reply uint8) bool {
	if len(h) < icmpHeaderLen {
		return false
	}
	info.ICMPType, info.ICMPCode = h[0], h[1]
	if h[0] == request || h[0] == reply {
		id := binary.BigEndian.Uint16(h[icmpID:])
		info.SrcPort, info.DstPort = id, id
	}
	info.Payload = info.L4 + icmpHeaderLen
	return true
}

// maxExtensions bounds the walk over IPv6 extension headers. RFC 8200 recommends an order with at
// most one of each, and two of one: seven.
const maxExtensions = 8
