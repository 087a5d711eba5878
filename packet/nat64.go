package packet

import "encoding/binary"

// MaxTranslatedHeaders is the room in bytes that Translate wants: an IPv6 header, a fragment
// header, and the longest TCP header.
const MaxTranslatedHeaders = ip6HeaderLen + fragmentHeaderLen + 15*4

// Translate turns the packet in b into one of the other IP version (RFC 7915): it writes the new
// headers, IP, fragment and transport, to the front of dst, which has room for
// MaxTranslatedHeaders, and reports their length. What follows them in the new packet are the
// bytes b[payload:info.Len], as they are. b is lent and not written to; the two do not overlap.
//
// info comes from Parse(b), and r is made for b's flow with addresses of the other family. A false
// ok means that the packet has no counterpart and is to be dropped: see below.
//
// b may be a superpacket: one set of headers and up to 64 KiB of payload, of which segment bytes
// go into each packet; segment is 0 for a single packet. partial says that the transport checksum
// is unfinished, the bare sum of the pseudo-header, and stays so. For ICMP echo, IPv4 has no
// pseudo-header, so that an unfinished field is 0 there.
//
// id becomes the identification of an IPv4 packet, or of the first that a superpacket stands for,
// unless the IPv6 packet brings one in a fragment header. Packets of up to 1,260 bytes may be
// fragmented on their way (RFC 7915, section 5.1), so it must not repeat soon between the same two
// addresses (RFC 6864): count up, per flow or for all, from a random start. Translate itself has no
// state to count with. It is not used in the other direction.
//
// The type of service, or traffic class, is copied with all eight bits, and so is the time to
// live, or hop limit: whoever routes the result counts it down. The flow label is 0. IPv4 options
// and the extension headers hop-by-hop, routing and destination are left out, a fragment header is
// carried over, an atomic fragment becomes a whole packet.
//
// Refused, beside packets longer than the other version can say: ICMP other than echo (errors are
// for TranslateError) and in fragments; IGMP; ICMP of the wrong version; a UDP checksum of 0 in a
// first fragment of IPv4; and other extension headers. Those would in IPv4 be protocols of their
// own, whose content no longer is what a policy for their payload has admitted; in the other
// direction IPv4 payload would become headers. Mind that of them only AH is in use, and it fails
// over a translator in any case.
func (r *Rewrite) Translate(dst, b []byte, info *Info, partial bool, segment int, id uint16) (headers, payload int, ok bool) {
	dst = dst[:MaxTranslatedHeaders]
	transport := info.Payload - info.L4
	if info.Version == 4 {
		headers, ok = r.header6(dst, b, info)
	} else {
		size := ip4HeaderLen + info.Len - info.L4
		if segment > 0 {
			size = min(size, ip4HeaderLen+transport+segment)
		}
		headers, ok = r.header4(dst, b, info, size, id)
	}
	if !ok {
		return 0, 0, false
	}
	if transport == 0 {
		return headers, info.L4, true
	}
	t := dst[headers : headers+transport]
	copy(t, b[info.L4:info.Payload])
	switch info.Proto {
	case ProtoTCP:
		r.transport(t, info, partial)
	case ProtoUDP:
		if info.Version == 4 && !partial && binary.BigEndian.Uint16(t[udpChecksum:]) == 0 {
			if info.Fragment {
				return 0, 0, false
			}
			r.putPorts(t)
			r.sumUDP(t, b, info)
		} else {
			r.transport(t, info, partial)
		}
	default:
		if !IsEcho(info) {
			return 0, 0, false
		}
		r.echo(t, ip6Of(dst, b, info), info, partial)
	}
	return headers + transport, info.Payload, true
}

// header6 writes the IPv6 header for the IPv4 packet in b, with a fragment header if b is a
// fragment, and returns its length. Of b only the IP header is read.
func (r *Rewrite) header6(d, b []byte, info *Info) (int, bool) {
	if info.Version != 4 || r.Dst.Is4() {
		return 0, false
	}
	proto, ok := translatedProto(info)
	if !ok {
		return 0, false
	}
	headers, length := ip6HeaderLen, info.Len-info.L4
	if info.Fragment {
		headers, length = ip6HeaderLen+fragmentHeaderLen, length+fragmentHeaderLen
		f := d[ip6HeaderLen : ip6HeaderLen+fragmentHeaderLen]
		flags := binary.BigEndian.Uint16(b[ip4Fragment:])
		f[0], f[1] = proto, 0
		binary.BigEndian.PutUint16(f[fragmentOffset:], flags&ip4OffsetMask<<3|flags&ip4More>>13)
		binary.BigEndian.PutUint32(f[fragmentID:], uint32(binary.BigEndian.Uint16(b[ip4ID:])))
		proto = extFragment
	}
	h := d[:ip6HeaderLen]
	binary.BigEndian.PutUint32(h, 6<<28|uint32(info.TOS)<<20)
	binary.BigEndian.PutUint16(h[ip6Length:], uint16(length))
	h[ip6Next], h[ip6Hops] = proto, info.HopLimit
	copy(h[ip6Src:], r.raw[:32])
	return headers, true
}

