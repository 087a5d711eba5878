package bufpool

// Cache is a worker's own stock of slabs in front of the shared ring. One goroutine at a time.
type Cache struct {
	pool *Pool
	// stack[:n] are the slabs in stock; the last in is the first out.
	stack []uint32
	n     int
	_     [cacheLine]byte // the next cache in memory belongs to another worker
}

// NewCache returns an empty cache that holds up to size slabs (at least 2). It takes a few slabs at
// a time from the pool, and spills half its size to it. Slabs in a cache are of no use to other
// workers: the sum of all sizes should stay well below the pool's.
func (p *Pool) NewCache(size int) *Cache {
	return &Cache{pool: p, stack: make([]uint32, max(size, 2))}
}

// Take lends a slab, the one most recently given back if there is one. It returns false, and
// counts, when cache and pool are empty (or the ring is stuck, see ring.take). The holder owns the
// slab until it gives it back.
func (c *Cache) Take() (Slab, bool) {
	if c.n == 0 {
		c.n = c.pool.take(c.stack[:min(refill, len(c.stack)/2)])
		if c.n == 0 {
			c.pool.exhausted.Add(1)
			return Slab{}, false
		}
	}
	c.n--
	index := c.stack[c.n]
	if !c.pool.states[index].word.CompareAndSwap(stateIn, stateOut) {
		panic("bufpool: a slab in stock is with a holder")
	}
	return Slab{pool: c.pool, index: index}, true
}

// Give takes a slab back, from whichever cache of the pool it came. Its bytes are dead for the
// giver. It panics when the slab is not out (given twice) or not of this pool.
func (c *Cache) Give(s Slab) {
	if s.pool != c.pool {
		panic("bufpool: slab given to a pool it is not from")
	}
	if !c.pool.states[s.index].word.CompareAndSwap(stateOut, stateIn) {
		panic("bufpool: slab given back twice")
	}
	if c.n == len(c.stack) {
		c.spill(len(c.stack) / 2)
	}
	c.stack[c.n] = s.index
	c.n++
}

// Flush gives everything in the cache back to the ring; the cache stays usable.
func (c *Cache) Flush() { c.spill(c.n) }

// spill moves the n slabs that were not used for longest to the ring.
func (c *Cache) spill(n int) {
	c.pool.ring.put(c.stack[:n])
	copy(c.stack, c.stack[n:c.n])
	c.n -= n
}
