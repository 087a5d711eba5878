package fib

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/firelane/firelane/packet"
)

const (
	tcp  = packet.ProtoTCP
	udp  = packet.ProtoUDP
	echo = packet.ProtoICMP

	// start is far from 0, as monotonic clocks may be.
	start = 1_000_000 * second
)

var (
	proxyA = netip.MustParseAddr("100.96.0.1")
	proxyB = netip.MustParseAddr("100.96.0.2")
	proxy6 = netip.MustParseAddr("fd00:2021:1111:8000::1")
	realA  = netip.MustParseAddr("192.0.2.10")
	realB  = netip.MustParseAddr("192.0.2.11")
	real6  = netip.MustParseAddr("2001:db8::10")
)

func newFlows(total, perClient int) (*Flows, *FlowBudget) {
	b := NewFlowBudget(total, perClient, [16]byte{1, 2, 3})
	f := new(Flows)
	f.SetBudget(b)
	return f, b
}

// flowTest is a table, its virtual clock, and checks that name the line they are called from.
type flowTest struct {
	*testing.T
	*Flows
	now int64
}

func newFlowTest(t *testing.T) *flowTest {
	f, _ := newFlows(MaxFlows, MaxFlowsPerClient)
	return &flowTest{t, f, start}
}

func (t *flowTest) out(proto uint8, port uint16, proxy, real netip.Addr, flags uint8, wantPort uint16, wantReal netip.Addr) {
	t.Helper()
	p, r, v := t.Outgoing(proto, port, proxy, real, flags, t.now)
	if p != wantPort || r != wantReal || v != Pass {
		t.Fatalf("out to %d, %v with %v, want %d, %v", p, r, v, wantPort, wantReal)
	}
}

func (t *flowTest) in(proto uint8, port uint16, real netip.Addr, flags uint8, wantPort uint16, wantProxy netip.Addr) {
	t.Helper()
	p, a, hit := t.Incoming(proto, port, real, flags, t.now)
	if p != wantPort || a != wantProxy || hit != FlowFound {
		t.Fatalf("in to %d, %v with %v, want %d, %v", p, a, hit, wantPort, wantProxy)
	}
}

func (t *flowTest) lost(proto uint8, port uint16, real netip.Addr, want Hit) {
	t.Helper()
	if p, a, hit := t.Incoming(proto, port, real, 0, t.now); hit != want || p != 0 || a.IsValid() {
		t.Fatalf("%d, %v with %v, want %v", p, a, hit, want)
	}
}

// wait lets d pass and ticks.
func (t *flowTest) wait(d int64) {
	t.now += d
	for _, more := t.Expire(t.now, ExpireStep); more; _, more = t.Expire(t.now, ExpireStep) {
	}
}

// endsAfter checks that the only flow lives until just before d from now, and not longer.
func (t *flowTest) endsAfter(d int64) {
	t.Helper()
	t.wait(d - 1)
	if t.Len() != 1 {
		t.Fatalf("%d flows a nanosecond before the deadline", t.Len())
	}
	t.wait(1)
	if t.Len() != 0 {
		t.Fatalf("%d flows at the deadline", t.Len())
	}
}

