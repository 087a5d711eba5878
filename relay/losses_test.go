package relay

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/stun"
)

// Datagrams too short for a ChannelData header give their sender no bandwidth back.
func TestGarbageRefundsNoBandwidth(t *testing.T) {
	r := newRig(t)
	client := r.end(false)
	a := r.allocate(client)
	a.bandwidth.set(1000, 60)
	r.turn()
	if !a.Take(50_000, r.w.clock()) {
		t.Fatal("a full bucket is empty")
	}
	before := a.bandwidth.full.Load()
	for stride := 1; stride < stun.ChannelHeader; stride++ {
		r.send(client, batch.Train{Buf: make([]byte, 60*stride), Stride: stride, Remote: r.listens(client)})
		garbage := pattern(60*stride, 1)
		for i := range garbage {
			garbage[i] = 0x40
		}
		r.send(client, batch.Train{Buf: garbage, Stride: stride, Remote: r.listens(client)})
	}
	r.turn()
	if after := a.bandwidth.full.Load(); after != before {
		t.Errorf("garbage moved the bucket by %d ns", after-before)
	}
	r.dropped(DropBandwidth, 0)
	if a.Take(-1, r.w.clock()) || a.bandwidth.full.Load() != before {
		t.Error("a negative number was taken")
	}
}

// What the kernel refuses to send to a peer was not relayed.
func TestOnlyWhatWasSentIsRelayed(t *testing.T) {
	r := newRig(t)
	client, peer, far := r.end(false), r.end(true), r.end(false)
	a, b := r.allocate(client), r.allocate(far)
	bind(a, 0x4000, peer.addr)
	bind(a, 0x4001, netip.MustParseAddrPort("198.51.100.1:9")) // a network without a route
	bind(a, 0x4002, netip.AddrPortFrom(public4, b.Port))
	bind(b, 0x4003, netip.AddrPortFrom(public4, a.Port))
	r.turn()
	train := append(append(wrapped(0x4000, pattern(300, 1), 100), wrapped(0x4001, pattern(500, 1), 100)...), wrapped(0x4002, pattern(250, 1), 100)...)
	r.send(client, batch.Train{Buf: train, Stride: 104, Remote: r.listens(client)})
	r.send(client, batch.Train{Buf: wrapped(0x4000, pattern(10, 1), 10), Stride: 14, Remote: r.listens(client)})
	r.turn()
	r.w.look()
	for m, want := range map[Measure]uint64{ToPeers: 4, ToPeersBytes: 310, ToClients: 3, ToClientsBytes: 250, PortSendFailures: 5} {
		if got := r.w.counts.measures[m].Load(); got != want {
			t.Errorf("%v is %d, want %d", m, got, want)
		}
	}
	var traffic Traffic
	if traffic.add(&r.w.counts); traffic.SizeSum != 310+500+250 {
		t.Errorf("sizes sum up to %d", traffic.SizeSum)
	}
}

// An empty datagram of a peer's, which its socket does not hand over, is counted all the same.
func TestWhatPortsCannotReadIsCounted(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(false)
	a := r.allocate(client)
	r.turn()
	if err := unix.Sendto(peer.Fd(), nil, 0, &unix.SockaddrInet4{Port: int(a.Port), Addr: loop4.As4()}); err != nil {
		t.Fatal(err)
	}
	r.turn()
	for range 2 {
		r.w.look()
		if n := r.w.counts.measures[PortUnreadable].Load(); n != 1 {
			t.Errorf("%d unreadable datagrams, want 1", n)
		}
	}
}

// broken returns a socket that fails.
func broken(t *testing.T) *udp.Socket {
	t.Helper()
	s, err := udp.OpenPort(false, 0, offloads, udp.Probe(), udp.NewScratch())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// full returns a socket whose send buffer is full, of datagrams for a neighbour that does not exist,
// and one more of them.
func full(t *testing.T) (*udp.Socket, batch.Train) {
	t.Helper()
	veth(t, "198.51.100.1/24")
	o := offloads
	o.SendBuffer = 1 << 10
	s, err := udp.OpenPort(false, 0, o, udp.Probe(), udp.NewScratch())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for i := range 1000 {
		more := batch.Train{Buf: make([]byte, 1000), Stride: 1000, Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(2 + i%200)}), 9)}
		switch n, err := s.Send([]batch.Train{more}); {
		case err != nil:
			t.Fatal(err)
		case n == 0:
			return s, more
		}
	}
	t.Fatal("the send buffer does not fill")
	return nil, batch.Train{}
}

