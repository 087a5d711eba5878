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

// icmpError builds an ICMP error of the given type, code and second word about a packet.
func icmpError(src, dst netip.Addr, kind, code byte, rest uint32, about []byte) []byte {
	icmp := []byte{kind, code, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(icmp[4:], rest)
	return icmpPacket(src, dst, append(icmp, about...))
}

// An ICMP error about a packet that left by the client's NAT reaches the client as an error about
// the packet that the client has sent, of the client's family, from the proxy address.
func TestErrorsFindTheirWayBack(t *testing.T) {
	type kind struct{ typ, code byte }
	for _, c := range []struct {
		name        string
		proxy, real netip.Addr
		router      netip.Addr
		sent        kind
		rest        uint32
		want        kind
		wantRest    uint32
	}{
		{"port unreachable, IPv4", proxy4, server4, server4, kind{3, 3}, 0, kind{3, 3}, 0},
		{"port unreachable, IPv6", proxy6, server6, server6, kind{1, 4}, 0, kind{1, 4}, 0},
		{"port unreachable, IPv6 to IPv4", proxy4, server6, server6, kind{1, 4}, 0, kind{3, 3}, 0},
		{"port unreachable, IPv4 to IPv6", proxy6, server4, server4, kind{3, 3}, 0, kind{1, 4}, 0},
		{"time exceeded by a router, IPv4 to IPv6", proxy6, server4, router4, kind{11, 0}, 0, kind{3, 0}, 0},
		{"time exceeded by a router, IPv6 to IPv4", proxy4, server6, router6, kind{3, 0}, 0, kind{11, 0}, 0},
		{"too big, IPv6 to IPv4", proxy4, server6, router6, kind{2, 0}, 1280, kind{3, 4}, 1260},
		{"fragmentation needed, IPv4 to IPv6", proxy6, server4, router4, kind{3, 4}, 1270, kind{2, 0}, 1280},
		{"fragmentation needed, by the gateway's kernel", proxy4, server4, gateway4, kind{3, 4}, 1270, kind{3, 4}, 1270},
		{"fragmentation needed, by the gateway's kernel, IPv4 to IPv6", proxy6, server4, gateway4, kind{3, 4}, 1270, kind{2, 0}, 1280},
		{"fragmentation needed, IPv4", proxy4, server4, router4, kind{3, 4}, 1200, kind{3, 4}, 1200},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := policed(t, testPolicy(c.real, c.real, nil))
			up := flow{v6: c.proxy.Is6(), udp: true, dst: c.proxy, payload: fill(500, 1)}
			original := up.build()
			out := p.reach(t, up)
			if len(out) != 1 {
				t.Fatalf("%d packets went out: %v", len(out), droppedBy(p))
			}
			left := judge(t, out[0])
			quote := out[0][:min(len(out[0]), 200)]
			seen := p.answer(t, batch.Packet{Buf: icmpError(c.router, left.src, c.sent.typ, c.sent.code, c.rest, quote)})
			if len(seen) != 1 {
				t.Fatalf("%d errors reached the client: %v", len(seen), droppedBy(p))
			}
			src, _ := up.addresses()
			checkError(t, seen[0], c.proxy, src, c.want.typ, c.want.code, c.wantRest, original)
		})
	}
}

// checkError fails unless b is a right ICMP error about original.
func checkError(t *testing.T, b []byte, src, dst netip.Addr, typ, code byte, rest uint32, original []byte) {
	t.Helper()
	var info, quoted packet.Info
	if !packet.Parse(b, &info) || info.Len != len(b) || !packet.VerifyHeader(b, &info) || !packet.VerifyTransport(b, &info) {
		t.Fatalf("not a well-formed packet: %x", b)
	}
	icmp := b[info.L4:]
	if info.Src != src || info.Dst != dst || icmp[0] != typ || icmp[1] != code || binary.BigEndian.Uint32(icmp[4:]) != rest {
		t.Fatalf("%v → %v type %d code %d rest %d, want %v → %v, %d, %d, %d", info.Src, info.Dst, icmp[0], icmp[1],
			binary.BigEndian.Uint32(icmp[4:]), src, dst, typ, code, rest)
	}
	if !packet.ParseQuote(b, &info, &quoted) {
		t.Fatalf("the quote cannot be read: %x", b)
	}
	quote := packet.Quote(b, &info)
	quote = quote[:min(len(quote), len(original))]
	if original[0]>>4 == 4 {
		quote, original = bytes.Clone(quote), bytes.Clone(original)
		if slowSum(quote[:20], 0) != 0xffff {
			t.Errorf("header checksum of the quote is wrong")
		}
		for _, q := range [][]byte{quote, original} { // what IPv6 has no place for
			clear(q[4:8])
			clear(q[10:12])
		}
	}
	if len(quote) < 28 || !bytes.Equal(quote, original[:len(quote)]) {
		t.Errorf("quoted\n%x, the client sent\n%x", quote, original[:len(quote)])
	}
}

// An error that quotes nothing of the client's is an ordinary packet: it passes to the client as
// it is, since any error may concern traffic that is not translated.
func TestForeignErrorsPassUntouched(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, nil))
	about := flow{udp: true, src: inner4(client, 0), dst: granted4, payload: fill(30, 1)}.build()
	b := icmpError(router4, inner4(client, 0), 11, 0, 0, about)
	if seen := p.answer(t, batch.Packet{Buf: bytes.Clone(b)}); len(seen) != 1 || !bytes.Equal(seen[0], b) {
		t.Errorf("the client sees %x, want %x; %v", seen, b, droppedBy(p))
	}
}

