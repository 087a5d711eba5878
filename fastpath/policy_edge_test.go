package fastpath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// While addresses move from one client to another, two may show the same source: each is held to its
// own policy all the same.
func TestPacketsOfTwoPeersAreNotJoined(t *testing.T) {
	p := newPair(t, 2)
	g := p[gateway]
	for i, prefix := range []string{"203.0.113.0/24", "192.0.2.0/24"} {
		policy := fib.NewPolicy(fib.PolicySpec{Client4: inner4(client, 0), Grants: []fib.Grant{{Prefix: netip.MustParsePrefix(prefix)}}})
		g.table.Apply([]fib.Change{fib.SetPolicy{Peer: g.ends[i].peer, Policy: policy}})
	}
	flows := chain(flow{dst: granted4}, 2, 1000)
	trains := append(g.each(0, p.message(gateway, 0, flows[0].build())), g.each(1, p.message(gateway, 1, flows[1].build()))...)
	passed := 0
	for _, s := range g.receive(trains...) {
		passed += len(tunnelled(t, s))
	}
	if passed != 1 {
		t.Errorf("%d packets passed, one peer may go there", passed)
	}
}

// Without state, answers to a client's IPv4 address are answers to translated packets. So IPv4 of its own
// is refused at once, to clients with both families; a client of IPv4 alone is not concerned.
func TestStatelessTranslationOwnsTheIPv4Address(t *testing.T) {
	stateless := func(s *fib.PolicySpec) { s.Stateless = true }
	p := policed(t, testPolicy(server4, server4, stateless))
	if got := p.reach(t, flow{dst: granted4, payload: fill(10, 1)}); len(got) != 0 {
		t.Error("IPv4 passed whose answers would not find back")
	}
	onlyDrop(t, p[gateway].decap.Counters(), fib.ReplyUnreachable, 1)
	if got := p.reach(t, flow{udp: true, dst: proxy4, payload: fill(10, 1)}); len(got) != 1 {
		t.Errorf("a name was not reached: %v", droppedBy(p))
	}

	p = policed(t, testPolicy(server4, server4, func(s *fib.PolicySpec) { s.Stateless, s.Client6 = true, netip.Addr{} }))
	if got := p.reach(t, flow{dst: granted4, payload: fill(10, 1)}); len(got) != 1 {
		t.Fatalf("a client without IPv6: %v", droppedBy(p))
	}
	seen := p.answer(t, returning(granted4, inner4(client, 0), false, fill(10, 1)).asRead(0))
	if len(seen) != 1 || judge(t, seen[0]).src != granted4 {
		t.Errorf("a client without IPv6 got %x: %v", seen, droppedBy(p))
	}
}

// A worker that still sees the old policy when flows are reset for a new one begins none of the old
// kind any more.
func TestNoFlowOutlivesTheNamesItWasBegunFor(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, nil))
	peer, table := p[gateway].ends[0].peer, p[gateway].table
	up := flow{udp: true, dst: proxy4, payload: fill(10, 1)}
	p.reach(t, up)
	table.Apply([]fib.Change{fib.ResetFlows{Peer: peer, Epoch: 1}})
	if got := p.reach(t, up); len(got) != 0 {
		t.Error("a flow began under the policy of another epoch")
	}
	onlyDrop(t, p[gateway].decap.Counters(), fib.DropExpiredFlow, 1)
	other := netip.MustParseAddr("198.51.100.99")
	table.Apply([]fib.Change{fib.SetPolicy{Peer: peer, Policy: testPolicy(other, server4, func(s *fib.PolicySpec) { s.Epoch = 1 })}})
	if got := p.reach(t, up); len(got) != 1 || judge(t, got[0]).dst != other {
		t.Errorf("under the new policy: %x", got)
	}
}

// Redirects and source quench do not pass the NAT: they are no news of a packet, and what they name
// means nothing to the client.
func TestOnlyErrorsThatReportALossPassTheNAT(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, nil))
	out := p.reach(t, flow{udp: true, dst: proxy4, payload: fill(50, 1)})
	for kind, want := range map[byte]int{4: 0, 5: 0, 11: 1, 12: 1} {
		seen := p.answer(t, batch.Packet{Buf: icmpError(router4, judge(t, out[0]).src, kind, 1, 0, bytes.Clone(out[0]))})
		if len(seen) != want {
			t.Errorf("type %d: %d errors reached the client", kind, len(seen))
		}
	}
}

// Packets translated to IPv4 that may be fragmented have identifications that do not repeat soon.
func TestIdentificationsCountUp(t *testing.T) {
	p := policed(t, testPolicy(server6, server6, nil))
	p.reach(t, flow{udp: true, dst: proxy4, payload: fill(10, 1)})
	ids := map[uint16]bool{}
	for i := range 200 {
		for _, b := range p.answer(t, returning(server6, inner6(client, 0), true, fill(1023, uint32(i))).asRead(0)) {
			ids[binary.BigEndian.Uint16(b[4:])] = true
		}
	}
	if len(ids) != 200 {
		t.Errorf("%d identifications in 200 packets", len(ids))
	}
}

// A client that takes fragments gets what outgrows the tunnel by translation in fragments, if its
// sender permits, and fragments are translated with room for their header.
func TestPacketsThatMayBeFragmentedAreCut(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, func(s *fib.PolicySpec) { s.Fragments = true }))
	p.reach(t, flow{v6: true, udp: true, dst: proxy6, payload: fill(10, 1)})
	f := returning(server4, inner4(client, 0), true, fill(testMTU-28, 1))
	f.mayFragment, f.id = true, 0x1234
	seen := p.answer(t, f.asRead(0))
	if len(seen) != 2 {
		t.Fatalf("%d packets: %v", len(seen), droppedBy(p))
	}
	var whole []byte
	for i, b := range seen {
		var info packet.Info
		if !packet.Parse(b, &info) || !info.Fragment || info.FirstFragment != (i == 0) || len(b) > testMTU || binary.BigEndian.Uint32(b[44:]) != 0x1234 {
			t.Fatalf("fragment %d: %+v, %x", i, info, b[:48])
		}
		whole = append(whole, b[48:]...)
	}
	b := bytes.Clone(seen[0][:40])
	binary.BigEndian.PutUint16(b[4:], uint16(len(whole)))
	b[6] = packet.ProtoUDP
	if s := judge(t, append(b, whole...)); s.src != proxy6 || !bytes.Equal(s.payload, f.payload) {
		t.Errorf("together they are from %v", s.src)
	}
	// Where the sender forbids it, it is told instead.
	f.mayFragment = false
	if seen := p.answer(t, f.asRead(0)); len(seen) != 0 {
		t.Errorf("%d packets", len(seen))
	}
	onlyDrop(t, p[gateway].encap.Counters(), fib.ReplyTooBig, 1)
}

func TestFragmentsLeaveRoomForTheirHeader(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, func(s *fib.PolicySpec) { s.Stateless, s.Fragments = true, true }))
	for n, want := range map[int]int{testMTU - 20: 0, testMTU - 28: 1} {
		f := flow{proto: packet.ProtoUDP, src: server4, dst: inner4(client, 0), from: gateway, fragment: 10, payload: fill(n-20, 1)}
		f.src = granted4
		if seen := p.answer(t, f.asRead(0)); len(seen) != 0 && len(seen[0]) > testMTU || want == 0 && len(seen) == 1 {
			t.Errorf("a fragment of %d bytes became %d", n, len(seen[0]))
		}
	}
}
