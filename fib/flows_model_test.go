package fib

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/packet"
	"pgregory.net/rapid"
)

// modelTuple is an inside or outside tuple.
type modelTuple struct {
	proto uint8
	port  uint16
	addr  netip.Addr
}

// modelFlow is what the rules of expiry speak of.
type modelFlow struct {
	inside, outside     modelTuple
	lastOut, lastIn     int64
	answered, rst       bool
	finOutside, finHere bool
}

// deadline is the minimum of the rows that apply.
func (f *modelFlow) deadline() int64 {
	last := max(f.lastOut, f.lastIn)
	rows := []int64{last + 120*second}
	if f.inside.proto == tcp {
		rows[0] = last + (2*3600+4*60)*second
	}
	if !f.answered {
		rows = append(rows, f.lastOut+60*second)
	}
	if f.finOutside && f.finHere {
		rows = append(rows, last+5*second)
	}
	if f.rst {
		rows = append(rows, last)
	}
	least := rows[0]
	for _, r := range rows {
		least = min(least, r)
	}
	return least
}

func (f *modelFlow) idleSince() int64 { return max(f.lastOut, f.lastIn) }

// flowModel is the table as the text tells it: two maps, searched from end to end where need be.
type flowModel struct {
	perClient int
	inside    map[modelTuple]*modelFlow
	outside   map[modelTuple]*modelFlow
	expired   map[modelTuple]bool
	evicted   int
}

func newFlowModel(perClient int) *flowModel {
	return &flowModel{perClient, map[modelTuple]*modelFlow{}, map[modelTuple]*modelFlow{}, map[modelTuple]bool{}, 0}
}

func (m *flowModel) end(f *modelFlow) {
	delete(m.inside, f.inside)
	delete(m.outside, f.outside)
	m.expired[f.outside] = true
}

func (m *flowModel) outgoing(in modelTuple, real netip.Addr, flags uint8, now int64) (uint16, netip.Addr, Verdict) {
	if f := m.inside[in]; f != nil {
		f.lastOut = now
		f.finHere = f.finHere || in.proto == tcp && flags&packet.FlagFIN != 0
		f.rst = f.rst || in.proto == tcp && flags&packet.FlagRST != 0
		return f.outside.port, f.outside.addr, Pass
	}
	port, found := 0, false
	for i := 0; i < 65536 && !found; i++ {
		port = int(in.port) + i
		if port > 65535 {
			port -= 65535 // 0 is not a candidate after the end
			if port >= int(in.port) {
				break
			}
		}
		found = m.outside[modelTuple{in.proto, uint16(port), real}] == nil
	}
	if !found {
		return 0, real, DropNatExhausted
	}
	if len(m.inside) == m.perClient {
		var oldest *modelFlow
		for _, f := range m.inside {
			if oldest == nil || f.idleSince() < oldest.idleSince() {
				oldest = f
			}
		}
		m.end(oldest)
		m.evicted++
	}
	f := &modelFlow{inside: in, outside: modelTuple{in.proto, uint16(port), real}, lastOut: now}
	m.inside[in], m.outside[f.outside] = f, f
	delete(m.expired, f.outside)
	return uint16(port), real, Pass
}

func (m *flowModel) incoming(out modelTuple, flags uint8, now int64) (uint16, netip.Addr, Hit) {
	f := m.outside[out]
	switch {
	case f == nil && m.expired[out]:
		return 0, netip.Addr{}, FlowExpired
	case f == nil:
		return 0, netip.Addr{}, FlowMiss
	}
	f.lastIn, f.answered = now, true
	f.finOutside = f.finOutside || out.proto == tcp && flags&packet.FlagFIN != 0
	f.rst = f.rst || out.proto == tcp && flags&packet.FlagRST != 0
	return f.inside.port, f.inside.addr, FlowFound
}