func TestFlowLifetimes(t *testing.T) {
	const fin, rst, syn, ack = packet.FlagFIN, packet.FlagRST, packet.FlagSYN, packet.FlagACK
	type step struct {
		incoming bool
		flags    uint8
	}
	out := func(flags uint8) step { return step{false, flags} }
	in := func(flags uint8) step { return step{true, flags} }
	for _, c := range []struct {
		name  string
		proto uint8
		steps []step
		want  int64
	}{
		{"TCP that was answered: 2 h 4 min", tcp, []step{out(syn), in(syn | ack), out(ack)}, 7440 * second},
		{"TCP whose last packet came in: 2 h 4 min", tcp, []step{out(syn), in(syn | ack)}, 7440 * second},
		{"UDP that was answered: 2 min", udp, []step{out(0), in(0)}, 120 * second},
		{"UDP refreshed by outgoing packets", udp, []step{out(0), in(0), out(0)}, 120 * second},
		{"echo that was answered: 2 min", echo, []step{out(0), in(0)}, 120 * second},
		{"TCP that was not answered: 1 min", tcp, []step{out(syn), out(syn)}, 60 * second},
		{"UDP that was not answered: 1 min", udp, []step{out(0), out(0)}, 60 * second},
		{"echo that was not answered: 1 min", echo, []step{out(0)}, 60 * second},
		{"FIN both ways: 5 s", tcp, []step{out(syn), in(ack), out(fin), in(fin | ack)}, 5 * second},
		{"FIN both ways, the client's last", tcp, []step{out(syn), in(fin), out(fin)}, 5 * second},
		{"packets after both FINs refresh", tcp, []step{out(syn), in(ack), out(fin), in(fin), out(ack)}, 5 * second},
		{"a SYN after both FINs clears nothing", tcp, []step{out(syn), in(ack), out(fin), in(fin), out(syn)}, 5 * second},
		{"a FIN one way changes nothing", tcp, []step{out(syn), in(ack), out(fin), out(fin)}, 7440 * second},
		{"a FIN from outside changes nothing", tcp, []step{out(syn), in(fin)}, 7440 * second},
		{"RST from outside: the next tick", tcp, []step{out(syn), in(rst | ack)}, 0},
		{"RST from the client: the next tick", tcp, []step{out(syn), in(ack), out(rst)}, 0},
		{"RST from the client before any answer", tcp, []step{out(syn), out(rst)}, 0},
		{"a SYN after RST clears nothing", tcp, []step{out(syn), in(rst), out(syn), in(syn | ack)}, 0},
		{"RST of the first packet is not taken", tcp, []step{out(rst), in(ack)}, 7440 * second},
		{"FIN of the first packet is not taken", tcp, []step{out(fin), in(fin)}, 7440 * second},
		{"UDP has no FIN", udp, []step{out(0), out(fin), in(fin)}, 120 * second},
		{"UDP has no RST", udp, []step{out(0), out(rst), in(rst)}, 120 * second},
	} {
		t.Run(c.name, func(t *testing.T) {
			ft := newFlowTest(t)
			for _, s := range c.steps {
				if s.incoming {
					ft.in(c.proto, 40000, realA, s.flags, 40000, proxyA)
				} else {
					ft.out(c.proto, 40000, proxyA, realA, s.flags, 40000, realA)
				}
				ft.now += second
			}
			ft.now -= second
			if c.want == 0 {
				if ft.Len() != 1 {
					t.Fatal("ended before the tick")
				}
				ft.wait(0)
				if ft.Len() != 0 {
					t.Fatal("lives after the tick")
				}
			} else {
				ft.endsAfter(c.want)
			}
			ft.lost(c.proto, 40000, realA, FlowExpired)
		})
	}
}

// A flow that is used once a minute lives for a day; one beside it that is not, ends.
func TestFlowsLiveAsLongAsTheyAreUsed(t *testing.T) {
	ft := newFlowTest(t)
	ft.out(udp, 1000, proxyA, realA, 0, 1000, realA)
	ft.in(udp, 1000, realA, 0, 1000, proxyA)
	for minute := range 24 * 60 {
		ft.out(udp, 2000, proxyB, realB, 0, 2000, realB)
		if minute%2 == 0 {
			ft.in(udp, 2000, realB, 0, 2000, proxyB)
		}
		for range 59 {
			ft.wait(second)
		}
		want := 2
		if minute >= 2 {
			want = 1
		}
		if ft.Len() != want {
			t.Fatalf("%d flows in minute %d, want %d", ft.Len(), minute, want)
		}
	}
	if s := ft.Stats(); s.Created != 2 || s.Expired != 1 {
		t.Errorf("%+v", s)
	}
}

