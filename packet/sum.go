package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sum adds the big-endian 16-bit words of b to initial (RFC 1071). A last odd byte counts as the
// high byte of a word, so of several pieces only the last may have an odd length.
func Sum(b []byte, initial uint64) uint64 {
	return addNative(initial, sumNative(b))
}

// CopySum copies src to the front of dst and returns Sum(src, initial), in one pass over memory
// where the processor allows. It panics when dst is shorter than src; the two must not overlap.
func CopySum(dst, src []byte, initial uint64) uint64 {
	return addNative(initial, copySumNative(dst[:len(src)], src))
}

// Fold reduces a sum to 16 bits by adding carries back in. The complement of the result is what
// a checksum field holds.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// PseudoSum returns the sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293, 3.1; RFC 8200,
// 8.1): both addresses, the protocol, and length, the bytes of transport header and payload.
// Both addresses must be of one family.
func PseudoSum(src, dst netip.Addr, proto uint8, length int) uint64 {
	rest := uint64(proto) + uint64(length)
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		return Sum(d[:], Sum(s[:], rest))
	}
	s, d := src.As16(), dst.As16()
	return Sum(d[:], Sum(s[:], rest))
}

// addresses returns the bytes of both addresses in the IP header at the start of b.
func addresses(b []byte, version uint8) []byte {
	if version == 4 {
		return b[ip4Src : ip4Dst+4]
	}
	return b[ip6Src : ip6Dst+16]
}

// addNative adds a sum of words in the host's (little-endian) order to one in network order:
// swapping the bytes of all words swaps the bytes of their sum (RFC 1071, 2.B).
func addNative(sum, native uint64) uint64 {
	sum, carry := bits.Add64(sum, uint64(bits.ReverseBytes16(Fold(native))), 0)
	return sum + carry // cannot carry again: the addend is below 2^16
}

// sumGeneric adds the little-endian 64-bit words of b with end-around carry: since 2^16 ≡ 1
// modulo 2^16-1, that is the sum of its 16-bit words.
func sumGeneric(b []byte) uint64 {
	var s, c uint64
	for len(b) >= 64 {
		w := b[:64]
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[0:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[56:]), c)
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	s, c = bits.Add64(s, lastWord(b), c)
	s, c = bits.Add64(s, 0, c)
	return s + c
}

// lastWord returns the up to 7 bytes of b as a little-endian number.
func lastWord(b []byte) (w uint64) {
	shift := 0
	if len(b) >= 4 {
		w = uint64(binary.LittleEndian.Uint32(b))
		b, shift = b[4:], 32
	}
	if len(b) >= 2 {
		w |= uint64(binary.LittleEndian.Uint16(b)) << shift
		b, shift = b[2:], shift+16
	}
	if len(b) >= 1 {
		w |= uint64(b[0]) << shift
	}
	return w
}

// copySumGeneric copies first: memmove and an add-with-carry loop over bytes that are then in the
// L1 cache are faster than storing word by word.
func copySumGeneric(dst, src []byte) uint64 {
	copy(dst, src)
	return sumGeneric(src)
}
