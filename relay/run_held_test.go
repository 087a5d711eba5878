package relay

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// Control rings for a worker that holds data when it has handled requests of that worker's, and for no
// other.
func TestControlRingsForHeldData(t *testing.T) {
	enterNetns(t)
	r := listen(t, nil)
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	for i, w := range r.workers {
		w.held.waiting.Store(i == 0)
		if _, _, err := w.set.Wait(nil, 0); err != nil { // it has orders since the start
			t.Fatal(err)
		}
	}
	for round := range 2 {
		for _, w := range r.workers[round:] {
			w.punts.push(Tuple{}, make([]byte, stun.HeaderSize), 0)
		}
		r.handlePunts()
		for i, w := range r.workers {
			_, rung, err := w.set.Wait(nil, 0)
			if want := i == 0 && round == 0; rung != want || err != nil {
				t.Errorf("round %d: worker %d is rung for: %v, %v", round, i, rung, err)
			}
			if _, _, ok := w.punts.front(); ok {
				t.Errorf("round %d: a request of worker %d waits", round, i)
			}
		}
	}
}

// A client sends data with the ChannelBind of its channel, as Firezone's do: all of it arrives, in
// order.
func TestDataSentWithItsChannelBindArrives(t *testing.T) {
	enterNetns(t)
	r := listen(t, nil)
	for _, w := range r.workers {
		// A host that is busy with other tests stalls for longer than heldTime.
		w.held.longest = 2 * int64(patience)
	}
	serve(t, r)
	c, peer := newTurner(t, relayAt(loop4, r), "a"), newTurner(t, relayAt(loop4, r), "")
	c.allocate()
	next := 0
	for _, channels := range []int{1, 1, 1, 1, 1, 2, 5, 20, 1, 1} {
		var trains []batch.Train
		send := func(b []byte) {
			trains = append(trains, batch.Train{Buf: b, Stride: len(b), Remote: c.server, Local: c.addr})
		}
		want := map[netip.Addr]string{}
		for range channels {
			next++
			number, to := uint16(0x4000+next), netip.AddrFrom4([4]byte{127, 1, 0, byte(next)})
			send(c.request(stun.ChannelBind, func(b *stun.Builder) {
				b.Channel(number)
				b.Address(stun.XORPeerAddress, netip.AddrPortFrom(to, peer.addr.Port()))
			}))
			send(data(number, "one,"))
			send(data(number, "two,"))
			send(data(number, "and three"))
			want[to] = "one,two,and three"
		}
		if n, err := c.socket.Send(trains); n != len(trains) || err != nil {
			t.Fatalf("sent %d of %d: %v", n, len(trains), err)
		}
		got := map[netip.Addr]string{}
		for n := 0; n < 3*channels; {
			for _, g := range peer.recv() {
				got[g.Local.Addr()] += string(g.Buf)
				n += g.Len()
			}
		}
		for to := range want {
			if got[to] != want[to] {
				t.Errorf("%v got %q", to, got[to])
			}
		}
	}
	if n := r.Traffic().Drops[DropUnboundChannel]; n != 0 {
		t.Errorf("%d datagrams were dropped", n)
	}
}

// request returns a request with the nonce that the server gave last.
func (c *turner) request(method stun.Method, fill func(*stun.Builder)) []byte {
	c.n++
	b := stun.Start(nil, stun.Request, method, stun.TransactionID{c.n})
	fill(&b)
	b.Text(stun.Username, []byte(c.user))
	b.Text(stun.Realm, []byte(PortalRealm))
	b.Text(stun.Nonce, c.nonce)
	b.Sign(c.key[:])
	return b.Bytes()
}
