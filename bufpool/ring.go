package bufpool

import (
	"math/bits"
	"runtime"
	"sync/atomic"
)

// ring is a bounded queue of slab indices for many producers and many consumers, after Dmitry
// Vyukov's array queue (1024cores.net, "Bounded MPMC queue"), extended to runs of cells.
//
// Every cell carries a sequence number that says whose turn it is. For position pos, which lies
// in cell pos mod capacity:
//
//	seq == pos          the cell is free for the producer of pos
//	seq == pos+1        it is filled, for the consumer of pos
//	seq == pos+capacity it is free again, for the producer of the next lap
//
// A run is claimed by one compare-and-swap of tail or head, after looking that all its cells are
// ready. Between look and claim they cannot stop being ready, since only the owner of a position
// changes its cell, and positions (64 bits) never come back.
type ring struct {
	_    [cacheLine]byte
	tail atomic.Uint64 // next position to be filled
	_    [cacheLine - 8]byte
	head atomic.Uint64 // next position to be emptied
	_    [cacheLine - 8]byte
	// cells are packed, four to a cache line: they are used in runs.
	cells []cell
	mask  uint64
	_     [cacheLine - 32]byte
}

type cell struct {
	seq   atomic.Uint64
	value uint32
}

// newRing returns an empty ring for at least n values.
func newRing(n int) *ring {
	size := 1 << bits.Len(uint(max(n, 2)-1))
	r := &ring{cells: make([]cell, size), mask: uint64(size - 1)}
	for i := range r.cells {
		r.cells[i].seq.Store(uint64(i))
	}
	return r
}

// put adds all values. The caller guarantees that there is room for them, as the pool does
// because no slab is in the ring twice: a cell that is not free yet is being emptied at this
// moment, and put waits for it.
func (r *ring) put(values []uint32) {
	for spins := 0; len(values) > 0; {
		n := r.offer(values)
		values = values[n:]
		if n > 0 {
			spins = 0
			continue
		}
		if spins++; spins > putSpins {
			runtime.Gosched() // whoever is emptying the cell may need this core
		}
	}
}

// offer adds as many of values as there are free cells in a row at the tail, and returns their
// number.
func (r *ring) offer(values []uint32) int {
	for {
		pos := r.tail.Load()
		n := r.ready(pos, pos, len(values))
		if n == 0 {
			if pos != r.tail.Load() {
				continue // others were faster
			}
			return 0
		}
		if !r.tail.CompareAndSwap(pos, pos+uint64(n)) {
			continue
		}
		for i, v := range values[:n] {
			at := pos + uint64(i)
			c := &r.cells[at&r.mask]
			c.value = v
			c.seq.Store(at + 1)
		}
		return n
	}
}

// take moves up to len(into) values out of the ring, oldest first, and returns their number: 0
// when the ring is empty. An oldest value that is claimed but not published yet hides those behind
// it; take waits for it within bounds, so that a producer that lost its core in between does not
// look like an exhausted pool.
func (r *ring) take(into []uint32) int {
	for spins := 0; ; spins++ {
		if n := r.poll(into); n > 0 || len(into) == 0 {
			return n
		}
		// Of a head and a tail read after it, equal means empty: tail was never behind head.
		if head := r.head.Load(); head == r.tail.Load() || spins == takeSpins {
			return 0
		}
		if spins > putSpins {
			runtime.Gosched()
		}
	}
}

// poll moves up to len(into) published values in a row out of the ring, and returns their number.
func (r *ring) poll(into []uint32) int {
	for {
		pos := r.head.Load()
		n := r.ready(pos, pos+1, len(into))
		if n == 0 {
			if pos != r.head.Load() {
				continue
			}
			return 0
		}
		if !r.head.CompareAndSwap(pos, pos+uint64(n)) {
			continue
		}
		for i := range into[:n] {
			at := pos + uint64(i)
			c := &r.cells[at&r.mask]
			into[i] = c.value
			c.seq.Store(at + uint64(len(r.cells)))
		}
		return n
	}
}

// ready counts, up to limit, the cells from position pos on whose sequence numbers are want,
// want+1, and so on.
func (r *ring) ready(pos, want uint64, limit int) int {
	limit = min(limit, len(r.cells))
	for i := range limit {
		if r.cells[(pos+uint64(i))&r.mask].seq.Load() != want+uint64(i) {
			return i
		}
	}
	return limit
}

const (
	// putSpins is how often put and take look again before they offer their core: moving a run
	// of cells takes well under a microsecond unless its goroutine was preempted.
	putSpins = 64
	// takeSpins is how often take looks in all. Offering the core a thousand times lets every
	// runnable goroutine of a worker's process have its turn; after that, saying that there is
	// no slab is better than waiting.
	takeSpins = putSpins + 1000
)