// A packet that fits no more when its header is translated is refused with a reason to tell its
// sender; segments of a superpacket are cut shorter instead.
func TestOutgrownByTranslation(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, nil))
	p.reach(t, flow{v6: true, udp: true, dst: proxy6, payload: fill(10, 1)}, flow{v6: true, dst: proxy6, payload: fill(10, 1)})
	own := inner4(client, 0)

	big := returning(server4, own, true, fill(testMTU-28-19, 1)) // one byte too many
	if seen := p.answer(t, big.asRead(0)); len(seen) != 0 {
		t.Fatalf("%d bytes reached a client with an MTU of %d", len(seen[0]), testMTU)
	}
	onlyDrop(t, p[gateway].encap.Counters(), fib.ReplyTooBig, 1)
	punted, ok := p[gateway].refused()
	if !ok || punted.Verdict != fib.ReplyTooBig || !bytes.Equal(punted.Payload, big.build()) {
		t.Fatalf("offered to control: %v %+v", ok, punted)
	}
	fits := returning(server4, own, true, fill(testMTU-28-20, 1))
	if seen := p.answer(t, fits.asRead(0)); len(seen) != 1 || len(seen[0]) != testMTU {
		t.Fatalf("%d packets: %v", len(seen), droppedBy(p))
	}
	super := returning(server4, own, false, fill(5000, 1))
	seen := p.answer(t, super.asRead(1240))
	if !bytes.Equal(joined(seen, t), super.payload) || len(seen[0]) > testMTU {
		t.Fatalf("%d packets of %d bytes", len(seen), len(seen[0]))
	}
	datagrams := returning(server4, own, true, fill(5000, 1))
	if seen := p.answer(t, datagrams.asRead(1250)); len(seen) != 0 {
		t.Fatalf("%d bytes reached a client with an MTU of %d", len(seen[0]), testMTU)
	}
	if punted, ok = p[gateway].refused(); !ok || len(punted.Payload) != 1278 {
		t.Errorf("offered to control: %v, %d bytes", ok, len(punted.Payload))
	}
	judge(t, punted.Payload)
}

// The segment size that TCP ends tell each other leaves room for translated headers.
func TestTranslatedConnectionsAgreeOnSegmentsThatFit(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, nil))
	mss := []byte{2, 4, 1440 >> 8, 1440 & 0xff}
	got := p.reach(t, flow{v6: true, dst: proxy6, flags: packet.FlagSYN, options: mss})
	if len(got) != 1 || binary.BigEndian.Uint16(got[0][42:]) != testMTU-60 {
		t.Fatalf("the server sees %x", got)
	}
	judge(t, got[0])
	f := returning(server4, inner4(client, 0), false, nil)
	f.flags, f.options = packet.FlagSYN|packet.FlagACK, mss
	seen := p.answer(t, f.asRead(0))
	if len(seen) != 1 || binary.BigEndian.Uint16(seen[0][62:]) != testMTU-60 {
		t.Fatalf("the client sees %x; %v", seen, droppedBy(p))
	}
	judge(t, seen[0])
}

// By the NAT64 prefix a client reaches IPv4 addresses, with state and without; the policy holds for
// the embedded address.
func TestNAT64Prefix(t *testing.T) {
	embed := func(a string) netip.Addr { return netip.MustParseAddr("2001:db8:64::" + a) }
	for _, stateless := range []bool{false, true} {
		p := policed(t, testPolicy(server4, server4, func(s *fib.PolicySpec) { s.Stateless = stateless }))
		up := flow{v6: true, dst: embed("203.0.113.9"), payload: fill(100, 1)}
		got := p.reach(t, up)
		if len(got) != 1 {
			t.Fatalf("stateless %v: %v", stateless, droppedBy(p))
		}
		if s := judge(t, got[0]); s.src != inner4(client, 0) || s.dst != granted4 || s.sport != 4000 {
			t.Fatalf("stateless %v: the resource sees %+v", stateless, s)
		}
		seen := p.answer(t, returning(granted4, inner4(client, 0), false, fill(100, 2)).asRead(0))
		if len(seen) != 1 {
			t.Fatalf("stateless %v: %v", stateless, droppedBy(p))
		}
		if s := judge(t, seen[0]); s.src != up.dst || s.dst != inner6(client, 0) || s.dport != 4000 {
			t.Fatalf("stateless %v: the client sees %+v", stateless, s)
		}
		// A router's error is from the router, by the same prefix.
		seen = p.answer(t, batch.Packet{Buf: icmpError(router4, inner4(client, 0), 11, 0, 0, got[0])})
		if len(seen) != 1 {
			t.Fatalf("stateless %v: %v", stateless, droppedBy(p))
		}
		checkError(t, seen[0], embed("192.0.2.200"), inner6(client, 0), 3, 0, 0, up.build())
		if got := p.reach(t, flow{v6: true, dst: embed("169.254.169.254"), payload: fill(9, 1)}); len(got) != 0 {
			t.Error("a link-local address was reached by its other spelling")
		}
	}
}

// Answers that come when the NAT has forgotten the flow are late, and known as such.
func TestLateAnswersAreDropped(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, nil))
	p.reach(t, flow{udp: true, dst: proxy4, payload: fill(9, 1)})
	flows := p[gateway].ends[0].peer.Flows()
	for removed, more := 0, true; more; {
		removed, more = flows.Expire(start+61e9, 100)
		if removed == 0 && more {
			t.Fatal("expiry makes no progress")
		}
	}
	if seen := p.answer(t, returning(server4, inner4(client, 0), true, fill(9, 1)).asRead(0)); len(seen) != 0 {
		t.Error("a late answer reached the client")
	}
	onlyDrop(t, p[gateway].encap.Counters(), fib.DropExpiredFlow, 1)
}
