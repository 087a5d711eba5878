package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

// awaitLook waits for what control or a worker comes to see in a moment.
func awaitLook(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !seen(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// addAddr gives loopback an address; addr without one.
func addAddr(t *testing.T, addr string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	a.Flags = unix.IFA_F_NODAD
	if err := netlink.AddrAdd(lo, a); err != nil {
		t.Fatal(err)
	}
}

// A public address that the host gets while the relay runs is the source of what leaves for peers
// from then on, in allocations that are older, too; and a channel that leads to an address of the
// host's ends.
func TestAddressesThatComeLaterAreNoticed(t *testing.T) {
	enterNetns(t)
	late := netip.MustParseAddr("198.51.100.1")
	r := start(t, func(s *Settings) { s.Server.Public4 = late })
	c, peer := newTurner(t, relayAt(loop6, r), "a"), newTurner(t, relayAt(loop4, r), "")
	c.allocate()
	c.bind(0x4000, peer.addr)
	source := func() netip.AddrPort {
		c.send(wrapped(0x4000, pattern(100, 1), 100), 104, c.server)
		return peer.recv()[0].Remote
	}
	if got := source().Addr(); got != loop4 {
		t.Fatalf("at the start the peer sees %v", got)
	}
	ours := netip.MustParseAddrPort("198.51.100.2:9")
	c.bind(0x4001, ours)
	a := r.server.Table().Port(c.relayed[0].Port())
	if r.server.Table().closed(a.Channel(0x4001)) {
		t.Fatal("closed before the address is ours")
	}
	addAddr(t, late.String()+"/32")
	addAddr(t, ours.Addr().String()+"/32")
	awaitLook(t, "the channel to ourselves is closed", func() bool { return r.server.Table().closed(a.Channel(0x4001)) })
	awaitLook(t, "the peer sees the public address", func() bool { return source() == netip.AddrPortFrom(late, c.relayed[0].Port()) })
}

// What a relayed port loses shows while the port is open.
func TestLossesShowWhileAPortIsOpen(t *testing.T) {
	enterNetns(t)
	r := start(t, nil)
	c := newTurner(t, relayAt(loop6, r), "a")
	c.allocate()
	nowhere := netip.MustParseAddrPort("198.51.100.1:9") // a network without a route
	c.bind(0x4000, nowhere)
	const lost = 7
	for range lost {
		c.send(wrapped(0x4000, pattern(100, 1), 100), 104, c.server)
	}
	failures := func() uint64 { return r.Traffic().Measures[PortSendFailures] }
	awaitLook(t, "the failures of an open port", func() bool { return failures() == lost })
	if n := r.Counters().ActiveAllocations.Load(); n != 1 {
		t.Errorf("%d allocations", n)
	}
}

// A worker with more ports than it looks at in one go gets round to each, and counts each loss once,
// those since the last look when the port is closed.
func TestALookIsBounded(t *testing.T) {
	r := newRig(t)
	const ports = 3
	var clients []end
	var allocations []*Allocation
	lose := func(client end) {
		r.send(client, batch.Train{Buf: wrapped(0x4000, pattern(100, 1), 100), Stride: 104, Remote: r.listens(client)})
		r.turn()
	}
	for range ports {
		client := r.end(false)
		a := r.allocate(client)
		bind(a, 0x4000, netip.MustParseAddrPort("198.51.100.1:9")) // a network without a route
		clients, allocations = append(clients, client), append(allocations, a)
		r.turn()
		lose(client)
	}
	seen := func() int { return int(r.w.counts.measures[PortSendFailures].Load()) }
	if seen() != 0 {
		t.Fatalf("%d failures are seen without a look", seen())
	}
	for len(r.w.slots) < firstPortTag+socketsPerLook+2*ports {
		r.w.slots = append(r.w.slots, slot{})
	}
	r.w.looked = len(r.w.slots) - 1 - socketsPerLook // just short of the end
	r.w.look()
	if seen() != 0 {
		t.Errorf("%d failures are seen beyond the bound", seen())
	}
	for range 2 {
		r.w.look()
		if seen() != ports {
			t.Errorf("%d failures are seen, want %d", seen(), ports)
		}
	}
	lose(clients[0])
	for _, a := range allocations {
		r.w.abandon(a.Handle.(*port))
	}
	if seen() != ports+1 {
		t.Errorf("%d failures are seen in the end, want %d", seen(), ports+1)
	}
}
