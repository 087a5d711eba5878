package relay

import (
	"net/netip"
	"sync/atomic"
)

// Channel numbers run from MinChannel to MaxChannel (RFC 8656, section 12).
const (
	MinChannel = 0x4000
	MaxChannel = 0x4fff
)

// A page holds the channels of consecutive numbers. Clients count channels upwards from 0x4000,
// so that most allocations need one page: 512 bytes, and as much for the array of pages.
const (
	pageSize = 64
	pages    = (MaxChannel - MinChannel + 1) / pageSize
)

// Table is what the workers read for each batch: who may send what to whom. One writer, the
// Server; readers take no lock and never wait.
type Table struct {
	// Set before publication, never written again.
	seed    uint64
	public4 netip.Addr
	public6 netip.Addr

	// Written by the server.
	clients index[tupleKey, Allocation]
	ports   [1 << 16]atomic.Pointer[Allocation]
}

// AllocationID names an allocation for as long as the process runs.
type AllocationID uint64

// Families is a set of address families.
type Families uint8

// The address families of a relayed address.
const (
	IPv4 Families = 1 << iota
	IPv6
)

// Tuple is what identifies a client: the UDP 5-tuple as the relay sees it.
type Tuple struct {
	// Remote is the client's address.
	Remote netip.AddrPort
	// Local is the address and listening port the client sends to, from which it is answered.
	Local netip.AddrPort
}

// Allocation is a client's relayed address, as packets see it.
type Allocation struct {
	// Set before publication, never written again.

	// ID is never used twice.
	ID AllocationID
	// Client is where data for the client goes, and from where.
	Client Tuple
	// Port is the relayed port, the same for both families.
	Port uint16
	// Families are those the port is bound in.
	Families Families
	// Handle is what the driver gave to HandleOpened: its sockets.
	Handle any

	key  tupleKey
	seed uint64 // of the hash table of peers

	// Written by the server.
	channels [pages]atomic.Pointer[page]
	peers    index[addrKey, Channel]

	// Written by the workers.
	bandwidth bucket
}

type page [pageSize]atomic.Pointer[Channel]

// Channel ties a number to a peer of an allocation. It is immutable, but for how far it leads. A channel that expires and is
// bound again in its grace is the same Channel; one bound after that is another.
type Channel struct {
	// Allocation is whose channel it is: data from the peer goes to Allocation.Client.
	Allocation *Allocation
	// Peer is where data on the channel goes, from Allocation.Port in the peer's family.
	Peer netip.AddrPort
	// Number is the channel number, MinChannel to MaxChannel.
	Number uint16

	// reach is a value of type reach, written by the server.
	reach atomic.Uint32
}

// NewTable returns an empty table. public4 and public6 are the addresses under which peers reach
// the allocated ports; either may be the zero Addr. seed hides from senders which entries of
// the hash tables collide.
func NewTable(public4, public6 netip.Addr, seed uint64) *Table {
	return &Table{seed: seed, public4: public4, public6: public6}
}

// Client returns the allocation of the client that sends from remote to local, or nil.
// Once per train.
func (t *Table) Client(remote, local netip.AddrPort) *Allocation {
	k := keyOfTuple(remote, local)
	return t.clients.get(k.hash(t.seed), k)
}

// Port returns the allocation that owns a relayed port, or nil.
func (t *Table) Port(port uint16) *Allocation { return t.ports[port].Load() }

// Hairpin finds the far channel when c's peer is itself an allocation of this relay, which is so
// for two clients that both depend on it: what came on c is then to be sent on far, to
// far.Allocation.Client, without a way through the kernel. own reports that the peer's address
// is ours; if far is nil then, the far side has no channel for us and the data is dropped,
// exactly as if it had arrived on the far port. So it is if the peer has come to be another port of
// this host. To an allocation behind an address of this host that is not public, the way leads
// through the kernel, which alone knows the source that the far side sees.
func (t *Table) Hairpin(c *Channel) (far *Channel, own bool) {
	addr := c.Peer.Addr()
	if addr != t.public4 && addr != t.public6 {
		return nil, t.closed(c)
	}
	other := t.ports[c.Peer.Port()].Load()
	if other == nil {
		return nil, true
	}
	return other.Peer(netip.AddrPortFrom(addr, c.Allocation.Port)), true
}

// closed reports whether c leads nowhere at this time.
func (t *Table) closed(c *Channel) bool { return t.blocks(reach(c.reach.Load()), c.Peer.Port()) }

// blocks reports whether a channel that leads as far as r carries nothing to a port at this time.
func (t *Table) blocks(r reach, port uint16) bool {
	family := IPv6
	switch r {
	case toAnyone:
		return false
	case toAllocations4:
		family = IPv4
	case toAllocations6:
	default:
		return true
	}
	a := t.ports[port].Load()
	return a == nil || a.Families&family == 0
}

// Channel returns the bound channel with the number, or nil. Two array loads.
func (a *Allocation) Channel(number uint16) *Channel {
	n := int(number) - MinChannel
	if uint(n) >= pages*pageSize {
		return nil
	}
	p := a.channels[n/pageSize].Load()
	if p == nil {
		return nil
	}
	return p[n%pageSize].Load()
}

// Peer returns the bound channel to peer, or nil: then a datagram from peer is dropped.
func (a *Allocation) Peer(peer netip.AddrPort) *Channel {
	k := keyOfAddr(peer)
	return a.peers.get(k.hash(a.seed), k)
}

// Take asks for room for n payload bytes, in either direction, within the bandwidth limit of
// the allocation. now is in monotonic nanoseconds, as read once per batch. Once per train; false
// means drop.
func (a *Allocation) Take(n int, now int64) bool { return a.bandwidth.take(int64(n), now) }

// publish makes a visible to the workers.
func (t *Table) publish(a *Allocation) {
	t.clients.put(a.key.hash(t.seed), a.key, a)
	t.ports[a.Port].Store(a)
}

// withdraw takes a and all its channels away from the workers.
func (t *Table) withdraw(a *Allocation) {
	t.clients.del(a.key.hash(t.seed), a.key)
	t.ports[a.Port].Store(nil)
}

// bind makes c visible to the workers.
func (a *Allocation) bind(c *Channel) {
	n := int(c.Number) - MinChannel
	p := a.channels[n/pageSize].Load()
	if p == nil {
		p = new(page)
		a.channels[n/pageSize].Store(p)
	}
	p[n%pageSize].Store(c)
	k := keyOfAddr(c.Peer)
	a.peers.put(k.hash(a.seed), k, c)
}

// unbind takes c away from the workers.
func (a *Allocation) unbind(c *Channel) {
	n := int(c.Number) - MinChannel
	a.channels[n/pageSize].Load()[n%pageSize].Store(nil)
	k := keyOfAddr(c.Peer)
	a.peers.del(k.hash(a.seed), k)
}
