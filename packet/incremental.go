package packet

import "net/netip"

// Delta returns what a sum changes by when the words of old are replaced by those of new, to be
// given to one of the Patch functions (RFC 1624, equation 3). Both have an even length and stand
// at even offsets of what is summed; they may differ in length, as in NAT64. Deltas add up.
//
// A flow's delta is a constant: compute it once and patch every packet with it.
func Delta(old, new []byte) uint64 {
	return Sum(new, uint64(^Fold(Sum(old, 0))))
}

// DeltaAddr is Delta for an address of either family.
func DeltaAddr(old, new netip.Addr) uint64 {
	return addrSum(new) + uint64(^Fold(addrSum(old)))
}

// Delta16 is Delta for one word, such as a port.
func Delta16(old, new uint16) uint64 { return uint64(new) + uint64(^old) }

// Patch returns a checksum field after a change by delta: of an IPv4 header, TCP or ICMP.
func Patch(checksum uint16, delta uint64) uint16 {
	return ^Fold(uint64(Fold(delta)) + uint64(^checksum))
}

// PatchUDP is Patch for UDP: a field of 0 means that the sender made no checksum and stays 0
// (RFC 768; over IPv6 such a packet is invalid anyway), and a result of 0 is written as 0xffff.
func PatchUDP(checksum uint16, delta uint64) uint16 {
	if checksum == 0 {
		return 0
	}
	if patched := Patch(checksum, delta); patched != 0 {
		return patched
	}
	return 0xffff
}

// PatchPartial is Patch for an unfinished checksum, which holds only the sum of the
// pseudo-header, not inverted: delta must then cover only what the pseudo-header contains.
func PatchPartial(partial uint16, delta uint64) uint16 {
	return Fold(uint64(Fold(delta)) + uint64(partial))
}

func addrSum(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return Sum(b[:], 0)
	}
	b := a.As16()
	return Sum(b[:], 0)
}
