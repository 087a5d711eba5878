package control

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/dns"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// clientPolicy grants h the prefix 203.0.113.0/24, TCP port 443, and a name that stands for
// 198.51.100.7.
func clientPolicy(t failer, h *testNode) ClientPolicy {
	pattern, err := dns.NewPattern("*.example.com")
	if err != nil {
		t.Fatalf("%v", err)
	}
	return ClientPolicy{
		PublicKey: h.key.Public(),
		Addr4:     h.inner(),
		Resources: []Resource{
			{ID: "net", Kind: KindCIDR, Prefix: netip.MustParsePrefix("203.0.113.0/24"), Filters: []fib.Filter{{Protocol: packet.ProtoTCP, First: 443, Last: 443}}},
			{ID: "name", Kind: KindDNS, Pattern: pattern},
		},
		Names: []Assignment{{
			Resource: "name", Domain: "a.example.com",
			Proxies: []netip.Addr{netip.MustParseAddr("100.96.0.1")}, Resolved: []netip.Addr{netip.MustParseAddr("198.51.100.7")},
		}},
	}
}

// testBase has the nodes' addresses in its tunnel range.
var testBase = PolicyBase{TunnelRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}

func (h *testNode) hold(clients ...ClientPolicy) {
	h.net.t.Helper()
	set := &PolicySet{Base: testBase, Clients: clients}
	if err := set.Check(h.net.now); err != nil {
		h.net.t.Fatalf("policies: %v", err)
	}
	if err := h.machine.HandlePolicies(set, h.net.now); err != nil {
		h.net.t.Fatalf("policies: %v", err)
	}
	h.carryOut()
}

// tcp builds a TCP packet's headers.
func tcp(src, dst netip.Addr, port uint16) []byte {
	b := make([]byte, 40)
	b[0], b[3], b[8], b[9] = 0x45, 40, 64, packet.ProtoTCP
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	b[20], b[22], b[23], b[32] = 0x40, byte(port>>8), byte(port), 5<<4
	return b
}

func admit(p *fib.Peer, b []byte) fib.Verdict {
	var info packet.Info
	packet.Parse(b, &info)
	_, v := p.Policy().Admit(&info)
	return v
}

func TestPeersAreHeldToTheirPolicies(t *testing.T) {
	n, client, gw := pair(t)
	stranger := n.add()
	gw.configure(DeviceChange{Peers: []PeerChange{stranger.peer()}})
	peer := gw.fibPeer(client)
	if peer.Policy() != nil {
		t.Fatal("a policy before there were any")
	}
	gw.hold(clientPolicy(t, client))
	allowed := tcp(client.inner(), netip.MustParseAddr("203.0.113.5"), 443)
	if v := admit(peer, allowed); v != fib.Pass {
		t.Errorf("what the policy grants: %v", v)
	}
	if v := admit(peer, tcp(client.inner(), netip.MustParseAddr("203.0.113.5"), 80)); v != fib.ReplyProhibited {
		t.Errorf("another port: %v", v)
	}
	if v := admit(gw.fibPeer(stranger), tcp(stranger.inner(), netip.MustParseAddr("203.0.113.5"), 443)); v != fib.ReplyProhibited {
		t.Errorf("a peer that no policy mentions: %v", v)
	}
	// A peer that comes later is held to its policy from its first packet on.
	late := n.add()
	p := clientPolicy(t, late)
	gw.hold(clientPolicy(t, client), p)
	gw.configure(DeviceChange{Peers: []PeerChange{late.peer()}})
	if v := admit(gw.fibPeer(late), tcp(late.inner(), netip.MustParseAddr("203.0.113.5"), 443)); v != fib.Pass {
		t.Errorf("a peer that came later: %v", v)
	}
}