func TestFlowKeepsItsPortIfItCan(t *testing.T) {
	ft := newFlowTest(t)
	ft.out(udp, 5000, proxyA, realA, 0, 5000, realA)
	ft.out(udp, 5000, proxyB, realA, 0, 5001, realA)  // taken: the next one
	ft.out(udp, 5001, proxyB, realA, 0, 5002, realA)  // taken by the one before
	ft.out(udp, 5000, proxyB, realA, 0, 5001, realA)  // known
	ft.out(tcp, 5000, proxyB, realA, 0, 5000, realA)  // another protocol
	ft.out(echo, 5000, proxyB, realA, 0, 5000, realA) // and echo
	ft.out(udp, 5000, proxy6, realB, 0, 5000, realB)  // another real address
	ft.out(udp, 65535, proxyA, realA, 0, 65535, realA)
	ft.out(udp, 65535, proxyB, realA, 0, 1, realA) // around the end, leaving out 0
	ft.out(echo, 0, proxyA, realA, 0, 0, realA)    // identifier 0 is a good one, if it is asked for
	ft.out(echo, 0, proxyB, realA, 0, 1, realA)
	ft.in(udp, 5001, realA, 0, 5000, proxyB)
	ft.in(udp, 1, realA, 0, 65535, proxyB)
	ft.in(echo, 1, realA, 0, 0, proxyB)
	ft.lost(udp, 5003, realA, FlowMiss)
	ft.lost(udp, 5000, real6, FlowMiss)
}

// Remote ports are no part of the tuples, so whatever port of the real address answers: it is the
// flow's. And what the addresses' families are does not matter: NAT64 uses the same table.
func TestFlowTuplesAreOfEitherFamily(t *testing.T) {
	nat64 := netip.MustParseAddr("64:ff9b::192.0.2.10")
	mapped := netip.MustParseAddr("::ffff:192.0.2.10")
	ft := newFlowTest(t)
	ft.out(tcp, 7, nat64, realA, 0, 7, realA)
	ft.out(tcp, 7, proxyA, real6, 0, 7, real6)
	ft.out(tcp, 7, proxyB, mapped, 0, 7, mapped) // not the same address as realA
	ft.out(packet.ProtoICMPv6, 7, nat64, realA, 0, 7, realA)
	ft.in(tcp, 7, realA, 0, 7, nat64)
	ft.in(tcp, 7, real6, 0, 7, proxyA)
	ft.in(tcp, 7, mapped, 0, 7, proxyB)
	ft.in(echo, 7, realA, 0, 7, nat64)
}

// A name is assigned other addresses: flows keep theirs, new ones take the new.
func TestFlowKeepsItsRealAddress(t *testing.T) {
	ft := newFlowTest(t)
	ft.out(tcp, 1, proxyA, realA, 0, 1, realA)
	ft.out(tcp, 1, proxyA, realB, 0, 1, realA)
	ft.out(tcp, 2, proxyA, realB, 0, 2, realB)
	ft.in(tcp, 1, realA, 0, 1, proxyA)
	ft.lost(tcp, 1, realB, FlowMiss)
}

func TestExpiredTupleIsKnownUntilItIsTakenAgain(t *testing.T) {
	ft := newFlowTest(t)
	ft.out(udp, 9, proxyA, realA, 0, 9, realA)
	ft.wait(60 * second)
	ft.lost(udp, 9, realA, FlowExpired)
	ft.wait(24 * 3600 * second)
	ft.lost(udp, 9, realA, FlowExpired)
	if s := ft.Stats(); s.Live != 0 || s.Remembered != 1 {
		t.Errorf("%+v", s)
	}
	ft.out(udp, 9, proxyB, realA, 0, 9, realA) // an expired tuple is not in use
	ft.in(udp, 9, realA, 0, 9, proxyB)
	if s := ft.Stats(); s.Live != 1 || s.Remembered != 0 || s.Forgotten != 0 {
		t.Errorf("%+v", s)
	}
}

