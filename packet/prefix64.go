package packet

import (
	"fmt"
	"net/netip"
)

// Prefix64 is a prefix by which IPv6 addresses stand for IPv4 addresses (RFC 6052):
//
//	 bits    0       32      40      48      56      64      72                  96          128
//	/32      prefix  | v4 a    v4 b    v4 c    v4 d  | u     | suffix                        |
//	/40      prefix          | v4 a    v4 b    v4 c  | u     | v4 d    suffix                |
//	/48      prefix                  | v4 a    v4 b  | u     | v4 c    v4 d    suffix        |
//	/56      prefix                          | v4 a  | u     | v4 b    v4 c    v4 d  suffix  |
//	/64      prefix                                  | u     | v4 a    v4 b    v4 c    v4 d  …|
//	/96      prefix                                                              | v4 a b c d |
//
// u is an octet of zero, and the suffix is zero in addresses that we make. A Prefix64 is an
// immutable value; the zero value contains no address.
type Prefix64 struct {
	prefix netip.Prefix
	base   [16]byte
	octets [4]uint8 // where the octets of the IPv4 address stand
}

// WellKnownPrefix64 is 64:ff9b::/96, the well-known prefix (RFC 6052, section 2.1).
var WellKnownPrefix64 = netip.PrefixFrom(netip.AddrFrom16([16]byte{1: 0x64, 2: 0xff, 3: 0x9b}), 96)

// NewPrefix64 returns the Prefix64 for p, of which bits behind its length are ignored. It fails
// when p is not of IPv6, has a length other than 32, 40, 48, 56, 64 or 96, or has bits set in the
// octet u, which a prefix of 96 bits contains (RFC 6052, section 2.2).
func NewPrefix64(p netip.Prefix) (Prefix64, error) {
	if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
		return Prefix64{}, fmt.Errorf("translation prefix %v: not an IPv6 prefix", p)
	}
	switch p.Bits() {
	case 32, 40, 48, 56, 64, 96:
	default:
		return Prefix64{}, fmt.Errorf("translation prefix %v: length is not 32, 40, 48, 56, 64 or 96", p)
	}
	p = netip.PrefixFrom(p.Addr().WithZone(""), p.Bits()).Masked()
	x := Prefix64{prefix: p, base: p.Addr().As16()}
	if x.base[octetU] != 0 {
		return Prefix64{}, fmt.Errorf("translation prefix %v: bits 64 to 71 are not zero", p)
	}
	for i := range x.octets {
		at := p.Bits()/8 + i
		if p.Bits() <= octetU*8 && at >= octetU {
			at++
		}
		x.octets[i] = uint8(at)
	}
	return x, nil
}

// Prefix returns the prefix.
func (p *Prefix64) Prefix() netip.Prefix { return p.prefix }

// Contains reports whether a has the prefix. Extract may still refuse it.
func (p *Prefix64) Contains(a netip.Addr) bool { return p.prefix.Contains(a) }

// Embed returns the IPv6 address that stands for v4, which is an IPv4 address. It does not ask
// whether there may be one: see Represents.
func (p *Prefix64) Embed(v4 netip.Addr) netip.Addr {
	a, b := p.base, v4.As4()
	for i, at := range p.octets {
		a[at] = b[i]
	}
	return netip.AddrFrom16(a)
}

// Extract returns the IPv4 address that v6 stands for, or false when v6 does not have the prefix
// or has bits set in the octet u. The suffix may be anything: it is reserved for extensions that
// change nothing about the address (RFC 6052, sections 2.2 and 2.3).
func (p *Prefix64) Extract(v6 netip.Addr) (netip.Addr, bool) {
	if !p.prefix.Contains(v6) {
		return netip.Addr{}, false
	}
	a := v6.As16()
	if a[octetU] != 0 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte{a[p.octets[0]], a[p.octets[1]], a[p.octets[2]], a[p.octets[3]]}), true
}

// Represents reports whether the prefix may stand for v4. The well-known prefix is only for
// addresses that are valid in the whole Internet; packets with others under it are to be dropped
// (RFC 6052, section 3.1). Other prefixes may stand for any address.
func (p *Prefix64) Represents(v4 netip.Addr) bool {
	return v4.Is4() && (p.prefix != WellKnownPrefix64 || global4(v4))
}

// global4 reports whether an IPv4 address means the same everywhere.
func global4(a netip.Addr) bool {
	for _, p := range local4 {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// local4 holds the IPv4 networks with a meaning of their own (RFC 5735, section 3, which RFC 6052
// refers to), and the shared address space that has come since (RFC 6598).
var local4 = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

// octetU is the octet of bits 64 to 71.
const octetU = 8
