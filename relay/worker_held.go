package relay

import (
	"sync/atomic"
	"time"

	"github.com/firelane/firelane/batch"
)

const (
	// heldSlots bounds the datagrams of one worker that wait for their channel, and heldShare those of
	// one client, which binds a few channels at a time and checks each with a datagram or two: what
	// is beyond is lost, as it would be with a relay that is slower by one more round trip.
	heldSlots = 128
	heldShare = 64
	// heldBytes is the longest of them: ChannelData in one Ethernet frame. With heldSlots it bounds a
	// worker's memory for them to 256 KiB.
	heldBytes = 2048
	// heldTime is how long one waits, in nanoseconds. Control handles all that its ring holds in a
	// millisecond or two; a host with more to do than processors takes a time slice or some longer.
	heldTime = int64(20 * time.Millisecond)
)

// held is ChannelData that came right behind the ChannelBind of its channel, of which the client
// need not await the answer: the machine has the request, and the worker copies of the data until
// that is handled. The data then goes on as if it had just come, ahead of what follows it.
//
// It belongs to the worker, but for waiting.
type held struct {
	n        int // in queue; looked at for each run of data
	carrying bool
	longest  int64            // that an item is held: heldTime
	queue    [heldSlots]uint8 // items in the order in which they came
	free     [heldSlots]uint8
	unused   int              // in free
	spent    [heldSlots]uint8 // carried, but lent to the egress until its next flush
	passed   int              // in spent
	items    [heldSlots]heldItem
	shares   [puntCells]uint8 // in queue, by the cell of the allocation
	memory   *[heldSlots][heldBytes]byte

	// waiting: there is something in queue, so that control rings when it has handled punts.
	waiting atomic.Bool
}

// heldItem is one datagram that is held.
type heldItem struct {
	allocation *Allocation
	listener   *listener
	train      batch.Train // of one segment, which is ours
	number     uint16
	position   uint64 // of the ChannelBind, as punts.bind tells it
	since      int64
}

func (h *held) init() {
	h.memory = new([heldSlots][heldBytes]byte)
	for i := range h.free {
		h.free[i] = uint8(i)
	}
	h.unused, h.longest = heldSlots, heldTime
}

// early decides about data on a channel of a that is not bound, for which c is nil, or behind data
// that is held. It returns the channel if the data is to go now, and otherwise has held or dropped it.
func (w *Worker) early(l *listener, t *batch.Train, segment []byte, a *Allocation, number uint16, c *Channel) *Channel {
	if c == nil && !w.held.carrying {
		position, ahead := w.punts.bind(a)
		if ahead && w.hold(l, t, segment, a, number, position) {
			return nil
		}
		c = a.Channel(number) // which the machine may have bound since the first look
	}
	if c == nil {
		w.refuse(DropUnboundChannel)
		return nil
	}
	if !w.held.carrying && w.held.shares[allocationCell(a)-puntCells] > 0 {
		w.resume(a, number)
	}
	return c
}

// hold takes a copy of a segment that waits for control to come to position, and reports false at
// the bounds.
func (w *Worker) hold(l *listener, t *batch.Train, segment []byte, a *Allocation, number uint16, position uint64) bool {
	h, share := &w.held, &w.held.shares[allocationCell(a)-puntCells]
	if h.unused == 0 || *share >= heldShare || len(segment) > heldBytes {
		return false
	}
	h.unused--
	at := h.free[h.unused]
	own := h.memory[at][:copy(h.memory[at][:], segment)]
	h.items[at] = heldItem{allocation: a, listener: l, number: number, position: position, since: w.now,
		train: batch.Train{Buf: own, Stride: len(own), Remote: t.Remote, Local: t.Local, ECN: t.ECN}}
	h.queue[h.n] = at
	h.n++
	*share++
	h.waiting.Store(true)
	w.counts.add(Held, 1)
	return true
}

// resume carries what is held on a channel of a that is bound, and of all else what control has
// handled the ChannelBind of, which may have been refused. It drops what has waited for heldTime. What
// stays keeps its order, and what goes passes nothing on its channel: positions never fall.
func (w *Worker) resume(a *Allocation, number uint16) {
	h, handled, kept := &w.held, w.punts.tail.Load(), 0
	h.carrying = true
	for _, at := range h.queue[:h.n] {
		item := &h.items[at]
		switch {
		case item.position <= handled, item.allocation == a && item.number == number:
			t := &item.train
			w.forward(item.listener, t, w.table.Client(t.Remote, t.Local))
		case w.now-item.since >= h.longest:
			w.refuse(DropUnboundChannel)
		default:
			h.queue[kept] = at
			kept++
			continue
		}
		h.shares[allocationCell(item.allocation)-puntCells]--
		item.allocation = nil
		h.spent[h.passed] = at
		h.passed++
	}
	h.n, h.carrying = kept, false
	if kept == 0 {
		h.waiting.Store(false)
	}
}

// settle gives back the memory of what was carried, which has been sent.
func (h *held) settle() {
	h.unused += copy(h.free[h.unused:], h.spent[:h.passed])
	h.passed = 0
}

// restTime returns how long the worker may wait for packets: as long as it takes, if nothing is
// held, not at all if control has come to what is, and else until that is too old. Whoever comes
// second of the worker, which sets waiting before it looks how far control has come, and control,
// which does it the other way round, knows of the other.
func (w *Worker) restTime() time.Duration {
	h := &w.held
	switch {
	case h.n == 0:
		return -1
	case h.items[h.queue[0]].position <= w.punts.tail.Load():
		return 0
	}
	return time.Duration(max(0, h.items[h.queue[0]].since+h.longest-w.clock()))
}

// handled tells the worker that control has handled punts of its. Control's.
func (w *Worker) handled() {
	if w.held.waiting.Load() {
		w.set.Ring()
	}
}
