package fastpath

import (
	"encoding/binary"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// Offloads says which superpackets the tunnel takes.
type Offloads struct {
	TSO bool // TCP segments joined
	USO bool // UDP datagrams joined
}

// maxSuperBytes bounds a superpacket: the total length of an IPv4 packet has 16 bits.
const maxSuperBytes = 65535

// maxDatagrams bounds how many UDP datagrams stand in one superpacket: the kernel refuses more than
// UDP_MAX_SEGMENTS, 64 before Linux 6.9 (include/linux/virtio_net.h).
const maxDatagrams = 64

// maxSegmentsTCP bounds how many TCP segments do: a vectored write takes 1,024 pieces (UIO_MAXIOV),
// one of which is the virtio-net header's.
const maxSegmentsTCP = 1000

// flowSlots is the size of the table of open superpackets, direct-mapped by a hash of the flow.
// Two flows that meet in a slot only end each other's superpackets.
const flowSlots = 64

// coalescer joins neighbouring packets of a flow into superpackets, by reference: payloads stay
// where they were decrypted. Packets that cannot be joined pass alone. Within a flow the order
// of the packets is kept; between flows it is the order of first packets.
type coalescer struct {
	offloads Offloads

	// One entry per packet of the batch, chained per superpacket.
	links []link
	// One entry per superpacket, in order.
	opens []open
	// Newest superpacket of a flow: index in opens plus one, 0 for none.
	flows [flowSlots]int32

	supers []batch.Super
	pieces [][]byte
	first  packet.Info // of the first packet of the superpacket under test
}

// link is one joined payload and the next of the same superpacket; -1 ends the chain.
type link struct {
	payload []byte
	next    int32
}

// open is a superpacket that may still grow.
type open struct {
	head        []byte // batch.SuperHeadroom, then the first packet
	first, last int32  // links of the packets after the first; -1 for none
	l4, payload int    // offsets from the start of the packet
	segment     int    // payload bytes of the first packet
	bytes       int    // total length of the superpacket
	count       int
	nextSeq     uint32 // TCP: sequence number that continues it
	nextID      uint16 // IPv4: identification that continues it
	proto       uint8
	version     uint8
	joins       bool // may take another packet
	verified    bool // the first packet's checksum was checked
	push        bool // the last packet had PSH

	// What admit needs and leaves.
	peer    *fib.Peer
	policy  *fib.Policy // nil for a peer that has none
	refused bool        // not to be written
	moved   []byte      // what follows head when head holds headers only; else nil
}

func newCoalescer(packets int, o Offloads) coalescer {
	return coalescer{
		offloads: o,
		links:    make([]link, 0, packets),
		opens:    make([]open, 0, packets),
		supers:   make([]batch.Super, 0, packets),
		pieces:   make([][]byte, 0, packets),
	}
}

func (c *coalescer) reset() {
	c.links = c.links[:0]
	c.opens = c.opens[:0]
	c.flows = [flowSlots]int32{}
}

// add takes the next packet of the batch, one of p, whose policy is given. b is lent:
// SuperHeadroom bytes of room, then the packet that info describes, of exactly info.Len bytes.
// Packets of different peers are not joined.
func (c *coalescer) add(b []byte, info *packet.Info, p *fib.Peer, policy *fib.Policy) {
	ip := b[batch.SuperHeadroom:]
	shape := c.shapeOf(ip, info)
	if shape == shapeOpaque {
		// Ports unknown: it could be of any flow, so no later packet may overtake it.
		c.flows = [flowSlots]int32{}
		c.start(b, info, false, p, policy)
		return
	}
	slot := &c.flows[flowHash(ip, info)]
	if *slot != 0 {
		if o := &c.opens[*slot-1]; o.joins && o.peer == p && shape == shapeData && o.sameFlow(ip, info) && c.join(o, ip, info) {
			return
		}
	}
	c.start(b, info, shape == shapeData, p, policy)
	*slot = int32(len(c.opens))
}

// shape is what the coalescer can do with a packet.
type shape uint8

const (
	shapeOpaque shape = iota // fragment, extension headers, other protocols
	shapeAlone               // its flow is known, but it must stand alone
	shapeData                // may start or continue a superpacket
)

// tcpAlone are the TCP flags that keep a packet alone. ECE may repeat, PSH ends a superpacket.
const tcpAlone = packet.FlagFIN | packet.FlagSYN | packet.FlagRST | packet.FlagURG | packet.FlagCWR

func (c *coalescer) shapeOf(ip []byte, info *packet.Info) shape {
	if info.Fragment || info.Version == 4 && info.L4 != packet.IPv4Header || info.Version == 6 && info.L4 != packet.IPv6Header {
		return shapeOpaque
	}
	switch info.Proto {
	case packet.ProtoTCP:
		if !c.offloads.TSO || info.TCPFlags&tcpAlone != 0 || info.TCPFlags&packet.FlagACK == 0 || info.Payload == info.Len {
			return shapeAlone
		}
		return shapeData
	case packet.ProtoUDP:
		udpLen := int(binary.BigEndian.Uint16(ip[info.L4+4:]))
		zeroSum := ip[info.L4+6]|ip[info.L4+7] == 0
		if !c.offloads.USO || zeroSum || info.Payload == info.Len || udpLen != info.Len-info.L4 {
			return shapeAlone
		}
		return shapeData
	}
	return shapeOpaque
}

// flowHash spreads flows over slots by their ports and the low address bytes.
func flowHash(ip []byte, info *packet.Info) int {
	ports := binary.LittleEndian.Uint32(ip[info.L4:])
	// The last four bytes of the source and of the destination address.
	addrs := binary.LittleEndian.Uint32(ip[info.L4-4:])
	if info.Version == 4 {
		addrs ^= binary.LittleEndian.Uint32(ip[12:])
	} else {
		addrs ^= binary.LittleEndian.Uint32(ip[20:])
	}
	h := (ports ^ addrs*0x9E3779B1) * 0x85EBCA6B
	return int(h >> 26) // the top six bits: flowSlots is 64
}

// start opens a superpacket with its first packet.
func (c *coalescer) start(b []byte, info *packet.Info, joins bool, p *fib.Peer, policy *fib.Policy) {
	ip := b[batch.SuperHeadroom:]
	c.opens = append(c.opens, open{
		head: b, first: -1, last: -1,
		l4: info.L4, payload: info.Payload, segment: info.Len - info.Payload,
		bytes: info.Len, count: 1, proto: info.Proto, version: info.Version, joins: joins,
		peer: p, policy: policy,
	})
	if !joins {
		return
	}
	o := &c.opens[len(c.opens)-1]
	if info.Version == 4 {
		o.nextID = binary.BigEndian.Uint16(ip[4:]) + 1
	}
	if info.Proto == packet.ProtoTCP {
		o.nextSeq = binary.BigEndian.Uint32(ip[info.L4+4:]) + uint32(o.segment)
		o.joins = info.TCPFlags&packet.FlagPSH == 0
	}
}

// sameFlow compares everything in the headers that must not differ within a superpacket; the
// packet's shape is shapeData.
func (o *open) sameFlow(ip []byte, info *packet.Info) bool {
	if o.version != info.Version || o.proto != info.Proto || o.payload != info.Payload {
		return false
	}
	h := o.head[batch.SuperHeadroom:]
	if o.version == 4 {
		// Version to TOS, then flags, TTL, protocol, then both addresses; identification apart.
		if h[1] != ip[1] || binary.LittleEndian.Uint32(h[6:]) != binary.LittleEndian.Uint32(ip[6:]) ||
			binary.LittleEndian.Uint64(h[12:]) != binary.LittleEndian.Uint64(ip[12:]) {
			return false
		}
	} else {
		if binary.LittleEndian.Uint32(h) != binary.LittleEndian.Uint32(ip) || h[7] != ip[7] ||
			[32]byte(h[8:40]) != [32]byte(ip[8:40]) {
			return false
		}
	}
	h, t := h[o.l4:o.payload], ip[o.l4:o.payload]
	if binary.LittleEndian.Uint32(h) != binary.LittleEndian.Uint32(t) { // ports
		return false
	}
	if o.proto == packet.ProtoUDP {
		return true
	}
	const pshMask = ^uint64(uint64(packet.FlagPSH) << 40)
	// Acknowledgement, data offset, flags but PSH, window; urgent pointer and options.
	return binary.LittleEndian.Uint64(h[8:])&pshMask == binary.LittleEndian.Uint64(t[8:])&pshMask &&
		string(h[18:]) == string(t[18:])
}

// join adds a packet of the same flow to o if it continues it, and reports whether it did. If not,
// o is left as it was, and the packet starts the next superpacket of the flow.
func (c *coalescer) join(o *open, ip []byte, info *packet.Info) bool {
	n := info.Len - info.Payload
	if n > o.segment || o.bytes+n > maxSuperBytes {
		return false
	}
	if o.proto == packet.ProtoTCP {
		if o.count == maxSegmentsTCP || binary.BigEndian.Uint32(ip[o.l4+4:]) != o.nextSeq {
			return false
		}
	} else if o.count == maxDatagrams {
		return false
	}
	if o.version == 4 && !o.continuesID(ip) {
		return false
	}
	if !c.verified(o) || !packet.VerifyHeader(ip, info) || !packet.VerifyTransport(ip, info) {
		o.joins = false
		return false
	}
	c.links = append(c.links, link{payload: ip[info.Payload:info.Len], next: -1})
	at := int32(len(c.links) - 1)
	if o.last >= 0 {
		c.links[o.last].next = at
	} else {
		o.first = at
	}
	o.last = at
	o.bytes += n
	o.count++
	o.nextSeq += uint32(n)
	o.nextID++
	o.push = info.TCPFlags&packet.FlagPSH != 0 && o.proto == packet.ProtoTCP
	o.joins = n == o.segment && !o.push
	return true
}

// continuesID reports whether the IPv4 identification is what the kernel gives this packet when
// it cuts the superpacket. Packets that may not be fragmented carry no meaning in it (RFC 6864).
func (o *open) continuesID(ip []byte) bool {
	const dontFragment = 0x40
	return ip[6]&dontFragment != 0 || binary.BigEndian.Uint16(ip[4:]) == o.nextID
}

// verified reports whether the checksums of o's first packet hold: joining replaces them.
func (c *coalescer) verified(o *open) bool {
	if !o.verified {
		ip := o.head[batch.SuperHeadroom:]
		o.verified = packet.Parse(ip, &c.first) && packet.VerifyHeader(ip, &c.first) && packet.VerifyTransport(ip, &c.first)
	}
	return o.verified
}

// finish turns the batch's packets into supers, in order. They are lent until reset.
func (c *coalescer) finish() []batch.Super {
	c.supers = c.supers[:0]
	c.pieces = c.pieces[:0]
	for i := range c.opens {
		o := &c.opens[i]
		if o.refused {
			continue
		}
		if o.count == 1 && o.moved == nil {
			c.supers = append(c.supers, batch.Super{Head: o.head})
			continue
		}
		from := len(c.pieces)
		if o.moved != nil {
			c.pieces = append(c.pieces, o.moved)
		}
		for at := o.first; at >= 0; at = c.links[at].next {
			c.pieces = append(c.pieces, c.links[at].payload)
		}
		super := batch.Super{Head: o.head, Payloads: c.pieces[from:len(c.pieces):len(c.pieces)]}
		if o.count > 1 {
			super.Offload = o.seal()
		}
		c.supers = append(c.supers, super)
	}
	return c.supers
}

// seal rewrites the first packet's headers so that they stand for the whole superpacket: lengths,
// IPv4 header checksum, the transport checksum as the bare pseudo-header sum, PSH.
func (o *open) seal() batch.Offload {
	ip := o.head[batch.SuperHeadroom:]
	f := batch.Offload{
		Kind:        batch.OffloadUDP,
		NeedsCsum:   true,
		HdrLen:      uint16(o.payload),
		SegmentSize: uint16(o.segment),
		CsumStart:   uint16(o.l4),
		CsumOffset:  packet.WriteSuper(ip, o.version, o.proto, o.l4, o.bytes),
	}
	if o.proto == packet.ProtoTCP {
		f.Kind = batch.OffloadTCP4
		if o.version == 6 {
			f.Kind = batch.OffloadTCP6
		}
		if o.push {
			ip[o.l4+13] |= packet.FlagPSH
		}
	}
	return f
}
