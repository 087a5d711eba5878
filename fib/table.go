package fib

import (
	"net/netip"
	"sync/atomic"
)

// MaxPeers bounds the peers of one table. A connection id has 24 bits, and the table of
// connections is kept at most half full so that a free random id is found in two tries on
// average; 65,536 peers need 131,072 slots, 1 MiB. Control enforces it.
const MaxPeers = 1 << 16

// maxConnections bounds the connection ids: those of removed peers are free again only when the
// change that says so is applied, and one request may replace all peers.
const maxConnections = 2 * MaxPeers

// SessionsPerPeer is how many sessions of one peer can be live: the newest replaces the oldest.
const SessionsPerPeer = 8

// minSlots is the size of the first table of connections.
const minSlots = 256

// Table is the forwarding information base. One writer (Apply and the connection ids), many
// readers.
type Table struct {
	// Written by control, whole values only.
	connections atomic.Pointer[connections]
	routes      atomic.Pointer[Routes]
	mtu         atomic.Int64

	// Control's own.
	used int
}

// connections finds a connection by its id without a collision: the slot is id modulo the table's
// size (a power of two), and ids are chosen so that each has a slot to itself. Growing keeps
// that true: ids that differ modulo n differ modulo 2n.
type connections struct{ slots []atomic.Pointer[connection] }

// connection is one peer's ring of sessions.
type connection struct {
	id       uint32
	sessions [SessionsPerPeer]atomic.Pointer[Session]
}

// NewTable returns an empty table for inner packets of up to mtu bytes.
func NewTable(mtu int) *Table {
	t := &Table{}
	t.connections.Store(&connections{slots: make([]atomic.Pointer[connection], minSlots)})
	t.routes.Store(NewRoutes())
	t.mtu.Store(int64(mtu))
	return t
}

// Apply makes the changes visible to the loops, in order. Only control's driver calls it.
func (t *Table) Apply(changes []Change) {
	for _, c := range changes {
		c.apply(t)
	}
}

// Session returns the session with our receiver index, or nil. Two array loads.
func (t *Table) Session(index uint32) *Session {
	slots := t.connections.Load().slots
	id := index >> 8
	c := slots[int(id)&(len(slots)-1)].Load()
	if c == nil || c.id != id {
		return nil
	}
	s := c.sessions[index%SessionsPerPeer].Load()
	if s == nil || s.Index != index {
		return nil
	}
	return s
}

// PeerByAddr returns the peer that an inner address belongs to, or nil.
func (t *Table) PeerByAddr(a netip.Addr) *Peer { return t.routes.Load().Peer(a) }

// Routes returns the mapping from inner addresses to peers, for control to build the next on.
func (t *Table) Routes() *Routes { return t.routes.Load() }

// MTU returns how large an inner packet may be, in bytes.
func (t *Table) MTU() int { return int(t.mtu.Load()) }

// TakeConnectionID reserves an unused 24-bit connection id, or reports false when twice
// MaxPeers are taken. random yields random bits. Only control calls it.
func (t *Table) TakeConnectionID(random func() uint32) (id uint32, ok bool) {
	if t.used >= maxConnections {
		return 0, false
	}
	cs := t.connections.Load()
	if 2*(t.used+1) > len(cs.slots) {
		cs = cs.grown()
		t.connections.Store(cs)
	}
	for {
		id = random() & 0xffffff
		slot := &cs.slots[int(id)&(len(cs.slots)-1)]
		if slot.Load() == nil {
			slot.Store(&connection{id: id})
			t.used++
			return id, true
		}
	}
}

// FreeConnectionID gives a connection id and all its sessions back. Only control calls it.
func (t *Table) FreeConnectionID(id uint32) {
	cs := t.connections.Load()
	slot := &cs.slots[int(id)&(len(cs.slots)-1)]
	if c := slot.Load(); c == nil || c.id != id {
		panic("fib: connection id freed that was not taken")
	}
	slot.Store(nil)
	t.used--
}

func (cs *connections) grown() *connections {
	next := &connections{slots: make([]atomic.Pointer[connection], 2*len(cs.slots))}
	for i := range cs.slots {
		if c := cs.slots[i].Load(); c != nil {
			next.slots[int(c.id)&(len(next.slots)-1)].Store(c)
		}
	}
	return next
}

func (t *Table) slotOf(s *Session) *atomic.Pointer[Session] {
	slots := t.connections.Load().slots
	id := s.Index >> 8
	c := slots[int(id)&(len(slots)-1)].Load()
	if c == nil || c.id != id {
		return nil
	}
	return &c.sessions[s.Index%SessionsPerPeer]
}

func (t *Table) putSession(s *Session) {
	slot := t.slotOf(s)
	if slot == nil {
		panic("fib: session of a connection id that was not taken")
	}
	slot.Store(s)
}

func (t *Table) delSession(s *Session) {
	if slot := t.slotOf(s); slot != nil {
		slot.CompareAndSwap(s, nil)
	}
}
