package relay

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

func TestTrainsStayTrainsBothWaysInAllFamilies(t *testing.T) {
	r := newRig(t)
	for _, client6 := range []bool{false, true} {
		for _, peer6 := range []bool{false, true} {
			name := fmt.Sprintf("client6=%v peer6=%v", client6, peer6)
			client, peer := r.end(client6), r.end(peer6)
			a := r.allocate(client)
			bind(a, 0x4001, peer.addr)
			r.turn()
			payload := pattern(19*1280+700, 3)
			onWire := wrapped(0x4001, payload, 1280)
			r.send(client, batch.Train{Buf: onWire, Stride: 1284, Remote: r.listens(client), ECN: 1})
			r.turn()
			got := r.take(peer)
			if len(got) != 1 || got[0].Len() != 20 || got[0].Stride != 1280 || !bytes.Equal(got[0].Buf, payload) {
				t.Fatalf("%s: the peer got %d trains", name, len(got))
			}
			if got[0].ECN != 1 || got[0].Remote.Port() != a.Port {
				t.Errorf("%s: ECN %d from %v", name, got[0].ECN, got[0].Remote)
			}
			r.send(peer, batch.Train{Buf: payload, Stride: 1280, Remote: relayed(a, peer), ECN: 2})
			r.turn()
			got = r.take(client)
			if len(got) != 1 || got[0].Len() != 20 || got[0].Stride != 1284 || !bytes.Equal(got[0].Buf, onWire) {
				t.Fatalf("%s: the client got %d trains", name, len(got))
			}
			if got[0].ECN != 2 || got[0].Remote != r.listens(client) {
				t.Errorf("%s: ECN %d from %v", name, got[0].ECN, got[0].Remote)
			}
		}
	}
}

func TestSingleDatagramsOfOneFlowLeaveAsATrain(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(true)
	a := r.allocate(client)
	bind(a, 0x4000, peer.addr)
	r.turn()
	payload := pattern(10*300, 5)
	for i := range 10 {
		one := wrapped(0x4000, payload[i*300:][:300], 300)
		r.send(client, batch.Train{Buf: one, Stride: len(one), Remote: r.listens(client)})
	}
	r.turn()
	if got := r.take(peer); len(got) != 1 || got[0].Len() != 10 || !bytes.Equal(got[0].Buf, payload) {
		t.Errorf("the peer got %d trains", len(got))
	}
	for i := range 10 {
		one := payload[i*300:][:300]
		r.send(peer, batch.Train{Buf: one, Stride: len(one), Remote: relayed(a, peer)})
	}
	r.turn()
	if got := r.take(client); len(got) != 1 || !bytes.Equal(got[0].Buf, wrapped(0x4000, payload, 300)) {
		t.Errorf("the client got %d trains", len(got))
	}
}

