package relay

import (
	"sync/atomic"

	"github.com/firelane/firelane/protocol/stun"
)

// Drop says why the data path did not carry a datagram.
type Drop uint8

// The reasons.
const (
	// DropUnknown: from a client, and neither STUN nor ChannelData by its first byte.
	DropUnknown Drop = iota
	// DropSourcePort: from port 0, which cannot be answered.
	DropSourcePort
	// DropMalformed: ChannelData whose number or length makes no sense.
	DropMalformed
	// DropNoAllocation: ChannelData of a sender without an allocation.
	DropNoAllocation
	// DropUnboundChannel: ChannelData on a number that is not bound, nor bound in time for what was
	// held of it.
	DropUnboundChannel
	// DropUnboundPeer: to a relayed port, from a peer without a channel.
	DropUnboundPeer
	// DropFarUnbound: for another allocation of this relay that has no channel for the sender's, or
	// for a port of this host that is none's.
	DropFarUnbound
	// DropForeignWorker: ChannelData that reached another worker than its allocation's.
	DropForeignWorker
	// DropNoFamily: towards an address family without a socket.
	DropNoFamily
	// DropBandwidth: beyond the bandwidth limit of the allocation.
	DropBandwidth
	// DropPuntFull: STUN messages while the machine is too far behind, or too many of the sender's
	// wait for it, or longer than any is.
	DropPuntFull
	// DropSendFull: the kernel's send buffer had no room, answers to Binding requests included.
	DropSendFull
	// DropSendRefused: the socket failed. What the kernel refuses for a destination stands in the
	// socket's own counters.
	DropSendRefused
	numDrops
)

var dropNames = [numDrops]string{
	DropUnknown: "DropUnknown", DropSourcePort: "DropSourcePort", DropMalformed: "DropMalformed",
	DropNoAllocation: "DropNoAllocation", DropUnboundChannel: "DropUnboundChannel",
	DropUnboundPeer: "DropUnboundPeer", DropFarUnbound: "DropFarUnbound",
	DropForeignWorker: "DropForeignWorker", DropNoFamily: "DropNoFamily", DropBandwidth: "DropBandwidth",
	DropPuntFull: "DropPuntFull", DropSendFull: "DropSendFull", DropSendRefused: "DropSendRefused",
}

// String returns the reason's name, which is also its metric's name.
func (d Drop) String() string {
	if d >= numDrops {
		return "Drop?"
	}
	return dropNames[d]
}

// Measure names one of a worker's counters that is not a drop.
type Measure uint8

// The measures.
const (
	// Trains: trains received, from clients and peers.
	Trains Measure = iota
	// ToPeers and ToClients: datagrams that the kernel took and sent; ToPeersBytes and
	// ToClientsBytes: their payload.
	// What goes from one client of this relay to another counts as to clients.
	ToPeers
	ToPeersBytes
	ToClients
	ToClientsBytes
	// Punts: STUN messages handed to the machine.
	Punts
	// BindingsAnswered: Binding requests answered by the worker itself.
	BindingsAnswered
	// Wakeups: times the worker was woken by the kernel.
	Wakeups
	// Pauses: times the worker slept on purpose to let a batch gather.
	Pauses
	// Stalls: times input had to wait because it could not be read.
	Stalls
	// Held: ChannelData that waited for the ChannelBind right before it to be handled.
	Held
	// PortsRefused: relayed ports that the kernel did not let the worker poll; their allocations end.
	PortsRefused
	// PortOverflows: datagrams that the kernel dropped at the full receive buffers of relayed
	// ports, seen with half a minute's delay at most while a port is open, and when it is closed.
	PortOverflows
	// PortSendFailures: datagrams to peers that the kernel refused to send, likewise.
	PortSendFailures
	// PortUnreadable: datagrams from peers that sockets do not hand over, likewise: empty ones, and
	// ones that were cut off or came without an address. What came as one train counts as one.
	PortUnreadable
	numMeasures
)

var measureNames = [numMeasures]string{
	Trains: "Trains", ToPeers: "ToPeers", ToPeersBytes: "ToPeersBytes", ToClients: "ToClients",
	ToClientsBytes: "ToClientsBytes", Punts: "Punts", BindingsAnswered: "BindingsAnswered", Wakeups: "Wakeups",
	Pauses: "Pauses", Stalls: "Stalls", Held: "Held", PortsRefused: "PortsRefused",
	PortOverflows: "PortOverflows", PortSendFailures: "PortSendFailures", PortUnreadable: "PortUnreadable",
}

// String returns the measure's name, which is also its metric's name.
func (m Measure) String() string {
	if m >= numMeasures {
		return "Measure?"
	}
	return measureNames[m]
}

// workerCounters are one worker's own: it alone writes them, so adding is a load and a store;
// anyone may read.
type workerCounters struct {
	drops    [numDrops]atomic.Uint64
	measures [numMeasures]atomic.Uint64
	sizes    sizeCounts
	handed   atomic.Uint64 // bytes of payload that sizes has counted
}

func (c *workerCounters) drop(d Drop, n int) {
	c.drops[d].Store(c.drops[d].Load() + uint64(n))
}

func (c *workerCounters) add(m Measure, n int) {
	c.measures[m].Store(c.measures[m].Load() + uint64(n))
}

// handOver counts the sizes of what is about to be sent.
func (c *workerCounters) handOver(g *outgoing) {
	c.sizes.count(g)
	payload := g.Size
	if g.toClient {
		payload -= g.Len() * stun.ChannelHeader
	}
	c.handed.Store(c.handed.Load() + uint64(payload))
}

// carried counts datagrams that the kernel has sent, of bytes bytes in all: through a listening
// socket to clients, with headers, and through the others to peers.
func (c *workerCounters) carried(toClients bool, datagrams, bytes int) {
	if toClients {
		c.add(ToClients, datagrams)
		c.add(ToClientsBytes, bytes-datagrams*stun.ChannelHeader)
		return
	}
	c.add(ToPeers, datagrams)
	c.add(ToPeersBytes, bytes)
}

// Traffic is the sum of the workers' counters at one time, give or take what is under way.
type Traffic struct {
	Drops    [numDrops]uint64
	Measures [numMeasures]uint64
	// Sizes counts payloads handed to the kernel by size: bucket i those of up to 100·(i+1) bytes
	// and more than the bucket before, the last one all that are longer. SizeSum is the sum of
	// them all in bytes. Measures leaves out what the kernel then refused.
	Sizes   [numSizes]uint64
	SizeSum uint64
}

func (t *Traffic) add(c *workerCounters) {
	for i := range t.Drops {
		t.Drops[i] += c.drops[i].Load()
	}
	for i := range t.Measures {
		t.Measures[i] += c.measures[i].Load()
	}
	for i := range t.Sizes {
		t.Sizes[i] += c.sizes[i].Load()
	}
	t.SizeSum += c.handed.Load()
}
