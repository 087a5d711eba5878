package packet

import "encoding/binary"

// VerifyHeader reports whether the header checksum of the IPv4 packet in b is right. info comes
// from Parse(b). IPv6 has none: true.
func VerifyHeader(b []byte, info *Info) bool {
	if info.Version != 4 {
		return true
	}
	return Fold(Sum(b[:int(b[0]&0x0f)*4], 0)) == 0xffff
}

// VerifyTransport reports whether the transport checksum of the packet in b is right. info comes
// from Parse(b). A UDP checksum of 0 says that there is none, which IPv4 allows and IPv6 does not
// (RFC 8200, 8.1). It is false for fragments, whose sum spans several packets, and for protocols
// other than TCP, UDP and the ICMP of the packet's family.
func VerifyTransport(b []byte, info *Info) bool {
	if info.Fragment || info.Len > len(b) || info.L4 > info.Len {
		return false
	}
	segment := b[info.L4:info.Len]
	switch info.Proto {
	case ProtoTCP:
	case ProtoUDP:
		if len(segment) < udpHeaderLen {
			return false
		}
		if binary.BigEndian.Uint16(segment[udpChecksum:]) == 0 {
			return info.Version == 4
		}
		// The datagram may end before the packet does.
		size := int(binary.BigEndian.Uint16(segment[udpLength:]))
		if size > len(segment) {
			return false
		}
		segment = segment[:size]
	case ProtoICMP:
		return info.Version == 4 && Fold(Sum(segment, 0)) == 0xffff
	case ProtoICMPv6:
		if info.Version != 6 {
			return false
		}
	default:
		return false
	}
	pseudo := Sum(addresses(b, info.Version), uint64(info.Proto)+uint64(len(segment)))
	return Fold(Sum(segment, pseudo)) == 0xffff
}

// FinishChecksum finishes the checksum of the single packet in b, which ends with b: the field at
// csumStart+csumOffset holds the folded sum of the pseudo-header, not inverted, and gets the
// complement of that and of everything from csumStart on (virtio 1.2, 5.1.6.2). Offsets are in
// bytes from the start of b. It reports false, and changes nothing, when the field is not in b.
//
// A result of 0 is written as 0xffff, which is the same number, and for UDP the only way to
// write it (RFC 768).
func FinishChecksum(b []byte, csumStart, csumOffset uint16) bool {
	field := int(csumStart) + int(csumOffset)
	if field+2 > len(b) {
		return false
	}
	binary.BigEndian.PutUint16(b[field:], finished(Sum(b[csumStart:], 0)))
	return true
}

// finished returns the checksum field for a sum, never 0.
func finished(sum uint64) uint16 {
	if c := ^Fold(sum); c != 0 {
		return c
	}
	return 0xffff
}
