package netnstest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// samples draws packets that a translator meets, or has to fear.
type samples struct {
	*rand.Rand
	world *world
}

func (g *samples) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *samples, of ...T) T { return of[g.IntN(len(of))] }

func (g *samples) random(n int) []byte {
	b := make([]byte, max(n, 0))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// next draws a packet of any kind, which fits the device.
func (g *samples) next() *sample {
	for {
		s := g.base(g.one(2))
		if g.one(3) {
			g.makeError(s)
		} else {
			g.makeData(s)
		}
		if s.length() <= g.world.mtu {
			return s
		}
	}
}

// base draws an IP header: a packet from a peer to a host in IPv4, and the other way in IPv6.
func (g *samples) base(v6 bool) *sample {
	s := &sample{v6: v6, tos: uint8(g.Uint32()), ttl: uint8(g.IntN(254)) + 2, id: g.Uint32()}
	if g.one(40) {
		s.ttl = uint8(g.IntN(2))
	}
	i := g.IntN(len(g.world.hosts4))
	peer := g.peer()
	if v6 {
		s.src, s.dst = g.world.hosts6[i], g.world.prefix.Embed(peer)
		if g.world.suffixExists && g.one(30) {
			a := s.dst.As16()
			a[pick(g, 8, 15)] ^= 1 // the reserved octet or the suffix
			s.dst = netip.AddrFrom16(a)
		}
		for g.one(6) {
			s.chain = append(s.chain, g.extension(len(s.chain)))
		}
		return s
	}
	s.src, s.dst, s.df = peer, g.world.hosts4[i], !g.one(3)
	if g.one(6) {
		s.options = pick(g, []byte{1, 1, 1, 0}, []byte{7, 7, 4, 0, 0, 0, 0, 0}, []byte{148, 4, 0, 0},
			[]byte{131, 7, 8, 1, 2, 3, 4, 0}, // a source route that is used up
			[]byte{131, 7, 4, 1, 2, 3, 4, 0}, // one that has a way to go
			[]byte{137, 7, 4, 8, 8, 8, 8, 0}, []byte{137, 7, 8, 8, 8, 8, 8, 0},
			[]byte{68, 40, 5, 0}, // longer than the header
			make([]byte, 40))
	}
	return s
}

func (g *samples) peer() netip.Addr {
	if g.world.wellKnown && g.one(10) {
		return pick(g, g.world.local, g.world.shared)
	}
	return pick(g, g.world.peers...)
}

func (g *samples) extension(n int) extension {
	rest := func(size int) []byte { return append([]byte{byte(size/8 - 1)}, g.padding(size-2)...) }
	switch size := 8 * (g.IntN(3) + 1); g.IntN(4) {
	case 0:
		return extension{protoRouting, append([]byte{0, 4, 0}, make([]byte, 4)...)} // no segments left
	case 1:
		return extension{protoRouting, append([]byte{2, 0, 1, 0, 0, 0, 0}, g.random(16)...)}
	case 2:
		if n == 0 || g.one(4) {
			return extension{protoHopByHop, rest(size)}
		}
		fallthrough
	default:
		return extension{protoDestination, rest(size)}
	}
}

// padding is an option of n bytes that says nothing.
func (g *samples) padding(n int) []byte {
	b := make([]byte, n)
	b[0], b[1] = 1, byte(n-2)
	return b
}

// makeData fills s with anything but an ICMP error.
func (g *samples) makeData(s *sample) {
	room := g.room(s)
	switch g.IntN(10) {
	case 0:
		s.proto = pick[uint8](g, 1, 2, 4, 41, 47, 50, 51, 59, 132, 135, 136, 139, 140, 253)
		if !s.v6 && g.one(4) {
			s.proto = pick[uint8](g, protoHopByHop, protoRouting, protoFragment, protoICMPv6, protoDestination)
		}
		s.body = g.random(room)
		if len(s.body) > 2 && g.one(2) {
			s.body[0], s.body[1] = protoUDP, 0 // as if it were an extension header, in good order
		}
	case 1, 2:
		g.makeEcho(s, room)
		return
	case 3, 4, 5:
		s.proto = protoTCP
		options := g.random(pick(g, 0, 0, 12, 20, 40))
		s.body = tcpSegment(s.src, s.dst, g.port(), g.port(), g.Uint32(), options, g.random(room-20-len(options)))
		if g.one(50) {
			s.body[12] = byte(g.Uint32()) // where the payload begins, maybe nowhere
		}
	default:
		s.proto = protoUDP
		s.body = udpSegment(s.src, s.dst, g.port(), g.port(), g.random(room-8))
		switch g.IntN(12) {
		case 0:
			s.body[6], s.body[7] = 0, 0
		case 1:
			g.balance(s)
		case 2:
			s.body[4] ^= 1 // a length that is not so
		case 3:
			s.body[6] ^= 1 // a sum that is wrong
		}
	}
	if g.one(4) {
		g.makeFragment(s)
	} else if s.v6 && g.one(10) {
		s.fragmented = true // atomic
	}
	if g.one(60) {
		s.body = s.body[:min(len(s.body), g.IntN(20))]
	}
}

// balance changes the payload of a UDP datagram so that its translation sums up to zero.
func (g *samples) balance(s *sample) {
	src, okSrc := g.world.other(s.src)
	dst, okDst := g.world.other(s.dst)
	if !okSrc || !okDst || len(s.body) < 10 {
		return
	}
	s.body[8], s.body[9], s.body[6], s.body[7] = 0, 0, 0, 0
	missing := ^onesSum(pseudo(src, dst, protoUDP, len(s.body)), s.body)
	binary.BigEndian.PutUint16(s.body[8:], missing)
	sum := ^onesSum(pseudo(s.src, s.dst, protoUDP, len(s.body)), s.body)
	binary.BigEndian.PutUint16(s.body[6:], sum)
}

func (g *samples) port() uint16 { return uint16(g.Uint32()) }

// room draws a length for what follows the IP headers, often one close to a limit.
func (g *samples) room(s *sample) int {
	s.proto = 59
	headers := s.length()
	total := pick(g, g.IntN(100), g.IntN(600), g.IntN(1500), 1260, 1280, 1480, 1500) + g.IntN(25) - 16
	if !s.v6 && g.one(2) {
		total -= 20 // a length at which the translation is close to a limit
	}
	return min(max(total-headers, 0), g.world.mtu-headers)
}

func (g *samples) makeEcho(s *sample, room int) {
	s.proto = protoICMP
	kinds := []uint8{8, 0}
	if s.v6 {
		s.proto, kinds = protoICMPv6, []uint8{128, 129}
	}
	s.icmp = &message{kind: pick(g, kinds...), rest: g.Uint32(), payload: g.random(room - 8), wrongSum: g.one(15)}
	switch g.IntN(12) {
	case 0: // zeros
		s.icmp = &message{kind: kinds[1], payload: make([]byte, g.IntN(40))}
	case 1: // other messages than echo
		s.icmp.kind = uint8(g.Uint32())
	case 2:
		s.icmp.code = uint8(g.IntN(3))
	case 3: // its fragment
		s.body, s.icmp = s.icmp.bytes(s), nil
		g.makeFragment(s)
	case 4:
		s.fragmented = s.v6
	}
}

// makeFragment turns s into a first, middle or last fragment.
func (g *samples) makeFragment(s *sample) {
	s.fragmented, s.more = true, true
	if g.one(3) {
		g.align(s)
		return
	}
	s.offset = 8 * (1 + g.IntN(180))
	if g.one(5) {
		s.offset = 8 * (1 + g.IntN(2))
	}
	s.body = g.random(len(s.body))
	if g.one(2) {
		s.more = false
		if g.one(20) {
			s.body = nil
		}
		return
	}
	g.align(s)
}

// align cuts what has more behind it to a multiple of 8 bytes, as it must be, or seldom is not.
func (g *samples) align(s *sample) {
	if !g.one(12) {
		s.body = s.body[:len(s.body)&^7]
	}
}
