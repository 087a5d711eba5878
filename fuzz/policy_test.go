package fuzz

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fastpath"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// The clients' world: names of either family that stand for servers of either, a prefix granted as
// it is, and the NAT64 prefix.
var (
	polProxies = []netip.Addr{
		netip.MustParseAddr("100.96.0.1"), netip.MustParseAddr("100.96.0.2"),
		netip.MustParseAddr("fd00:2021:1111:8000::1"), netip.MustParseAddr("fd00:2021:1111:8000::2"),
	}
	polReals = []netip.Addr{
		netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7"),
		netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("198.51.100.7"),
	}
	polGranted = netip.MustParsePrefix("203.0.113.0/24")
)

// polPolicy is what the client may do; the switches are the input's.
func polPolicy(switches byte) *fib.Policy {
	spec := fib.PolicySpec{
		Client4: fpInside[0], Client6: fpInside6[0],
		Gateway4: netip.MustParseAddr("100.64.0.99"),
		Grants:   []fib.Grant{{Prefix: polGranted}, {Prefix: netip.MustParsePrefix("2001:db8:1::/48"), Filters: []fib.Filter{{Protocol: packet.ProtoTCP, First: 1, Last: 1024}}}},
		Internet: switches&1 != 0, Stateless: switches&2 != 0, Fragments: switches&4 != 0,
	}
	if switches&8 == 0 {
		spec.Prefix64 = netip.MustParsePrefix("2001:db8:64::/96")
	}
	if switches&16 != 0 {
		spec.Client4 = netip.Addr{}
	} else if switches&32 != 0 {
		spec.Client6 = netip.Addr{}
	}
	for i, p := range polProxies {
		spec.Names = append(spec.Names, fib.Name{Proxy: p, Real: polReals[i], Lists: [][]fib.Filter{nil}})
	}
	return fib.NewPolicy(spec)
}

// polGateway is a gateway with one client.
type polGateway struct {
	*fpEnds
	client *wireguard.Keypair
	table  *fib.Table
	peer   *fib.Peer
	inner  *fastpath.Punts
	last   map[*fastpath.Counters]uint64 // drops, by loop
}

func newPolGateway(t testing.TB) *polGateway {
	e := newFPEnds(t)
	w := newWGPair(t, false)
	w.devices[1].HandleMessage(w.initiation, wgFrom, wgStart)
	answer := w.settle(t, 1, wgStart)
	w.devices[0].HandleMessage(answer.Datagrams[0].Bytes, wgFrom, wgStart)
	client := w.settle(t, 0, wgStart).NewSessions[0].Keypair
	table := fib.NewTable(1280)
	table.TakeConnectionID(func() uint32 { return 2 })
	g := &polGateway{fpEnds: e, client: client, table: table, peer: fib.NewPeer(1, fib.RoamNever, 2), inner: fastpath.NewPunts(16), last: map[*fastpath.Counters]uint64{}}
	g.peer.Flows().SetBudget(fib.NewFlowBudget(1<<16, 1<<16, [16]byte{1}))
	s := fib.NewSession(g.peer, answer.NewSessions[0].Keypair, true, fib.Lifetime{
		RejectAt: fib.Never, SendUntil: fib.Never, RekeyOnSendAt: fib.Never, RekeyOnReceiveAt: fib.Never,
	})
	routes := fib.NewRoutes().With(netip.PrefixFrom(fpInside[0], 32), g.peer).With(netip.PrefixFrom(fpInside6[0], 128), g.peer)
	table.Apply([]fib.Change{fib.PutSession{Session: s}, fib.SetCurrent{Session: s}, fib.SetRoutes{Routes: routes},
		fib.SetPath{Peer: g.peer, Path: &fib.Path{Remote: wgFrom}}})
	e.keys = client
	e.encap = fastpath.NewEncap(table, 0, 63, e.cache, g.inner, e)
	e.decap = fastpath.NewDecap(table, 0, 64, e.signals, g.inner, fastpath.Offloads{TSO: true, USO: true})
	return g
}

// dropped returns how many packets a loop has dropped since the last call for it.
func (g *polGateway) dropped(c *fastpath.Counters) uint64 {
	var s fastpath.Snapshot
	s.Add(c)
	n := s.Dropped() - g.last[c]
	g.last[c] = s.Dropped()
	return n
}

