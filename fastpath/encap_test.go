package fastpath

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// down is an inner packet from the gateway to the client of link 0.
func down(n int) flow { return flow{from: gateway, payload: fill(n, 7)} }

// Every packet from the tunnel that is not sent is counted once, under the verdict that says why.
func TestEncapDrops(t *testing.T) {
	for _, c := range []struct {
		name string
		want fib.Verdict
		n    uint64
		send func(t *testing.T, p *pair) []batch.Packet
	}{
		{"bytes that are no IP packet are malformed", fib.DropMalformed, 1, func(*testing.T, *pair) []batch.Packet {
			return []batch.Packet{{Buf: fill(60, 1)}}
		}},
		{"an empty packet is malformed", fib.DropMalformed, 1, func(*testing.T, *pair) []batch.Packet {
			return []batch.Packet{{}}
		}},
		{"a destination of nobody is not a client", fib.DropNotAClient, 2, func(*testing.T, *pair) []batch.Packet {
			f := down(10)
			f.dst = netip.MustParseAddr("203.0.113.1")
			return []batch.Packet{f.asRead(0), f.asRead(0)}
		}},
		{"a peer without an address has no path", fib.DropNoPath, 1, func(_ *testing.T, p *pair) []batch.Packet {
			p[gateway].table.Apply([]fib.Change{fib.SetPath{Peer: p[gateway].ends[0].peer}})
			return []batch.Packet{down(10).asRead(0)}
		}},
		{"a superpacket of a peer without a session is not kept", fib.DropNoSession, 1, func(_ *testing.T, p *pair) []batch.Packet {
			p[gateway].table.Apply([]fib.Change{fib.DelSession{Session: p[gateway].ends[0].session}})
			return []batch.Packet{down(300).asRead(100)}
		}},
		{"a session is not sent under beyond its time", fib.DropNoSession, 1, func(t *testing.T, p *pair) []batch.Packet {
			p.link(t, linkOptions{life: func(l *fib.Lifetime) { l.SendUntil = start }})
			f := down(300)
			f.link = 1
			return []batch.Packet{f.asRead(100)}
		}},
		{"packets of a peer without a session beyond the ring are lost", fib.DropNoSession, 3, func(_ *testing.T, p *pair) (out []batch.Packet) {
			p[gateway].table.Apply([]fib.Change{fib.DelSession{Session: p[gateway].ends[0].session}})
			for range len(p[gateway].inner.slots) + 3 {
				out = append(out, down(10).asRead(0))
			}
			return out
		}},
		{"UDP that claims to be TCP segments is a bad offload", fib.DropBadOffload, 1, func(*testing.T, *pair) []batch.Packet {
			f := down(300)
			f.udp = true
			b := f.asRead(100)
			b.Offload.Kind = batch.OffloadTCP4
			return []batch.Packet{b}
		}},
		{"segments of no bytes are a bad offload", fib.DropBadOffload, 1, func(*testing.T, *pair) []batch.Packet {
			b := down(300).asRead(100)
			b.Offload.SegmentSize = 0
			return []batch.Packet{b}
		}},
		{"a checksum behind the packet is a bad offload", fib.DropBadOffload, 1, func(*testing.T, *pair) []batch.Packet {
			b := down(10).asRead(0)
			b.Offload = batch.Offload{NeedsCsum: true, CsumStart: 4000, CsumOffset: 16}
			return []batch.Packet{b}
		}},
		{"a session whose counters are used up sends nothing", fib.DropKeyExhausted, 3, func(_ *testing.T, p *pair) []batch.Packet {
			exhaust(p[gateway].ends[0].session.Keys)
			return []batch.Packet{down(300).asRead(100)}
		}},
		{"a packet that fits no datagram is oversized", fib.DropOversized, 1, func(*testing.T, *pair) []batch.Packet {
			return []batch.Packet{down(maxTrainBytes - 40 - 31).asRead(0)}
		}},
		{"segments that fit no datagram are oversized", fib.DropOversized, 1, func(*testing.T, *pair) []batch.Packet {
			return []batch.Packet{down(65490).asRead(65480)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 1)
			g := p[gateway]
			if sent := g.transmit(c.send(t, p)...); len(sent) != 0 {
				t.Errorf("%d trains sent", len(sent))
			}
			onlyDrop(t, g.encap.Counters(), c.want, c.n)
		})
	}
}

