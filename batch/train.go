package batch

import (
	"net/netip"

	"github.com/firelane/firelane/bufpool"
)

// Train is a run of consecutive segments (UDP datagrams) that share one buffer, one pair of
// addresses and one stride. All segments are Stride bytes long, only the last may be shorter:
// the layout that UDP_GRO delivers and UDP_SEGMENT accepts.
//
//	Buf: [segment 0: Stride][segment 1: Stride] … [last: 1 – Stride]
type Train struct {
	// Buf holds the segments back to back. Lent by the batch that holds the train.
	Buf []byte
	// Stride is the distance between segments in bytes; len(Buf) for a lone segment.
	Stride int
	// Remote is who sent the train, or who shall get it. IPv4 is never 4-in-6 mapped here.
	Remote netip.AddrPort
	// Local is our address: the destination the kernel reported (packet info) with the port of
	// the socket on receive; on send the source address to pin, or the zero Addr for the
	// kernel's choice.
	Local netip.AddrPort
	// ECN is the two ECN bits of the outer IP header (RFC 3168), received or to be sent.
	ECN uint8
}

// Len returns the number of segments; 0 for an empty train.
func (t *Train) Len() int {
	if len(t.Buf) == 0 || t.Stride <= 0 {
		return 0
	}
	return (len(t.Buf) + t.Stride - 1) / t.Stride
}

// Segment lends segment i, 0 ≤ i < Len().
func (t *Train) Segment(i int) []byte {
	from := i * t.Stride
	to := min(from+t.Stride, len(t.Buf))
	return t.Buf[from:to:to]
}

// Batch is all trains of one receive call and the slabs that hold their bytes.
type Batch struct {
	// Trains are the trains received, in order of arrival; len(Trains) ≤ cap at NewBatch.
	Trains []Train
	slabs  []bufpool.Slab
	used   int // slabs that hold trains, or dropped messages
	cache  *bufpool.Cache
	limit  int
}

// NewBatch returns an empty batch for up to trains trains, which borrows its slabs from cache.
func NewBatch(trains int, cache *bufpool.Cache) *Batch {
	return &Batch{
		Trains: make([]Train, 0, trains),
		slabs:  make([]bufpool.Slab, 0, trains),
		cache:  cache,
		limit:  trains,
	}
}

// Cap returns how many trains the batch takes at most.
func (b *Batch) Cap() int { return b.limit }

// SetCap makes the batch take n trains at most from its next fill on, 1 ≤ n ≤ what it was made
// for: few full trains are as much work as many single datagrams.
func (b *Batch) SetCap(n int) { b.limit = max(1, min(n, cap(b.slabs))) }

// Slabs makes sure the batch holds as many slabs as the pool can spare, up to Cap, and lends
// them: slab i is meant for train i. Fewer than Cap, even none, means that the pool is
// exhausted (the cache has counted it).
func (b *Batch) Slabs() []bufpool.Slab {
	for len(b.slabs) < b.limit {
		s, ok := b.cache.Take()
		if !ok {
			break
		}
		b.slabs = append(b.slabs, s)
	}
	return b.slabs[:min(len(b.slabs), b.limit)]
}

// Free lends those of Slabs that are not in use since the last Reset, for a fill that adds to the
// trains of others.
func (b *Batch) Free() []bufpool.Slab {
	slabs := b.Slabs()
	return slabs[min(b.used, len(slabs)):]
}

// Use says that the first n slabs of Free hold bytes now.
func (b *Batch) Use(n int) { b.used += n }

// Reset forgets the trains and keeps the slabs for the next fill: trains' bytes are dead
// after it.
func (b *Batch) Reset() { b.Trains, b.used = b.Trains[:0], 0 }

// Release is Reset, and gives every slab back to the cache.
func (b *Batch) Release() {
	b.Reset()
	for _, s := range b.slabs {
		b.cache.Give(s)
	}
	b.slabs = b.slabs[:0]
}
