package control

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

const (
	initiations = wireguard.KindInitiation
	responses   = wireguard.KindResponse
	data        = wireguard.KindData
)

func TestTheFirstPacketsMakeASessionAndArriveInOrder(t *testing.T) {
	n, a, b := pair(t)
	for i := range 5 {
		a.sendTo(b.inner(), fmt.Appendf(nil, "packet %d", i))
	}
	n.run(time.Second)
	if n.sent[initiations] != 1 || n.sent[responses] != 1 || n.sent[data] != 5 {
		t.Errorf("sent %v", n.sent)
	}
	for i, got := range b.got {
		if want := fmt.Sprintf("packet %d", i); !strings.HasPrefix(string(got), want) || len(got) != 16 {
			t.Errorf("got %q, want %q, padded to 16 bytes", got, want)
		}
	}
	if len(b.got) != 5 {
		t.Fatalf("%d packets came", len(b.got))
	}
	for _, h := range []*testNode{a, b} {
		if h.machine.Size() != (Size{Peers: 1, Sessions: 1}) || h.machine.Losses() != (Losses{}) {
			t.Errorf("%+v, %+v", h.machine.Size(), h.machine.Losses())
		}
		if h.machine.Peers()[0].LastHandshake.IsZero() {
			t.Error("no handshake is shown")
		}
	}
	b.talk(t, a, "answer") // the responder's session was confirmed by the data
}

func TestThePeerThatIsNotPaddedGetsPacketsAsTheyAre(t *testing.T) {
	n, a, b := pair(t)
	a.fibPeer(b).Pad = false
	a.sendTo(b.inner(), []byte("exact"))
	n.run(time.Second)
	if len(b.got) != 1 || string(b.got[0]) != "exact" {
		t.Errorf("got %q", b.got)
	}
}

func TestPaddingStaysWithinTheMTU(t *testing.T) {
	n, a, b := pair(t)
	a.sendTo(b.inner(), make([]byte, testMTU-1))
	n.run(time.Second)
	if len(b.got) != 1 || len(b.got[0]) != testMTU {
		t.Errorf("%d packets", len(b.got))
	}
}

func TestKeptPacketsAreBoundedPerPeerAndInAll(t *testing.T) {
	n := newNetwork(t)
	a := n.add()
	const peers = keptInAll/keptPerPeer + 2
	for i := range peers {
		a.configure(DeviceChange{Peers: []PeerChange{{
			PublicKey: publicKey(byte(100 + i)), Endpoint: netip.MustParseAddrPort("198.51.100.1:1"),
			Allowed: allow(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 32)),
		}}})
	}
	for i := range peers {
		for range keptPerPeer + 3 {
			a.sendTo(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), []byte("x"))
		}
	}
	offered := uint64(peers * (keptPerPeer + 3))
	if got := a.machine.Size().Kept; got != keptInAll {
		t.Errorf("%d kept, want %d", got, keptInAll)
	}
	if l := a.machine.Losses(); l.KeptOverflow != offered-keptInAll || l.KeptExpired != 0 {
		t.Errorf("lost %+v", l)
	}
	n.run(100 * time.Second) // all attempts are given up
	if got := a.machine.Size().Kept; got != 0 {
		t.Errorf("%d kept after giving up", got)
	}
	if l := a.machine.Losses(); l.KeptOverflow+l.KeptExpired != offered {
		t.Errorf("lost %+v of %d", l, offered)
	}
}

func TestGivingUpAfterNinetySecondsLetsTheNextPacketAsk(t *testing.T) {
	n, a, b := pair(t)
	n.loss = 1
	p := a.fibPeer(b)
	if p.Want() == 0 || p.Want() != 0 {
		t.Fatal("the wish is not told once")
	}
	a.sendTo(b.inner(), []byte("lost"))
	n.run(89 * time.Second)
	if n.sent[initiations] < 15 || n.sent[initiations] > 19 || p.Want() != 0 {
		t.Errorf("%d initiations", n.sent[initiations])
	}
	n.run(10 * time.Second)
	at := n.sent[initiations]
	if l := a.machine.Losses(); l.KeptExpired != 1 {
		t.Errorf("lost %+v", l)
	}
	n.run(time.Hour)
	if n.sent[initiations] != at || p.Want() != fib.WishSession {
		t.Errorf("%d initiations, then %d", at, n.sent[initiations])
	}
	n.loss = 0
	a.talk(t, b, "again")
}

