package packet

import "encoding/binary"

// MayFragment reports whether the IPv4 packet in b leaves it to routers to fragment it: whether its
// don't-fragment flag is clear. Its translation is then cut with CutFragment where it is longer
// than the path takes; else the sender is told (RFC 7915, section 4).
func MayFragment(b []byte, info *Info) bool {
	return info.Version == 4 && binary.BigEndian.Uint16(b[ip4Fragment:])&ip4DontFragment == 0
}

// Identification returns that of the IPv4 packet in b.
func Identification(b []byte) uint16 { return binary.BigEndian.Uint16(b[ip4ID:]) }

// CutFragment writes to dst a fragment of at most limit bytes of the IPv6 packet that consists of
// headers, as Translate has written them, and payload: all are lent. limit is at least 1,280, which
// IPv6 paths take. The packet's checksum must be finished. from is 0 for the first fragment and
// then the next that the call before returned; next 0 says that this one was the last. n is
// the fragment's length.
//
// The identification is that of the fragment header in headers, where the packet is a fragment
// itself and becomes several smaller ones, else id: the 16 bits of the IPv4 packet that it was
// (RFC 7915, section 4.1). n is 0 if the fragments would reach past the longest packet.
func CutFragment(dst, headers, payload []byte, from, limit int, id uint16) (n, next int) {
	f := [fragmentHeaderLen]byte{headers[ip6Next]}
	binary.BigEndian.PutUint32(f[fragmentID:], uint32(id))
	part := headers[ip6HeaderLen:]
	if f[0] == extFragment {
		f, part = [fragmentHeaderLen]byte(part), part[fragmentHeaderLen:]
	}
	offset, more := binary.BigEndian.Uint16(f[fragmentOffset:])&^7, binary.BigEndian.Uint16(f[fragmentOffset:])&1
	size := len(part) + len(payload) - from
	if room := limit - ip6HeaderLen - fragmentHeaderLen; size > room {
		size, more = room&^7, 1
		next = from + size
	}
	at := int(offset) + from
	if at+size > maxPacket {
		return 0, 0
	}
	binary.BigEndian.PutUint16(f[fragmentOffset:], uint16(at)|more)

	n = copy(dst, headers[:ip6HeaderLen])
	binary.BigEndian.PutUint16(dst[ip6Length:], uint16(fragmentHeaderLen+size))
	dst[ip6Next] = extFragment
	n += copy(dst[n:], f[:])
	end := n + size
	if from < len(part) {
		n += copy(dst[n:end], part[from:])
		from = len(part)
	}
	return n + copy(dst[n:end], payload[from-len(part):]), next
}