func TestPoliciesThatAreWrongAreRefused(t *testing.T) {
	n, client, _ := pair(t)
	other := clientPolicy(t, n.add())
	other.Addr4 = client.inner()
	twice, outside, gone := clientPolicy(t, client), clientPolicy(t, client), clientPolicy(t, client)
	outside.Addr4 = netip.MustParseAddr("192.0.2.1")
	gone.Names[0].Resource = "net"
	for _, set := range []PolicySet{
		{Base: testBase, Clients: []ClientPolicy{twice, twice}},
		{Base: testBase, Clients: []ClientPolicy{twice, other}},
		{Base: testBase, Clients: []ClientPolicy{outside}},
		{Base: testBase, Clients: []ClientPolicy{gone}},
		{Base: PolicyBase{Stateless: true}},
	} {
		if err := set.Check(n.now); !errors.Is(err, ErrConfig) {
			t.Errorf("accepted, or another error: %v", err)
		}
	}
}

func TestGrantsEndByTheSecond(t *testing.T) {
	n, client, gw := pair(t)
	p := clientPolicy(t, client)
	p.Resources[0].Expires = n.now.Add(10 * time.Second)
	gw.hold(p)
	allowed := tcp(client.inner(), netip.MustParseAddr("203.0.113.5"), 443)
	n.run(9900 * time.Millisecond)
	if v := admit(gw.fibPeer(client), allowed); v != fib.Pass {
		t.Fatalf("before its end: %v", v)
	}
	n.run(1100 * time.Millisecond)
	if v := admit(gw.fibPeer(client), allowed); v != fib.ReplyProhibited {
		t.Errorf("a second after its end: %v", v)
	}
}

func TestFlowsEndWithoutTraffic(t *testing.T) {
	n, client, gw := pair(t)
	gw.hold(clientPolicy(t, client))
	flows := gw.fibPeer(client).Flows()
	proxy, real := netip.MustParseAddr("100.96.0.1"), netip.MustParseAddr("198.51.100.7")
	if _, _, v := flows.Outgoing(packet.ProtoUDP, 4000, proxy, real, 0, gw.nanos()); v != fib.Pass {
		t.Fatal(v)
	}
	n.run(58 * time.Second)
	if flows.Len() != 1 {
		t.Fatal("ended before its time")
	}
	n.run(4 * time.Second)
	if s := gw.machine.FlowStats(); flows.Len() != 0 || s.Expired != 1 || s.Remembered != 1 {
		t.Errorf("%d flows left, %+v", flows.Len(), s)
	}
	gw.configure(DeviceChange{Peers: []PeerChange{{PublicKey: client.key.Public(), Remove: true}}})
	if s := gw.machine.FlowStats(); s.Expired != 1 || s.Remembered != 0 {
		t.Errorf("with the peer gone: %+v", s)
	}
}

func TestFlowsEndWhenAProxyAddressGetsAnotherName(t *testing.T) {
	_, client, gw := pair(t)
	gw.hold(clientPolicy(t, client))
	flows := gw.fibPeer(client).Flows()
	begin := func() {
		flows.Outgoing(packet.ProtoUDP, 4000, netip.MustParseAddr("100.96.0.1"), netip.MustParseAddr("198.51.100.7"), 0, gw.nanos())
	}
	begin()
	changed := clientPolicy(t, client)
	changed.Resources[0].Filters = nil
	gw.hold(changed)
	if flows.Len() != 1 {
		t.Error("a change of filters ended flows")
	}
	renamed := clientPolicy(t, client)
	renamed.Names[0].Domain = "b.example.com"
	gw.hold(renamed)
	if flows.Len() != 0 {
		t.Error("flows to another name live on")
	}
}

// A proxy address that is taken away in one file and given to another name in the next leads to that
// name only.
func TestFlowsEndWhenAProxyAddressIsTakenAway(t *testing.T) {
	_, client, gw := pair(t)
	gw.hold(clientPolicy(t, client))
	flows := gw.fibPeer(client).Flows()
	begin := func() {
		flows.Outgoing(packet.ProtoUDP, 4000, netip.MustParseAddr("100.96.0.1"), netip.MustParseAddr("198.51.100.7"), 0, gw.nanos())
	}
	begin()
	gone := clientPolicy(t, client)
	gone.Names = nil
	gw.hold(gone)
	if flows.Len() != 0 {
		t.Error("flows live on when their name is taken away")
	}
	gw.hold(clientPolicy(t, client))
	begin()
	gw.hold() // the client is not mentioned at all
	if flows.Len() != 0 {
		t.Error("flows live on when their client is no longer mentioned")
	}
}

