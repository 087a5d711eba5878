package fib

import "net/netip"

// flow is one flow, or, in classExpired, the outside tuple of one that ended. One cache line, no
// pointers.
type flow struct {
	proxy, real     flowAddr
	inside, outside uint32 // tuples: see tupleProto
	last            int64  // the newest packet, either way; or when it ended
	prev, next      uint32 // in the list of its class
	marks           uint8
	class           class
}

// Marks of a flow. They are never cleared.
const (
	markConfirmed = 1 << iota // something has come back
	markFinOut
	markFinIn
	markReset // in either direction
)

// flowTable is what a client's Flows are, once it has any. Flows are numbered densely from 1; a
// number changes when a lower one is freed, and is good until the lock is released at most.
type flowTable struct {
	key     hashKey
	clock   int64 // the latest now
	live    int
	flows   chunked[flow]
	inside  index // live flows by inside tuple
	outside index // live flows and expired tuples by outside tuple
	lists   [numClasses]flowList
	ends    endpoints // ports in use of live flows, by protocol and real address
}

func newFlowTable(key hashKey) *flowTable {
	t := &flowTable{key: key}
	t.flows.push() // number 0 is nobody
	t.inside.init()
	t.outside.init()
	t.ends.init()
	return t
}

// remembered returns the number of expired tuples.
func (t *flowTable) remembered() int { return t.flows.n - 1 - t.live }

// advance returns the later of now and the latest now before: the lists stay in order although
// workers' clocks were read in another order than they got the lock.
func (t *flowTable) advance(now int64) int64 {
	t.clock = max(t.clock, now)
	return t.clock
}

func (t *flowTable) findInside(a flowAddr, tuple uint32) (uint32, *flow) {
	for id := t.inside.first(t.key.hash(a, tuple)); id != 0; id = t.inside.next(id) {
		if f := t.flows.at(id); f.inside == tuple && f.proxy == a {
			return id, f
		}
	}
	return 0, nil
}

func (t *flowTable) findOutside(a flowAddr, tuple uint32) (uint32, *flow) {
	for id := t.outside.first(t.key.hash(a, tuple)); id != 0; id = t.outside.next(id) {
		if f := t.flows.at(id); f.outside == tuple && f.real == a {
			return id, f
		}
	}
	return 0, nil
}

// touch records a packet of a live flow.
func (t *flowTable) touch(id uint32, f *flow, marks uint8, now int64) {
	marks |= f.marks
	if now == f.last && marks == f.marks {
		return
	}
	f.last = now
	c := f.class
	if marks != f.marks {
		f.marks = marks
		c = classOf(f)
	}
	if c != f.class || t.lists[c].tail != id {
		t.unlink(f)
		t.link(id, f, c)
	}
}

// create begins a flow, making room for it if need be, and returns its outside port.
func (f *Flows) create(proxy flowAddr, inside uint32, real netip.Addr, now int64) (uint16, Verdict) {
	t, b := f.table.Load(), f.budget
	if b == nil {
		f.counts.Refused++
		return 0, DropFlowsFull
	}
	addr, to := tupleOf(uint8(inside>>tupleProto), 0, real)
	port := uint16(inside)
	if t != nil {
		free, ok := t.ends.nextFree(addr, to, port, t.key)
		if !ok {
			f.counts.Exhausted++
			return 0, DropNatExhausted
		}
		port = free
	}
	if !f.makeRoom(t, now) {
		f.counts.Refused++
		return 0, DropFlowsFull
	}
	if t == nil {
		t = newFlowTable(b.key)
		t.clock = now
		f.table.Store(t)
	}
	outside := to | uint32(port)
	if id, _ := t.findOutside(addr, outside); id != 0 { // expired, else the port were in use
		f.forget(t, id)
	}
	t.add(flow{proxy: proxy, real: addr, inside: inside, outside: outside, last: now})
	f.counts.Created++
	return port, Pass
}

// makeRoom takes one more flow from the budget. At a bound the client's own flow that was idle
// longest ends instead, and its place is the new one's.
func (f *Flows) makeRoom(t *flowTable, now int64) bool {
	if t == nil || t.live < f.budget.clientMaxLive {
		if take(&f.budget.live, f.budget.maxLive) {
			return true
		}
		if t == nil || t.live == 0 {
			return false
		}
	}
	var oldest uint32
	for c := range classExpired {
		if id := t.lists[c].head; id != 0 && (oldest == 0 || t.flows.at(id).last < t.flows.at(oldest).last) {
			oldest = id
		}
	}
	f.end(t, oldest, now)
	f.counts.Evicted++
	return true
}

// add makes fl a live flow.
func (t *flowTable) add(fl flow) {
	id := uint32(t.flows.n)
	t.flows.push()
	t.inside.links.push()
	t.outside.links.push()
	at := t.flows.at(id)
	*at = fl
	t.inside.insert(id, t.key.hash(fl.proxy, fl.inside))
	t.outside.insert(id, t.key.hash(fl.real, fl.outside))
	t.ends.add(fl.real, fl.outside, t.key)
	t.link(id, at, classOf(at))
	t.live++
}

// end makes a live flow an expired tuple. The flow's place in the budget is the caller's.
func (f *Flows) end(t *flowTable, id uint32, now int64) {
	fl := t.flows.at(id)
	t.unlink(fl)
	t.inside.remove(id)
	t.ends.remove(fl.real, fl.outside, t.key)
	fl.last = now
	t.link(id, fl, classExpired)
	t.live--
	b := f.budget
	b.remembered.Add(1)
	if t.remembered() > b.clientMaxRemember || b.remembered.Load() > b.maxRemembered {
		f.counts.Forgotten++
		f.forget(t, t.lists[classExpired].head)
	}
}

// forget frees an expired tuple's number; the highest number becomes this one.
func (f *Flows) forget(t *flowTable, id uint32) {
	f.budget.remembered.Add(-1)
	t.unlink(t.flows.at(id))
	t.outside.remove(id)
	if last := uint32(t.flows.n - 1); last != id {
		t.renumber(last, id)
	}
	t.flows.pop()
	t.inside.links.pop()
	t.outside.links.pop()
}

func (t *flowTable) renumber(from, to uint32) {
	f := t.flows.at(to)
	*f = *t.flows.at(from)
	l := &t.lists[f.class]
	*t.following(l, f.prev) = to
	*t.preceding(l, f.next) = to
	if f.class != classExpired {
		t.inside.renumber(from, to)
	}
	t.outside.renumber(from, to)
}