func TestRekeyWhileTrafficFlows(t *testing.T) {
	n, a, b := pair(t)
	for i := range 300 {
		before := len(b.got)
		a.sendTo(b.inner(), fmt.Appendf(nil, "%d", i))
		n.run(time.Second)
		if len(b.got) != before+1 {
			t.Fatalf("packet %d was lost", i)
		}
	}
	if n.sent[initiations] != 3 || n.sent[responses] != 3 {
		t.Errorf("sent %v, want handshakes at 0, 120 and 240 s", n.sent)
	}
	if s := a.machine.Size().Sessions; s != 2 {
		t.Errorf("%d sessions, want the newest and the one before", s)
	}
}

func TestAnEmptyMessageAnswersDataAfterTenSeconds(t *testing.T) {
	n, a, b := pair(t)
	a.talk(t, b, "one")
	before := n.sent[data]
	n.run(8 * time.Second)
	if n.sent[data] != before {
		t.Errorf("%d messages too early", n.sent[data]-before)
	}
	n.run(4 * time.Second)
	if n.sent[data] != before+1 {
		t.Errorf("%d keepalives, want 1", n.sent[data]-before)
	}
	n.run(100 * time.Second)
	if n.sent[data] != before+1 || n.sent[initiations] != 1 {
		t.Errorf("an idle pair sends %v", n.sent)
	}
}

func TestPersistentKeepalives(t *testing.T) {
	n, a, b := pair(t)
	every := 25 * time.Second
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: b.key.Public(), Keepalive: &every}}})
	n.run(100 * time.Second)
	if n.sent[initiations] != 1 || n.sent[data] < 4 || n.sent[data] > 6 {
		t.Errorf("sent %v in 100 s", n.sent)
	}
	off := time.Duration(0)
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: b.key.Public(), Keepalive: &off}}})
	before := n.sent
	n.run(100 * time.Second)
	if n.sent != before {
		t.Errorf("sent %v after it was turned off, before %v", n.sent, before)
	}
}

func TestLinkDownEndsSessionsAndUpStartsKeepalives(t *testing.T) {
	n, a, b := pair(t)
	every := 25 * time.Second
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: b.key.Public(), Keepalive: &every}}})
	a.talk(t, b, "before")
	n.run(20 * time.Second) // the other side's passive keepalive is done
	p := a.fibPeer(b)
	a.machine.HandleLink(false, testMTU, n.now)
	a.carryOut()
	if _, _, v := p.NextHop(a.nanos()); v != fib.DropNoSession || a.machine.Size().Sessions != 0 {
		t.Errorf("a session outlives the link: %v", v)
	}
	before := n.sent
	n.run(10 * time.Minute)
	if n.sent != before || a.machine.Losses().Late != 0 {
		t.Errorf("sent %v with the link down, before %v; %+v", n.sent, before, a.machine.Losses())
	}
	if _, ok := a.machine.NextTimeout(); ok {
		t.Error("timers run while the link is down")
	}
	a.machine.HandlePacket(p, []byte("x"), n.now)
	a.machine.HandleWish(p, nil, fib.WishSession, n.now)
	if a.carryOut(); n.sent != before || a.machine.Losses().Late != 1 {
		t.Errorf("sent %v, %+v", n.sent, a.machine.Losses())
	}
	a.machine.HandleLink(true, 1280, n.now)
	a.carryOut()
	n.run(time.Second)
	if n.sent[initiations] != before[initiations]+1 || a.machine.Size().Sessions != 1 || a.table.MTU() != 1280 {
		t.Errorf("sent %v after the link came up", n.sent)
	}
}

func TestRoamingFollowsData(t *testing.T) {
	n, a, b := pair(t)
	a.talk(t, b, "before")
	second := netip.MustParseAddrPort("198.51.100.7:4000")
	inner := a.inner()
	a.addrs = []netip.AddrPort{second}
	before := n.sent[initiations]
	a.sendTo(b.inner(), []byte("moved"))
	n.run(time.Second)
	if got := b.state(t, a).Endpoint; got != second {
		t.Errorf("the path leads to %v, want %v", got, second)
	}
	b.sendTo(inner, []byte("found"))
	n.run(time.Second)
	if len(a.got) != 1 || n.sent[initiations] != before {
		t.Errorf("%d packets came back, %d handshakes more", len(a.got), n.sent[initiations]-before)
	}
}

