package relay

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// asks sends a request of client's, of which the worker sees no more than the method.
func (r *rig) asks(client end, method stun.Method) {
	r.t.Helper()
	b := stun.Start(nil, stun.Request, method, stun.TransactionID{1})
	r.sends(client, b.Bytes())
}

// newHeldRig returns a rig whose clock stands still.
func newHeldRig(t testing.TB) *rig {
	r := newRig(t)
	r.w.clock = func() int64 { return 1 }
	return r
}

// sends sends datagrams of client's, each by itself.
func (r *rig) sends(client end, all ...[]byte) {
	r.t.Helper()
	for _, b := range all {
		r.send(client, batch.Train{Buf: b, Stride: len(b), Remote: r.listens(client)})
	}
}

// handles is control having handled all that was punted.
func (r *rig) handles() {
	for {
		if _, _, ok := r.w.punts.front(); !ok {
			return
		}
		r.w.punts.drop()
	}
}

// moves lets the worker take a turn, which rig.turn leaves out where nothing has come.
func (r *rig) moves() {
	r.turn()
	r.w.now = r.w.clock()
	r.w.turn()
}

// heard returns the bytes that arrive at e.
func (r *rig) heard(e end) (all []byte) {
	for _, t := range r.take(e) {
		all = append(all, t.Buf...)
	}
	return all
}

func data(number uint16, text string) []byte { return wrapped(number, []byte(text), len(text)) }

func TestDataBehindItsChannelBindWaitsForIt(t *testing.T) {
	r := newHeldRig(t)
	client, peer := r.end(false), r.end(true)
	a := r.allocate(client)
	r.turn()
	r.asks(client, stun.ChannelBind)
	r.sends(client, data(0x4000, "one"), data(0x4000, "two"), data(0x4001, "else"))
	r.turn()
	if got := r.heard(peer); len(got) != 0 || r.w.counts.measures[Held].Load() != 3 {
		t.Fatalf("%q came, %d are held", got, r.w.counts.measures[Held].Load())
	}
	if !r.w.held.waiting.Load() || r.w.restTime() <= 0 {
		t.Error("control is not to ring, or the worker does not rest")
	}
	bind(a, 0x4000, peer.addr)
	r.handles()
	if r.w.restTime() != 0 {
		t.Error("the worker rests though control has handled the request")
	}
	r.w.handled()
	if _, rung, err := r.w.set.Wait(nil, 0); !rung || err != nil {
		t.Errorf("control does not ring: %v", err)
	}
	r.sends(client, data(0x4000, "three"))
	r.moves()
	if got := r.heard(peer); string(got) != "onetwothree" {
		t.Errorf("the peer got %q", got)
	}
	r.dropped(DropUnboundChannel, 1) // of the channel that was not asked for
	if r.w.held.waiting.Load() || r.w.restTime() != -1 || r.w.held.unused != heldSlots {
		t.Errorf("%d slots are free in the end", r.w.held.unused)
	}
	r.w.handled()
	if _, rung, _ := r.w.set.Wait(nil, 0); rung {
		t.Error("control rings for nothing")
	}
}

// Control binds a channel before it says that the request is handled. Data that comes between these
// does not overtake what is held.
func TestNewerDataDoesNotOvertakeWhatIsHeld(t *testing.T) {
	r := newHeldRig(t)
	client, peer, other := r.end(false), r.end(false), r.end(false)
	a := r.allocate(client)
	r.turn()
	r.asks(client, stun.ChannelBind)
	r.asks(client, stun.ChannelBind)
	r.sends(client, data(0x4000, "one"), data(0x4001, "eins"))
	r.turn()
	bind(a, 0x4000, peer.addr)
	train := append(wrapped(0x4000, []byte("234567"), 2), data(0x4001, "zw")...)
	r.send(client, batch.Train{Buf: train, Stride: 6, Remote: r.listens(client)})
	r.turn()
	if got := r.heard(peer); string(got) != "one234567" {
		t.Errorf("the peer got %q", got)
	}
	bind(a, 0x4001, other.addr)
	r.handles()
	r.moves()
	if got := r.heard(other); string(got) != "einszw" {
		t.Errorf("the other peer got %q", got)
	}
	r.dropped(DropUnboundChannel, 0)
}