func (m *flowModel) tick(now int64) {
	for _, f := range m.inside {
		if f.deadline() <= now {
			m.end(f)
		}
	}
}

// Whatever packets, ticks and renumberings come in whatever order, the table answers as the model.
func TestFlowsBehaveAsTheTextSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		compareWithModel(t, MaxFlowsPerClient, 0)
	})
}

// The same with room for a few flows: the one that is idle longest goes. Time never stands still
// then, so that there is one.
func TestFlowsAtTheirBoundBehaveAsTheTextSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		compareWithModel(t, rapid.IntRange(1, 12).Draw(t, "bound"), 1)
	})
}

func compareWithModel(t *rapid.T, perClient int, leastStep int64) {
	var (
		protos  = rapid.SampledFrom([]uint8{tcp, tcp, udp, echo})
		ports   = rapid.SampledFrom([]uint16{0, 1, 2, 3, 65534, 65535})
		proxies = rapid.SampledFrom([]netip.Addr{proxyA, proxyB, proxy6})
		reals   = rapid.SampledFrom([]netip.Addr{realA, realA, realB, real6})
		flags   = rapid.SampledFrom([]uint8{0, packet.FlagSYN, packet.FlagACK, packet.FlagFIN, packet.FlagRST, packet.FlagFIN | packet.FlagRST})
		steps   = rapid.SampledFrom([]int64{0, 0, 0, 1, second, 5*second - 1, 5 * second, 60*second - 1, 60 * second, 61 * second, 120 * second, 7440*second - 1, 7440 * second})
	)
	f, budget := newFlows(MaxFlows, perClient)
	m := newFlowModel(perClient)
	now := start
	for range rapid.IntRange(1, 300).Draw(t, "operations") {
		now += max(leastStep, steps.Draw(t, "step"))
		switch rapid.IntRange(0, 19).Draw(t, "operation") {
		default:
			in, real, fl := modelTuple{protos.Draw(t, "proto"), ports.Draw(t, "port"), proxies.Draw(t, "proxy")}, reals.Draw(t, "real"), flags.Draw(t, "flags")
			port, addr, v := f.Outgoing(in.proto, in.port, in.addr, real, fl, now)
			if wantPort, wantAddr, wantV := m.outgoing(in, real, fl, now); port != wantPort || addr != wantAddr || v != wantV {
				t.Fatalf("outgoing %v: %d, %v, %v, want %d, %v, %v", in, port, addr, v, wantPort, wantAddr, wantV)
			}
		case 0, 1, 2, 3, 4, 5, 6, 7:
			out, fl := modelTuple{protos.Draw(t, "proto"), ports.Draw(t, "port"), reals.Draw(t, "real")}, flags.Draw(t, "flags")
			port, addr, hit := f.Incoming(out.proto, out.port, out.addr, fl, now)
			checkHit(t, f, out, m, port, addr, hit, fl, now)
		case 8:
			out := modelTuple{protos.Draw(t, "proto"), ports.Draw(t, "port"), reals.Draw(t, "real")}
			port, addr, hit := f.Quoted(out.proto, out.port, out.addr, now)
			checkHit(t, f, out, m, port, addr, hit, 0, now)
		case 9, 10, 11, 12:
			step, sum := rapid.IntRange(1, 5).Draw(t, "budget"), 0
			m.tick(now)
			before := f.Len()
			for more := true; more; {
				var n int
				if n, more = f.Expire(now, step); n > step || more && n < step {
					t.Fatalf("%d ended of %d, more: %v", n, step, more)
				}
				sum += n
			}
			if f.Len() != len(m.inside) || before-sum != f.Len() {
				t.Fatalf("%d of %d flows left after %d ended, want %d", f.Len(), before, sum, len(m.inside))
			}
		case 13:
			if rapid.IntRange(0, 9).Draw(t, "reset") == 0 {
				f.Reset(0)
				*m = flowModel{perClient, map[modelTuple]*modelFlow{}, map[modelTuple]*modelFlow{}, map[modelTuple]bool{}, m.evicted}
			}
		}
		s := f.Stats()
		if s.Live != len(m.inside) || s.Evicted != uint64(m.evicted) || s.Live != budget.Live() || s.Remembered != budget.Remembered() {
			t.Fatalf("%+v, %d live and %d evicted wanted, budget %d, %d", s, len(m.inside), m.evicted, budget.Live(), budget.Remembered())
		}
		if s.Forgotten == 0 && s.Remembered != len(m.expired) || s.Remembered > perClient/expiredShare {
			t.Fatalf("%d remembered, want %d", s.Remembered, len(m.expired))
		}
		checkFlows(t, f)
	}
}