func TestTheAnswerLeavesFromTheAddressThatWasAddressed(t *testing.T) {
	n, a, b := pair(t)
	second := netip.MustParseAddrPort("198.51.100.9:51820")
	b.addrs = append(b.addrs, second)
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: b.key.Public(), Endpoint: second}}})
	a.talk(t, b, "to the second")
	if got := b.last[0].Local.Addr(); got != second.Addr() {
		t.Errorf("the answer left from %v, want %v", got, second)
	}
	if path := b.table.PeerByAddr(netip.MustParseAddr("10.0.0.1")).Path(); path.Local != second.Addr() || path.Remote != a.addrs[0] {
		t.Errorf("path %+v", path)
	}
	if got := a.state(t, b).Endpoint; got != second {
		t.Errorf("the initiator's path moved to %v", got)
	}
	n.run(time.Second)
}

func TestALostBellIsMadeUpForByTheNextLook(t *testing.T) {
	n, a, b := pair(t)
	a.sendTo(b.inner(), []byte("first"))
	n.run(15 * time.Millisecond) // the initiation is answered
	p := b.fibPeer(a)
	var s *fib.Session
	for _, c := range b.history {
		if put, ok := c.(fib.PutSession); ok {
			s = put.Session
		}
	}
	if s == nil || s.Confirmed() {
		t.Fatal("the responder has no session to be confirmed")
	}
	s.Touch(0, 1, 100, b.nanos()) // its wishes get lost
	b.machine.HandleWish(p, nil, fib.WishTimers, n.now)
	b.carryOut()
	if b.state(t, a).LastHandshake.IsZero() {
		t.Error("the confirmed session was not noticed")
	}
}

func TestAWishOfAWithdrawnSessionBringsNothingBack(t *testing.T) {
	n, a, b := pair(t)
	a.sendTo(b.inner(), []byte("first"))
	n.run(15 * time.Millisecond)
	p := b.fibPeer(a)
	var s *fib.Session
	for _, c := range b.history {
		if put, ok := c.(fib.PutSession); ok {
			s = put.Session
		}
	}
	w := s.Touch(0, 1, 100, b.nanos())
	other := testKey(99)
	b.configure(DeviceChange{PrivateKey: &other})
	b.wish(p, s, w)
	if _, _, v := p.NextHop(b.nanos()); v != fib.DropNoSession || b.table.Session(s.Index) != nil {
		t.Errorf("the session of the old key is used: %v", v)
	}
}

// Both ends start at once: each then has a session that it began and one that it answered.
func TestCrossingHandshakesLeaveTheLoopsAndTheMachineAgreed(t *testing.T) {
	n, a, b := pair(t)
	for range 5 {
		a.sendTo(b.inner(), []byte("from a"))
		b.sendTo(a.inner(), []byte("from b"))
		n.run(time.Second)
	}
	if len(a.got) != 5 || len(b.got) != 5 || n.sent[initiations] != 2 {
		t.Errorf("%d and %d packets, sent %v", len(a.got), len(b.got), n.sent)
	}
	for _, h := range []*testNode{a, b} {
		for _, p := range h.machine.peers {
			if _, s, v := p.fib.NextHop(h.nanos()); v != fib.Pass || s != h.machine.newest(p) {
				t.Errorf("the loops send under another session than the newest: %v", v)
			}
			if len(p.awaited) != 0 && p.awaited[0].Confirmed() {
				t.Error("a confirmed session was overlooked")
			}
		}
	}
}

func TestAnOlderSessionConfirmedLateDoesNotReplaceTheNewest(t *testing.T) {
	n, a, b := pair(t)
	a.sendTo(b.inner(), []byte("from a"))
	b.sendTo(a.inner(), []byte("from b"))
	n.run(25 * time.Millisecond) // both have answered, and got the answer
	p := b.machine.peers[a.key.Public()]
	if len(p.awaited) != 1 || b.machine.newest(p) == nil {
		t.Fatalf("%d sessions await confirmation", len(p.awaited))
	}
	old := p.awaited[0]
	b.wish(p.fib, old, old.Touch(0, 1, 100, b.nanos()))
	if _, s, v := p.fib.NextHop(b.nanos()); v != fib.Pass || s == old || s != b.machine.newest(p) {
		t.Errorf("%v: the older session is used", v)
	}
}