func TestOnlyAChannelBindOfTheClientHoldsItsData(t *testing.T) {
	r := newHeldRig(t)
	client, other := r.end(false), r.end(false)
	a := r.allocate(client)
	r.allocate(other).seed = 1
	r.turn()
	r.asks(other, stun.ChannelBind)
	r.asks(client, stun.Refresh)
	r.sends(client, data(0x4000, "one"))
	r.turn()
	r.dropped(DropUnboundChannel, 1)
	r.asks(client, stun.ChannelBind)
	r.turn()
	r.handles() // and refused
	r.sends(client, data(0x4000, "two"))
	r.turn()
	r.dropped(DropUnboundChannel, 2)
	r.asks(client, stun.ChannelBind)
	r.sends(client, data(0x4000, "three"))
	r.turn()
	r.dropped(DropUnboundChannel, 2)
	r.table.withdraw(a)
	r.handles()
	r.moves()
	r.dropped(DropNoAllocation, 1)
	if n := r.w.counts.measures[Held].Load(); n != 1 {
		t.Errorf("%d were held", n)
	}
}

// What is beyond the bounds on count, length and time is dropped and counted, for one client and
// for all, and what is within goes on.
func TestHeldDataIsBounded(t *testing.T) {
	r := newHeldRig(t)
	const clients = 3
	var client [clients]end
	var all [clients]*Allocation
	peer := r.end(false)
	for i := range clients {
		client[i] = r.end(false)
		all[i] = r.allocate(client[i])
		all[i].seed = uint64(i)
	}
	r.turn()
	fits, tooLong := pattern(heldBytes-stun.ChannelHeader, 1), pattern(heldBytes-stun.ChannelHeader+1, 1)
	dropped := uint64(0)
	for i := range clients {
		r.asks(client[i], stun.ChannelBind)
		r.sends(client[i], wrapped(0x4000, tooLong, len(tooLong)), wrapped(0x4000, fits, len(fits)))
		for range heldShare + 4 {
			r.sends(client[i], data(0x4000, "."))
		}
		r.turn()
		held := min(heldShare, heldSlots-i*heldShare)
		dropped += uint64(1 + 1 + heldShare + 4 - held)
		r.dropped(DropUnboundChannel, dropped)
	}
	for i := range clients {
		bind(all[i], 0x4000, peer.addr)
	}
	r.w.now = 1 + heldTime - 1
	r.w.turn()
	if got := r.heard(peer); len(got) != 0 {
		t.Fatalf("%d bytes came before the requests were handled", len(got))
	}
	r.w.punts.drop() // the first client's
	r.moves()
	if got, want := r.heard(peer), append(bytes.Clone(fits), bytes.Repeat([]byte("."), heldShare-1)...); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of the first client came, want %d", len(got), len(want))
	}
	if rest := r.w.restTime(); rest != time.Duration(heldTime) {
		t.Errorf("the worker rests for %v", rest)
	}
	r.w.now = 1 + heldTime
	r.w.turn()
	r.dropped(DropUnboundChannel, dropped+heldSlots-heldShare)
	if r.w.held.n != 0 || r.w.held.unused != heldSlots || r.w.held.shares != [puntCells]uint8{} {
		t.Errorf("%d are held in the end, %d slots are free", r.w.held.n, r.w.held.unused)
	}
}

