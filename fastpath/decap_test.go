package fastpath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// up is an inner packet from the client of link 0 to the gateway.
func up(n int) flow { return flow{from: client, payload: fill(n, 7)} }

// Every datagram that is not carried is counted once, under the verdict that says why.
func TestDecapDrops(t *testing.T) {
	for _, c := range []struct {
		name string
		want fib.Verdict
		n    uint64
		send func(t *testing.T, p *pair) []batch.Train
	}{
		{"bytes of no known protocol are unknown", fib.DropUnknown, 1, func(t *testing.T, p *pair) []batch.Train {
			return p[gateway].each(0, fill(100, 1))
		}},
		{"a single byte is unknown", fib.DropUnknown, 1, func(t *testing.T, p *pair) []batch.Train { return p[gateway].each(0, []byte{4}) }},
		{"a data message without room for its tag is unknown", fib.DropUnknown, 1, func(t *testing.T, p *pair) []batch.Train {
			return p[gateway].each(0, p.message(gateway, 0, nil)[:31])
		}},
		{"an unknown connection has no session", fib.DropNoSession, 1, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(10).build())
			m[6] ^= 1
			return p[gateway].each(0, m)
		}},
		{"another session number of a known connection has no session", fib.DropNoSession, 1, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(10).build())
			m[4] += fib.SessionsPerPeer
			return p[gateway].each(0, m)
		}},
		{"a session past its time is expired", fib.DropExpired, 1, func(t *testing.T, p *pair) []batch.Train {
			p.link(t, linkOptions{life: func(l *fib.Lifetime) { l.RejectAt = start }})
			return p[gateway].each(1, p.message(gateway, 1, flow{link: 1}.build()))
		}},
		{"one changed bit is a forgery", fib.DropForged, 1, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(10).build())
			m[20] ^= 0x10
			return p[gateway].each(0, m)
		}},
		{"a truncated message is a forgery", fib.DropForged, 1, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(100).build())
			return p[gateway].each(0, m[:len(m)-1])
		}},
		{"a lengthened message is a forgery", fib.DropForged, 1, func(t *testing.T, p *pair) []batch.Train {
			return p[gateway].each(0, append(p.message(gateway, 0, up(100).build()), 0))
		}},
		{"a changed counter is a forgery", fib.DropForged, 1, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(10).build())
			m[8]++
			return p[gateway].each(0, m)
		}},
		{"a duplicate in the same batch is a replay", fib.DropReplay, 1, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(10).build())
			return p[gateway].each(0, m, m)
		}},
		{"a duplicate in the same train is a replay", fib.DropReplay, 2, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(10).build())
			return []batch.Train{p[gateway].arrive(0, len(m), m, m, m)}
		}},
		{"a duplicate in a later batch is a replay", fib.DropReplay, 1, func(t *testing.T, p *pair) []batch.Train {
			m := p.message(gateway, 0, up(10).build())
			p[gateway].receive(p[gateway].each(0, m)...)
			return p[gateway].each(0, m)
		}},
		{"what lies behind the replay window is a replay", fib.DropReplay, 1, func(t *testing.T, p *pair) []batch.Train {
			k := p[client].ends[0].session.Keys
			old := p.message(gateway, 0, up(10).build())
			for range 9 {
				k.Take(1000)
			}
			p[gateway].receive(p[gateway].each(0, p.message(gateway, 0, up(10).build()))...)
			return p[gateway].each(0, old)
		}},
		{"a message beyond the last counter is a replay", fib.DropReplay, 1, func(t *testing.T, p *pair) []batch.Train {
			m := make([]byte, 64)
			p[client].ends[0].session.Keys.Seal(new(wireguard.Scratch), [][]byte{m}, wireguard.RejectAfterMessages)
			return p[gateway].each(0, m)
		}},
		{"inner bytes that are no IP packet are malformed", fib.DropMalformed, 1, func(t *testing.T, p *pair) []batch.Train {
			return p[gateway].each(0, p.message(gateway, 0, fill(60, 3)))
		}},
		{"an inner packet longer than its message is malformed", fib.DropMalformed, 1, func(t *testing.T, p *pair) []batch.Train {
			b := up(100).build()
			return p[gateway].each(0, p.message(gateway, 0, b[:len(b)-1]))
		}},
		{"one inner byte is malformed", fib.DropMalformed, 1, func(t *testing.T, p *pair) []batch.Train {
			return p[gateway].each(0, p.message(gateway, 0, []byte{0x45}))
		}},
		{"a source of nobody is foreign", fib.DropForeignSource, 1, func(t *testing.T, p *pair) []batch.Train {
			f := up(10)
			f.src = netip.MustParseAddr("203.0.113.9")
			return p[gateway].each(0, p.message(gateway, 0, f.build()))
		}},
		{"the source of another client is foreign, behind one's own", fib.DropForeignSource, 1, func(t *testing.T, p *pair) []batch.Train {
			p.link(t, linkOptions{})
			f := up(10)
			f.src = inner4(client, 1)
			return p[gateway].each(0, p.message(gateway, 0, up(10).build()), p.message(gateway, 0, f.build()))
		}},
		{"congestion that the inside cannot express is a loss", fib.DropCongested, 1, func(t *testing.T, p *pair) []batch.Train {
			tr := p[gateway].each(0, p.message(gateway, 0, up(10).build()))
			tr[0].ECN = packet.ECNCongested
			return tr
		}},
		{"segments beyond what a train may have are oversized", fib.DropOversized, 3, func(t *testing.T, p *pair) []batch.Train {
			var msgs [][]byte
			for range maxSegments + 3 {
				msgs = append(msgs, p.message(gateway, 0, up(10).build()))
			}
			return []batch.Train{p[gateway].arrive(0, len(msgs[0]), msgs...)}
		}},
		{"signals beyond what the ring holds find it full", fib.DropPuntFull, 2, func(t *testing.T, p *pair) []batch.Train {
			var msgs [][]byte
			for range len(p[gateway].signals.slots) + 2 {
				msgs = append(msgs, initiation())
			}
			return p[gateway].each(0, msgs...)
		}},
		{"a signal longer than a punt may be finds no room", fib.DropPuntFull, 1, func(t *testing.T, p *pair) []batch.Train {
			return p[gateway].each(0, stun(puntBytes))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 1)
			p[gateway].receive(c.send(t, p)...)
			onlyDrop(t, p[gateway].decap.Counters(), c.want, c.n)
		})
	}
}