// A train that mixes channels, lengths, padding, STUN and nonsense is taken apart; each piece goes
// where it belongs, in order.
func TestAMixedTrainIsTakenApart(t *testing.T) {
	r := newRig(t)
	client, peer, other := r.end(false), r.end(false), r.end(true)
	a := r.allocate(client)
	bind(a, 0x4000, peer.addr)
	bind(a, 0x4fff, other.addr)
	r.turn()
	padded := func(number uint16, n, seed int) []byte { // to 104 bytes
		return append(wrapped(number, pattern(n, seed), n), make([]byte, 100-n)...)
	}
	request := append([]byte{0, 3, 0, 84, 0x21, 0x12, 0xa4, 0x42}, pattern(96, 9)...)
	train := bytes.Join([][]byte{
		padded(0x4000, 98, 1), padded(0x4000, 98, 2), padded(0x4fff, 98, 3), padded(0x4000, 97, 4),
		padded(0x4000, 98, 5), request, padded(0x4001, 98, 6), // 0x4001 is not bound
		append([]byte{0x80}, pattern(103, 7)...),            // RTP
		append([]byte{0x40, 0, 0, 101}, pattern(100, 8)...), // longer than it is
		append([]byte{0x50, 0, 0, 10}, pattern(100, 8)...),  // no channel
		{0x40, 0, 0, 0},
	}, nil)
	r.send(client, batch.Train{Buf: train, Stride: 104, Remote: r.listens(client)})
	r.turn()
	var got []byte
	for _, g := range r.take(peer) {
		got = append(got, g.Buf...)
	}
	want := bytes.Join([][]byte{pattern(98, 1), pattern(98, 2), pattern(97, 4), pattern(98, 5)}, nil)
	if !bytes.Equal(got, want) {
		t.Errorf("the peer got %d bytes, want %d", len(got), len(want))
	}
	if got := r.take(other); len(got) != 1 || !bytes.Equal(got[0].Buf, pattern(98, 3)) {
		t.Errorf("the other peer got %d trains", len(got))
	}
	r.dropped(DropUnboundChannel, 1)
	r.dropped(DropUnknown, 2)
	r.dropped(DropMalformed, 1)
	from, message, ok := r.w.punts.front()
	if !ok || !bytes.Equal(message, request) || from.Remote != client.addr || from.Local != r.listens(client) || r.rings == 0 {
		t.Errorf("punted %v of %d bytes from %+v, %d rings", ok, len(message), from, r.rings)
	}
	r.w.punts.drop()
	if _, _, ok := r.w.punts.front(); ok {
		t.Error("a second message was punted")
	}
}

func TestWhatHasNoChannelIsDroppedAndCounted(t *testing.T) {
	r := newRig(t)
	client, stranger, peer := r.end(false), r.end(false), r.end(false)
	a := r.allocate(client)
	bind(a, 0x4000, peer.addr)
	r.turn()
	message := wrapped(0x4000, pattern(100, 1), 50)
	r.send(stranger, batch.Train{Buf: message, Stride: 54, Remote: r.listens(stranger)})
	r.send(stranger, batch.Train{Buf: pattern(90, 1), Stride: 30, Remote: relayed(a, stranger)})
	r.turn()
	r.dropped(DropNoAllocation, 2)
	r.dropped(DropUnboundPeer, 3)
	a.unbind(a.Channel(0x4000))
	r.send(client, batch.Train{Buf: message, Stride: 54, Remote: r.listens(client)})
	r.send(peer, batch.Train{Buf: pattern(90, 1), Stride: 90, Remote: relayed(a, peer)})
	r.turn()
	r.dropped(DropUnboundChannel, 2)
	r.dropped(DropUnboundPeer, 4)
	if got := len(r.take(peer)) + len(r.take(client)); got != 0 {
		t.Errorf("%d trains got through", got)
	}
}

func TestTheBandwidthLimitHoldsInBothDirections(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(false)
	a := r.allocate(client)
	a.bandwidth.set(1000, 1)
	bind(a, 0x4000, peer.addr)
	r.turn()
	for range 2 {
		message := wrapped(0x4000, pattern(400, 1), 400)
		r.send(client, batch.Train{Buf: message, Stride: 404, Remote: r.listens(client)})
		r.send(peer, batch.Train{Buf: pattern(400, 1), Stride: 400, Remote: relayed(a, peer)})
		r.turn()
	}
	if n, m := len(r.take(peer)), len(r.take(client)); n+m != 2 {
		t.Errorf("%d trains to the peer and %d to the client, want 2 of 4", n, m)
	}
	r.dropped(DropBandwidth, 2)
}

// A request at the end of a train, where GRO puts it, gets through when the data before it may not.
func TestRequestsPassTheBandwidthLimit(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(false)
	a := r.allocate(client)
	a.bandwidth.set(1000, 1)
	bind(a, 0x4000, peer.addr)
	r.turn()
	request := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{9})
	train := append(wrapped(0x4000, pattern(3*1200, 1), 1200), request.Bytes()...)
	r.send(client, batch.Train{Buf: train, Stride: 1204, Remote: r.listens(client)})
	r.turn()
	if _, message, ok := r.w.punts.front(); !ok || !bytes.Equal(message, request.Bytes()) {
		t.Errorf("the machine got %x", message)
	}
	r.dropped(DropBandwidth, 3)
	if got := r.take(peer); len(got) != 0 {
		t.Errorf("%d trains to the peer", len(got))
	}
}

