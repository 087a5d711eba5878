// Package bufpool is packet memory: slabs of one fixed size, cut from one arena outside the
// garbage collector's view, shared through a bounded lock-free ring, with a cache for each
// worker in front of it.
//
// It is not a general allocator: there is one size, all slabs exist from New on, and when none
// is left Take says so and counts it. The process never grows because of packets. What happens
// then (leave input in the kernel, or drop and count) is the caller's decision.
//
// A slab holds the largest thing the kernel hands over in one piece, a UDP_GRO train or a tunnel
// superpacket, behind room for headers that are put in front later:
//
//	Whole: ├─ Headroom 128 ─┤────────────── Data 65,664 ──────────────┤
//	       0               128                                     65,792 = SlabSize
//
// Data holds a 12-byte virtio-net header and the longest IPv6 packet (40 + 65,535 bytes)
// together, so a tunnel may be read into Data as well as into the headroom before it. SlabSize
// and Headroom are multiples of the 64-byte cache line. SlabSize is not a multiple of the page
// size on purpose: headers of neighbouring slabs then fall into different sets of the L1 cache.
//
// Who calls it: batch borrows slabs from a worker's Cache when it is filled and gives them back
// when it is released; the adapters of the kernel write into Data.
//
// Ownership: a slab is fresh (nobody ever had it), or belongs to the ring, to one cache, or to
// whoever took it; the holder gives it back exactly once, to any cache of the same pool. Bytes are
// lent to the holder until then, and they are not cleared in between. A word of state for each slab
// makes a violation visible: giving a slab that is not out, or one of another pool, panics, because
// it is a broken invariant of ours and two owners of one packet are worse than none.
//
// Memory: the arena is mapped at New and faulted in by the kernel as slabs are first touched, in
// huge pages where the host gives them. A cache reuses last in, first out, so that a lightly
// loaded worker stays on few slabs, and a cache that needs more gets fresh ones only while the
// ring is empty, and few at a time. What is resident is therefore what all workers once held at the
// same time, and a little more: workers may come and go, and take over the slabs of those before
// them. The arena is left out of core dumps: it holds customers' packets.
//
// A worker whose batches outgrow its cache cycles through the ring, which is first in, first out,
// and out of the processor's caches: give a cache twice the slabs of a batch.
//
// Cost: batches keep their slabs from one fill to the next, so a busy worker hardly ever calls
// this package. In a profile of a gateway that carries iperf3 over TCP at 3.8 Gbit/s (2026-11-21,
// some 8,000 samples a direction) not one sample lies in it; the benchmarks beside it compare its
// turn of 16 takes and gives with a mutex pool, sync.Pool and bytebufferpool.
//
// Concurrency: a Pool may be used by any number of goroutines, a Cache by one at a time, a Slab
// by its holder. The ring is touched for several slabs at a time. It is lock-free in the sense of
// Vyukov's queue: nobody takes a lock, but a goroutine that loses its core in the few instructions
// between claiming and publishing cells delays those that come to exactly these cells. Give waits
// for it; Take waits within bounds and then reports exhaustion.
//
// Why not sync.Pool or github.com/valyala/bytebufferpool: both may allocate at any Get, are
// emptied by the collector, have no bound and no answer to "who still holds one"; bytebufferpool
// also starts from small buffers that grow by copying. It is here only as a rival in this
// package's benchmarks, and never on the path of a packet.
package bufpool