func onlyDrop(t *testing.T, c *Counters, want fib.Verdict, n uint64) {
	t.Helper()
	var s Snapshot
	s.Add(c)
	if s.Verdicts[want] != n || s.Dropped() != n {
		t.Errorf("%d dropped as %v of %d dropped, want %d and no other: %v", s.Verdicts[want], want, s.Dropped(), n, s.Verdicts)
	}
}

func initiation() []byte {
	m := fill(wireguard.InitiationSize, 9)
	copy(m, []byte{1, 0, 0, 0})
	return m
}

// stun is a binding request with n bytes of attributes.
func stun(n int) []byte {
	m := fill(stunHeader+n, 5)
	copy(m, []byte{0, 1, byte(n >> 8), byte(n), 0x21, 0x12, 0xA4, 0x42})
	return m
}

func TestClassifyReadsFirstBytesAndLength(t *testing.T) {
	short := stun(8)
	for name, c := range map[string]struct {
		b    []byte
		want class
	}{
		"nothing":                            {nil, classUnknown},
		"a keepalive":                        {append([]byte{4, 0, 0, 0}, make([]byte, 28)...), classData},
		"data with a reserved byte set":      {append([]byte{4, 1, 0, 0}, make([]byte, 28)...), classUnknown},
		"an initiation":                      {initiation(), classSignal},
		"an initiation of another length":    {initiation()[:147], classUnknown},
		"a response":                         {append([]byte{2, 0, 0, 0}, make([]byte, wireguard.ResponseSize-4)...), classSignal},
		"a cookie reply":                     {append([]byte{3, 0, 0, 0}, make([]byte, wireguard.CookieSize-4)...), classSignal},
		"STUN":                               {stun(8), classSignal},
		"STUN without attributes":            {stun(0), classSignal},
		"STUN with a wrong length":           {short[:len(short)-4], classUnknown},
		"STUN header cut short":              {stun(0)[:19], classUnknown},
		"the magic cookie behind other bits": {append([]byte{0x80}, stun(8)[1:]...), classUnknown},
		"a type that is not WireGuard's":     {append([]byte{5, 0, 0, 0}, make([]byte, 60)...), classUnknown},
	} {
		if got := classify(c.b); got != c.want {
			t.Errorf("%s is class %d, want %d", name, got, c.want)
		}
	}
}

