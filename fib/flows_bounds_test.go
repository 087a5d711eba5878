package fib

import (
	"net/netip"
	"sync"
	"testing"
)

// nthAddr returns one of 16 million addresses.
func nthAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// A client takes all ports towards one real address through one proxy address, and then tries
// through another: there is none left, until one ends.
func TestAllPortsTowardsOneAddressCanBeTaken(t *testing.T) {
	ft := newFlowTest(t)
	for p := 1; p < numPorts; p++ {
		ft.out(udp, uint16(p), proxyA, realA, 0, uint16(p), realA)
	}
	port, _, v := ft.Outgoing(udp, 5, proxyB, realA, 0, ft.now)
	if v != DropNatExhausted || port != 0 {
		t.Fatalf("%d, %v with all ports taken", port, v)
	}
	ft.out(udp, 5, proxyB, realB, 0, 5, realB)
	ft.out(udp, 0, proxyB, realA, 0, 0, realA) // 0 is a candidate for 0 only
	ft.now += 30 * second
	for p := 1; p < numPorts; p++ {
		if p != 4 {
			ft.in(udp, uint16(p), realA, 0, uint16(p), proxyA)
		}
	}
	ft.wait(30 * second)
	ft.out(udp, 5, proxyB, realA, 0, 4, realA)
	if s := ft.Stats(); s.Exhausted != 1 || s.Expired != 3 {
		t.Errorf("%+v", s)
	}
	checkFlows(t, ft.Flows)
	ft.wait(90 * second)
	checkFlows(t, ft.Flows)
}

func TestOldestIdleFlowMakesRoom(t *testing.T) {
	f, b := newFlows(100, 3)
	ft := &flowTest{t, f, start}
	for i := range uint16(3) {
		ft.now += second
		ft.out(udp, 1+i, proxyA, realA, 0, 1+i, realA)
	}
	ft.now += second
	ft.in(udp, 1, realA, 0, 1, proxyA) // so the second was idle longest
	ft.out(udp, 9, proxyA, realA, 0, 9, realA)
	ft.lost(udp, 2, realA, FlowMiss) // three flows let nobody be remembered: a fourth would
	if s := ft.Stats(); s.Live != 3 || s.Evicted != 1 || s.Forgotten != 1 || b.Live() != 3 {
		t.Errorf("%+v, %d in all", s, b.Live())
	}
	ft.in(udp, 1, realA, 0, 1, proxyA)
	ft.in(udp, 3, realA, 0, 3, proxyA)
	ft.in(udp, 9, realA, 0, 9, proxyA)
	checkFlows(t, f)
}

func TestBudgetIsSharedByClients(t *testing.T) {
	b := NewFlowBudget(8, 6, [16]byte{})
	var greedy, modest, late Flows
	for _, f := range []*Flows{&greedy, &modest, &late} {
		f.SetBudget(b)
	}
	for i := range uint16(20) {
		greedy.Outgoing(udp, 1+i, proxyA, realA, 0, start+int64(i))
	}
	for i := range uint16(3) {
		if _, _, v := modest.Outgoing(udp, 1+i, proxyA, realA, 0, start+int64(i)); v != Pass {
			t.Errorf("flow %d: %v", i, v)
		}
	}
	if _, _, v := late.Outgoing(udp, 1, proxyA, realA, 0, start); v != DropFlowsFull {
		t.Errorf("without a flow to give: %v", v)
	}
	if g, m, l := greedy.Stats(), modest.Stats(), late.Stats(); g.Live != 6 || g.Evicted != 14 || m.Live != 2 || m.Evicted != 1 || l.Live != 0 || l.Refused != 1 || b.Live() != 8 {
		t.Errorf("%+v\n%+v\n%+v\n%d in all", g, m, l, b.Live())
	}
	if !late.Empty() {
		t.Error("a refused flow left a table")
	}
	greedy.Reset(0)
	if _, _, v := late.Outgoing(udp, 1, proxyA, realA, 0, start); v != Pass || b.Live() != 3 {
		t.Errorf("with room again: %v, %d in all", v, b.Live())
	}
}

