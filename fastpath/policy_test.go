package fastpath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// The network of the policy tests: two names with proxy addresses of both families, a prefix that
// is granted as it is, and the NAT64 prefix.
var (
	proxy4     = netip.MustParseAddr("100.96.0.1")
	proxy6     = netip.MustParseAddr("fd00:2021:1111:8000::1")
	otherProxy = netip.MustParseAddr("100.96.0.2")
	server4    = netip.MustParseAddr("198.51.100.7")
	server6    = netip.MustParseAddr("2001:db8::7")
	granted4   = netip.MustParseAddr("203.0.113.9")
	router4    = netip.MustParseAddr("192.0.2.200")
	router6    = netip.MustParseAddr("2001:db8:ffff::1")
	gateway4   = netip.MustParseAddr("100.64.0.1")
	everything = [][]fib.Filter{nil}
)

// testPolicy is the client's policy in which its proxy addresses stand for real4 and real6.
func testPolicy(real4, real6 netip.Addr, change func(*fib.PolicySpec)) *fib.Policy {
	spec := fib.PolicySpec{
		Client4: inner4(client, 0), Client6: inner6(client, 0),
		Gateway4: gateway4,
		Grants: []fib.Grant{
			{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Filters: []fib.Filter{{Protocol: packet.ProtoTCP, First: 443, Last: 443}, {Protocol: packet.ProtoICMP}}},
		},
		Names: []fib.Name{
			{Proxy: proxy4, Real: real4, Lists: everything}, {Proxy: otherProxy, Real: real4, Lists: everything},
			{Proxy: proxy6, Real: real6, Lists: everything},
		},
		Prefix64: netip.MustParsePrefix("2001:db8:64::/96"),
	}
	if change != nil {
		change(&spec)
	}
	return fib.NewPolicy(spec)
}

// policed is a pair whose gateway holds the client of link 0 to a policy.
func policed(t testing.TB, policy *fib.Policy) *pair {
	p := newPair(t, 1)
	peer := p[gateway].ends[0].peer
	peer.Flows().SetBudget(fib.NewFlowBudget(1<<20, 1<<20, [16]byte{1}))
	p[gateway].table.Apply([]fib.Change{fib.SetPolicy{Peer: peer, Policy: policy}})
	return p
}

// reach carries flows of the client to the resource and returns the packets that arrive there.
func (p *pair) reach(t fataler, flows ...flow) (packets [][]byte) {
	t.Helper()
	var msgs [][]byte
	for _, f := range flows {
		msgs = append(msgs, p.message(gateway, 0, f.build()))
	}
	return p.reachRaw(t, msgs...)
}

func (p *pair) reachRaw(t fataler, msgs ...[]byte) (packets [][]byte) {
	t.Helper()
	for _, s := range p[gateway].receive(p[gateway].each(0, msgs...)...) {
		packets = append(packets, tunnelled(t, s)...)
	}
	return packets
}

// tunnelled is kernel for supers that may be in two pieces without being superpackets.
func tunnelled(t fataler, s batch.Super) [][]byte {
	t.Helper()
	if s.Offload.Kind == batch.OffloadNone {
		return [][]byte{flat(s)}
	}
	return kernel(t, s)
}

// answer carries packets from the tunnel to the client and returns what it decrypts.
func (p *pair) answer(t fataler, packets ...batch.Packet) (inner [][]byte) {
	t.Helper()
	for i := range packets {
		b := &packets[i]
		b.Room = append(make([]byte, batch.PacketRoom), b.Buf...)
		b.Buf = b.Room[batch.PacketRoom:]
	}
	keys := p[client].ends[0].session.Keys
	for _, tr := range p[gateway].transmit(packets...) {
		for i := range tr.Len() {
			m := tr.Segment(i)
			ok := [1]bool{}
			keys.Open(new(wireguard.Scratch), [][]byte{m}, []uint64{wireguard.Counter(m)}, ok[:])
			if !ok[0] {
				t.Fatalf("the client cannot open what it got")
			}
			inner = append(inner, m[wireguard.HeaderSize:len(m)-wireguard.TagSize])
		}
	}
	return inner
}

