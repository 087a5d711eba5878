package fuzz

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// What a program of FuzzFlows chooses from. Few values, so that tuples meet.
var (
	flowProtos  = [4]uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6}
	flowPorts   = [8]uint16{0, 1, 2, 3, 1000, 65533, 65534, 65535}
	flowProxies = [4]netip.Addr{netip.MustParseAddr("100.96.0.1"), netip.MustParseAddr("100.96.0.2"),
		netip.MustParseAddr("fd00:2021:1111:8000::1"), netip.MustParseAddr("64:ff9b::192.0.2.1")}
	flowReals = [4]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1"),
		netip.MustParseAddr("2001:db8::1"), {}}
	flowSteps = [8]int64{0, 1e9 - 1, 5e9 - 1, 5e9, 60e9 - 1, 60e9, 120e9, 7440e9}
)

// flowOp is one operation of a program: five bytes.
type flowOp struct {
	kind        byte // packet out, packet in, quoted packet, tick, reset
	proto       uint8
	port        uint16
	proxy, real netip.Addr
	flags       uint8
	step        int64
}

const flowOpLen = 5

func flowOpOf(b []byte) flowOp {
	return flowOp{
		kind:  b[0] % 16,
		proto: flowProtos[b[1]%4],
		port:  flowPorts[b[1]>>2%8],
		proxy: flowProxies[b[2]%4],
		real:  flowReals[b[2]>>2%4],
		flags: b[3],
		step:  1 + flowSteps[b[4]%8],
	}
}

type flowTuple struct {
	proto uint8
	port  uint16
	addr  netip.Addr
}

func flowTupleOf(proto uint8, port uint16, a netip.Addr) flowTuple {
	if proto == packet.ProtoICMPv6 {
		proto = packet.ProtoICMP
	}
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	return flowTuple{proto, port, a}
}

// flowRecord is a flow as a model keeps it.
type flowRecord struct {
	inside, outside     flowTuple
	last                int64
	answered, reset     bool
	finHere, finOutside bool
}

func (r *flowRecord) note(flags uint8, incoming bool, now int64) {
	r.last = now
	r.answered = r.answered || incoming
	if r.inside.proto == packet.ProtoTCP {
		fin := flags&packet.FlagFIN != 0
		r.finOutside = r.finOutside || fin && incoming
		r.finHere = r.finHere || fin && !incoming
		r.reset = r.reset || flags&packet.FlagRST != 0
	}
}

func (r *flowRecord) deadline() int64 {
	switch {
	case r.reset:
		return r.last
	case r.finHere && r.finOutside:
		return r.last + 5e9
	case !r.answered:
		return r.last + 60e9
	case r.inside.proto == packet.ProtoTCP:
		return r.last + 7440e9
	}
	return r.last + 120e9
}

// flowJudge is a NAT table and what it must know.
type flowJudge struct {
	*testing.T
	table           *fib.Flows
	budget          *fib.FlowBudget
	bound           int
	inside, outside map[flowTuple]*flowRecord
	ended           map[flowTuple]bool
	now             int64
}

func (j *flowJudge) end(r *flowRecord) {
	delete(j.inside, r.inside)
	delete(j.outside, r.outside)
	j.ended[r.outside] = true
}

func (j *flowJudge) out(op flowOp) {
	port, real, v := j.table.Outgoing(op.proto, op.port, op.proxy, op.real, op.flags, j.now)
	if v != fib.Pass {
		j.Fatalf("%+v: %v", op, v)
	}
	in, outside := flowTupleOf(op.proto, op.port, op.proxy), flowTupleOf(op.proto, port, real)
	if r := j.inside[in]; r != nil {
		if r.outside != outside {
			j.Fatalf("%v moved from %v to %v", in, r.outside, outside)
		}
		r.note(op.flags, false, j.now)
		return
	}
	if outside.addr != flowTupleOf(0, 0, op.real).addr {
		j.Fatalf("%v leads to %v, not %v", in, real, op.real)
	}
	for p := op.port; p != port; p++ {
		if p == 0 && op.port != 0 {
			continue // not a candidate
		}
		if j.outside[flowTupleOf(op.proto, p, real)] == nil {
			j.Fatalf("%v got port %d, but %d is free", in, port, p)
		}
	}
	if j.outside[outside] != nil {
		j.Fatalf("%v and %v share %v", in, j.outside[outside].inside, outside)
	}
	if len(j.inside) == j.bound {
		var oldest *flowRecord
		for _, r := range j.inside {
			if oldest == nil || r.last < oldest.last {
				oldest = r
			}
		}
		j.end(oldest)
	}
	r := &flowRecord{inside: in, outside: outside, last: j.now}
	j.inside[in], j.outside[outside] = r, r
	delete(j.ended, outside)
}