// toClient carries a packet from the tunnel, and returns what the client decrypts.
func (g *polGateway) toClient(t *testing.T, b []byte) (inner [][]byte) {
	room := append(make([]byte, batch.PacketRoom), b...)
	g.sent = g.sent[:0]
	g.read.Packets = append(g.read.Packets[:0], batch.Packet{Buf: room[batch.PacketRoom:], Room: room})
	g.encap.Batch(g.read, fpNow)
	for _, tr := range g.sent {
		for i := range tr.Len() {
			m, ok := tr.Segment(i), [1]bool{}
			g.client.Open(new(wireguard.Scratch), [][]byte{m}, []uint64{wireguard.Counter(m)}, ok[:])
			if !ok[0] {
				t.Fatal("the client cannot open what it got")
			}
			inner = append(inner, m[wireguard.HeaderSize:len(m)-wireguard.TagSize])
		}
	}
	return inner
}

// wellFormed reports whether b is an IP packet of its full length with right checksums; a packet
// that came with wrong ones may go with them.
func wellFormed(b []byte) (whole, sums bool) {
	var info packet.Info
	if !packet.Parse(b, &info) || info.Len != len(b) {
		return false, false
	}
	if info.Fragment {
		return true, packet.VerifyHeader(b, &info)
	}
	return true, packet.VerifyHeader(b, &info) && packet.VerifyTransport(b, &info)
}

// polShared serves all inputs of a process.
var polShared *polGateway

// FuzzPolicy: arbitrary bytes from a client through filter, NAT and translation, and arbitrary bytes
// back, under all kinds of policy. Nothing panics, what comes out is a well-formed packet, with right
// checksums if it came with such, only the client's own addresses appear outside and only what it
// may see inside; and every packet is either carried or counted as dropped.
func FuzzPolicy(f *testing.F) {
	add := func(a, b []byte) {
		for switches := range byte(48) {
			f.Add(a, b, switches)
		}
	}
	for _, s := range polSeeds() {
		add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, up, down []byte, switches byte) {
		if len(up) > 1400 || len(down) > 60000 {
			return
		}
		if polShared == nil {
			polShared = newPolGateway(t)
		}
		g := polShared
		defer g.close(t)
		g.peer.Flows().Reset(0)
		g.table.Apply([]fib.Change{fib.SetPolicy{Peer: g.peer, Policy: polPolicy(switches)}})
		for g.inner.Pop(new(fastpath.Punted)) {
		}
		_, right := wellFormed(up)
		g.dropped(g.decap.Counters())
		m := g.seal(up)
		out := g.receive(t, batch.Train{Buf: m, Stride: len(m), Remote: wgFrom})
		if dropped := g.dropped(g.decap.Counters()); (dropped == 0) == (len(out) == 0) && len(up) > 0 {
			t.Fatalf("of one packet %d went out and %d were dropped", len(out), dropped)
		}
		for _, b := range out {
			checkOut(t, b, right, switches&8 == 0)
		}
		_, right = wellFormed(down)
		g.dropped(g.encap.Counters())
		in := g.toClient(t, down)
		if dropped := g.dropped(g.encap.Counters()); (dropped == 0) == (len(in) == 0) {
			t.Fatalf("of one packet %d came in and %d were dropped", len(in), dropped)
		}
		for _, b := range in {
			checkIn(t, b, right)
		}
		// What a resource would answer, as far as turning addresses around is an answer.
		for _, b := range out {
			answer := turned(b)
			_, right := wellFormed(answer)
			for _, b := range g.toClient(t, answer) {
				checkIn(t, b, right)
			}
		}
	})
}

func checkOut(t *testing.T, b []byte, right, translates bool) {
	t.Helper()
	whole, sums := wellFormed(b)
	if !whole || right && !sums {
		t.Fatalf("to a resource: well-formed %v, checksums %v: %x", whole, sums, b)
	}
	var info packet.Info
	packet.Parse(b, &info)
	if info.Src != fpInside[0] && info.Src != fpInside6[0] {
		t.Fatalf("source %v left the gateway", info.Src)
	}
	if translates && info.Version == 6 && netip.MustParsePrefix("2001:db8:64::/96").Contains(info.Dst) {
		t.Fatalf("destination %v was not translated", info.Dst)
	}
}

func checkIn(t *testing.T, b []byte, right bool) {
	t.Helper()
	whole, sums := wellFormed(b)
	if !whole || right && !sums {
		t.Fatalf("to the client: well-formed %v, checksums %v: %x", whole, sums, b)
	}
	if len(b) > 1280 && !right {
		return // as long as it came: the tunnel's queue is what bounds it
	}
	var info packet.Info
	packet.Parse(b, &info)
	if info.Dst != fpInside[0] && info.Dst != fpInside6[0] {
		t.Fatalf("destination %v went to the client", info.Dst)
	}
}

