package batch

import "github.com/firelane/firelane/bufpool"

// Offload says how a superpacket is to be cut, and where its unfinished checksum lies, in the
// terms of the virtio-net header (virtio 1.2, 5.1.6): Linux cuts and sums what it describes.
type Offload struct {
	// Kind is what the packet stands for: one packet, or many TCP segments or UDP datagrams.
	Kind OffloadKind
	// NeedsCsum: the checksum at CsumStart+CsumOffset holds only the pseudo-header sum
	// (not inverted) and is to be finished over the bytes from CsumStart on.
	NeedsCsum bool
	// HdrLen is the length in bytes of all headers in front of the first payload byte.
	HdrLen uint16
	// SegmentSize is the payload bytes of each segment but the last, which may be shorter.
	SegmentSize uint16
	// CsumStart is the offset in bytes of the transport header from the start of the IP header.
	CsumStart uint16
	// CsumOffset is the offset in bytes of the checksum field from CsumStart (TCP 16, UDP 6).
	CsumOffset uint16
}

// OffloadKind names the four shapes a packet on a tunnel queue can have.
type OffloadKind uint8

// The kinds of superpacket. OffloadNone is a single IP packet.
const (
	OffloadNone OffloadKind = iota
	OffloadTCP4
	OffloadTCP6
	OffloadUDP // USO: UDP_L4, either IP version
)

// SuperHeadroom is how many bytes in front of the first piece of a Super belong to the tunnel
// adapter, which writes its virtio-net header there.
const SuperHeadroom = 12

// PacketRoom is how many bytes in front of a packet read from the tunnel are free: an IPv6 header
// and a fragment header in place of an IPv4 one take 28 bytes more.
const PacketRoom = 32

// Super is one IP packet or superpacket on its way into a tunnel queue, in pieces that one
// vectored write gathers.
type Super struct {
	// Head is the first piece, which starts with SuperHeadroom bytes of room that the tunnel
	// adapter overwrites, followed by the IP header. Lent.
	Head []byte
	// Payloads are the further pieces, in order; nil for a packet in one piece. Lent.
	Payloads [][]byte
	// Offload describes the whole.
	Offload Offload
}

// Packet is one IP packet or superpacket read from a tunnel queue.
type Packet struct {
	// Buf is the packet from its first IP header byte on. Lent by the SuperBatch.
	Buf []byte
	// Room is Buf with PacketRoom bytes in front of it, for a header that outgrows the one it
	// replaces; nil where there is none. Lent with Buf.
	Room []byte
	// Offload describes how it is to be cut and summed.
	Offload Offload
}

// SuperBatch is what was read from a tunnel queue, one slab a packet.
type SuperBatch struct {
	// Packets are in the order they were read.
	Packets []Packet
	slabs   []bufpool.Slab
	cache   *bufpool.Cache
	limit   int
}

// NewSuperBatch returns an empty batch for up to packets packets, which borrows its slabs from cache.
func NewSuperBatch(packets int, cache *bufpool.Cache) *SuperBatch {
	return &SuperBatch{
		Packets: make([]Packet, 0, packets),
		slabs:   make([]bufpool.Slab, 0, packets),
		cache:   cache,
		limit:   packets,
	}
}

// Cap returns how many packets the batch takes at most.
func (b *SuperBatch) Cap() int { return b.limit }

// SetCap makes the batch take n packets at most from its next fill on, 1 ≤ n ≤ what it was made
// for: few full superpackets are as much work as many single packets.
func (b *SuperBatch) SetCap(n int) { b.limit = max(1, min(n, cap(b.slabs))) }

// Next lends the slab for the next packet to be read (packet len(Packets)), or false when the
// batch is full or the pool is exhausted (the cache has counted it).
func (b *SuperBatch) Next() (bufpool.Slab, bool) {
	n := len(b.Packets)
	if n >= b.limit {
		return bufpool.Slab{}, false
	}
	if n < len(b.slabs) {
		return b.slabs[n], true
	}
	s, ok := b.cache.Take()
	if ok {
		b.slabs = append(b.slabs, s)
	}
	return s, ok
}

// Reset forgets the packets and keeps the slabs for the next fill: their bytes are dead after it.
func (b *SuperBatch) Reset() { b.Packets = b.Packets[:0] }

// Release is Reset, and gives every slab back to the cache.
func (b *SuperBatch) Release() {
	b.Reset()
	for _, s := range b.slabs {
		b.cache.Give(s)
	}
	b.slabs = b.slabs[:0]
}