func (j *flowJudge) in(op flowOp, quoted bool) {
	var port uint16
	var proxy netip.Addr
	var hit fib.Hit
	if quoted {
		op.flags = 0
		port, proxy, hit = j.table.Quoted(op.proto, op.port, op.real, j.now)
	} else {
		port, proxy, hit = j.table.Incoming(op.proto, op.port, op.real, op.flags, j.now)
	}
	outside := flowTupleOf(op.proto, op.port, op.real)
	r := j.outside[outside]
	switch {
	case r != nil:
		if hit != fib.FlowFound || r.inside != flowTupleOf(op.proto, port, proxy) {
			j.Fatalf("%v leads to %d, %v (%d), not to %v", outside, port, proxy, hit, r.inside)
		}
		r.note(op.flags, true, j.now)
	case hit == fib.FlowFound:
		j.Fatalf("%v leads to %d, %v, but there is no such flow", outside, port, proxy)
	case hit == fib.FlowExpired && !j.ended[outside]:
		j.Fatalf("%v is late, but there was no such flow", outside)
	case hit == fib.FlowMiss && j.ended[outside] && j.table.Stats().Forgotten == 0:
		j.Fatalf("%v is not known as late", outside)
	}
}

func (j *flowJudge) tick(budget int) {
	for _, r := range j.inside {
		if r.deadline() <= j.now {
			j.end(r)
		}
	}
	for more := true; more; {
		var n int
		if n, more = j.table.Expire(j.now, budget); n > budget {
			j.Fatalf("%d ended of %d", n, budget)
		}
	}
}

func (j *flowJudge) sizes() {
	s := j.table.Stats()
	if s.Live != len(j.inside) || s.Live > j.bound || s.Live != j.budget.Live() || s.Remembered != j.budget.Remembered() || s.Remembered > len(j.ended) {
		j.Fatalf("%+v with %d flows, %d ended, budget %d, %d", s, len(j.inside), len(j.ended), j.budget.Live(), j.budget.Remembered())
	}
}

// FuzzFlows: any program of packets, ticks and renumberings in virtual time: no two flows share an
// outside tuple, ports are the first free ones, no flow outlives its deadline or ends before it,
// and bounds hold. The first byte chooses how many flows there is room for, and the hashes' key.
func FuzzFlows(f *testing.F) {
	f.Add([]byte{0, 0, 4, 0, 2, 0, 8, 4, 0, 0, 0, 12, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 || len(program) > 1000*flowOpLen {
			return
		}
		j := &flowJudge{T: t, table: new(fib.Flows), bound: 1000, now: 1e15}
		if program[0]%2 == 1 {
			j.bound = 1 + int(program[0]>>1%16)
		}
		j.budget = fib.NewFlowBudget(2000, j.bound, [16]byte{program[0]})
		j.table.SetBudget(j.budget)
		forget := func() {
			j.inside, j.outside, j.ended = map[flowTuple]*flowRecord{}, map[flowTuple]*flowRecord{}, map[flowTuple]bool{}
		}
		forget()
		for at := 1; at+flowOpLen <= len(program); at += flowOpLen {
			op := flowOpOf(program[at:])
			j.now += op.step
			switch op.kind {
			case 15:
				j.table.Reset(0)
				forget()
			case 12, 13, 14:
				j.tick(1 + int(program[at+1]))
			case 11:
				j.in(op, true)
			case 7, 8, 9, 10:
				j.in(op, false)
			default:
				j.out(op)
			}
			j.sizes()
		}
	})
}