// Answers that do not leave are counted, each of them, whoever was to send them.
func TestAnswersThatDoNotLeaveAreCounted(t *testing.T) {
	enterNetns(t)
	server := newHarness(t, nil).s
	answers := func(r *Relay, to netip.AddrPort, n int) {
		var out []Datagram
		for range n {
			out = append(out, Datagram{Bytes: make([]byte, 1000), Remote: to})
		}
		r.answer(out)
	}
	lost := func() uint64 { return server.Counters().Event(EventAnswerLost) }
	answers(&Relay{server: server, out4: broken(t)}, netip.AddrPortFrom(loop4, 9), 3)
	if lost() != 3 {
		t.Errorf("%d answers are lost at a broken socket, want 3", lost())
	}
	answers(&Relay{server: server}, netip.AddrPortFrom(loop6, 9), 2)
	if lost() != 3+2 {
		t.Errorf("%d answers are lost, want 5", lost())
	}
	s, more := full(t)
	answers(&Relay{server: server, out4: s}, more.Remote, 4)
	if lost() != 3+2+4 {
		t.Errorf("%d answers are lost, want 9", lost())
	}
}

func TestBindingAnswersThatDoNotLeaveAreCounted(t *testing.T) {
	r := newRig(t)
	request := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	ask := func(s *udp.Socket, to netip.AddrPort) {
		t := batch.Train{Buf: request.Bytes(), Stride: len(request.Bytes()), Remote: to}
		r.w.signal(&listener{exit: exit{socket: s}}, &t, t.Buf)
	}
	ask(broken(t), netip.AddrPortFrom(loop4, 9))
	r.dropped(DropSendRefused, 1)
	s, more := full(t)
	ask(s, more.Remote)
	r.dropped(DropSendFull, 1)
	if n := r.w.counts.measures[BindingsAnswered].Load(); n != 0 {
		t.Errorf("%d were answered", n)
	}
}

// A port of which the kernel lets the worker poll one socket only is not polled at all, and control
// hears of it.
func TestAPortThatCannotBePolledIsReported(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(false)
	slots := len(r.w.slots)
	a := r.allocate(client)
	p := a.Handle.(*port)
	six := p.exit6.socket
	p.exit6.socket = broken(t)
	bind(a, 0x4000, peer.addr)
	r.turn()
	if got := r.w.lost(); len(got) != 1 || got[0] != p || r.rings == 0 || len(r.w.lost()) != 0 {
		t.Errorf("lost %v, after %d rings", got, r.rings)
	}
	if p.tag4 != noTag || p.tag6 != noTag || r.w.counts.measures[PortsRefused].Load() != 1 {
		t.Errorf("tags %d and %d", p.tag4, p.tag6)
	}
	r.send(peer, batch.Train{Buf: pattern(10, 1), Stride: 10, Remote: relayed(a, peer)})
	r.turn()
	if got := r.take(client); len(got) != 0 {
		t.Error("the port is polled")
	}
	p.exit6.socket = six
	r.w.abandon(p)
	r.allocate(client)
	r.turn()
	if len(r.w.slots) != slots+2 {
		t.Errorf("%d slots for two sockets", len(r.w.slots)-slots)
	}
}

// The client of a port that is given up hears of it with its next request, and may have another.
func TestAnAllocationWhosePortIsLostEnds(t *testing.T) {
	enterNetns(t)
	r := start(t, func(s *Settings) { s.Server.LowestPort, s.Server.HighestPort = 50000, 50000 })
	c := newTurner(t, relayAt(loop4, r), "a")
	c.allocate()
	p := r.server.Table().Port(50000).Handle.(*port)
	p.worker.orders.mu.Lock()
	p.worker.orders.lost = append(p.worker.orders.lost, p, p)
	p.worker.orders.refused.Store(true)
	p.worker.orders.mu.Unlock()
	r.ring()
	awaitLook(t, "the allocation ends", func() bool { return r.Counters().ActiveAllocations.Load() == 0 })
	if m := c.ask(stun.Refresh, func(*stun.Builder) {}); m.Code != 437 {
		t.Errorf("refresh: %d", m.Code)
	}
	c.allocate()
	if n := r.Counters().Event(EventLost); n != 1 {
		t.Errorf("%d allocations are lost", n)
	}
}
