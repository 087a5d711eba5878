package packet

import (
	"encoding/binary"
	"net/netip"
)

// IsEcho reports whether the packet that Parse described in info is an ICMP echo request or reply
// of its family. Its identifier is in both ports of info.
func IsEcho(info *Info) bool {
	switch {
	case info.Fragment && !info.FirstFragment:
		return false
	case info.Proto == ProtoICMP && info.Version == 4:
		return info.ICMPType == icmpEchoRequest || info.ICMPType == icmpEchoReply
	case info.Proto == ProtoICMPv6 && info.Version == 6:
		return info.ICMPType == icmp6EchoRequest || info.ICMPType == icmp6EchoReply
	}
	return false
}

// IsError reports whether the packet that Parse described in info is an ICMP error message of its
// family: of ICMP destination unreachable, source quench, redirect, time exceeded and parameter
// problem (RFC 1122, 3.2.2), of ICMPv6 all types below 128 (RFC 4443, 2.1).
func IsError(info *Info) bool {
	switch {
	case info.Fragment && !info.FirstFragment:
		return false
	case info.Proto == ProtoICMP && info.Version == 4:
		switch info.ICMPType {
		case icmpUnreachable, icmpSourceQuench, icmpRedirect, icmpTimeExceeded, icmpParameterProblem:
			return true
		}
	case info.Proto == ProtoICMPv6 && info.Version == 6:
		return info.ICMPType < icmp6EchoRequest
	}
	return false
}

// ReportsLoss reports whether the packet that Parse described in info is an ICMP error that tells what
// became of a packet: neither a redirect nor a source quench (RFC 1812, RFC 6633).
func ReportsLoss(info *Info) bool {
	return quotes(info) && (info.Version == 6 || info.ICMPType != icmpSourceQuench && info.ICMPType != icmpRedirect)
}

// Quote returns what the ICMP error in b quotes of the packet it is about, or nil if it is no
// error that has a quote. info comes from Parse(b), whose bytes the result shares. The quote may
// end anywhere, even within its IP header, and has padding behind it where it is longer than the
// packet it quotes; extensions of the error (RFC 4884) are not part of it.
func Quote(b []byte, info *Info) []byte {
	if !quotes(info) || info.Payload > info.Len || info.Len > len(b) {
		return nil
	}
	quote := b[info.Payload:info.Len]
	// The length attribute tells where extensions begin; without it there are none that could
	// be told from the quote. One that points past the end is a lie, or of a sender that put
	// something else there: then all is taken as the quote.
	size := 0
	switch {
	case info.Version == 6 && (info.ICMPType == icmp6Unreachable || info.ICMPType == icmp6TimeExceeded):
		size = int(b[info.L4+4]) * 8
	case info.Version == 4 && (info.ICMPType == icmpUnreachable || info.ICMPType == icmpTimeExceeded || info.ICMPType == icmpParameterProblem):
		size = int(b[info.L4+5]) * 4
	}
	if size > 0 && size < len(quote) {
		quote = quote[:size]
	}
	return quote
}

// ParseQuote reads the headers of the packet that the ICMP error in b quotes, as far as they are
// there, and reports whether they tell which flow it was of. info comes from Parse(b). When it
// returns false, quoted is worthless.
//
// Offsets in quoted are relative to Quote(b, info). Len is what the quoted header says and may
// exceed the quote; Payload equals L4 where the quote ends within the transport header. Ports
// need 4 bytes of the transport header, an echo identifier 8; TCPFlags are 0 where they are not
// in the quote.
//
// It refuses fragments of errors, and quotes of another family, of later fragments, which have
// no ports, of ICMP errors, about which there are no errors, and of IPv6 extension headers that
// Parse refuses or that are cut off.
//
// Anyone can make up a quote, and nothing in it is verified. The packet it shows was sent by whom
// the error goes to: callers should drop errors whose destination is not quoted.Src.
func ParseQuote(b []byte, info *Info, quoted *Info) bool {
	q := Quote(b, info)
	return len(q) > 0 && q[0]>>4 == info.Version && ParseCut(q, quoted)
}

