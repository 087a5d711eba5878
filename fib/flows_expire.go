package fib

import (
	"time"

	"github.com/firelane/firelane/packet"
)

// class is a kind of deadline: flows of one class end in the order of their newest packets, so
// each class is a list in that order, and expiry looks at heads only.
type class uint8

const (
	classReset       class = iota // a RST was seen in either direction
	classClosed                   // a FIN was seen in both directions
	classUnconfirmed              // nothing has come back yet
	classShort                    // UDP, ICMP
	classTCP
	classExpired // not a flow any more: in the order in which they ended
	numClasses
)

const second = int64(1_000_000_000)

// lifetimes are what a class adds to its flows' newest packet: that is the deadline. Where several
// rows of the reference's rules apply it is their minimum: nothing that is unconfirmed has a
// packet that came in, so its newest is the last outgoing one.
//
// 7,440 s is RFC 5382, REQ-5; 120 s is RFC 4787, REQ-5. 60 s and 5 s are shorter than these RFCs
// want: that is how existing gateways keep what scans and short connections leave from piling up.
var lifetimes = [classExpired]int64{
	classReset:       0,
	classClosed:      5 * second,
	classUnconfirmed: 60 * second,
	classShort:       120 * second,
	classTCP:         7440 * second,
}

func classOf(f *flow) class {
	switch {
	case f.marks&markReset != 0:
		return classReset
	case f.marks&(markFinOut|markFinIn) == markFinOut|markFinIn:
		return classClosed
	case f.marks&markConfirmed == 0:
		return classUnconfirmed
	case uint8(f.inside>>tupleProto) == packet.ProtoTCP:
		return classTCP
	}
	return classShort
}

// ExpireStep is a good budget for one Expire: an ended flow costs one to two microseconds when
// nothing of it is in a cache. Workers are let in between two flows, but if the kernel takes the
// processor from who holds the lock they wait until it is given back.
const ExpireStep = 64

// ExpirePause is how long to leave a table alone between two steps, so that the lock is free most of
// the time. A millisecond is what Go's timers can do; so 60,000 flows of one client end in a second,
// and those of other clients beside them.
const ExpirePause = time.Millisecond

// Expire is the tick: it ends flows whose deadline is at or before now, at most budget of them,
// and reports how many, and whether more are due. Control calls it at 1 Hz, again and again while
// there is more, and workers get the lock in between. A flow's deadline is the earliest of
//
//	newest packet, either way + 7,440 s (TCP), 120 s (UDP, echo)
//	newest outgoing packet + 60 s, if nothing has come back yet
//	newest packet + 5 s, if a FIN was seen in both directions
//	newest packet, if a RST was seen in either direction
//
// Idle flows that are not due cost nothing.
func (f *Flows) Expire(now int64, budget int) (removed int, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	if t == nil {
		return 0, false
	}
	now = t.advance(now)
	for c, lifetime := range lifetimes {
		for id := t.lists[c].head; id != 0 && now-lifetime >= t.flows.at(id).last; id = t.lists[c].head {
			if removed == budget {
				return removed, true
			}
			f.end(t, id, now)
			f.budget.live.Add(-1)
			f.counts.Expired++
			removed++
			if f.mu.LetIn() {
				if t = f.table.Load(); t == nil { // reset meanwhile
					return removed, false
				}
			}
		}
	}
	if t.flows.n == 1 {
		f.table.Store(nil)
	}
	return removed, false
}

// flowList is a doubly linked list of flows by number; 0 is the end.
type flowList struct{ head, tail uint32 }

// following returns what leads to the flow after prev; preceding what leads back to the one
// before next.
func (t *flowTable) following(l *flowList, prev uint32) *uint32 {
	if prev == 0 {
		return &l.head
	}
	return &t.flows.at(prev).next
}

func (t *flowTable) preceding(l *flowList, next uint32) *uint32 {
	if next == 0 {
		return &l.tail
	}
	return &t.flows.at(next).prev
}

// link puts f, of number id, at the tail of class c.
func (t *flowTable) link(id uint32, f *flow, c class) {
	l := &t.lists[c]
	f.class, f.prev, f.next = c, l.tail, 0
	*t.following(l, l.tail) = id
	l.tail = id
}

func (t *flowTable) unlink(f *flow) {
	l := &t.lists[f.class]
	*t.following(l, f.prev) = f.next
	*t.preceding(l, f.next) = f.prev
}