// An ICMP error about an outgoing packet confirms the flow and refreshes it like any other.
func TestQuotedCountsAsIncoming(t *testing.T) {
	ft := newFlowTest(t)
	if _, _, hit := ft.Quoted(udp, 9, realA, ft.now); hit != FlowMiss {
		t.Error(hit)
	}
	ft.out(udp, 9, proxyA, realA, 0, 9, realA)
	ft.out(udp, 9, proxyB, realA, 0, 10, realA)
	ft.wait(59 * second)
	if p, a, hit := ft.Quoted(udp, 10, realA, ft.now); p != 9 || a != proxyB || hit != FlowFound {
		t.Errorf("%d, %v, %v", p, a, hit)
	}
	ft.wait(1 * second) // the other was not answered
	ft.endsAfter(118*second + second)
	if _, _, hit := ft.Quoted(udp, 10, realA, ft.now); hit != FlowExpired {
		t.Error(hit)
	}
}

func TestResetFlowsDropsEverything(t *testing.T) {
	p := NewPeer(1, RoamNever, 2)
	b := NewFlowBudget(100, 100, [16]byte{})
	p.Flows().SetBudget(b)
	table := NewTable(1280)
	for i := range uint16(20) {
		p.Flows().Outgoing(udp, i, proxyA, realA, 0, start)
	}
	p.Flows().Expire(start+60*second, 10)
	if b.Live() != 10 || b.Remembered() != 10 {
		t.Fatalf("%d live, %d remembered", b.Live(), b.Remembered())
	}
	table.Apply([]Change{ResetFlows{p, 0}})
	if !p.Flows().Empty() || p.Flows().Len() != 0 || b.Live() != 0 || b.Remembered() != 0 {
		t.Errorf("%+v, %d live, %d remembered", p.Flows().Stats(), b.Live(), b.Remembered())
	}
	for i := range uint16(20) {
		if _, _, hit := p.Flows().Incoming(udp, i, realA, 0, start); hit != FlowMiss {
			t.Errorf("port %d: %v", i, hit)
		}
	}
	if _, _, v := p.Flows().Outgoing(udp, 1, proxyA, realA, 0, start); v != Pass || b.Live() != 1 {
		t.Errorf("after a reset: %v", v)
	}
	table.Apply([]Change{CloseFlows{p}})
	if _, _, v := p.Flows().Outgoing(udp, 1, proxyA, realA, 0, start); v != DropFlowsFull || b.Live() != 0 {
		t.Errorf("after closing: %v, %d live", v, b.Live())
	}
}

func TestFlowsCostNothingBeforeTheFirst(t *testing.T) {
	f := new(Flows)
	if n := unsafe.Sizeof(*f); n >= 200 {
		t.Errorf("%d bytes", n)
	}
	if n := unsafe.Sizeof(flow{}); n != 64 {
		t.Errorf("a flow is %d bytes, and no longer one cache line", n)
	}
	if n := unsafe.Sizeof(endpoint{}); n != 64 {
		t.Errorf("an endpoint is %d bytes, and no longer one cache line", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, _, hit := f.Incoming(tcp, 1, realA, 0, start); hit != FlowMiss {
			t.Error(hit)
		}
		f.Quoted(tcp, 1, realA, start)
		f.Expire(start, ExpireStep)
	}); n != 0 || !f.Empty() {
		t.Errorf("%v allocations", n)
	}
	if _, _, v := f.Outgoing(tcp, 1, proxyA, realA, 0, start); v != DropFlowsFull || f.Stats().Refused != 1 {
		t.Errorf("without a budget: %v", v)
	}
	f.Reset(0)
}

func TestKnownFlowsAllocateNothing(t *testing.T) {
	f, _ := newFlows(MaxFlows, MaxFlowsPerClient)
	for port := range uint16(1000) {
		f.Outgoing(udp, port, proxyA, realA, 0, start)
	}
	now := start
	if n := testing.AllocsPerRun(100, func() {
		now += second / 100
		f.Lock()
		for port := range uint16(1000) {
			f.OutgoingLocked(udp, port, proxyA, realA, 0, now)
			f.IncomingLocked(udp, port, realA, 0, now)
			f.IncomingLocked(udp, port, real6, 0, now)
		}
		f.Unlock()
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