func joined(packets [][]byte, t fataler) (all []byte) {
	for _, b := range packets {
		all = append(all, judge(t, b).payload...)
	}
	return all
}

// A name of either family leads to a server of either family, by TCP and UDP, in superpackets and
// singly, there and back.
func TestNamesLeadToServersOfEitherFamily(t *testing.T) {
	for _, c := range []struct {
		name        string
		proxy, real netip.Addr
	}{
		{"4to4", proxy4, server4}, {"4to6", proxy4, server6}, {"6to6", proxy6, server6}, {"6to4", proxy6, server4},
	} {
		for _, udp := range []bool{false, true} {
			for _, n := range []int{1, 5} {
				t.Run(fmt.Sprintf("%s/udp=%v/packets=%d", c.name, udp, n), func(t *testing.T) {
					p := policed(t, testPolicy(c.real, c.real, nil))
					there := flow{v6: c.proxy.Is6(), udp: udp, dst: c.proxy, tos: 0xb8, ttl: 3}
					flows := chain(there, n, 1000)
					got := p.reach(t, flows...)
					if len(got) != n {
						t.Fatalf("%d packets arrived of %d: %v", len(got), n, droppedBy(p))
					}
					src := inner4(client, 0)
					if c.real.Is6() {
						src = inner6(client, 0)
					}
					for i, b := range got {
						s := judge(t, b)
						if s.src != src || s.dst != c.real || s.sport != 4000 || s.dport != 443 || s.tos != 0xb8 || s.udp != udp {
							t.Fatalf("packet %d arrived as %+v", i, s)
						}
						if !bytes.Equal(s.payload, flows[i].payload) {
							t.Fatalf("packet %d has another payload", i)
						}
					}
					answer := returning(c.real, src, udp, fill(n*1000, 5))
					segment := 0
					if n > 1 {
						segment = 1000
					}
					seen := p.answer(t, answer.asRead(segment))
					if len(seen) != n || !bytes.Equal(joined(seen, t), answer.payload) {
						t.Fatalf("%d packets of the answer reached the client, want %d: %v", len(seen), n, droppedBy(p))
					}
					own, _ := there.addresses()
					if s := judge(t, seen[0]); s.src != c.proxy || s.dst != own || s.sport != 443 || s.dport != 4000 || s.tos != 0x20 {
						t.Fatalf("the client sees %+v", s)
					}
				})
			}
		}
	}
}

// returning is an answer of a resource to what up flows send.
func returning(from, to netip.Addr, udp bool, payload []byte) flow {
	var sport, dport uint16 = 443, 4000
	return flow{v6: from.Is6(), udp: udp, src: from, dst: to, sport: sport - 4000, dport: dport - 443, tos: 0x20, from: gateway, payload: payload}
}

// droppedBy says what the gateway of p has dropped.
func droppedBy(p *pair) map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range []*Counters{p[gateway].decap.Counters(), p[gateway].encap.Counters()} {
		for v := fib.Pass + 1; v < fib.NumVerdicts; v++ {
			if n := c.Verdict(v); n > 0 {
				m[v.String()] += n
			}
		}
	}
	return m
}

// An echo request and its reply carry their identifier through translation in either direction.
func TestEchoIsTranslated(t *testing.T) {
	for _, c := range []struct{ proxy, real netip.Addr }{{proxy4, server4}, {proxy4, server6}, {proxy6, server4}, {proxy6, server6}} {
		p := policed(t, testPolicy(c.real, c.real, nil))
		src := inner4(client, 0)
		if c.proxy.Is6() {
			src = inner6(client, 0)
		}
		got := p.reachRaw(t, p.message(gateway, 0, echo(src, c.proxy, true, 77)))
		outside := inner4(client, 0)
		if c.real.Is6() {
			outside = inner6(client, 0)
		}
		if want := echo(outside, c.real, true, 77); len(got) != 1 || !sameButID(got[0], want) {
			t.Fatalf("%v to %v: arrived %x, want %x; %v", c.proxy, c.real, got, want, droppedBy(p))
		}
		seen := p.answer(t, batch.Packet{Buf: echo(c.real, outside, false, 77)})
		if want := echo(c.proxy, src, false, 77); len(seen) != 1 || !sameButID(seen[0], want) {
			t.Fatalf("%v to %v: the client sees %x, want %x; %v", c.proxy, c.real, seen, want, droppedBy(p))
		}
	}
}

