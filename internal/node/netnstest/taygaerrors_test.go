package netnstest

// makeError turns s into an ICMP error about a packet that went the other way: of any type and
// code, with a quote of any length, and sometimes an extension.
func (g *samples) makeError(s *sample) {
	m := &message{rest: 0, wrongSum: g.one(40)}
	s.icmp = m
	if s.v6 {
		s.proto = protoICMPv6
		g.kind6(m)
		if g.one(8) {
			s.src = g.world.router6
		}
	} else {
		s.proto = protoICMP
		g.kind4(m)
		s.src = pick(g, g.world.peers...) // a router on the way
		if g.world.wellKnown && g.one(8) {
			s.src = g.world.local
		}
	}
	if g.one(20) {
		s.fragmented = s.v6 // atomic
	}
	g.makeQuote(s)
	if g.one(5) {
		g.extend(s)
	}
}

func (g *samples) kind4(m *message) {
	switch g.IntN(12) {
	case 0, 1, 2, 3:
		m.kind, m.code = 3, uint8(g.IntN(17))
	case 4, 5, 6:
		m.kind, m.code, m.rest = 3, 4, uint32(pick(g, 0, g.IntN(68), 68+g.IntN(1200), 1240+g.IntN(80), 1460+g.IntN(60), g.IntN(65536)))
	case 7, 8:
		m.kind, m.code = 11, uint8(g.IntN(3))
	case 9, 10:
		m.kind, m.code, m.rest = 12, uint8(g.IntN(4)), uint32(g.IntN(24))<<24
	default:
		m.kind, m.code, m.rest = pick[uint8](g, 4, 5, 6, 9, 10, 13, 15, 17, 30, 40), uint8(g.IntN(3)), g.Uint32()
	}
}

func (g *samples) kind6(m *message) {
	switch g.IntN(12) {
	case 0, 1, 2, 3:
		m.kind, m.code = 1, uint8(g.IntN(8))
	case 4, 5, 6:
		m.kind, m.rest = 2, pick(g, 0, g.Uint32N(68), 68+g.Uint32N(1240), 1270+g.Uint32N(40), 1480+g.Uint32N(60), g.Uint32()>>1)
	case 7, 8:
		m.kind, m.code = 3, uint8(g.IntN(3))
	case 9, 10:
		m.kind, m.code, m.rest = 4, uint8(g.IntN(4)), uint32(g.IntN(48))
	default:
		m.kind, m.code, m.rest = pick[uint8](g, 0, 5, 100, 127, 130, 133, 134, 135, 136, 137, 143, 160, 255), uint8(g.IntN(3)), g.Uint32()
	}
}

// makeQuote quotes a packet from whom the error is for to a peer.
func (g *samples) makeQuote(s *sample) {
	q := &sample{v6: s.v6, src: s.dst, tos: uint8(g.Uint32()), ttl: uint8(g.Uint32()), id: g.Uint32()}
	if s.v6 {
		q.dst = pick(g, g.world.hosts6...)
		for g.one(8) {
			q.chain = append(q.chain, extension{protoDestination, append([]byte{0}, g.padding(6)...)})
		}
	} else {
		q.dst, q.df = g.peer(), g.one(2)
		if g.one(8) {
			q.options = []byte{7, 7, 4, 0, 0, 0, 0, 0}
		}
	}
	room := g.room(q)
	if s.icmp.kind == 3 && s.icmp.code == 4 && g.one(3) {
		room = g.world.mtu - q.length() // a length that matters where no MTU is said
	}
	g.fillQuote(q, room)
	m := s.icmp
	m.quote = q
	headers := q.length() - q.payload()
	switch g.IntN(5) {
	case 0:
		m.cut = headers + 8
	case 1:
		m.cut = headers + g.IntN(48)
	case 2:
		m.cut = g.IntN(headers) + 1
	case 3:
		m.cut = headers + 8*g.IntN(70)
	}
	// No error is longer than the least MTU, by its sender's own rules.
	limit := 1280 - (s.length() - m.lengthOfQuote()) - 40
	if m.cut == 0 || m.cut > limit {
		m.cut = limit
	}
	if g.one(8) && m.cut >= headers {
		m.pad = m.lengthOfQuote() + g.IntN(20)
	}
}

func (m *message) lengthOfQuote() int {
	n := m.quote.length()
	if m.cut > 0 {
		n = min(n, m.cut)
	}
	return n
}

func (g *samples) fillQuote(q *sample, room int) {
	echoes, proto := []uint8{8, 0}, uint8(protoICMP)
	if q.v6 {
		echoes, proto = []uint8{128, 129}, protoICMPv6
	}
	switch g.IntN(8) {
	case 0:
		q.proto, q.body = pick[uint8](g, 2, 4, 47, 50, 51, 132, 135), g.random(room)
	case 1, 2:
		q.proto = proto
		q.icmp = &message{kind: pick(g, echoes...), rest: g.Uint32(), payload: g.random(room - 8)}
		if g.one(10) {
			q.icmp.kind = pick[uint8](g, 1, 3, 11, 12, 13, 2, 4, 135)
		}
		return
	case 3, 4:
		q.proto = protoTCP
		q.body = tcpSegment(q.src, q.dst, g.port(), g.port(), g.Uint32(), g.random(4*g.IntN(6)), g.random(room-20))
	default:
		q.proto = protoUDP
		q.body = udpSegment(q.src, q.dst, g.port(), g.port(), g.random(room-8))
		if g.one(12) {
			q.body[6], q.body[7] = 0, 0
		}
	}
	switch g.IntN(10) {
	case 0:
		g.makeFragment(q)
		q.df = false
	case 1:
		q.fragmented = q.v6
	}
}

// extend puts an extension behind the quote, with the length attribute that says so (RFC 4884), or
// one that is not so.
func (g *samples) extend(s *sample) {
	m, unit, shift := s.icmp, 4, 16
	if s.v6 {
		unit, shift = 8, 24
	}
	m.cut = max(min(m.cut, 500), m.quote.length()-m.quote.payload())
	m.pad = max(128, (m.lengthOfQuote()+unit-1)/unit*unit)
	m.extension = append([]byte{0x20, 0, 0, 0, 0, 8, 1, 1}, g.random(4)...) // a label stack
	units := m.pad / unit
	if g.one(6) {
		units += 8 // past the end
	}
	m.rest = m.rest&0xffff | uint32(units)<<shift
	if s.v6 && m.kind == 4 || !s.v6 && m.kind == 12 {
		m.rest = uint32(units) << shift
	}
}
