package control

import (
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// TestADayWithFiftyPeers: one hub, fifty others that talk now and then. Timers must neither storm
// nor keep running for who is idle.
func TestADayWithFiftyPeers(t *testing.T) {
	n := newNetwork(t)
	hub := n.add()
	const peers = 50
	var all []*testNode
	for range peers {
		p := n.add()
		p.configure(DeviceChange{Peers: []PeerChange{hub.peer()}})
		hub.configure(DeviceChange{Peers: []PeerChange{p.peer()}})
		all = append(all, p)
	}
	const visits = 24
	for range visits {
		for i, p := range all[:peers/2] { // the rest never say anything
			p.sendTo(hub.inner(), []byte("ping"))
			if i%2 == 0 {
				n.run(time.Second)
				hub.sendTo(p.inner(), []byte("pong"))
			}
		}
		n.run(time.Hour)
	}
	if got := len(hub.got); got != visits*peers/2 {
		t.Errorf("%d pings of %d", got, visits*peers/2)
	}
	// A visit is one handshake, and at most two more for a keepalive or reply that found no
	// session.
	if got := n.sent[wireguard.KindInitiation]; got < visits*peers/2 || got > 2*visits*peers/2 {
		t.Errorf("%d initiations in %d visits", got, visits*peers/2)
	}
	if got := n.sent[wireguard.KindData]; got > 4*visits*peers/2 {
		t.Errorf("%d data messages in %d visits", got, visits*peers/2)
	}
	if n.wakes > 20*visits*peers {
		t.Errorf("%d wake-ups in %d visits", n.wakes, visits*peers/2)
	}
	for i, p := range append([]*testNode{hub}, all...) {
		if at, ok := p.machine.NextTimeout(); ok {
			t.Errorf("node %d is idle and yet has a timer at %v", i, at.Sub(n.now))
		}
		if p.machine.Size().Sessions != 0 || p.machine.Size().Kept != 0 || p.machine.Losses() != (Losses{}) {
			t.Errorf("node %d: %+v, %+v", i, p.machine.Size(), p.machine.Losses())
		}
	}
}

// TestNextTimeoutIsNeverLaterThanOutput looks at the deadline after every call that can cause output.
func TestNextTimeoutIsNeverLaterThanOutput(t *testing.T) {
	n := newNetwork(t)
	a, b := n.add(), n.add()
	pending := func(what string, h *testNode) {
		t.Helper()
		if at, ok := h.machine.NextTimeout(); !ok || at.After(n.now) {
			t.Errorf("%s: next timeout %v, %v", what, at, ok)
		}
		h.carryOut()
		if at, ok := h.machine.NextTimeout(); ok && !at.After(n.now) {
			t.Errorf("%s: still due at once after everything was carried out", what)
		}
	}
	if err := a.machine.Configure(DeviceChange{Peers: []PeerChange{b.peer()}}, n.now); err != nil {
		t.Fatal(err)
	}
	pending("configure", a)
	b.configure(DeviceChange{Peers: []PeerChange{a.peer()}})
	p := a.fibPeer(b)
	a.machine.HandlePacket(p, []byte("x"), n.now)
	pending("packet", a)
	f := n.flying[0]
	b.machine.HandleDatagram(Datagram{Remote: f.from, Local: f.to, Bytes: f.b}, n.now)
	pending("datagram", b)
	n.run(time.Second)
	a.machine.HandleWish(p, nil, 0, n.now) // nothing to do: nothing pending
	// The loop has moved the path already: control only learns it, and sends nothing.
	if w := p.ArrivedFrom(netip.MustParseAddrPort("198.51.100.1:2"), netip.Addr{}); w != fib.WishRoam {
		t.Fatalf("wish %b", w)
	}
	a.machine.HandleWish(p, nil, fib.WishRoam, n.now)
	if got := a.machine.Peers()[0].Endpoint; got.String() != "198.51.100.1:2" {
		t.Errorf("endpoint %v after roaming", got)
	}
	a.machine.HandleLink(false, testMTU, n.now)
	pending("link down", a)
}
