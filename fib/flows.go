package fib

import (
	"net/netip"
	"sync/atomic"

	"github.com/firelane/firelane/packet"
)

// Flows is the NAT table of one client. Each flow ties an inside tuple to an outside tuple:
//
//	inside:  protocol, port (or echo identifier) of the client, proxy address as the client sees it
//	outside: protocol, port (or echo identifier) allocated,     real address behind the proxy address
//
// Proxy and real address are of either family, independently (NAT64). Echo of both families is
// one protocol, packet.ProtoICMP. The remote port is no part of a tuple: a client's port that talks
// to two ports of one proxy address has one flow, and any port of the real address may answer
// (address-dependent filtering, RFC 4787, section 5). The table decides and holds no bytes of
// packets: package packet rewrites. What is not TCP, UDP or echo is not the table's.
//
// A flow ends at the first tick (Expire) at or after its deadline, see Expire. Until that tick
// packets find it, and refresh it. The outside tuple of a flow that ended stays known as expired,
// until it is allocated again: what still arrives for it is late, not somebody else's.
//
// Any goroutine may call any method. Each call takes the table's lock once; Lock with the Locked
// variants is for several look-ups under one. now is fast-path time: monotonic nanoseconds. A now
// that is behind what another worker has brought counts as that.
//
// The zero value is an empty table without a budget: it answers look-ups and refuses new flows.
type Flows struct {
	mu     briefLock
	budget *FlowBudget               // nil: no new flows
	table  atomic.Pointer[flowTable] // nil: no flow, no expired tuple; written under mu
	counts FlowCounts
	epoch  uint64 // of the names that flows may be begun to
}

// Hit says what a look-up by outside tuple found.
type Hit uint8

// The results of a look-up.
const (
	// FlowMiss: the tuple is not the table's: the packet is none of a flow.
	FlowMiss Hit = iota
	// FlowFound: the packet belongs to a flow.
	FlowFound
	// FlowExpired: the packet is late: its flow has ended. The caller drops it, DropExpiredFlow.
	FlowExpired
)

// SetBudget gives the table its share in the process-wide bounds, and the key of its hashes. It
// is called before the peer is published, once.
func (f *Flows) SetBudget(b *FlowBudget) {
	f.mu.Lock()
	f.budget = b
	f.mu.Unlock()
}

// Lock takes the table's lock for calls of the Locked variants: once per run of packets.
func (f *Flows) Lock() { f.mu.Lock() }

// Unlock releases what Lock took.
func (f *Flows) Unlock() { f.mu.Unlock() }

// Empty reports that no look-up by outside tuple can find anything. It takes no lock.
func (f *Flows) Empty() bool { return f.table.Load() == nil }

// Outgoing looks up or creates the flow of a packet from the client: from port (or echo
// identifier) to proxy, which stands for real at present. It returns the port to send from and the
// address to send to: a flow keeps the real address it began with, whatever real is by now.
//
// New flows keep their port if they can: the candidates are port, port+1 … 65535, 1 … port-1, and
// the first that no flow of the same protocol has towards real is taken. DropNatExhausted: all are
// taken. DropFlowsFull: the budget is used up and the client has no flow that could go instead.
//
// tcpFlags (byte 13 of the header; ignored unless proto is TCP) are taken from packets of a flow,
// not from the one that creates it: a stray FIN or RST does not begin a flow as ended.
func (f *Flows) Outgoing(proto uint8, port uint16, proxy, real netip.Addr, tcpFlags uint8, now int64) (uint16, netip.Addr, Verdict) {
	f.mu.Lock()
	outPort, realNow, v := f.OutgoingLocked(proto, port, proxy, real, tcpFlags, now)
	f.mu.Unlock()
	return outPort, realNow, v
}

// OutgoingUnder is Outgoing for a packet that was admitted under a policy of the given epoch. If the
// table was reset for a newer one meanwhile, the packet's worker has not seen that policy yet: the
// flow it asks for would lead to what its proxy address no longer stands for, DropExpiredFlow.
func (f *Flows) OutgoingUnder(epoch uint64, proto uint8, port uint16, proxy, real netip.Addr, tcpFlags uint8, now int64) (uint16, netip.Addr, Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if epoch < f.epoch {
		return 0, netip.Addr{}, DropExpiredFlow
	}
	return f.OutgoingLocked(proto, port, proxy, real, tcpFlags, now)
}

// OutgoingLocked is Outgoing for a caller that holds the lock.
func (f *Flows) OutgoingLocked(proto uint8, port uint16, proxy, real netip.Addr, tcpFlags uint8, now int64) (uint16, netip.Addr, Verdict) {
	t := f.table.Load()
	addr, tuple := tupleOf(proto, port, proxy)
	if t != nil {
		now = t.advance(now)
		if id, fl := t.findInside(addr, tuple); id != 0 {
			t.touch(id, fl, outgoingMarks(proto, tcpFlags), now)
			return uint16(fl.outside), fl.real.addr(fl.outside), Pass
		}
	}
	outPort, v := f.create(addr, tuple, real, now)
	return outPort, real, v
}