// checkHit compares a look-up by outside tuple; what the bound made forget is a miss.
func checkHit(t *rapid.T, f *Flows, out modelTuple, m *flowModel, port uint16, addr netip.Addr, hit Hit, flags uint8, now int64) {
	t.Helper()
	wantPort, wantAddr, want := m.incoming(out, flags, now)
	if want == FlowExpired && hit == FlowMiss && f.Stats().Forgotten > 0 {
		return
	}
	if port != wantPort || addr != wantAddr || hit != want {
		t.Fatalf("incoming %v: %d, %v, %d, want %d, %v, %d", out, port, addr, hit, wantPort, wantAddr, want)
	}
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// checkFlows looks at all of a table: every flow is in the lists and indexes that it belongs to and
// in no other, lists are in order, no outside tuple is there twice, the ports in use are those of
// the live flows.
func checkFlows(t fataler, f *Flows) {
	t.Helper()
	tb := f.table.Load()
	if tb == nil {
		return
	}
	seen := map[uint32]bool{}
	live := 0
	for c := range numClasses {
		l := &tb.lists[c]
		prev, last := uint32(0), int64(0)
		for id := l.head; id != 0; id = tb.flows.at(id).next {
			fl := tb.flows.at(id)
			if seen[id] || fl.prev != prev || fl.class != c || fl.last < last || c != classExpired && c != classOf(fl) {
				t.Fatalf("flow %d of class %d: %+v after %d at %d", id, c, fl, prev, last)
			}
			seen[id], prev, last = true, id, fl.last
			if found, _ := tb.findOutside(fl.real, fl.outside); found != id {
				t.Fatalf("flow %d is found as %d outside", id, found)
			}
			if c == classExpired {
				continue
			}
			live++
			if found, _ := tb.findInside(fl.proxy, fl.inside); found != id {
				t.Fatalf("flow %d is found as %d inside", id, found)
			}
			if free, ok := tb.ends.nextFree(fl.real, fl.outside, uint16(fl.outside), tb.key); ok && free == uint16(fl.outside) {
				t.Fatalf("flow %d: its port counts as free", id)
			}
		}
		if l.tail != prev {
			t.Fatalf("class %d ends in %d, not %d", c, l.tail, prev)
		}
	}
	ports := 0
	for id := 1; id < tb.ends.all.n; id++ {
		p := tb.ends.all.at(uint32(id))
		ports += int(p.n)
		if p.set != 0 {
			if s := tb.ends.sets[p.set-1]; s.owner != uint32(id) {
				t.Fatalf("endpoint %d has the set of %d", id, s.owner)
			}
			ports += tb.ends.sets[p.set-1].n - int(p.n)
		}
	}
	if len(seen) != tb.flows.n-1 || live != tb.live || live != tb.inside.n || len(seen) != tb.outside.n || ports != live {
		t.Fatalf("%d flows in lists, %d live of %d, %d inside, %d outside, %d ports", len(seen), live, tb.live, tb.inside.n, tb.outside.n, ports)
	}
	if len(tb.ends.sets) > live/(inlinePorts/2) {
		t.Fatalf("%d sets for %d flows", len(tb.ends.sets), live)
	}
}