// Between two clients of one relay the bandwidth of both counts, by the runs of a train.
func TestAHairpinUsesTheBandwidthOfBothSides(t *testing.T) {
	r := newRig(t)
	one, two, peer := r.end(false), r.end(false), r.end(false)
	a, b := r.allocate(one), r.allocate(two)
	b.bandwidth.set(1000, 1)
	bind(a, 0x4005, netip.AddrPortFrom(public4, b.Port))
	bind(b, 0x4abc, netip.AddrPortFrom(public4, a.Port))
	bind(a, 0x4006, peer.addr)
	r.turn()
	part := func(number uint16, n, seed int) []byte { return wrapped(number, pattern(n*200, seed), 200) }
	train := bytes.Join([][]byte{part(0x4005, 4, 1), part(0x4006, 1, 2), part(0x4005, 2, 3), part(0x4005, 1, 4)[:4+100]}, nil)
	stun.PutChannelHeader(train[7*204:], 0x4005, 100)
	r.send(one, batch.Train{Buf: train, Stride: 204, Remote: r.listens(one)})
	r.turn()
	var got []byte
	for _, g := range r.take(two) {
		got = append(got, g.Buf...)
	}
	if want := append(part(0x4abc, 4, 1), wrapped(0x4abc, pattern(200, 4)[:100], 100)...); !bytes.Equal(got, want) {
		t.Errorf("the other client got %d bytes, want %d", len(got), len(want))
	}
	r.dropped(DropBandwidth, 2) // 800 bytes went, 400 did not fit, 100 do
	m := &r.w.counts.measures
	if m[ToClients].Load() != 5 || m[ToClientsBytes].Load() != 900 || m[ToPeers].Load() != 1 || m[ToPeersBytes].Load() != 200 {
		t.Errorf("%d datagrams of %d bytes to clients, %d of %d to peers", m[ToClients].Load(), m[ToClientsBytes].Load(), m[ToPeers].Load(), m[ToPeersBytes].Load())
	}
}

// ChannelData without data is a datagram without a byte; one of a peer is dropped.
func TestEmptyData(t *testing.T) {
	r := newRig(t)
	client := r.end(false)
	a := r.allocate(client)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loop4.As4()}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	bind(a, 0x4000, netip.AddrPortFrom(loop4, uint16(name.(*unix.SockaddrInet4).Port)))
	r.turn()
	r.send(client, batch.Train{Buf: []byte{0x40, 0, 0, 0}, Stride: 4, Remote: r.listens(client)})
	r.turn()
	if n, from, err := unix.Recvfrom(fd, make([]byte, 9), 0); n != 0 || err != nil || from.(*unix.SockaddrInet4).Port != int(a.Port) {
		t.Errorf("%d bytes came, %v", n, err)
	}
	if err := unix.Sendto(fd, nil, 0, &unix.SockaddrInet4{Port: int(a.Port), Addr: loop4.As4()}); err != nil {
		t.Fatal(err)
	}
	r.turn()
	if got := r.take(client); len(got) != 0 {
		t.Errorf("the client got %d trains", len(got))
	}
}

