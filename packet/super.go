package packet

import "encoding/binary"

// Lengths in bytes of IP headers without options or extension headers.
const (
	IPv4Header = ip4HeaderLen
	IPv6Header = ip6HeaderLen
	// FragmentHeader is that of the extension header that a translated fragment gets.
	FragmentHeader = fragmentHeaderLen
)

// WriteSuper rewrites the headers of the packet at the start of b, an IP packet without options
// or extension headers whose transport header lies at l4, so that they stand for a superpacket of
// length bytes: the lengths, the IPv4 header checksum, and as transport checksum the bare sum of
// the pseudo-header, which whoever cuts the superpacket finishes. It returns the offset of the
// checksum field from l4. Inverse of Segmentation.Cut.
func WriteSuper(b []byte, version, proto uint8, l4, length int) (checksumOffset uint16) {
	if version == 4 {
		binary.BigEndian.PutUint16(b[ip4Length:], uint16(length))
		binary.BigEndian.PutUint16(b[ip4Checksum:], 0)
		binary.BigEndian.PutUint16(b[ip4Checksum:], ^Fold(Sum(b[:l4], 0)))
	} else {
		binary.BigEndian.PutUint16(b[ip6Length:], uint16(length-ip6HeaderLen))
	}
	field := tcpChecksum
	if proto == ProtoUDP {
		field = udpChecksum
		binary.BigEndian.PutUint16(b[l4+udpLength:], uint16(length-l4))
	}
	pseudo := Sum(addresses(b, version), uint64(proto)+uint64(length-l4))
	binary.BigEndian.PutUint16(b[l4+field:], Fold(pseudo))
	return uint16(field)
}