// ParseCut is Parse for a packet of which only the first bytes are at hand, as in the quote of an
// ICMP error: its IP header, and of the transport header 4 bytes, or 8 of an ICMP echo. quoted.Len
// is what the header says and may exceed what is there. A later fragment is refused.
func ParseCut(q []byte, quoted *Info) bool {
	if len(q) < ip4HeaderLen {
		return false
	}
	*quoted = Info{Version: q[0] >> 4}
	switch quoted.Version {
	case 4:
		header := int(q[0]&0x0f) * 4
		length := int(binary.BigEndian.Uint16(q[ip4Length:]))
		if header < ip4HeaderLen || length < header || header > len(q) {
			return false
		}
		frag := binary.BigEndian.Uint16(q[ip4Fragment:])
		if frag&ip4OffsetMask != 0 {
			return false
		}
		quoted.Fragment = frag&ip4More != 0
		quoted.FirstFragment = quoted.Fragment
		quoted.TOS, quoted.HopLimit, quoted.Proto = q[1], q[ip4TTL], q[ip4Proto]
		quoted.Src = netip.AddrFrom4([4]byte(q[ip4Src:]))
		quoted.Dst = netip.AddrFrom4([4]byte(q[ip4Dst:]))
		quoted.Len, quoted.L4, quoted.Payload = length, header, header
		return quotedTransport(q[:min(len(q), length)], quoted)
	case 6:
		return parseCut6(q, quoted)
	}
	return false
}

func parseCut6(q []byte, quoted *Info) bool {
	if len(q) < ip6HeaderLen {
		return false
	}
	quoted.TOS = q[0]<<4 | q[1]>>4
	quoted.Proto, quoted.HopLimit = q[ip6Next], q[ip6Hops]
	quoted.Src = netip.AddrFrom16([16]byte(q[ip6Src:]))
	quoted.Dst = netip.AddrFrom16([16]byte(q[ip6Dst:]))
	quoted.Len = ip6HeaderLen + int(binary.BigEndian.Uint16(q[ip6Length:]))
	q = q[:min(len(q), quoted.Len)]
	if !extensions(q, quoted) || quoted.Fragment && !quoted.FirstFragment {
		return false
	}
	return quotedTransport(q, quoted)
}

// quotes reports whether the packet is a whole ICMP error of a type that quotes a packet.
func quotes(info *Info) bool {
	if info.Fragment || !IsError(info) {
		return false
	}
	return info.Version == 4 || info.ICMPType >= icmp6Unreachable && info.ICMPType <= icmp6ParameterProblem
}

// quotedTransport reads what there is of the transport header at quoted.L4 of q.
func quotedTransport(q []byte, quoted *Info) bool {
	h := q[quoted.L4:]
	switch quoted.Proto {
	case ProtoTCP, ProtoUDP:
		if len(h) < 4 {
			return false
		}
		quoted.ports(h, quotedHeader(h, quoted.Proto))
		if quoted.Proto == ProtoTCP && len(h) > tcpFlags {
			quoted.TCPFlags = h[tcpFlags]
		}
	case ProtoICMP:
		return quoted.Version != 4 || len(h) >= icmpHeaderLen && quoted.icmp(h, icmpEchoRequest, icmpEchoReply) && !IsError(quoted)
	case ProtoICMPv6:
		return quoted.Version != 6 || len(h) >= icmpHeaderLen && quoted.icmp(h, icmp6EchoRequest, icmp6EchoReply) && !IsError(quoted)
	}
	return true
}

// quotedHeader returns the length of the TCP or UDP header at the start of h, 0 if not all of it
// is there.
func quotedHeader(h []byte, proto uint8) int {
	size := udpHeaderLen
	if proto == ProtoTCP {
		if len(h) < tcpHeaderLen {
			return 0
		}
		size = max(int(h[tcpOffset]>>4)*4, tcpHeaderLen)
	}
	if size > len(h) {
		return 0
	}
	return size
}

// ICMP types and codes (RFC 792, RFC 1812, RFC 4443).
const (
	icmpUnreachable      = 3
	icmpSourceQuench     = 4
	icmpRedirect         = 5
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12

	icmpCodeNet        = 0
	icmpCodePort       = 3
	icmpCodeTooBig     = 4
	icmpCodeProhibited = 13

	icmp6Unreachable      = 1
	icmp6TooBig           = 2
	icmp6TimeExceeded     = 3
	icmp6ParameterProblem = 4
	icmp6Redirect         = 137

	icmp6CodeProhibited = 1
	icmp6CodeAddress    = 3
	icmp6CodePort       = 4
)