// Handshakes and STUN go to control as they came, with the addresses they came between.
func TestSignalsArePuntedByCopy(t *testing.T) {
	p := newPair(t, 1)
	g := p[gateway]
	sent := [][]byte{initiation(), stun(12), stun(puntBytes - stunHeader)}
	if out := g.receive(g.each(0, sent...)...); len(out) != 0 {
		t.Errorf("%d packets for the tunnel", len(out))
	}
	if !g.decap.punts.rang {
		t.Error("nobody rings the bell")
	}
	var got Punted
	for _, want := range sent {
		if !g.signals.Pop(&got) || got.Kind != PuntOuter || !bytes.Equal(got.Payload, want) ||
			got.Remote != outer(client, 0) || got.Local != outer(gateway, 0) {
			t.Errorf("punted %+v, want %d bytes from %v", got, len(want), outer(client, 0))
		}
	}
	if g.signals.Pop(&got) || g.inner.Pop(&got) {
		t.Errorf("punted once too often: %+v", got)
	}
	onlyDrop(t, g.decap.Counters(), fib.Pass, 0)
}

// A congestion mark outside appears inside, and checksums stay right (RFC 6040, section 4.2).
func TestDecapCarriesCongestionInside(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for inner := range uint8(4) {
			for outerECN := range uint8(4) {
				p := newPair(t, 1)
				f := up(50)
				f.v6, f.tos = v6, 0xb8|inner
				tr := p[gateway].each(0, p.message(gateway, 0, f.build()))
				tr[0].ECN = outerECN
				out := p[gateway].receive(tr...)
				want := inner
				if outerECN == packet.ECNCongested {
					want = packet.ECNCongested
					if inner == packet.ECNNotAble {
						onlyDrop(t, p[gateway].decap.Counters(), fib.DropCongested, 1)
						continue
					}
				}
				if len(out) != 1 {
					t.Fatalf("outside %d, inside %d: %d packets", outerECN, inner, len(out))
				}
				if got := judge(t, flat(out[0])); got.tos != 0xb8|want {
					t.Errorf("outside %d, inside %d: type of service %02x", outerECN, inner, got.tos)
				}
			}
		}
	}
}

func TestPaddingBehindInnerPacketIsTrimmed(t *testing.T) {
	p := newPair(t, 1)
	for _, v6 := range []bool{false, true} {
		f := up(33)
		f.v6 = v6
		want := f.build()
		f.padding = 15
		out := p[gateway].receive(p[gateway].each(0, p.message(gateway, 0, f.build()))...)
		if len(out) != 1 || !bytes.Equal(flat(out[0]), want) {
			t.Errorf("IPv6 %v: %d packets, want the one of %d bytes", v6, len(out), len(want))
		}
	}
}

func TestKeepalivesReachNobodyButTheStamps(t *testing.T) {
	p := newPair(t, 1)
	g := p[gateway]
	if out := g.receive(g.each(0, p.message(gateway, 0, nil))...); len(out) != 0 {
		t.Errorf("%d packets from a keepalive", len(out))
	}
	onlyDrop(t, g.decap.Counters(), fib.Pass, 0)
	a := g.ends[0].peer.Activity()
	if received, _ := g.ends[0].peer.Traffic(); a.Received != start || a.DataReceived != 0 || received != wireguard.DataMinSize {
		t.Errorf("stamps %+v, %d bytes", a, received)
	}
}