// Flows end over several turns of the driver, so that other work is not kept waiting.
func TestManyFlowsEndInSmallSteps(t *testing.T) {
	n, client, gw := pair(t)
	gw.hold(clientPolicy(t, client))
	flows := gw.fibPeer(client).Flows()
	for port := range uint16(11 * fib.ExpireStep) {
		flows.Outgoing(packet.ProtoUDP, 1+port, netip.MustParseAddr("100.96.0.1"), netip.MustParseAddr("198.51.100.7"), 0, gw.nanos())
	}
	n.now = n.now.Add(2 * time.Minute)
	gw.machine.HandleTimeout(n.now)
	gw.carryOut()
	for turn := range 10 {
		at, ok := gw.machine.NextTimeout()
		if !ok || at.After(n.now.Add(fib.ExpirePause)) {
			t.Fatalf("turn %d: nothing is due with %d flows left", turn, flows.Len())
		}
		n.now = at
		before := flows.Len()
		gw.machine.HandleTimeout(n.now)
		gw.carryOut()
		if ended := before - flows.Len(); ended > fib.ExpireStep {
			t.Fatalf("%d flows ended in one turn", ended)
		}
	}
	if flows.Len() != 0 {
		t.Errorf("%d flows left", flows.Len())
	}
}

// A refused packet that was too long for the way to control is answered all the same.
func TestRefusedPacketsAreAnsweredByTheirFirstBytes(t *testing.T) {
	b := tcp(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.5"), 80)
	b = append(b, make([]byte, 2000)...)
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	if answer, ok := makeAnswer(fib.ReplyProhibited, b[:1536], testMTU); !ok || answer[20] != 3 || answer[21] != 13 {
		t.Errorf("%v %x", ok, answer)
	}
}

func TestRefusedPacketsAreAnswered(t *testing.T) {
	_, client, gw := pair(t)
	gw.hold(clientPolicy(t, client))
	client.talk(t, gw, "hello") // makes a session
	gw.talk(t, client, "hello")
	peer, src, dst := gw.fibPeer(client), client.inner(), netip.MustParseAddr("203.0.113.5")
	for _, c := range []struct {
		verdict fib.Verdict
		code    byte
	}{{fib.ReplyProhibited, 13}, {fib.ReplyUnreachable, 0}} {
		client.got = nil
		gw.machine.HandleRefused(peer, c.verdict, tcp(src, dst, 80), gw.net.now)
		gw.carryOut()
		gw.net.run(time.Second)
		if len(client.got) != 1 {
			t.Fatalf("%v: %d answers", c.verdict, len(client.got))
		}
		var info, quoted packet.Info
		if b := client.got[0]; !packet.Parse(b, &info) || info.Src != dst || info.Dst != src || b[20] != 3 || b[21] != c.code || info.HopLimit != 20 ||
			!packet.ParseQuote(b, &info, &quoted) || quoted.DstPort != 80 {
			t.Errorf("%v: the client got %x", c.verdict, b)
		}
	}
	// What is too big for the client is told to the resource, through the tunnel.
	gw.machine.HandleRefused(peer, fib.ReplyTooBig, tcp(dst, src, 80), gw.net.now)
	gw.machine.Drain(&gw.out)
	if p := gw.out.Packets; len(p) != 1 || p[0][20] != 3 || p[0][21] != 4 || int(p[0][26])<<8|int(p[0][27]) != testMTU-20 || [4]byte(p[0][16:]) != dst.As4() {
		t.Errorf("to the resource: %x", p)
	}
	// Errors are not answered.
	before := gw.machine.Losses().Unanswerable
	b := tcp(src, dst, 80)
	b[9], b[20] = packet.ProtoICMP, 3
	gw.machine.HandleRefused(peer, fib.ReplyProhibited, b, gw.net.now)
	if gw.machine.Losses().Unanswerable != before+1 {
		t.Error("an error was answered")
	}
}
