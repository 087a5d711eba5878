package packet

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// ErrorKind says why a packet is refused.
type ErrorKind uint8

// The kinds of error that a node reports to the sender of a packet.
const (
	// Prohibited: policy forbids the packet. Type 3 code 13 (RFC 1812, 5.2.7.1), type 1 code 1.
	Prohibited ErrorKind = iota
	// Unreachable: there is no way to the destination. Type 3 code 0, type 1 code 3.
	Unreachable
	// TooBig: the packet exceeds the MTU of the next hop. Type 3 code 4 (RFC 1191), type 2.
	TooBig
)

// Error is an ICMP error to be sent about a packet.
type Error struct {
	Kind ErrorKind
	// MTU in bytes is what TooBig tells the sender. IPv4 has room for 65535, and IPv6 has no MTU
	// below 1280; other values are told as the nearest of these.
	MTU uint32
	// Source is the source address of the error. The zero Addr means the destination of the
	// packet that it is about.
	Source netip.Addr
}

// ErrorHopLimit is the time to live or hop limit of the errors that a node makes. It must last
// from one end of a tunnel to the host behind the other.
const ErrorHopLimit = 20

// AppendError appends to dst the ICMP error e about the packet at the start of offending, of
// which not all bytes need be there; info is what Parse said about the packet. dst and offending
// must not overlap. Only growing dst allocates: MaxError bytes of room always suffice.
//
// The error quotes, of IPv4, the header and 8 bytes, as every host expects (RFC 792), and of IPv6
// as much as fits in 1280 bytes (RFC 4443, 2.4). It has normal type of service (RFC 1122, 3.2.2).
//
// It reports false, and dst is unchanged, where there must be no error (RFC 1122, 3.2.2; RFC
// 1812, 4.3.2.7; RFC 4443, 2.4): about ICMP errors and redirects, fragments but the first, packets
// to a multicast or broadcast address (TooBig of IPv6 excepted, which then needs a Source), and
// packets from addresses that are not one host's. It does not know which addresses are the
// directed broadcasts of networks, and does not limit the rate of errors: callers must.
func AppendError(dst, offending []byte, info *Info, e Error) ([]byte, bool) {
	source := e.Source
	if !source.IsValid() {
		source = info.Dst
	}
	if !mayReport(info, e.Kind) || !unicast(source) || !ofFamily(info.Version == 4, source) {
		return dst, false
	}
	header, quote := ip4HeaderLen, info.L4+quoteBeyondHeader
	if info.Version == 6 {
		header, quote = ip6HeaderLen, MaxError-ip6HeaderLen-icmpHeaderLen
	}
	quote = min(quote, info.Len, len(offending))
	total := header + icmpHeaderLen + quote
	dst = slices.Grow(dst, total)
	b := dst[len(dst) : len(dst)+total]
	writeErrorHeader(b, source, info.Src, 0, ErrorHopLimit)
	h := b[header:]
	clear(h[:icmpHeaderLen])
	h[0], h[1] = e.code(info.Version)
	if e.Kind == TooBig && info.Version == 4 {
		binary.BigEndian.PutUint16(h[6:], uint16(min(e.MTU, 0xffff)))
	} else if e.Kind == TooBig {
		binary.BigEndian.PutUint32(h[4:], max(e.MTU, MaxError))
	}
	copy(h[icmpHeaderLen:], offending[:quote])
	sumError(b, header, source, info.Src)
	return dst[:len(dst)+total], true
}

// RewriteError is the NAT of an ICMP error (RFC 5508, section 4.2): it writes to out a new error
// from src to dst with the given hop limit, which says the same as the one in b about the packet
// that inner makes of the quoted one. It returns the new error's length, at most that of b and,
// where b has IPv4 options or IPv6 extension headers, less.
//
// info comes from Parse(b), quoted from ParseQuote(b, info), and inner is made for quoted. out
// and b must not overlap. Type, code, the rest of the ICMP header with an MTU, and extensions stay
// as they are. Of the quote, addresses, ports or identifier are rewritten, and its checksums
// patched where the quote reaches as far: if they were right they are, and if not, whoever gets
// the error can still tell.
//
// It reports false, and what is in out is worthless, when out is too short, when the checksum of
// b is wrong, which a new one would hide, when the addresses are not of b's family, and when
// quoted cannot be of b.
func RewriteError(out, b []byte, info, quoted *Info, src, dst netip.Addr, inner *Rewrite, hopLimit uint8) (n int, ok bool) {
	quote := Quote(b, info)
	is4, header := info.Version == 4, ip4HeaderLen
	if !is4 {
		header = ip6HeaderLen
	}
	quote = quote[:max(0, min(len(quote), quoted.Len))] // without padding
	need := quoted.L4
	if quoted.Proto == ProtoTCP || quoted.Proto == ProtoUDP {
		need += 4 // ports
	}
	if quoted.Version != info.Version || quoted.L4 < header || need > len(quote) || !VerifyTransport(b, info) {
		return 0, false
	}
	if !ofFamily(is4, src) || !ofFamily(is4, dst) || !ofFamily(is4, inner.Src) || !ofFamily(is4, inner.Dst) {
		return 0, false
	}
	message := b[info.L4:info.Len]
	n = header + len(message)
	if n > len(out) {
		return 0, false
	}
	out = out[:n]
	copy(out[header:], message)
	q := out[header+icmpHeaderLen:][:len(quote)]
	inner.network(q, info.Version)
	inner.transport(q[quoted.L4:], quoted, false)
	writeErrorHeader(out, src, dst, info.TOS, hopLimit)
	sumError(out, header, src, dst)
	return n, true
}

