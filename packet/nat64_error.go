package packet

import (
	"encoding/binary"
	"net/netip"
)

// MaxTranslatedError is the room in bytes that TranslateError wants: the longest ICMPv6 error.
const MaxTranslatedError = maxError6

// ErrorHeader is what TranslateError cannot take from the ICMP error it translates.
type ErrorHeader struct {
	// Src and Dst are the addresses of the new outer header. Src stands for the router that sent the
	// error, which may have no address in the other IP version (RFC 6791).
	Src, Dst netip.Addr
	// MTU4 and MTU6 are the MTUs in bytes towards the next hop on the IPv4 and IPv6 side of the
	// translator; 0 is unknown and limits nothing.
	MTU4, MTU6 int
	// ID is the identification of an IPv4 result and of an IPv4 packet quoted in it, where the
	// IPv6 packets bring none: as for Translate.
	ID uint16
}

// TranslateError turns the ICMP error in b into one of the other IP version (RFC 7915, sections
// 4.2, 4.3, 5.2 and 5.3), writes the whole packet to the front of dst, which has room for
// MaxTranslatedError, and returns its length. b is lent and not written to; the two do not overlap.
//
// info comes from Parse(b) and quoted from ParseQuote. r is made for the quoted packet, with
// addresses of the other family: the packet as its sender, for whom the error is, has sent it.
//
// A false ok means that the error is to be dropped: it has no counterpart, is a fragment or no error
// at all, its checksum is wrong (the new one would hide that), or the quoted packet is one that
// Translate refuses.
//
// The quote is cut to keep the result within 1,280 bytes in IPv6 (RFC 4443, section 2.4) and 576
// in IPv4 (RFC 1812, section 4.3.2.3), and its checksums are patched as far as they are there. An
// extension (RFC 4884), such as a label stack, moves along unread: the quote gives way to it down
// to 128 bytes, and only then it is cut itself. Where the new type has no room for the length of
// the quote, which in IPv6 are all but destination unreachable and time exceeded, it is left out.
func (r *Rewrite) TranslateError(dst, b []byte, info, quoted *Info, outer *ErrorHeader) (n int, ok bool) {
	if quoted.Version != info.Version || outer.Dst.Is4() != r.Dst.Is4() || !quotes(info) || !VerifyTransport(b, info) {
		return 0, false
	}
	var e icmpError
	header, limit, unit := ip4HeaderLen, maxError4, 4
	if info.Version == 4 {
		header, limit, unit = ip6HeaderLen, maxError6, 8
		e, ok = error6(b[info.L4:info.Payload], quoted, outer)
	} else {
		e, ok = error4(b[info.L4:info.Payload], outer)
	}
	if !ok {
		return 0, false
	}
	dst = dst[:limit]
	body := dst[header+icmpHeaderLen:]
	quote := Quote(b, info)
	size, ok := r.quote(body, quote, quoted, outer.ID)
	if !ok {
		return 0, false
	}
	if x := extension(b, info, len(quote)); x != nil && e.extensible(info.Version) {
		length := fitQuote(size, len(x), len(body), unit)
		if length > size {
			clear(body[size:length])
		}
		e.setLength(info.Version, length/unit)
		size = length + copy(body[length:], x)
	}
	return e.finish(dst[:header+icmpHeaderLen+size], b, info, outer)
}