// header4 writes the IPv4 header for the IPv6 packet in b and returns its length. Of b only the IP
// header and the extension headers are read. size is the length in bytes of the new packet, or of
// the longest that a new superpacket stands for.
func (r *Rewrite) header4(d, b []byte, info *Info, size int, id uint16) (int, bool) {
	if info.Version != 6 || !r.Dst.Is4() {
		return 0, false
	}
	length := ip4HeaderLen + info.Len - info.L4
	proto, ok := translatedProto(info)
	if !ok || length > maxPacket {
		return 0, false
	}
	flags := uint16(0)
	if size > maxFragmentable {
		flags = ip4DontFragment
	}
	if info.L4 != ip6HeaderLen {
		f, ok := fragmentHeader(b, info)
		if !ok {
			return 0, false
		}
		if f != 0 {
			at := binary.BigEndian.Uint16(b[f+fragmentOffset:])
			flags = at>>3 | at&1<<13
			id = uint16(binary.BigEndian.Uint32(b[f+fragmentID:]))
		}
	}
	h := d[:ip4HeaderLen]
	// The header as five words; sums of words need not be added in pieces of 16 bits.
	w0 := 0x45<<24 | uint32(info.TOS)<<16 | uint32(length)
	w1 := uint32(id)<<16 | uint32(flags)
	w2 := uint32(info.HopLimit)<<24 | uint32(proto)<<16
	w3, w4 := binary.BigEndian.Uint32(r.raw[:]), binary.BigEndian.Uint32(r.raw[4:])
	w2 |= uint32(^Fold(uint64(w0) + uint64(w1) + uint64(w2) + uint64(w3) + uint64(w4)))
	binary.BigEndian.PutUint32(h, w0)
	binary.BigEndian.PutUint32(h[ip4ID:], w1)
	binary.BigEndian.PutUint32(h[ip4TTL:], w2)
	binary.BigEndian.PutUint32(h[ip4Src:], w3)
	binary.BigEndian.PutUint32(h[ip4Dst:], w4)
	return ip4HeaderLen, true
}

// ip6Of returns which of a packet and its translation has the IPv6 header.
func ip6Of(translated, b []byte, info *Info) []byte {
	if info.Version == 4 {
		return translated
	}
	return b
}

// translatedProto returns the protocol number in the other IP version, and false where there is none
// or it would mean another thing there.
func translatedProto(info *Info) (uint8, bool) {
	switch info.Proto {
	case ProtoTCP, ProtoUDP:
		return info.Proto, true
	case ProtoICMP:
		return ProtoICMPv6, info.Version == 4 && !info.Fragment
	case ProtoICMPv6:
		return ProtoICMP, info.Version == 6 && !info.Fragment
	case protoIGMP, extHopByHop, extRouting, extFragment, extAuth, extDestination, extMobility, extHIP, extShim6:
		return 0, false
	}
	return info.Proto, true
}

// fragmentHeader walks the extension headers of an IPv6 packet, which has some, up to its transport
// header and returns where its fragment header is, 0 if it has none. It reports false when there
// are others than RFC 7915, section 5.1, passes over, or any behind the fragment header
// (section 5.1.1).
func fragmentHeader(b []byte, info *Info) (int, bool) {
	at, next := ip6HeaderLen, b[ip6Next]
	for at < info.L4 { // all headers are multiples of 8 bytes long, so the next is there
		switch next {
		case extHopByHop, extRouting, extDestination:
			next, at = b[at], at+(int(b[at+1])+1)*8
		case extFragment:
			return at, at+fragmentHeaderLen == info.L4
		default:
			return 0, false
		}
	}
	return 0, at == info.L4
}

const (
	ip4DontFragment = 0x4000

	// maxFragmentable is the length in bytes up to which a translated IPv4 packet may be fragmented
	// by routers (RFC 7915, section 5.1): 1,280 less the 20 that IPv6 headers are longer. Its sender
	// cannot go below 1,280 when told that the path takes less.
	maxFragmentable = 1260

	// Layout of the fragment header of IPv6 (RFC 8200, section 4.5).
	fragmentHeaderLen = 8
	fragmentOffset    = 2
	fragmentID        = 4

	protoIGMP = 2
)
