package packet

import "encoding/binary"

// Kind says what a superpacket stands for. The numbers are those of batch.OffloadKind.
type Kind uint8

// The kinds of superpacket. KindNone is a single packet of any protocol.
const (
	KindNone Kind = iota
	KindTCP4
	KindTCP6
	KindUDP // UDP datagrams over either IP version
)

// Segmentation says how to cut one superpacket: everything about its headers that is the same in
// all packets, summed once. Made by PlanCut; it holds no reference to the superpacket.
//
//	super:    [headers][segment 0][segment 1] … [last]
//	packet i: [headers with own lengths, ID, sequence number, flags and checksums][segment i]
type Segmentation struct {
	kind    Kind
	version uint8
	flags   uint8 // TCP
	id      uint16
	// csumStart and csumOffset are set for a single packet whose checksum is unfinished.
	csumStart, csumOffset uint16
	seq                   uint32
	// Lengths and offsets in bytes.
	l4, headers, payload, segment int
	count                         int
	// ipSum is the sum of the IPv4 header without length, ID and checksum; l4Sum that of the
	// pseudo-header without its length, and of the transport header without length, sequence
	// number, flags and checksum.
	ipSum, l4Sum uint64
}

// PlanCut prepares to cut super, which is lent for the call. The other arguments are those of the
// virtio-net header (virtio 1.2, 5.1.6): what it stands for, the payload bytes of each packet but
// the last, and where the unfinished checksum lies; csumStart is 0 when it says nothing about that,
// and the checksum of a single packet then stays as it is.
//
// Header lengths are taken from the packet itself, and its checksum is computed from nothing, so
// that a wrong partial sum does no harm. It reports false when the packet is malformed or a
// fragment, or not what the arguments say it is.
func PlanCut(super []byte, kind Kind, segmentSize, csumStart, csumOffset uint16) (Segmentation, bool) {
	var info Info
	if !Parse(super, &info) {
		return Segmentation{}, false
	}
	if kind == KindNone {
		return planSingle(&info, csumStart, csumOffset)
	}
	g := Segmentation{
		kind: kind, version: info.Version, l4: info.L4,
		headers: info.Payload, payload: info.Len - info.Payload, segment: int(segmentSize),
	}
	proto := uint8(ProtoTCP)
	if kind == KindUDP {
		proto = ProtoUDP
	}
	switch {
	case kind > KindUDP, info.Proto != proto, info.Fragment, segmentSize == 0:
		return Segmentation{}, false
	case kind == KindTCP4 && info.Version != 4, kind == KindTCP6 && info.Version != 6:
		return Segmentation{}, false
	case csumStart != 0 && (int(csumStart) != info.L4 || int(csumOffset) != checksumOffset(proto)):
		return Segmentation{}, false
	}
	g.count = max(1, (g.payload+g.segment-1)/g.segment)
	g.sumHeaders(super[:g.headers], proto)
	return g, true
}

// planSingle accepts an unfinished checksum where the packet's own transport header has it, or
// anywhere behind that header, where an encapsulated packet may have it.
func planSingle(info *Info, csumStart, csumOffset uint16) (Segmentation, bool) {
	g := Segmentation{headers: info.Len, count: 1, csumStart: csumStart, csumOffset: csumOffset}
	if csumStart == 0 {
		return g, true
	}
	start, offset := int(csumStart), int(csumOffset)
	own := info.Payload > info.L4 && start == info.L4 && offset == checksumOffset(info.Proto)
	return g, (own || start >= info.Payload) && start+offset+2 <= info.Len
}

// checksumOffset returns where the header of a protocol that Parse knows has its checksum.
func checksumOffset(proto uint8) int {
	switch proto {
	case ProtoTCP:
		return tcpChecksum
	case ProtoUDP:
		return udpChecksum
	}
	return icmpChecksum
}

