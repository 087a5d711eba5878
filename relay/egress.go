package relay

import (
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// maxGathers is how many messages may wait for a flush: as many as a batch holds received ones,
// twice, for mixed trains. More are sent in several flushes.
const maxGathers = 2 * batchSlabs

// maxBytes is the most payload bytes of one message: what udp puts into one, less the margin by
// which 65,535 bytes of IPv4 packet exceed it.
const maxBytes = 65507

// newestSlots is the size of the cache from a flow to its newest gather. Two flows that share a
// slot cost each other longer trains, never their order.
const newestSlots = 256

// egress collects what one batch sends, as gathers over the bytes received: a segment joins the
// newest gather of its flow if that can still grow, so that what came in as a train leaves as
// one, single datagrams of one flow become trains, and the order within a flow stays.
type egress struct {
	segments int // most segments of one gather
	out      [maxGathers]outgoing
	n        int
	exits    []*exit // with something to send, in order of first use
	newest   [newestSlots]newest
	turn     uint32 // number of the flush to come: what newest says of others is stale
	list     []*batch.Gather
	counts   *workerCounters
}

// outgoing is a gather that is being put together.
type outgoing struct {
	batch.Gather
	channel  *Channel
	toClient bool
	full     bool     // its last segment is a shorter one
	next     int32    // of the same exit
	store    [][]byte // the memory of Pieces, which grows to what is needed and is kept

	// ChannelData headers of the full segments and of a shorter last one.
	heads [2][stun.ChannelHeader]byte
}

// newest names the newest gather of a flow.
type newest struct {
	turn uint32
	at   int32
}

func (e *egress) init(segments int, counts *workerCounters) {
	e.segments, e.counts, e.turn = segments, counts, 1
	e.exits = make([]*exit, 0, maxGathers)
	e.list = make([]*batch.Gather, 0, maxGathers)
}

// toPeer returns a gather of channel c that takes a payload of n bytes next. It is good for this
// one payload; x is the way to c.Peer.
func (e *egress) toPeer(x *exit, c *Channel, n int, ecn uint8) *outgoing {
	slot := e.slot(c, false)
	if g := e.current(slot, c, false); g != nil && g.takes(n, ecn, e.segments) {
		return g
	}
	g := e.start(x, slot)
	g.channel, g.toClient = c, false
	g.PerSegment, g.Stride, g.ECN = 1, n, ecn
	g.Remote, g.Local = c.Peer, x.source
	return g
}

// toClient returns a gather of channel c towards its client that takes a payload of n bytes next.
// x is the way to the client.
func (e *egress) toClient(x *exit, c *Channel, n int, ecn uint8) *outgoing {
	slot := e.slot(c, true)
	if g := e.current(slot, c, true); g != nil && g.takes(n+stun.ChannelHeader, ecn, e.segments) {
		return g
	}
	g := e.start(x, slot)
	g.channel, g.toClient = c, true
	g.PerSegment, g.Stride, g.ECN = 2, n+stun.ChannelHeader, ecn
	g.Remote, g.Local = c.Allocation.Client.Remote, c.Allocation.Client.Local
	stun.PutChannelHeader(g.heads[0][:], c.Number, n)
	return g
}

// takes reports whether a segment of n bytes may follow: no longer than the others, which are all
// of one length, and not empty, which UDP_SEGMENT cannot express.
func (g *outgoing) takes(n int, ecn uint8, segments int) bool {
	return !g.full && n <= g.Stride && n > 0 && g.ECN == ecn && g.Len() < segments && g.Size+n <= maxBytes
}

// add puts a payload into a gather that takes it.
func (g *outgoing) add(payload []byte) {
	n := len(payload)
	if g.toClient {
		head := &g.heads[0]
		if n+stun.ChannelHeader < g.Stride {
			head = &g.heads[1]
			stun.PutChannelHeader(head[:], g.channel.Number, n)
		}
		g.Pieces = append(g.Pieces, head[:], payload)
		n += stun.ChannelHeader
	} else {
		g.Pieces = append(g.Pieces, payload)
	}
	g.Size += n
	g.full = g.full || n < g.Stride || n == 0
}

// slot returns where the newest gather of a flow is remembered.
func (e *egress) slot(c *Channel, toClient bool) *newest {
	h := uint32(c.Number) ^ uint32(c.Allocation.Port)*31
	if toClient {
		h += newestSlots / 2
	}
	return &e.newest[h%newestSlots]
}

// current returns the newest gather of a flow, or nil.
func (e *egress) current(slot *newest, c *Channel, toClient bool) *outgoing {
	if slot.turn != e.turn {
		return nil
	}
	if g := &e.out[slot.at]; g.channel == c && g.toClient == toClient {
		return g
	}
	return nil
}

// start appends an empty gather to what waits for x, after a flush if there is no room.
func (e *egress) start(x *exit, slot *newest) *outgoing {
	if e.n == maxGathers {
		e.flush()
	}
	at := int32(e.n)
	e.n++
	g := &e.out[at]
	pieces := g.store[:0]
	*g = outgoing{next: noGather, store: pieces}
	g.Pieces = pieces
	if x.busy {
		e.out[x.last].next = at
	} else {
		x.busy, x.first = true, at
		e.exits = append(e.exits, x)
	}
	x.last = at
	*slot = newest{turn: e.turn, at: at}
	return g
}

// flush sends everything, each exit's in order, with one call for each exit.
func (e *egress) flush() {
	patience := sendPatience
	for _, x := range e.exits {
		e.list = e.list[:0]
		for at := x.first; at != noGather; at = e.out[at].next {
			e.out[at].store = e.out[at].Pieces // where it has grown to
			e.list = append(e.list, &e.out[at].Gather)
			e.counts.handOver(&e.out[at])
		}
		x.busy = false
		datagrams, bytes := x.socket.Sent()
		e.send(x, &patience)
		after, bytesAfter := x.socket.Sent()
		e.counts.carried(x.shared, int(after-datagrams), int(bytesAfter-bytes))
	}
	for i := range e.n {
		e.out[i].channel = nil
	}
	e.exits, e.n = e.exits[:0], 0
	e.turn++
}

// send sends the list through x. A full send buffer of a listening socket is waited for once in a
// flush, because the link behind it is the one of all, and then costs the newest data. That of a
// port costs it at once: its client alone has filled it, perhaps with datagrams that wait for
// neighbours which do not exist, and the others must not wait for that.
func (e *egress) send(x *exit, patience *time.Duration) {
	for list := e.list; len(list) > 0; {
		n, err := x.socket.SendGathers(list)
		list = list[n:]
		switch {
		case len(list) == 0:
		case err != nil:
			e.lose(DropSendRefused, list)
			return
		case x.shared && *patience > 0:
			x.socket.WaitWritable(*patience)
			*patience = 0
		default:
			e.lose(DropSendFull, list)
			return
		}
	}
}

func (e *egress) lose(v Drop, list []*batch.Gather) {
	for _, g := range list {
		e.counts.drop(v, g.Len())
	}
}

const (
	noGather = -1
	// sendPatience is how long a flush waits for room in the listening sockets' send buffers: the
	// time in which a 10 Gbit/s link drains 1 MiB.
	sendPatience = time.Millisecond
)