// Two clients of one relay reach each other without a way through the kernel.
func TestHairpin(t *testing.T) {
	r := newRig(t)
	one, two := r.end(false), r.end(true)
	a, b := r.allocate(one), r.allocate(two)
	bind(a, 0x4005, netip.AddrPortFrom(public4, b.Port))
	r.turn()
	payload := pattern(5*500, 1)
	send := func() {
		r.send(one, batch.Train{Buf: wrapped(0x4005, payload, 500), Stride: 504, Remote: r.listens(one)})
		r.turn()
	}
	send()
	r.dropped(DropFarUnbound, 5)
	bind(b, 0x4abc, netip.AddrPortFrom(public4, a.Port))
	send()
	if got := r.take(two); len(got) != 1 || !bytes.Equal(got[0].Buf, wrapped(0x4abc, payload, 500)) {
		t.Errorf("the other client got %d trains", len(got))
	}
}

func TestABindingRequestIsAnsweredByTheWorker(t *testing.T) {
	r := newRig(t)
	client := r.end(true)
	b := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	r.send(client, batch.Train{Buf: b.Bytes(), Stride: len(b.Bytes()), Remote: r.listens(client)})
	r.turn()
	got := r.take(client)
	var m stun.Message
	if len(got) != 1 || m.Parse(got[0].Buf) != nil || m.Class != stun.Success || m.ID != (stun.TransactionID{1}) {
		t.Fatalf("answers: %d", len(got))
	}
	if r.rings != 0 {
		t.Error("the machine was told")
	}
}

func TestATurnAllocatesNothing(t *testing.T) {
	r := newRig(t)
	client, peer, other := r.end(false), r.end(true), r.end(false)
	a, far := r.allocate(client), r.allocate(other)
	bind(a, 0x4000, peer.addr)
	bind(a, 0x4001, netip.AddrPortFrom(public4, far.Port))
	bind(far, 0x4001, netip.AddrPortFrom(public4, a.Port))
	r.turn()
	payload := pattern(20*1280+5, 1)
	b := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	up := []batch.Train{
		{Buf: wrapped(0x4000, payload, 1280), Stride: 1284, Remote: r.listens(client)},
		{Buf: wrapped(0x4001, payload, 1000), Stride: 1004, Remote: r.listens(client)},
		{Buf: wrapped(0x4002, payload, 1280), Stride: 1284, Remote: r.listens(client)},
		{Buf: b.Bytes(), Stride: len(b.Bytes()), Remote: r.listens(client)},
		{Buf: make([]byte, 100), Stride: 100, Remote: r.listens(client)}, // punted
	}
	down := []batch.Train{
		{Buf: payload, Stride: 1280, Remote: relayed(a, peer)},
		{Buf: payload[:100], Stride: 100, Remote: relayed(a, peer)},
	}
	trains := make([]batch.Train, 8)
	turn := func() {
		for _, s := range []struct {
			from end
			what []batch.Train
		}{{client, up}, {peer, down}} {
			n := copy(trains, s.what)
			if k, err := s.from.Send(trains[:n]); k != n || err != nil {
				t.Errorf("sent %d of %d: %v", k, n, err)
			}
		}
		r.turn()
		r.w.punts.drop()
		for _, e := range []end{client, peer, other} {
			if err := e.Recv(r.in); err != nil || len(r.in.Trains) == 0 {
				t.Errorf("%d trains, %v", len(r.in.Trains), err)
			}
		}
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations per turn, want 0", n)
	}
	r.dropped(DropPuntFull, 0)
}

func TestPortsComeAndGo(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(false)
	tags := len(r.w.slots)
	for range 50 {
		a := r.allocate(client)
		bind(a, 0x4000, peer.addr)
		r.turn()
		r.send(peer, batch.Train{Buf: pattern(10, 1), Stride: 10, Remote: relayed(a, peer)})
		r.turn()
		if got := r.take(client); len(got) != 1 {
			t.Fatalf("%d trains through a new port", len(got))
		}
		r.table.withdraw(a)
		r.send(peer, batch.Train{Buf: pattern(10, 1), Stride: 10, Remote: relayed(a, peer)})
		r.w.give(order{port: a.Handle.(*port), abandon: true})
		r.turn()
	}
	if n := len(r.w.slots) - tags; n != 2 {
		t.Errorf("%d slots for one allocation at a time, want 2", n)
	}
}
