package fastpath

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// A batch of a client with a policy allocates nothing in either direction, whatever is in it: flows
// that exist, of every kind of translation, errors about them, and what is refused.
func TestPolicyAllocatesNothing(t *testing.T) {
	p := policed(t, testPolicy(server6, server4, func(s *fib.PolicySpec) {
		s.Grants = append(s.Grants, fib.Grant{Prefix: netip.MustParsePrefix("198.18.0.0/15")})
	}))
	g := p[gateway]
	var ups []flow
	for _, dst := range []netip.Addr{proxy4, proxy6, granted4, netip.MustParseAddr("2001:db8:64::203.0.113.9"), netip.MustParseAddr("192.0.2.1")} {
		for _, udp := range []bool{false, true} {
			ups = append(ups, chain(flow{v6: dst.Is6(), udp: udp, dst: dst}, 3, 1000)...)
		}
	}
	var inner [][]byte
	for _, f := range ups {
		inner = append(inner, f.build())
	}
	inner = append(inner, echo(inner4(client, 0), proxy4, true, 7), echo(inner6(client, 0), proxy6, true, 7))
	out := p.reach(t, ups...)
	var downs []batch.Packet
	for _, f := range []flow{
		returning(server6, inner6(client, 0), false, fill(3000, 1)), returning(server4, inner4(client, 0), false, fill(3000, 1)),
		returning(server6, inner6(client, 0), true, fill(3000, 1)), returning(server4, inner4(client, 0), true, fill(3000, 1)),
		returning(netip.MustParseAddr("203.0.113.9"), inner4(client, 0), false, fill(3000, 1)),
		returning(netip.MustParseAddr("9.9.9.9"), inner4(client, 0), false, fill(3000, 1)),
	} {
		downs = append(downs, f.asRead(1000))
	}
	for _, b := range out {
		kind, source, to := byte(1), router6, inner6(client, 0)
		if b[0]>>4 == 4 {
			kind, source, to = 3, router4, inner4(client, 0)
		}
		downs = append(downs, batch.Packet{Buf: icmpError(source, to, kind, 0, 0, b[:min(len(b), 200)])})
	}
	downs = downs[:min(len(downs), manySupers)]

	keys := p[client].ends[0].session.Keys
	var scratch = newSealer(keys, inner)
	e := NewEncap(g.table, 0, testSegments, g.cache, g.inner, nowhere{})
	g.encap.Release()
	g.encap = e // released by the harness
	rooms := make([][]byte, len(downs))
	for i := range downs {
		rooms[i] = make([]byte, batch.PacketRoom+len(downs[i].Buf))
	}
	g.in.Trains = g.in.Trains[:0]
	trains := make([]batch.Train, len(inner))
	n := testing.AllocsPerRun(50, func() {
		scratch.seal()
		g.in.Trains = g.in.Trains[:0]
		for i, m := range scratch.msgs {
			trains[i] = batch.Train{Buf: m, Stride: len(m), Remote: outer(client, 0), Local: outer(gateway, 0)}
		}
		g.in.Trains = append(g.in.Trains, trains...)
		g.decap.Batch(g.in, start)
		g.read.Packets = g.read.Packets[:0]
		for i := range downs {
			b := downs[i]
			copy(rooms[i][batch.PacketRoom:], b.Buf)
			b.Room, b.Buf = rooms[i], rooms[i][batch.PacketRoom:]
			g.read.Packets = append(g.read.Packets, b)
		}
		e.Batch(g.read, start)
		for g.inner.Pop(&scratch.punted) {
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
	if c := g.decap.Counters(); c.Verdict(fib.ReplyProhibited) == 0 || c.Figure(Supers) == 0 {
		t.Error("the batch did not do what it is here for")
	}
	if lost := droppedBy(p); lost["DropUntranslatable"]+lost["DropReplay"]+lost["DropForged"]+lost["DropExpiredFlow"] != 0 {
		t.Errorf("lost: %v", lost)
	}
	g.in.Reset()
	g.read.Reset()
}

// sealer seals the same inner packets again and again, without allocating.
type sealer struct {
	keys    *wireguard.Keypair
	inner   [][]byte
	msgs    [][]byte
	scratch wireguard.Scratch
	punted  Punted
}

func newSealer(keys *wireguard.Keypair, inner [][]byte) *sealer {
	s := &sealer{keys: keys, inner: inner}
	for _, ip := range inner {
		s.msgs = append(s.msgs, make([]byte, wireguard.HeaderSize+len(ip)+wireguard.TagSize))
	}
	return s
}

func (s *sealer) seal() {
	for i, ip := range s.inner {
		copy(s.msgs[i][wireguard.HeaderSize:], ip)
	}
	first, _ := s.keys.Take(len(s.msgs))
	s.keys.Seal(&s.scratch, s.msgs, first)
}
