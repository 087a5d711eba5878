package packet

import "encoding/binary"

// echo finishes the ICMP echo header at the start of t, the copy of one of the other IP version:
// type, identifier, and the checksum, which covers a pseudo-header only in IPv6 (RFC 4443, section
// 2.3). ip6 is the IPv6 header of the two.
func (r *Rewrite) echo(t, ip6 []byte, info *Info, partial bool) {
	t = t[:icmpHeaderLen]
	kind := otherEcho(info.ICMPType)
	t[0] = kind
	binary.BigEndian.PutUint16(t[icmpID:], r.SrcPort)

	pseudo := Fold(Sum(ip6[ip6Src:ip6HeaderLen], uint64(info.Len-info.L4)+ProtoICMPv6))
	if info.Version == 6 {
		pseudo = ^pseudo
	}
	sum := binary.BigEndian.Uint16(t[icmpChecksum:])
	switch {
	case !partial:
		types := Delta16(uint16(info.ICMPType)<<8, uint16(kind)<<8)
		sum = Patch(sum, uint64(pseudo)+uint64(r.ports)+types)
		// Without a pseudo-header, all other words of an echo reply may be zero: see Rewrite.icmp.
		if sum == 0 && info.Version == 6 && binary.BigEndian.Uint64(t)&^(0xffff<<32) == 0 {
			sum = 0xffff
		}
	case info.Version == 4:
		sum = pseudo
	default:
		sum = 0
	}
	binary.BigEndian.PutUint16(t[icmpChecksum:], sum)
}

// otherEcho returns the type of an echo request or reply in the other IP version.
func otherEcho(kind uint8) uint8 {
	switch kind {
	case icmpEchoRequest:
		return icmp6EchoRequest
	case icmpEchoReply:
		return icmp6EchoReply
	case icmp6EchoRequest:
		return icmpEchoRequest
	}
	return icmpEchoReply
}

// sumUDP computes the checksum that an IPv4 datagram lacks and IPv6 demands (RFC 7915, section 4.5).
// t is the new UDP header, whose payload is still in b.
func (r *Rewrite) sumUDP(t, b []byte, info *Info) {
	length := int(binary.BigEndian.Uint16(t[udpLength:])) // the packet may be longer
	sum := wide(r.Src) + wide(r.Dst) + ProtoUDP + uint64(length)
	sum = Sum(t[:udpChecksum], sum)
	sum = Sum(b[info.Payload:info.L4+length], sum)
	binary.BigEndian.PutUint16(t[udpChecksum:], finished(sum))
}
