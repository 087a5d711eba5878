package relay

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// pushes pushes as many messages of a cell as go, and returns how many.
func (r *punts) pushes(cell puntCell, message []byte) (n int) {
	for r.push(Tuple{}, message, cell) {
		n++
	}
	return n
}

// A sender without an allocation fills its share, all of them together what is not kept for clients
// with an allocation, and of these each its share. What is handled is room again, for all.
func TestAFloodFillsOnlyItsShare(t *testing.T) {
	r, message := new(punts), make([]byte, stun.HeaderSize)
	known := func(i int) puntCell { return allocationCell(&Allocation{seed: uint64(i)}) }
	for range 3 {
		strangers := 0
		for i := range puntCells {
			n := r.pushes(puntCell(i), message)
			strangers += n
			if i == 0 && n != puntShare {
				t.Errorf("one address takes %d slots", n)
			}
		}
		if strangers != puntSlots-puntReserve {
			t.Errorf("strangers take %d slots", strangers)
		}
		if n := r.pushes(known(5), message); n != puntShare {
			t.Errorf("a client takes %d slots", n)
		}
		if n := r.pushes(known(6), message); n != puntReserve-puntShare {
			t.Errorf("the next client takes %d slots", n)
		}
		for range puntShare { // of the first address
			r.drop()
		}
		if n := r.pushes(puntCell(1), message); n != 0 {
			t.Errorf("an address with a full share takes %d slots", n)
		}
		if n := r.pushes(known(6), message); n != 2*puntShare-puntReserve {
			t.Errorf("a client takes %d of the free slots, to a share of %d", n, puntShare)
		}
		if n, want := r.pushes(puntCell(0), message), puntReserve-puntShare; n != want {
			t.Errorf("an address takes %d of the slots that are left, want %d", n, want)
		}
		for _, _, ok := r.front(); ok; _, _, ok = r.front() {
			r.drop()
		}
		r.recount()
		if r.strangers != 0 || r.waiting != [2 * puntCells]uint8{} {
			t.Errorf("%d strangers wait in an empty ring", r.strangers)
		}
	}
}

// A client with an allocation gets its Refresh through to the machine though strangers flood the
// worker with Allocates, from one address or from many.
func TestAFloodOfStrangersDelaysNoRefresh(t *testing.T) {
	r := newRig(t)
	client, flood := r.end(true), r.end(false)
	r.allocate(client)
	r.turn()
	allocate := stun.Start(nil, stun.Request, stun.Allocate, stun.TransactionID{1})
	refresh := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{2})
	send := func(from end, message []byte, source netip.Addr) {
		r.send(from, batch.Train{Buf: message, Stride: len(message), Remote: r.listens(from), Local: netip.AddrPortFrom(source, from.addr.Port())})
	}
	for round := range 2 {
		for i := range 2 * puntSlots {
			source := loop4
			if round > 0 {
				source = netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
			}
			send(flood, allocate.Bytes(), source)
			if i%64 == 0 {
				r.turn()
			}
		}
		send(client, refresh.Bytes(), loop6)
		r.turn()
		strangers, refreshes := 0, 0
		for from, message, ok := r.w.punts.front(); ok; from, message, ok = r.w.punts.front() {
			if from.Remote == client.addr && string(message) == string(refresh.Bytes()) {
				refreshes++
			} else {
				strangers++
			}
			r.w.punts.drop()
		}
		if want := []int{puntShare, puntSlots - puntReserve}[round]; strangers != want || refreshes != 1 {
			t.Errorf("the machine got %d requests of strangers, want %d, and %d of the client", strangers, want, refreshes)
		}
	}
	r.dropped(DropPuntFull, 4*puntSlots-puntShare-(puntSlots-puntReserve))
}
