package packet

import (
	"encoding/binary"
	"net/netip"
)

// Rewrite is what NAT makes of one direction of a flow: whole new addresses, both of one family,
// and ports. It is made by NewRewrite, a value without references that nobody changes, and good for
// every packet of that direction, and for the fragments of such packets.
//
// NAT keeps checksums right by what it changes and not by summing anew (RFC 3022, section 4.2):
// the changes are the same for each packet of a flow, so NewRewrite computes them once.
type Rewrite struct {
	Src, Dst netip.Addr
	// SrcPort and DstPort are the ports of TCP and UDP; of ICMP echo, SrcPort is the identifier,
	// and DstPort should be the same. They are ignored where the packet has none.
	SrcPort, DstPort uint16

	// What sums change by, folded: from the old addresses to the new ones, from the old ports or
	// identifier to the new ones, and both together.
	addrs, ports, all uint16
	// Src and Dst as bytes side by side, as a header has them: the conversion is not cheap.
	raw [32]byte
}

// NewRewrite returns the rewrite of the flow whose packet Parse has described in info. src and dst
// are valid and of one family, which may differ from the packet's: then Apply is of no use, but
// the checksum changes are right for translation between families, since the words for length
// and protocol are equal in both pseudo-headers of TCP and UDP.
func NewRewrite(info *Info, src, dst netip.Addr, srcPort, dstPort uint16) (r Rewrite) {
	r.Src, r.Dst, r.SrcPort, r.DstPort = src, dst, srcPort, dstPort
	from, _ := src.AppendBinary(r.raw[:0]) // never fails
	both, _ := dst.AppendBinary(from)
	var addrs uint64
	if src != info.Src {
		addrs = wideBytes(from) + uint64(^Fold(wide(info.Src)))
	}
	if dst != info.Dst {
		addrs += wideBytes(both[len(from):]) + uint64(^Fold(wide(info.Dst)))
	}
	r.addrs = Fold(addrs)
	if info.Proto == ProtoTCP || info.Proto == ProtoUDP {
		r.ports = Fold(Delta16(info.SrcPort, srcPort) + Delta16(info.DstPort, dstPort))
	} else if IsEcho(info) {
		r.ports = Fold(Delta16(info.SrcPort, srcPort))
	}
	r.all = Fold(uint64(r.addrs) + uint64(r.ports))
	return r
}

// Apply rewrites the packet in b in place: the addresses and checksum of its IP header, its ports
// or echo identifier, and its transport checksum. info comes from Parse(b) and goes on describing
// the packet as it was. The packet is of the flow that r was made for, or a fragment of one, and
// r's addresses are of the packet's family. A superpacket has one set of headers and needs one
// Apply; behind the transport header nothing is read, and no bytes of payload need be present.
//
// partial says that the transport checksum is unfinished: the bare sum of the pseudo-header, as
// with virtio's NEEDS_CSUM; then it changes by the addresses alone. An IPv4 UDP checksum of 0,
// which means none, stays 0. Protocols other than TCP, UDP and the ICMP of the packet's family
// get new addresses only.
func (r *Rewrite) Apply(b []byte, info *Info, partial bool) {
	r.network(b, info.Version)
	if info.Fragment && !info.FirstFragment {
		return
	}
	r.transport(b[info.L4:], info, partial)
}

// network rewrites the IP header at the start of b.
func (r *Rewrite) network(b []byte, version uint8) {
	if version == 4 {
		h := b[:ip4HeaderLen]
		binary.BigEndian.PutUint16(h[ip4Checksum:], patchFolded(binary.BigEndian.Uint16(h[ip4Checksum:]), r.addrs))
		copy(h[ip4Src:], r.raw[:8])
		return
	}
	copy(b[ip6Src:ip6HeaderLen], r.raw[:])
}

// transport rewrites the transport header at the start of h as far as h reaches: less than the
// whole header is there only in the quote of an ICMP error.
func (r *Rewrite) transport(h []byte, info *Info, partial bool) {
	field := tcpChecksum
	switch info.Proto {
	case ProtoTCP:
	case ProtoUDP:
		field = udpChecksum
	case ProtoICMP, ProtoICMPv6:
		r.icmp(h, info, partial)
		return
	default:
		return
	}
	r.putPorts(h)
	if len(h) < field+2 {
		return
	}
	h = h[field : field+2]
	sum := binary.BigEndian.Uint16(h)
	switch {
	case partial:
		sum = PatchPartial(sum, uint64(r.addrs))
	case info.Proto == ProtoUDP:
		sum = PatchUDP(sum, uint64(r.all))
	default:
		sum = patchFolded(sum, r.all)
	}
	binary.BigEndian.PutUint16(h, sum)
}

// icmp is transport for ICMP. Only that of IPv6 has a pseudo-header.
func (r *Rewrite) icmp(h []byte, info *Info, partial bool) {
	if len(h) < icmpHeaderLen || (info.Proto == ProtoICMP) != (info.Version == 4) {
		return
	}
	h = h[:icmpHeaderLen]
	sum := binary.BigEndian.Uint16(h[icmpChecksum:])
	echo := IsEcho(info)
	if echo {
		binary.BigEndian.PutUint16(h[icmpID:], r.SrcPort)
	}
	switch {
	case info.Version == 6 && partial:
		sum = PatchPartial(sum, uint64(r.addrs))
	case info.Version == 6 && echo:
		sum = patchFolded(sum, r.all)
	case info.Version == 6:
		sum = patchFolded(sum, r.addrs)
	case echo && !partial:
		sum = patchFolded(sum, r.ports)
		// All other words of an echo reply may be zero, and then the sum of what was rewritten
		// to zero is not ffff, as every other sum that comes to nothing: its complement is
		// ffff (RFC 1624, section 3), which is right for both.
		if sum == 0 && binary.BigEndian.Uint64(h)&^(0xffff<<32) == 0 {
			sum = 0xffff
		}
	}
	binary.BigEndian.PutUint16(h[icmpChecksum:], sum)
}

func (r *Rewrite) putPorts(h []byte) {
	h = h[:4]
	binary.BigEndian.PutUint16(h, r.SrcPort)
	binary.BigEndian.PutUint16(h[2:], r.DstPort)
}

// patchFolded is Patch for a delta that is folded already.
func patchFolded(checksum, delta uint16) uint16 {
	s := uint32(delta) + uint32(^checksum)
	return ^uint16(s + s>>16)
}

// wide returns the sum of an address's words, less than 2^34. Any multiple of 16 bits is a sum of
// words modulo 2^16-1, so they need not be added one by one.
func wide(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	var b [16]byte // As16 would store and load it at different widths, which stalls
	w, _ := a.AppendBinary(b[:0])
	return wideBytes(w)
}

func wideBytes(b []byte) uint64 {
	if len(b) == 4 {
		return uint64(binary.BigEndian.Uint32(b))
	}
	if len(b) < 16 { // no address
		return 0
	}
	hi, lo := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	return hi>>32 + hi&0xffffffff + lo>>32 + lo&0xffffffff
}
