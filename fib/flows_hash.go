package fib

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/firelane/firelane/packet"
)

// flowAddr is an IP address without its family, in 16 bytes that hold no pointer; IPv4 addresses
// are IPv4-mapped.
type flowAddr struct{ hi, lo uint64 }

// A tuple's other half is one word: port or identifier in bits 0-15, protocol in bits 16-23, and
// tupleV6 if the address is of IPv6.
const (
	tupleProto = 16
	tupleV6    = 1 << 24
	tuplePort  = 0xffff
)

// tupleOf returns address, and port with protocol and family, in the form that is hashed and
// compared.
func tupleOf(proto uint8, port uint16, a netip.Addr) (flowAddr, uint32) {
	if proto == packet.ProtoICMPv6 {
		proto = packet.ProtoICMP
	}
	t := uint32(proto)<<tupleProto | uint32(port)
	if !a.Is4() {
		t |= tupleV6
	}
	b := a.As16()
	return flowAddr{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}, t
}

// addr is the inverse of tupleOf: tuple says of which family a is.
func (a flowAddr) addr(tuple uint32) netip.Addr {
	if tuple&tupleV6 == 0 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

// hashKey is the secret of a process's hashes.
type hashKey struct{ k0, k1 uint64 }

// hash is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; one
// compression and three finalization rounds) of the 20 bytes address and tuple: who does not know
// the key cannot choose tuples that collide. About 8 ns.
func (k hashKey) hash(a flowAddr, tuple uint32) uint32 {
	v0, v1, v2, v3 := k.k0^0x736f6d6570736575, k.k1^0x646f72616e646f6d, k.k0^0x6c7967656e657261, k.k1^0x7465646279746573
	m := uint64(tuple) | 20<<56 // the last block ends in the length
	v3 ^= a.hi
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= a.hi
	v3 ^= a.lo
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= a.lo
	v3 ^= m
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= m
	v2 ^= 0xff
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	return uint32(v0 ^ v1 ^ v2 ^ v3)
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32) + v3
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