// quote writes the translated quote to d, cut to its length, and returns how much it wrote.
func (r *Rewrite) quote(d, quote []byte, quoted *Info, id uint16) (int, bool) {
	end := min(len(quote), quoted.Len) // behind may be padding
	if end < quoted.L4 || quoted.Fragment && !quoted.FirstFragment {
		return 0, false // not what ParseQuote says
	}
	var headers int
	var ok bool
	if quoted.Version == 4 {
		headers, ok = r.header6(d, quote, quoted)
	} else {
		headers, ok = r.header4(d, quote, quoted, ip4HeaderLen+quoted.Len-quoted.L4, id)
	}
	if !ok {
		return 0, false
	}
	n := headers + copy(d[headers:], quote[quoted.L4:end])
	t := d[headers:n]
	switch quoted.Proto {
	case ProtoTCP, ProtoUDP:
		if len(t) < 4 {
			return 0, false
		}
		r.transport(t, quoted, false)
	case ProtoICMP, ProtoICMPv6:
		// Anything but echo has not come through a translator, least of all an error, in which
		// there would be yet another packet (RFC 7915, section 4.3).
		if !IsEcho(quoted) || len(t) < icmpHeaderLen {
			return 0, false
		}
		r.echo(t, ip6Of(d, quote, quoted), quoted, false)
	}
	return n, true
}

// finish writes the headers of the error that fills dst, whose quote is in place.
func (e *icmpError) finish(dst, b []byte, info *Info, outer *ErrorHeader) (int, bool) {
	addresses := NewRewrite(info, outer.Src, outer.Dst, 0, 0)
	as := *info // b's headers over the new length
	var header int
	var ok bool
	if info.Version == 4 {
		as.Len = info.L4 + len(dst) - ip6HeaderLen
		header, ok = addresses.header6(dst, b, &as)
	} else {
		as.Len = info.L4 + len(dst) - ip4HeaderLen
		header, ok = addresses.header4(dst, b, &as, len(dst), outer.ID)
	}
	if !ok {
		return 0, false
	}
	m := dst[header:]
	m[0], m[1] = e.kind, e.code
	binary.BigEndian.PutUint16(m[icmpChecksum:], 0)
	binary.BigEndian.PutUint32(m[icmpID:], e.rest)
	sum := Sum(m, 0)
	if info.Version == 4 {
		sum += PseudoSum(outer.Src, outer.Dst, ProtoICMPv6, len(m))
	}
	binary.BigEndian.PutUint16(m[icmpChecksum:], ^Fold(sum))
	return len(dst), true
}

// extension returns what follows the quote in the ICMP error in b: its extension structure, if it
// looks like one (RFC 4884, sections 4 and 7).
func extension(b []byte, info *Info, quote int) []byte {
	x := b[info.Payload+quote : info.Len]
	if quote < minExtendedQuote || len(x) < extensionHeaderLen || x[0]>>4 != extensionVersion {
		return nil
	}
	return x
}

// extensible reports whether the error, the translation of one of the version given, may have an
// extension (RFC 4884, section 3).
func (e *icmpError) extensible(from uint8) bool {
	if from == 4 {
		return e.kind == icmp6Unreachable || e.kind == icmp6TimeExceeded
	}
	return e.kind == icmpUnreachable || e.kind == icmpTimeExceeded || e.kind == icmpParameterProblem
}

// fitQuote returns how long the quote of size bytes becomes, cut or padded, before an extension so
// that both are in room, if they can be.
func fitQuote(size, extension, room, unit int) int {
	size = max(minExtendedQuote, (size+unit-1)/unit*unit)
	return min(size, max(minExtendedQuote, (room-extension)/unit*unit))
}

// setLength says how long the quote before an extension is, in units of 4 bytes in IPv4 and 8 in
// IPv6 (RFC 4884, sections 4.1 to 4.5).
func (e *icmpError) setLength(from uint8, units int) {
	if from == 4 {
		e.rest |= uint32(units) << 24
	} else {
		e.rest |= uint32(units) << 16
	}
}

const (
	// maxError6 and maxError4 bound the length in bytes of an ICMP error so that it needs no
	// fragmentation anywhere: the least MTU of IPv6 links, and what all IPv4 hosts can receive.
	maxError6 = 1280
	maxError4 = 576

	// minExtendedQuote is the least length in bytes of a quote before an extension, which begins
	// with a header of 4 bytes (RFC 4884, sections 3 and 7).
	minExtendedQuote   = 128
	extensionHeaderLen = 4
	extensionVersion   = 2
)