func TestHoldingAllocatesNothing(t *testing.T) {
	r := newHeldRig(t)
	client, peer := r.end(false), r.end(true)
	a := r.allocate(client)
	c := bind(a, 0x4000, peer.addr)
	page := a.channels[0].Load()
	request := stun.Start(nil, stun.Request, stun.ChannelBind, stun.TransactionID{1})
	payload := pattern(5*1200, 1)
	sent := []batch.Train{
		{Buf: request.Bytes(), Stride: len(request.Bytes()), Remote: r.listens(client)},
		{Buf: wrapped(0x4000, payload, 1200), Stride: 1204, Remote: r.listens(client)},
	}
	r.turn()
	trains := make([]batch.Train, len(sent))
	turn := func() {
		page[0].Store(nil)
		copy(trains, sent)
		if n, err := client.Send(trains); n != len(trains) || err != nil {
			t.Errorf("sent %d: %v", n, err)
		}
		r.turn()
		page[0].Store(c)
		r.w.punts.drop()
		r.moves()
		if err := peer.Recv(r.in); err != nil || len(r.in.Trains) != 1 || !bytes.Equal(r.in.Trains[0].Buf, payload) {
			t.Errorf("%d trains came, %v", len(r.in.Trains), err)
		}
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations per turn, want 0", n)
	}
}

// Whenever control handles requests and however data and requests mix, the data of a channel arrives
// in order, and each datagram arrives or is counted as dropped.
func TestOrderHoldsAroundChannelBinds(t *testing.T) {
	r := newHeldRig(t)
	const clients, channels = 2, 3
	var client [clients]end
	var peer [channels]end
	for i := range client {
		client[i] = r.end(i == 1)
	}
	for i := range peer {
		peer[i] = r.end(i == 1)
	}
	rapid.Check(t, func(rt *rapid.T) {
		var all [clients]*Allocation
		for i := range client {
			all[i] = r.allocate(client[i])
			all[i].seed = uint64(rapid.IntRange(0, 1).Draw(rt, "seed"))
		}
		r.turn()
		before, sent := r.w.counts.drops[DropUnboundChannel].Load(), uint64(0)
		type pair struct{ client, channel int }
		var asked []pair // not yet handled
		handle := func(n int) {
			for _, p := range asked[:n] {
				if number := uint16(0x4000 + p.channel); all[p.client].Channel(number) == nil {
					bind(all[p.client], number, peer[p.channel].addr)
				}
				r.w.punts.drop()
			}
			asked = asked[n:]
		}
		next := byte(0)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			p := pair{rapid.IntRange(0, clients-1).Draw(rt, "client"), rapid.IntRange(0, channels-1).Draw(rt, "channel")}
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				r.asks(client[p.client], stun.ChannelBind)
				r.turn() // so that asked is what is in the ring
				asked = append(asked, p)
			case 2, 3:
				for range rapid.IntRange(1, 3).Draw(rt, "datagrams") {
					r.sends(client[p.client], wrapped(uint16(0x4000+p.channel), []byte{next}, 1))
					next++
					sent++
				}
			case 4:
				r.turn()
			case 5:
				handle(rapid.IntRange(0, len(asked)).Draw(rt, "handled"))
			}
		}
		r.turn()
		handle(len(asked))
		r.moves()
		arrived := uint64(0)
		for _, e := range peer {
			last := map[uint16]int{}
			for _, g := range r.take(e) {
				for _, b := range g.Buf {
					if at, ok := last[g.Remote.Port()]; ok && int(b) <= at {
						rt.Errorf("datagram %d came behind %d", b, at)
					}
					last[g.Remote.Port()] = int(b)
					arrived++
				}
			}
		}
		if dropped := r.w.counts.drops[DropUnboundChannel].Load() - before; arrived+dropped != sent || r.w.held.n != 0 {
			rt.Errorf("%d of %d arrived, %d were dropped, %d are held", arrived, sent, dropped, r.w.held.n)
		}
		for _, a := range all {
			r.table.withdraw(a)
			r.w.give(order{port: a.Handle.(*port), abandon: true})
		}
		r.turn()
	})
}