// mayReport reports whether there may be an error about a packet, as far as that depends on it.
func mayReport(info *Info, kind ErrorKind) bool {
	switch {
	case info.Fragment && !info.FirstFragment, IsError(info), !oneHost(info.Src):
		return false
	case info.Version == 6 && info.Proto == ProtoICMPv6 && info.ICMPType == icmp6Redirect:
		return false
	case info.Dst.IsMulticast():
		return info.Version == 6 && kind == TooBig
	}
	return info.Dst != broadcast4
}

// oneHost reports whether an address can be that of one host on a network, to which errors may go:
// of IPv4, the networks 0/8 and 240/4 have none.
func oneHost(a netip.Addr) bool {
	if a.Is4() {
		if first := a.As4()[0]; first == 0 || first >= 240 {
			return false
		}
	}
	return unicast(a)
}

// unicast reports whether an address may be the source of a packet on a network.
func unicast(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a != broadcast4
}

func ofFamily(is4 bool, a netip.Addr) bool { return a.IsValid() && a.Is4() == is4 }

// code returns type and code of the ICMP message.
func (e *Error) code(version uint8) (kind, code uint8) {
	if version == 4 {
		switch e.Kind {
		case Unreachable:
			return icmpUnreachable, icmpCodeNet
		case TooBig:
			return icmpUnreachable, icmpCodeTooBig
		}
		return icmpUnreachable, icmpCodeProhibited
	}
	switch e.Kind {
	case Unreachable:
		return icmp6Unreachable, icmp6CodeAddress
	case TooBig:
		return icmp6TooBig, 0
	}
	return icmp6Unreachable, icmp6CodeProhibited
}

// writeErrorHeader writes the IP header of an ICMP error that fills b, without options. It is not
// to be fragmented, so its identification may be anything (RFC 6864).
func writeErrorHeader(b []byte, src, dst netip.Addr, tos, hopLimit uint8) {
	if src.Is4() {
		h := b[:ip4HeaderLen]
		clear(h)
		h[0], h[1], h[ip4TTL], h[ip4Proto] = 0x45, tos, hopLimit, ProtoICMP
		binary.BigEndian.PutUint16(h[ip4Length:], uint16(len(b)))
		binary.BigEndian.PutUint16(h[ip4Fragment:], ip4DontFragment)
		s, d := src.As4(), dst.As4()
		copy(h[ip4Src:], s[:])
		copy(h[ip4Dst:], d[:])
		binary.BigEndian.PutUint16(h[ip4Checksum:], ^Fold(Sum(h, 0)))
		return
	}
	h := b[:ip6HeaderLen]
	clear(h)
	h[0], h[1], h[ip6Next], h[ip6Hops] = 0x60|tos>>4, tos<<4, ProtoICMPv6, hopLimit
	binary.BigEndian.PutUint16(h[ip6Length:], uint16(len(b)-ip6HeaderLen))
	s, d := src.As16(), dst.As16()
	copy(h[ip6Src:], s[:])
	copy(h[ip6Dst:], d[:])
}

// sumError writes the checksum of the ICMP message that starts at header and ends with b.
func sumError(b []byte, header int, src, dst netip.Addr) {
	h := b[header:]
	pseudo := uint64(0)
	if header == ip6HeaderLen {
		pseudo = PseudoSum(src, dst, ProtoICMPv6, len(h))
	}
	binary.BigEndian.PutUint16(h[icmpChecksum:], 0)
	binary.BigEndian.PutUint16(h[icmpChecksum:], ^Fold(Sum(h, pseudo)))
}

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// MaxError is the longest error in bytes that AppendError makes: the least MTU of IPv6 (RFC 8200,
// section 5), which every path can carry.
const MaxError = 1280

// quoteBeyondHeader is how many bytes behind the IPv4 header an error quotes.
const quoteBeyondHeader = 8