// turned exchanges a packet's addresses and ports, which leaves its checksums right.
func turned(b []byte) []byte {
	b = bytes.Clone(b)
	var info packet.Info
	packet.Parse(b, &info)
	swap := func(a, c []byte) {
		for i := range a {
			a[i], c[i] = c[i], a[i]
		}
	}
	if info.Version == 4 {
		swap(b[12:16], b[16:20])
	} else {
		swap(b[8:24], b[24:40])
	}
	if info.Proto == packet.ProtoTCP || info.Proto == packet.ProtoUDP {
		if len(b) >= info.L4+4 && !(info.Fragment && !info.FirstFragment) {
			swap(b[info.L4:info.L4+2], b[info.L4+2:info.L4+4])
		}
	}
	return b
}

// polSeeds are pairs of a packet from the client and one from a resource, over every kind of
// translation.
func polSeeds() (pairs [][2][]byte) {
	for i, proxy := range polProxies {
		own, outside := fpInside[0], fpInside[0]
		if proxy.Is6() {
			own = fpInside6[0]
		}
		if polReals[i].Is6() {
			outside = fpInside6[0]
		}
		for _, proto := range []byte{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP} {
			there := polSeed(own, proxy, proto, 100, 1)
			back := polSeed(polReals[i], outside, proto, 100, 2)
			pairs = append(pairs, [2][]byte{there, back})
		}
		pairs = append(pairs, [2][]byte{
			polSeed(own, proxy, packet.ProtoUDP, 100, 1),
			polError(polReals[i], outside, polSeed(outside, polReals[i], packet.ProtoUDP, 100, 1)),
		})
	}
	embedded := netip.MustParseAddr("2001:db8:64::203.0.113.9")
	return append(pairs, [2][]byte{
		polSeed(fpInside6[0], embedded, packet.ProtoTCP, 1220, 1),
		polSeed(netip.MustParseAddr("203.0.113.9"), fpInside[0], packet.ProtoTCP, 1240, 2),
	})
}

// polSeed builds a packet with right checksums; way 1 is a request, 2 the answer to it.
func polSeed(src, dst netip.Addr, proto byte, n, way int) []byte {
	l4 := make([]byte, 20, 20+n)
	at := 16
	ports := [2]uint16{4000, 443}
	if way == 2 {
		ports = [2]uint16{443, 4000}
	}
	binary.BigEndian.PutUint16(l4, ports[0])
	binary.BigEndian.PutUint16(l4[2:], ports[1])
	l4[12], l4[13] = 5<<4, packet.FlagACK
	switch proto {
	case packet.ProtoUDP:
		at, l4 = 6, l4[:8]
		binary.BigEndian.PutUint16(l4[4:], uint16(8+n))
	case packet.ProtoICMP:
		at, l4 = 2, append(l4[:0], 8, 0, 0, 0, 15, 160, 0, 1)
		if way == 2 {
			l4[0] = 0
		}
		if src.Is6() {
			proto, l4[0] = packet.ProtoICMPv6, byte(127+way)
		}
	}
	return polPacket(src, dst, proto, append(l4, make([]byte, n)...), at)
}

// polError builds a port unreachable about a packet.
func polError(src, dst netip.Addr, about []byte) []byte {
	if src.Is6() {
		return polPacket(src, dst, packet.ProtoICMPv6, append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, about...), 2)
	}
	return polPacket(src, dst, packet.ProtoICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, about...), 2)
}

// polPacket puts an IP header in front of l4 and its checksum at sumAt of it.
func polPacket(src, dst netip.Addr, proto byte, l4 []byte, sumAt int) []byte {
	b := make([]byte, 20)
	pseudo := uint64(len(l4)) + uint64(proto)
	if src.Is4() {
		b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(l4)))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^packet.Fold(packet.Sum(b, 0)))
		pseudo = packet.Sum(b[12:20], pseudo)
		if proto == packet.ProtoICMP {
			pseudo = 0
		}
	} else {
		b = make([]byte, 40)
		b[0], b[6], b[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(l4)))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		pseudo = packet.Sum(b[8:40], pseudo)
	}
	binary.BigEndian.PutUint16(l4[sumAt:], ^packet.Fold(packet.Sum(l4, pseudo)))
	return append(b, l4...)
}
