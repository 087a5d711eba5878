package bufpool

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Pool is a fixed number of slabs in one arena. Safe for concurrent use.
type Pool struct {
	arena []byte
	// ring holds the slabs that were lent before and are nobody's now.
	ring *ring
	// states has one element a slab, each on its own cache line: neighbours belong to
	// different workers.
	states []state

	exhausted atomic.Uint64
	closing   sync.Mutex // serialises Close

	_ [cacheLine]byte
	// fresh is the first slab that no cache ever had; all behind it are fresh too.
	fresh atomic.Uint32
	_     [cacheLine - 4]byte
}

// Stats is a snapshot of a pool's figures.
type Stats struct {
	// Slabs is how many slabs the pool has, Bytes the address space of its arena.
	Slabs, Bytes int
	// Used is how many slabs a cache ever had. No other slab is resident, but for neighbours in
	// a huge page. It never falls, and rises only while the ring is empty.
	Used int
	// Exhausted counts the calls of Take that found neither cache nor ring able to give a slab.
	Exhausted uint64
}

// New maps an arena for the given number of slabs, 1 to MaxSlabs. No slab is touched.
func New(slabs int) (*Pool, error) {
	if slabs < 1 || slabs > MaxSlabs {
		return nil, fmt.Errorf("packet pool of %d slabs: want 1 to %d", slabs, MaxSlabs)
	}
	arena, err := mapArena(slabs * SlabSize)
	if err != nil {
		return nil, fmt.Errorf("map %d packet slabs of %d bytes: %w", slabs, SlabSize, err)
	}
	return &Pool{arena: arena, ring: newRing(slabs), states: make([]state, slabs)}, nil
}

// take moves up to len(into) slabs to a cache and returns their number. A slab that nobody has
// touched costs memory that the process then keeps, so fresh ones go last; but they go before
// waiting for a stuck ring.
func (p *Pool) take(into []uint32) int {
	if n := p.ring.poll(into); n > 0 {
		return n
	}
	if n := p.takeFresh(into); n > 0 {
		return n
	}
	return p.ring.take(into)
}

// takeFresh moves up to len(into) fresh slabs to a cache and returns their number. The cache lends
// the last first, so the lowest comes last: the arena is touched from its beginning on.
func (p *Pool) takeFresh(into []uint32) int {
	for {
		from := p.fresh.Load()
		n := min(uint32(len(into)), uint32(len(p.states))-from)
		if n == 0 {
			return 0
		}
		if !p.fresh.CompareAndSwap(from, from+n) {
			continue
		}
		for i := range n {
			into[i] = from + n - 1 - i
		}
		return int(n)
	}
}

// Close unmaps the arena when no slab is out or in a cache, and otherwise changes nothing and
// returns an error that says who has the rest. Caches must have been flushed and their users
// stopped: while Close looks, Take may find the ring empty. Closing twice is harmless.
func (p *Pool) Close() error {
	p.closing.Lock()
	defer p.closing.Unlock()
	if p.arena == nil {
		return nil
	}
	// Whoever holds all slabs can prove that nobody else holds one. While none is fresh, nobody
	// else changes that word.
	fresh := p.fresh.Swap(uint32(len(p.states)))
	all := make([]uint32, fresh)
	n := 0
	for n < len(all) {
		k := p.ring.take(all[n:])
		if k == 0 {
			break
		}
		n += k
	}
	if n < len(all) {
		out := p.Outstanding()
		p.putBack(all[:n], fresh)
		return fmt.Errorf("close packet pool: %d of %d slabs are still out and %d in caches", out, len(p.states), max(0, len(all)-n-out))
	}
	if err := unmapArena(p.arena); err != nil {
		p.putBack(all, fresh)
		return fmt.Errorf("unmap packet pool: %w", err)
	}
	p.arena = nil
	return nil
}

// putBack gives back what Close took.
func (p *Pool) putBack(used []uint32, fresh uint32) {
	p.ring.put(used)
	p.fresh.Store(fresh)
}

// Outstanding returns how many slabs are lent: neither fresh, nor in the ring or a cache. It reads
// every slab's state: for leak checks and metrics, not for every packet. It is exact while nobody
// takes or gives.
func (p *Pool) Outstanding() int {
	n := 0
	for i := range p.states {
		if p.states[i].word.Load() == stateOut {
			n++
		}
	}
	return n
}

// Stats returns a snapshot of the pool's figures.
func (p *Pool) Stats() Stats {
	return Stats{Slabs: len(p.states), Bytes: len(p.states) * SlabSize, Used: int(p.fresh.Load()), Exhausted: p.exhausted.Load()}
}

// Slab is one block of packet memory. It is a small comparable value; the zero value is no slab
// and has no bytes.
type Slab struct {
	pool  *Pool
	index uint32
}

// Data lends the DataSize bytes behind the headroom, until the slab is given back.
func (s Slab) Data() []byte {
	if s.pool == nil {
		return nil
	}
	at := int(s.index) * SlabSize
	return s.pool.arena[at+Headroom : at+SlabSize : at+SlabSize]
}

// Whole lends all SlabSize bytes, headroom first, until the slab is given back:
// Whole()[Headroom:] is Data().
func (s Slab) Whole() []byte {
	if s.pool == nil {
		return nil
	}
	at := int(s.index) * SlabSize
	return s.pool.arena[at : at+SlabSize : at+SlabSize]
}

// state says whether a slab is out; a whole cache line each.
type state struct {
	word atomic.Uint32
	_    [cacheLine - 4]byte
}

const (
	stateIn  = 0 // in the ring or a cache
	stateOut = 1 // with a holder
)

const (
	// Headroom is how many bytes lie in front of Slab.Data: two cache lines, room for any of
	// virtio-net header (12), WireGuard header (16), ChannelData header (4) and the 20 bytes by
	// which an IPv6 header is longer than an IPv4 one, all at once.
	Headroom = 128
	// DataSize is the length of Slab.Data in bytes: 64 KiB and two cache lines, because a
	// virtio-net header and the longest IPv6 packet make 12 + 40 + 65,535 bytes.
	DataSize = 64<<10 + 128
	// SlabSize is the length of Slab.Whole in bytes, a multiple of the cache line.
	SlabSize = Headroom + DataSize
	// MaxSlabs bounds a pool: 4 GiB of packets are more than any host should have in flight,
	// and a mistyped flag must not map the whole address space.
	MaxSlabs = 1 << 16

	// refill bounds how many slabs a cache is given at once. What lies idle in one worker's cache
	// another must take fresh, so it is few; a worker's smaller batches are of this size, and the
	// ring costs no more than a few nanoseconds a slab.
	refill = 8

	cacheLine = 64
)