// Messages that the network swapped inside one train come out in the order they were sealed.
func TestRunIsPutInOrder(t *testing.T) {
	p := newPair(t, 1)
	g := p[gateway]
	var msgs [][]byte
	for i := range 6 {
		f := up(100)
		f.udp, f.payload[0] = true, byte(i)
		msgs = append(msgs, p.message(gateway, 0, f.build()))
	}
	out := g.receive(g.arrive(0, len(msgs[0]), msgs[0], msgs[3], msgs[1], msgs[2], msgs[5], msgs[4]))
	var got []byte
	for _, s := range out {
		for _, b := range kernel(t, s) {
			got = append(got, judge(t, b).payload[0])
		}
	}
	if !bytes.Equal(got, []byte{0, 1, 2, 3, 4, 5}) {
		t.Errorf("order %v", got)
	}
	if n := g.decap.Counters().Figure(Inversions); n == 0 {
		t.Error("no inversion counted")
	}
}

// Segments of several clients and kinds in one train are sorted out, each counted once.
func TestMixedTrainIsSortedOut(t *testing.T) {
	p := newPair(t, 2)
	g := p[gateway]
	f0, f1 := up(104), up(104)
	f1.link = 1
	size := len(f0.build()) + 32
	same := func(b []byte) []byte { return append(b, make([]byte, size-len(b))...) }
	forged := p.message(gateway, 0, f0.build())
	forged[30]++
	out := g.receive(g.arrive(0, size,
		p.message(gateway, 0, f0.build()), p.message(gateway, 1, f1.build()), same(fill(10, 1)), forged,
		p.message(gateway, 0, f0.build()), p.message(gateway, 1, f1.build()), p.message(gateway, 0, nil)))
	if len(out) != 4 {
		t.Errorf("%d packets, want 4", len(out))
	}
	c := g.decap.Counters()
	if c.Verdict(fib.DropUnknown) != 1 || c.Verdict(fib.DropForged) != 1 || c.Figure(Segments) != 7 || c.Figure(Trains) != 1 {
		t.Errorf("unknown %d, forged %d, segments %d", c.Verdict(fib.DropUnknown), c.Verdict(fib.DropForged), c.Figure(Segments))
	}
	for i, e := range g.ends {
		want := uint64(2*size + 32*(1-i))
		if received, _ := e.peer.Traffic(); received != want {
			t.Errorf("link %d received %d bytes, want %d", i, received, want)
		}
	}
}

func TestTrainWithoutBytesOrStrideHoldsNothing(t *testing.T) {
	p := newPair(t, 1)
	g := p[gateway]
	if out := g.receive(batch.Train{Stride: 100}, batch.Train{Buf: make([]byte, 10)}); len(out) != 0 {
		t.Errorf("%d packets from nothing", len(out))
	}
	if n := g.decap.Counters().Figure(Turns); n != 0 {
		t.Errorf("%d turns", n)
	}
}

func TestCountersNameEveryVerdictAndFigure(t *testing.T) {
	names := map[string]bool{}
	for v := range fib.NumVerdicts {
		names[v.String()] = true
	}
	for f := range numFigures {
		names[f.String()] = true
	}
	if len(names) != int(fib.NumVerdicts)+int(numFigures) || names[""] {
		t.Errorf("names are not unique: %v", names)
	}
	if numFigures.String() != "Figure?" || fib.NumVerdicts.String() != "Verdict?" {
		t.Error("numbers without a meaning have a name")
	}
}

func TestReceiverIndexLeadsToTheSession(t *testing.T) {
	p := newPair(t, 3)
	for i, e := range p[gateway].ends {
		m := p.message(gateway, i, nil)
		if binary.LittleEndian.Uint32(m[4:]) != e.session.Index || p[gateway].table.Session(e.session.Index) != e.session {
			t.Errorf("link %d: index %x", i, e.session.Index)
		}
	}
}
