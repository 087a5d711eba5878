package relay

import (
	"bytes"
	"testing"

	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// Whatever clients and peers send in one batch, each flow's payloads arrive complete and in order.
func TestOrderWithinAFlowHolds(t *testing.T) {
	r := newRig(t)
	const flows = 3
	var client, peer [flows]end
	var all [flows]*Allocation
	for i := range flows {
		client[i], peer[i] = r.end(i == 1), r.end(i == 2)
		all[i] = r.allocate(client[i])
	}
	for k := range flows {
		for i := range flows {
			bind(all[i], uint16(0x4000+k), peer[k].addr)
		}
	}
	r.turn()
	rapid.Check(t, func(rt *rapid.T) {
		var wantPeer, wantClient [flows][flows][]byte // by client, by peer
		seed := 0
		for range rapid.IntRange(1, 40).Draw(rt, "messages") {
			i, k := rapid.IntRange(0, flows-1).Draw(rt, "client"), rapid.IntRange(0, flows-1).Draw(rt, "peer")
			size, n := rapid.SampledFrom([]int{1, 60, 1000, 1280}).Draw(rt, "size"), rapid.IntRange(1, 45).Draw(rt, "segments")
			seed++
			payload := pattern(size*n-rapid.IntRange(0, size-1).Draw(rt, "short"), seed)
			if rapid.Bool().Draw(rt, "up") {
				r.send(client[i], batch.Train{Buf: wrapped(uint16(0x4000+k), payload, size), Stride: size + 4, Remote: r.listens(client[i])})
				wantPeer[i][k] = append(wantPeer[i][k], payload...)
			} else {
				r.send(peer[k], batch.Train{Buf: payload, Stride: size, Remote: relayed(all[i], peer[k])})
				wantClient[i][k] = append(wantClient[i][k], payload...)
			}
			if rapid.IntRange(0, 9).Draw(rt, "turn") == 0 {
				r.turn()
			}
		}
		r.turn()
		var gotPeer, gotClient [flows][flows][]byte
		for i := range flows {
			for _, g := range r.take(peer[i]) {
				for k := range flows {
					if all[k].Port == g.Remote.Port() {
						gotPeer[k][i] = append(gotPeer[k][i], g.Buf...)
					}
				}
			}
			for _, g := range r.take(client[i]) {
				for s := range g.Len() {
					number, payload, ok := stun.ChannelData(g.Segment(s))
					if !ok {
						rt.Fatal("a client got no ChannelData")
					}
					gotClient[i][number-0x4000] = append(gotClient[i][number-0x4000], payload...)
				}
			}
		}
		for i := range flows {
			for k := range flows {
				if !bytes.Equal(gotPeer[i][k], wantPeer[i][k]) || !bytes.Equal(gotClient[i][k], wantClient[i][k]) {
					rt.Errorf("client %d, peer %d: %d of %d bytes up, %d of %d down", i, k,
						len(gotPeer[i][k]), len(wantPeer[i][k]), len(gotClient[i][k]), len(wantClient[i][k]))
				}
			}
		}
	})
}

// More messages than an egress holds, in the middle of a train: it is flushed early, in order.
func TestMoreGathersThanFitAreSentInOrder(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(false)
	a := r.allocate(client)
	bind(a, 0x4000, peer.addr)
	r.turn()
	var want []byte
	for i := range 4 {
		var train []byte
		for k := range 60 { // each pair a gather: the shorter ends it
			for n, seed := 98, i*60+k; n >= 97; n-- {
				payload := pattern(n, seed)
				want = append(want, payload...)
				train = append(append(train, wrapped(0x4000, payload, n)...), make([]byte, 98-n)...)
			}
		}
		r.send(client, batch.Train{Buf: train, Stride: 102, Remote: r.listens(client)})
	}
	r.turn()
	var got []byte
	trains := r.take(peer)
	for _, g := range trains {
		got = append(got, g.Buf...)
	}
	if !bytes.Equal(got, want) || len(trains) <= maxGathers {
		t.Errorf("%d of %d bytes in %d trains", len(got), len(want), len(trains))
	}
}

func TestATrainThatGrowsBeyondADatagramIsSentInTwo(t *testing.T) {
	r := newRig(t)
	client, peer := r.end(false), r.end(false)
	a := r.allocate(client)
	bind(a, 0x4000, peer.addr)
	r.turn()
	payload := pattern(45*1455, 1) // with 45 headers 65,655 bytes
	r.send(peer, batch.Train{Buf: payload, Stride: 1455, Remote: relayed(a, peer)})
	r.turn()
	var got []byte
	trains := r.take(client)
	for _, g := range trains {
		got = append(got, g.Buf...)
	}
	if !bytes.Equal(got, wrapped(0x4000, payload, 1455)) || len(trains) != 2 {
		t.Errorf("%d bytes in %d trains", len(got), len(trains))
	}
}

// A link whose MTU is below the stride: the kernel refuses the train and fragments its datagrams.
// That is remembered for strides as long, not for shorter ones.
func TestARefusedTrainIsSplitAndNothingIsLost(t *testing.T) {
	r := newRig(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMTU(lo, 1500); err != nil {
		t.Fatal(err)
	}
	client, peer := r.end(false), r.end(true)
	a := r.allocate(client)
	bind(a, 0x4000, peer.addr)
	r.turn()
	payload := pattern(6*1600, 1)
	for range 2 {
		for i := range 6 {
			one := wrapped(0x4000, payload[i*1600:][:1600], 1600)
			r.send(client, batch.Train{Buf: one, Stride: len(one), Remote: r.listens(client)})
		}
		r.turn()
		var got []byte
		for _, g := range r.take(peer) {
			got = append(got, g.Buf...)
		}
		if !bytes.Equal(got, payload) {
			t.Fatalf("%d of %d bytes came", len(got), len(payload))
		}
	}
	p := a.Handle.(*port)
	if st := p.exit6.socket.Stats(); st.GSORefused != 1 || st.SplitTrains != 2 || st.SentDatagrams != 12 {
		t.Errorf("stats %+v", st)
	}
	r.send(client, batch.Train{Buf: wrapped(0x4000, payload, 800), Stride: 804, Remote: r.listens(client)})
	r.turn()
	if got := r.take(peer); len(got) != 1 || !bytes.Equal(got[0].Buf, payload) {
		t.Errorf("shorter segments came in %d trains", len(got))
	}
}