// sameButID compares packets but for what an IPv4 header has no IPv6 counterpart for:
// identification, flags, and the header checksum over them.
func sameButID(a, b []byte) bool {
	if len(a) != len(b) || len(a) < 20 {
		return false
	}
	a, b = append([]byte(nil), a...), append([]byte(nil), b...)
	if a[0]>>4 == 4 {
		if slowSum(a[:20], 0) != 0xffff {
			return false
		}
		copy(a[4:8], b[4:8])
		copy(a[10:12], b[10:12])
	}
	return bytes.Equal(a, b)
}

// echo builds an ICMP echo packet.
func echo(src, dst netip.Addr, request bool, id uint16) []byte {
	types := map[[2]bool]byte{{false, true}: 8, {false, false}: 0, {true, true}: 128, {true, false}: 129}
	icmp := append([]byte{types[[2]bool{dst.Is6(), request}], 0, 0, 0, 0, 0, 0, 9}, fill(40, 3)...)
	binary.BigEndian.PutUint16(icmp[4:], id)
	return icmpPacket(src, dst, icmp)
}

// icmpPacket puts an IP header before an ICMP message and computes its checksum.
func icmpPacket(src, dst netip.Addr, icmp []byte) []byte {
	f := flow{v6: dst.Is6(), proto: packet.ProtoICMP, src: src, dst: dst, payload: icmp, from: gateway}
	if f.v6 {
		f.proto = packet.ProtoICMPv6
	}
	b := f.build()
	at, sum := len(b)-len(icmp), uint32(0)
	if f.v6 {
		sum = uint32(pseudo(b, at))
	}
	binary.BigEndian.PutUint16(b[at+2:], ^slowSum(b[at:], sum))
	return b
}

// What a policy refuses is counted under its reason, and offered to control once if it is to be
// answered.
func TestRefusedPacketsAreOfferedForAnAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		send flow
		want fib.Verdict
		punt bool
	}{
		{"a port that no filter has is prohibited", flow{dst: granted4, dport: 1}, fib.ReplyProhibited, true},
		{"a foreign source is prohibited", flow{src: netip.MustParseAddr("10.9.9.9"), dst: granted4}, fib.ReplyProhibited, true},
		{"another client is prohibited", flow{dst: netip.MustParseAddr("100.64.0.77")}, fib.ReplyProhibited, true},
		{"a name without an address is unreachable", flow{v6: true, dst: proxy6}, fib.ReplyUnreachable, true},
		{"a group is dropped", flow{dst: netip.MustParseAddr("224.0.0.251"), udp: true}, fib.DropMulticast, false},
		{"a fragment is dropped", flow{dst: granted4, fragment: 0x2000}, fib.DropFragment, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := policed(t, testPolicy(server4, netip.Addr{}, nil))
			c.send.payload = fill(100, 1)
			if got := p.reach(t, c.send); len(got) != 0 {
				t.Fatalf("it arrived: %x", got)
			}
			onlyDrop(t, p[gateway].decap.Counters(), c.want, 1)
			punted, got := p[gateway].refused()
			if got != c.punt {
				t.Fatalf("offered to control: %v, want %v", got, c.punt)
			}
			if c.punt && (punted.Verdict != c.want || !bytes.Equal(punted.Payload, c.send.build())) {
				t.Errorf("offered %+v", punted)
			}
		})
	}
}

// refused returns the next packet that was offered to control to be answered.
func (s *side) refused() (p Punted, ok bool) {
	for s.inner.Pop(&p) {
		if p.Kind == PuntRefused {
			return p, true
		}
	}
	return p, false
}