// Of expired tuples the newest are remembered, as many as the bounds let; and a client that has
// none does not get what others have.
func TestExpiredTuplesAreBounded(t *testing.T) {
	b := NewFlowBudget(4*12, 4*8, [16]byte{})
	var one, two Flows
	one.SetBudget(b)
	two.SetBudget(b)
	for i := range uint16(20) {
		one.Outgoing(udp, 100+i, proxyA, realA, 0, start+int64(i))
		two.Outgoing(udp, 100+i, proxyA, realA, 0, start+int64(i))
	}
	one.Expire(start+100*second, 100)
	two.Expire(start+100*second, 100)
	for _, c := range []struct {
		f    *Flows
		want int
	}{{&one, 8}, {&two, 4}} {
		if s := c.f.Stats(); s.Live != 0 || s.Remembered != c.want || s.Expired != 20 || s.Forgotten != uint64(20-c.want) {
			t.Errorf("%+v", s)
		}
		for i := range uint16(20) {
			want := FlowMiss
			if int(i) >= 20-c.want {
				want = FlowExpired
			}
			if _, _, hit := c.f.Incoming(udp, 100+i, realA, 0, start+100*second); hit != want {
				t.Errorf("tuple %d: %v, want %v", i, hit, want)
			}
		}
		checkFlows(t, c.f)
	}
	if b.Remembered() != 12 {
		t.Errorf("%d in all", b.Remembered())
	}
}

// A now that another worker is ahead of counts as the other's: a flow does not end early, and
// the order of lists stays.
func TestClockThatIsBehindDoesNoHarm(t *testing.T) {
	ft := newFlowTest(t)
	ft.out(udp, 1, proxyA, realA, 0, 1, realA)
	ft.now -= 50 * second
	ft.out(udp, 2, proxyA, realA, 0, 2, realA)
	ft.out(udp, 1, proxyA, realA, 0, 1, realA)
	checkFlows(t, ft.Flows)
	ft.wait(110*second - 1)
	if ft.Len() != 2 {
		t.Fatalf("%d flows", ft.Len())
	}
	ft.wait(1)
	if ft.Len() != 0 {
		t.Fatalf("%d flows", ft.Len())
	}
}

// Two workers and control at once, for the race detector, and nothing is lost or counted twice.
func TestFlowsAreSafeForWorkersAndControl(t *testing.T) {
	b := NewFlowBudget(500, 400, [16]byte{9})
	var tables [2]Flows
	for i := range tables {
		tables[i].SetBudget(b)
	}
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			for i := range 30_000 {
				f, now := &tables[i%2], start+int64(i)*second/100
				p := uint16(i*7919%700 + worker)
				out, real, v := f.Outgoing(udp, p, proxyA, realA, 0, now)
				if v == Pass {
					f.Incoming(udp, out, real, 0, now)
				}
				f.Lock()
				f.OutgoingLocked(tcp, p, proxyB, realA, 0, now)
				f.IncomingLocked(tcp, p, realA, 0, now)
				f.Unlock()
				if f.Empty() && f.Len() < 0 {
					t.Error("fewer than no flows")
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 300 {
			tables[i%2].Expire(start+int64(i)*second, ExpireStep)
			if i%100 == 99 {
				tables[i%2].Reset(0)
			}
			if b.Live() > 500+2 {
				t.Errorf("%d flows of 500", b.Live())
			}
		}
	})
	wg.Wait()
	live, remembered := 0, 0
	for i := range tables {
		checkFlows(t, &tables[i])
		live += tables[i].Stats().Live
		remembered += tables[i].Stats().Remembered
	}
	if live != b.Live() || remembered != b.Remembered() || live == 0 {
		t.Errorf("%d live and %d remembered, the budget says %d and %d", live, remembered, b.Live(), b.Remembered())
	}
	for i := range tables {
		tables[i].Close()
	}
	if b.Live() != 0 || b.Remembered() != 0 {
		t.Errorf("%d live and %d remembered after all were closed", b.Live(), b.Remembered())
	}
}