// sumHeaders computes the sums of all that no cut changes. h is all headers of the superpacket.
func (g *Segmentation) sumHeaders(h []byte, proto uint8) {
	if g.version == 4 {
		g.id = binary.BigEndian.Uint16(h[ip4ID:])
		g.ipSum = Sum(h[ip4Fragment:ip4Checksum], Sum(h[:ip4Length], 0))
		g.ipSum = Sum(h[ip4Src:g.l4], g.ipSum)
	}
	t := h[g.l4:]
	g.l4Sum = Sum(addresses(h, g.version), uint64(proto)) + Sum(t[:4], 0) // ports
	if g.kind == KindUDP {
		return
	}
	g.seq = binary.BigEndian.Uint32(t[tcpSeq:])
	g.flags = t[tcpFlags]
	g.l4Sum = Sum(t[tcpSeq+4:tcpOffset], g.l4Sum) + uint64(t[tcpOffset])<<8
	g.l4Sum = Sum(t[tcpWindow:tcpChecksum], g.l4Sum)
	g.l4Sum = Sum(t[tcpChecksum+2:], g.l4Sum)
}

// Count returns how many packets the superpacket stands for, 1 to 65,535.
func (g *Segmentation) Count() int { return g.count }

// Size returns the length of packet i in bytes, 0 ≤ i < Count(). All but the last are as long as
// the first; the last may be shorter.
func (g *Segmentation) Size(i int) int {
	if i < g.count-1 {
		return g.headers + g.segment
	}
	return g.headers + g.payload - i*g.segment
}

// Cut writes packet i, 0 ≤ i < Count(), to the front of dst and returns its length, Size(i). super
// is what PlanCut saw, lent; dst must have room and must not overlap it.
//
// As the kernel does it: the IPv4 ID counts up from packet to packet, CWR stays with the first,
// FIN and PSH with the last, all other header fields are those of the superpacket.
func (g *Segmentation) Cut(dst, super []byte, i int) int {
	size := g.Size(i)
	dst = dst[:size]
	if g.kind == KindNone {
		copy(dst, super[:size])
		if g.csumStart != 0 {
			FinishChecksum(dst, g.csumStart, g.csumOffset)
		}
		return size
	}
	copy(dst, super[:g.headers])
	from := g.headers + i*g.segment
	sum := CopySum(dst[g.headers:], super[from:from+size-g.headers], g.l4Sum+uint64(size-g.l4))
	g.writeIP(dst, size, i)
	t := dst[g.l4:]
	if g.kind == KindUDP {
		t = t[:udpHeaderLen]
		binary.BigEndian.PutUint16(t[udpLength:], uint16(size-g.l4))
		binary.BigEndian.PutUint16(t[udpChecksum:], finished(sum+uint64(size-g.l4)))
		return size
	}
	t = t[:tcpHeaderLen]
	seq := g.seq + uint32(i*g.segment)
	flags := g.flagsOf(i)
	binary.BigEndian.PutUint32(t[tcpSeq:], seq)
	t[tcpFlags] = flags
	binary.BigEndian.PutUint16(t[tcpChecksum:], ^Fold(sum+uint64(seq>>16)+uint64(seq&0xffff)+uint64(flags)))
	return size
}

// writeIP writes the fields of the IP header that differ from packet to packet.
func (g *Segmentation) writeIP(dst []byte, size, i int) {
	if g.version == 6 {
		binary.BigEndian.PutUint16(dst[ip6Length:], uint16(size-ip6HeaderLen))
		return
	}
	h := dst[:ip4HeaderLen]
	id := g.id + uint16(i)
	binary.BigEndian.PutUint16(h[ip4Length:], uint16(size))
	binary.BigEndian.PutUint16(h[ip4ID:], id)
	binary.BigEndian.PutUint16(h[ip4Checksum:], ^Fold(g.ipSum+uint64(size)+uint64(id)))
}

// flagsOf returns the TCP flags of packet i.
func (g *Segmentation) flagsOf(i int) uint8 {
	flags := g.flags
	if i > 0 {
		flags &^= FlagCWR
	}
	if i < g.count-1 {
		flags &^= FlagFIN | FlagPSH
	}
	return flags
}
