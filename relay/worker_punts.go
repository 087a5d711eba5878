package relay

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"github.com/firelane/firelane/protocol/stun"
)

const (
	// puntSlots bounds the requests of one worker that wait for the machine: at a few microseconds
	// each it is behind by a millisecond then, and clients repeat what got lost.
	puntSlots = 512
	// puntReserve is how many of the slots are kept for clients that have an allocation, which is
	// lost without its refreshes: a flood of anyone else's requests fills the others at most.
	puntReserve = 192
	// puntShare is how many slots the requests of one client with an allocation may take, and those
	// of all senders at one address without. An existing client sends up to 100 ChannelBinds at
	// once, when it gets its allocation.
	puntShare = 128
	// puntCells is the number of counters, of either kind, for the shares. Those who share one by a
	// hash that nobody can foresee have one share.
	puntCells = 1024
)

// puntBytes is the longest STUN message the machine gets. The longest that clients send, an
// Allocate with user name, realm, nonce and integrity, has under 400 bytes.
const puntBytes = 1280

// punted is a STUN message on its way to the machine.
type punted struct {
	from Tuple
	n    int
	cell puntCell // the pusher's
	data [puntBytes]byte
}

// puntCell is what the shares of a sender are counted in: its address, below puntCells, or its
// allocation.
type puntCell uint16

// allocationCell returns the cell of a client that has an allocation.
func allocationCell(a *Allocation) puntCell { return puntCell(puntCells + a.seed%puntCells) }

// sourceCell returns the cell of a sender that has none.
func sourceCell(source netip.Addr, seed uint64) puntCell {
	return puntCell(addrKey{hi: sourceOf(source)}.hash(seed) % puntCells)
}

// punts is a bounded ring from one worker to the control goroutine: one pusher, one popper, no
// lock.
type punts struct {
	head  atomic.Uint64 // next slot to push; written by the worker
	_     [56]byte
	tail  atomic.Uint64 // next slot to pop: all before are handled; written by control
	_     [56]byte
	slots [puntSlots]punted

	// The pusher's own: what waits, by cell and of all senders without an allocation, among the
	// slots from counted on; and for each cell of allocations where the slot behind its newest
	// ChannelBind is.
	counted   uint64
	waiting   [2 * puntCells]uint8
	strangers int
	binds     [puntCells]uint64
}

// push copies a message of cell's into the ring and reports false when the ring or the share is full
// or the message too long.
func (r *punts) push(from Tuple, message []byte, cell puntCell) bool {
	r.recount()
	head, stranger := r.head.Load(), cell < puntCells
	if head-r.counted == puntSlots || r.waiting[cell] >= puntShare || len(message) > puntBytes ||
		stranger && r.strangers >= puntSlots-puntReserve {
		return false
	}
	p := &r.slots[head%puntSlots]
	p.from, p.cell = from, cell
	p.n = copy(p.data[:], message)
	r.waiting[cell]++
	switch {
	case stranger:
		r.strangers++
	case len(message) >= stun.HeaderSize && binary.BigEndian.Uint16(message) == uint16(stun.ChannelBind):
		r.binds[cell-puntCells] = head + 1
	}
	r.head.Store(head + 1)
	return true
}

// recount takes what is handled by now out of the counts. The pusher's.
func (r *punts) recount() {
	for tail := r.tail.Load(); r.counted != tail; r.counted++ {
		cell := r.slots[r.counted%puntSlots].cell
		r.waiting[cell]--
		if cell < puntCells {
			r.strangers--
		}
	}
}

// bind returns how far control must have come to have handled every ChannelBind of a, or of who
// shares its cell, and whether it has yet to come there. The pusher's.
func (r *punts) bind(a *Allocation) (position uint64, ahead bool) {
	position = r.binds[allocationCell(a)-puntCells]
	return position, position > r.tail.Load()
}

// front lends the oldest message until drop, or reports that there is none.
func (r *punts) front() (from Tuple, message []byte, ok bool) {
	tail := r.tail.Load()
	if tail == r.head.Load() {
		return Tuple{}, nil, false
	}
	p := &r.slots[tail%puntSlots]
	return p.from, p.data[:p.n], true
}

// drop frees the slot of the oldest message, which is handled.
func (r *punts) drop() { r.tail.Store(r.tail.Load() + 1) }