// exhaust takes all counters of a key in its largest steps.
func exhaust(k *wireguard.Keypair) {
	for range 3 {
		k.Take(1 << 62)
	}
	k.Take(1<<62 - 1<<14)
}

func TestEmptyPoolDropsAndTrafficResumes(t *testing.T) {
	p := newPair(t, 1)
	g := p[gateway]
	other := g.pool.NewCache(testSlabs)
	var held []bufpool.Slab
	for s, ok := other.Take(); ok; s, ok = other.Take() {
		held = append(held, s)
	}
	if sent := g.transmit(down(1000).asRead(100)); len(sent) != 0 {
		t.Errorf("%d trains without a slab", len(sent))
	}
	onlyDrop(t, g.encap.Counters(), fib.DropNoBuffer, 10)
	for _, s := range held {
		other.Give(s)
	}
	other.Flush()
	if sent := g.transmit(down(1000).asRead(100)); len(sent) != 1 || sent[0].Len() != 10 {
		t.Errorf("%d trains after the pool was refilled", len(sent))
	}
}

// trainShapes are the segments of each train.
func trainShapes(trains []batch.Train) (n []int) {
	for _, tr := range trains {
		n = append(n, tr.Len())
	}
	return n
}

// How packets from the tunnel make trains. Messages are 32 bytes longer than packets.
func TestTrains(t *testing.T) {
	small, large := down(60), down(160)
	marked := down(60)
	marked.tos = 1
	other := down(60)
	other.link = 1
	for _, c := range []struct {
		name string
		in   []batch.Packet
		want []int
	}{
		{"a superpacket is one train", []batch.Packet{down(1000).asRead(100)}, []int{10}},
		{"a shorter last segment stays in the train", []batch.Packet{down(1050).asRead(100)}, []int{11}},
		{"single packets of one size join", []batch.Packet{small.asRead(0), small.asRead(0), small.asRead(0)}, []int{3}},
		{"a shorter packet joins and closes the train", []batch.Packet{large.asRead(0), large.asRead(0), small.asRead(0), small.asRead(0)}, []int{3, 1}},
		{"a longer packet starts another train", []batch.Packet{small.asRead(0), large.asRead(0)}, []int{1, 1}},
		{"nothing follows a shorter last segment", []batch.Packet{down(150).asRead(100), down(100).asRead(0)}, []int{2, 1}},
		{"another ECN starts another train", []batch.Packet{small.asRead(0), marked.asRead(0), marked.asRead(0)}, []int{1, 2}},
		{"another path has another train, and the first goes on", []batch.Packet{small.asRead(0), other.asRead(0), small.asRead(0), other.asRead(0)}, []int{2, 2}},
		{"a train ends at the kernel's number of segments", []batch.Packet{down(100 * 100).asRead(100)}, []int{63, 37}},
		{"a train ends at the longest datagram", []batch.Packet{down(60 * 1060).asRead(1060)}, []int{57, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 2)
			sent := p[gateway].transmit(c.in...)
			if got := trainShapes(sent); !equal(got, c.want) {
				t.Errorf("trains of %v segments, want %v", got, c.want)
			}
			checkTrains(t, p[gateway], sent)
			onlyDrop(t, p[gateway].encap.Counters(), fib.Pass, 0)
			if out := p[client].receive(sent...); len(out) == 0 {
				t.Error("nothing arrives")
			}
			onlyDrop(t, p[client].decap.Counters(), fib.Pass, 0)
		})
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// checkTrains checks what the kernel and the counters promise of trains.
func checkTrains(t fataler, s *side, trains []batch.Train) {
	t.Helper()
	for _, tr := range trains {
		if tr.Len() < 1 || tr.Len() > testSegments || len(tr.Buf) > maxTrainBytes || !tr.Remote.IsValid() {
			t.Fatalf("train of %d segments, %d bytes, to %v", tr.Len(), len(tr.Buf), tr.Remote)
		}
		for i := range tr.Len() {
			if wireguard.Kind(tr.Segment(i)) != wireguard.KindData {
				t.Fatalf("segment %d is no data message", i)
			}
		}
	}
}

// More paths than trains: what is built is sent, and nothing is lost or reordered.
func TestTrainsAreFlushedWhenFull(t *testing.T) {
	const links = sendTrains + 8
	p := newPair(t, links)
	g := p[gateway]
	var in []batch.Packet
	for i := range links {
		f := down(100)
		f.link = i
		in = append(in, f.asRead(0))
	}
	g.read.Packets = append(g.read.Packets[:0], in...)
	g.encap.Batch(g.read, start)
	if g.out.calls != 2 {
		t.Errorf("%d send calls, want 2", g.out.calls)
	}
	sent := g.out.take()
	if len(sent) != links {
		t.Fatalf("%d trains, want %d", len(sent), links)
	}
	for i, tr := range sent {
		if tr.Remote != outer(client, i) || tr.Local != (netip.AddrPort{}) && tr.Local.Addr().IsValid() {
			t.Errorf("train %d goes from %v to %v", i, tr.Local, tr.Remote)
		}
	}
	c := g.encap.Counters()
	if c.Figure(Trains) != links || c.Figure(Segments) != links || c.Figure(Supers) != links {
		t.Errorf("counted %d trains, %d segments", c.Figure(Trains), c.Figure(Segments))
	}
}

// A superpacket of more segments than all trains of one call hold goes out in several calls.
func TestSuperpacketLargerThanAllTrains(t *testing.T) {
	p := newPair(t, 1)
	g := p[gateway]
	const segments = sendTrains*testSegments + 100
	f := down(segments * 20)
	g.read.Packets = append(g.read.Packets[:0], f.asRead(20))
	g.encap.Batch(g.read, start)
	if g.out.calls != 2 {
		t.Errorf("%d send calls, want 2", g.out.calls)
	}
	var got []byte
	for _, tr := range g.out.take() {
		for _, s := range p[client].receive(tr) {
			for _, b := range kernel(t, s) {
				got = append(got, judge(t, b).payload...)
			}
		}
	}
	if !bytes.Equal(got, f.payload) {
		t.Errorf("%d bytes arrive, want %d as sent", len(got), len(f.payload))
	}
}

// Messages to plain WireGuard are padded to 16 bytes within the MTU, others are not at all.
func TestPadding(t *testing.T) {
	for _, c := range []struct{ packet, padded int }{
		{40, 48}, {48, 48}, {49, 64}, {testMTU - 8, testMTU}, {testMTU, testMTU}, {testMTU + 9, testMTU + 9},
	} {
		for _, pad := range []bool{false, true} {
			p := &pair{newSide(t, client, Offloads{}), newSide(t, gateway, Offloads{})}
			p.link(t, linkOptions{pad: pad})
			f := down(c.packet - 40)
			sent := p[gateway].transmit(f.asRead(0))
			want := c.packet
			if pad {
				want = c.padded
			}
			if len(sent) != 1 || len(sent[0].Buf) != want+32 {
				t.Fatalf("packet of %d bytes, padding %v: %+v", c.packet, pad, trainShapes(sent))
			}
			if out := p[client].receive(sent...); len(out) != 1 || !bytes.Equal(flat(out[0]), f.build()) {
				t.Errorf("packet of %d bytes, padding %v, arrives otherwise", c.packet, pad)
			}
		}
	}
}

// The ECN bits of the inner header stand in the outer one (RFC 6040, normal mode).
func TestEncapCopiesECNOutside(t *testing.T) {
	p := newPair(t, 1)
	for _, v6 := range []bool{false, true} {
		for ecn := range uint8(4) {
			f := down(50)
			f.v6, f.tos = v6, 0xb8|ecn
			if sent := p[gateway].transmit(f.asRead(0)); len(sent) != 1 || sent[0].ECN != ecn {
				t.Errorf("IPv6 %v, inside %d: sent %+v", v6, ecn, sent)
			}
		}
	}
}

// An unfinished checksum is finished on the way, also in a packet that is kept for a session.
func TestUnfinishedChecksumIsFinished(t *testing.T) {
	for _, kept := range []bool{false, true} {
		p := newPair(t, 1)
		g := p[gateway]
		f := down(50)
		in := f.asRead(100)
		in.Offload.Kind, in.Offload.SegmentSize = batch.OffloadNone, 0
		var got []byte
		if kept {
			g.table.Apply([]fib.Change{fib.DelSession{Session: g.ends[0].session}})
			g.transmit(in)
			var punt Punted
			if !g.inner.Pop(&punt) || punt.Kind != PuntInner || punt.Peer != g.ends[0].peer || punt.Wish != fib.WishSession {
				t.Fatalf("punted %+v", punt)
			}
			got = punt.Payload
		} else {
			got = flat(p[client].receive(g.transmit(in)...)[0])
		}
		if !bytes.Equal(got, f.build()) || judge(t, got).flags != packet.FlagACK {
			t.Errorf("kept %v: %x", kept, got)
		}
	}
}