// Incoming looks up the flow of a packet from real to port (or echo identifier) of the client's
// outside, stamps and confirms it, and returns the port and the address that the client knows.
func (f *Flows) Incoming(proto uint8, port uint16, real netip.Addr, tcpFlags uint8, now int64) (uint16, netip.Addr, Hit) {
	if f.table.Load() == nil {
		return 0, netip.Addr{}, FlowMiss
	}
	f.mu.Lock()
	insidePort, proxy, hit := f.IncomingLocked(proto, port, real, tcpFlags, now)
	f.mu.Unlock()
	return insidePort, proxy, hit
}

// IncomingLocked is Incoming for a caller that holds the lock.
func (f *Flows) IncomingLocked(proto uint8, port uint16, real netip.Addr, tcpFlags uint8, now int64) (uint16, netip.Addr, Hit) {
	t := f.table.Load()
	if t == nil {
		return 0, netip.Addr{}, FlowMiss
	}
	now = t.advance(now)
	id, fl := t.findOutside(tupleOf(proto, port, real))
	switch {
	case id == 0:
		return 0, netip.Addr{}, FlowMiss
	case fl.class == classExpired:
		return 0, netip.Addr{}, FlowExpired
	}
	t.touch(id, fl, incomingMarks(proto, tcpFlags), now)
	return uint16(fl.inside), fl.proxy.addr(fl.inside), FlowFound
}

// Quoted looks up the flow of an ICMP error by the outgoing packet that it quotes: sent from port
// (or echo identifier) to real. The error counts as an incoming packet; what the quoted packet's
// TCP flags were does not matter, and no error ends a flow (RFC 4787, REQ-12;
// RFC 5382, REQ-10).
func (f *Flows) Quoted(proto uint8, port uint16, real netip.Addr, now int64) (uint16, netip.Addr, Hit) {
	return f.Incoming(proto, port, real, 0, now)
}

// Len returns the number of flows.
func (f *Flows) Len() int { return f.Stats().Live }

// Stats returns the table's size and counters.
func (f *Flows) Stats() FlowStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := FlowStats{FlowCounts: f.counts}
	if t := f.table.Load(); t != nil {
		s.Live, s.Remembered = t.live, t.remembered()
	}
	return s
}

// Reset drops all flows and expired tuples: the client has numbered its proxy addresses anew, for
// the epoch-th time.
func (f *Flows) Reset(epoch uint64) {
	f.mu.Lock()
	f.reset()
	f.epoch = epoch
	f.mu.Unlock()
}

// Close is Reset, and refuses new flows from then on: workers may hold the peer for a moment
// after it was withdrawn, and what they added would never be given back to the budget.
func (f *Flows) Close() {
	f.mu.Lock()
	f.reset()
	f.budget = nil
	f.mu.Unlock()
}

func (f *Flows) reset() {
	if t := f.table.Load(); t != nil {
		f.budget.live.Add(-int64(t.live))
		f.budget.remembered.Add(-int64(t.remembered()))
		f.table.Store(nil)
	}
}

// ResetFlows drops a client's NAT flows, and lets new ones begin only under policies of Epoch or
// later. It follows the SetPolicy of the first such policy.
type ResetFlows struct {
	Peer  *Peer
	Epoch uint64
}

// CloseFlows drops a client's NAT flows for good: it goes with DelPeer.
type CloseFlows struct{ Peer *Peer }

func (c ResetFlows) apply(*Table) { c.Peer.flows.Reset(c.Epoch) }
func (c CloseFlows) apply(*Table) { c.Peer.flows.Close() }

// FlowStats is the size of one table, and what it counted.
type FlowStats struct {
	// Live is the number of flows, Remembered that of expired tuples.
	Live, Remembered int
	FlowCounts
}

// FlowCounts counts what happened to the flows of one table since its beginning.
type FlowCounts struct {
	// Created counts flows that began, Expired those that ended at their deadline.
	Created, Expired uint64
	// Evicted counts flows that ended early, because the client or the process was at its bound.
	Evicted uint64
	// Exhausted counts packets without a free port, Refused those without room in the budget.
	Exhausted, Refused uint64
	// Forgotten counts expired tuples that are no longer known as such, for want of room.
	Forgotten uint64
}

func outgoingMarks(proto, tcpFlags uint8) (m uint8) {
	if proto != packet.ProtoTCP || tcpFlags&(packet.FlagFIN|packet.FlagRST) == 0 {
		return 0
	}
	if tcpFlags&packet.FlagFIN != 0 {
		m = markFinOut
	}
	if tcpFlags&packet.FlagRST != 0 {
		m |= markReset
	}
	return m
}

func incomingMarks(proto, tcpFlags uint8) uint8 {
	m := uint8(markConfirmed)
	if proto != packet.ProtoTCP {
		return m
	}
	if tcpFlags&packet.FlagFIN != 0 {
		m |= markFinIn
	}
	if tcpFlags&packet.FlagRST != 0 {
		m |= markReset
	}
	return m
}
