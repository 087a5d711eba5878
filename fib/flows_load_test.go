//go:build !race

// What is measured here is memory and time, and the race detector's own would be in it.

package fib

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// loadFlows is how many flows there are: a million, or fewer in the inner loop.
func loadFlows() int {
	if testing.Short() {
		return 100_000
	}
	return 1_000_000
}

// Memory follows the flows: up to the bound within 256 bytes for each, spread or not, down again
// when they and their tuples have gone.
func TestFlowMemoryIsBounded(t *testing.T) {
	total := loadFlows()
	for _, c := range []struct {
		name        string
		each, addrs int // flows of a client, and to how many addresses
		proto       uint8
	}{
		{"one client", total, 50, udp},
		{"a thousand flows each", 1000, 10, tcp},
		{"a real address for each flow", 1000, 1000, udp},
		{"fifty flows each", 50, 5, tcp},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heapInUse()
			b := NewFlowBudget(2*total, 2*total, [16]byte{7})
			clients := make([]Flows, total/c.each)
			for i := range clients {
				clients[i].SetBudget(b)
			}
			for i := range total {
				f, n := &clients[i/c.each], i%c.each
				if _, _, v := f.Outgoing(c.proto, uint16(n/c.addrs), nthAddr(n%c.addrs), nthAddr(n%c.addrs), 0, start+int64(i)); v != Pass {
					t.Fatal(v)
				}
			}
			top := float64(heapInUse()-before) / float64(total)
			t.Logf("%.0f bytes per flow", top)
			if top > 256 || b.Live() != total {
				t.Errorf("%.0f bytes for each of %d flows", top, b.Live())
			}
			for i := range clients {
				clients[i].Expire(start+1000*second, total)
			}
			remembered := max(b.Remembered(), 1)
			rest := float64(heapInUse()-before) / float64(remembered)
			t.Logf("%.0f bytes per expired tuple, %d of them", rest, remembered)
			if rest > 512 || b.Live() != 0 {
				t.Errorf("%.0f bytes for each of %d expired tuples, %d live", rest, remembered, b.Live())
			}
			runtime.KeepAlive(clients)
		})
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// No call holds the lock for long, however many flows there are: while a million begin, while they
// end, and when a hostile client has taken all ports. What is measured is a real clock, which also
// shows what else the machine does; so it is done thrice, and each call counts with its best time:
// what the table itself does, like growing, it does at the same call each time.
func TestNoCallTakesLong(t *testing.T) {
	const bound = int32(time.Millisecond)
	total := loadFlows()
	began, ended, refused := make([]int32, total), make([]int32, total), make([]int32, 1000)
	least := func(at *int32, since time.Time, round int) {
		took := int32(min(time.Since(since), time.Second))
		if round == 0 || took < *at {
			*at = took
		}
	}
	for round := range 3 {
		f, _ := newFlows(2*total, 2*total)
		for i := range total {
			t0 := time.Now()
			f.Outgoing(udp, uint16(i/50), nthAddr(i%50), nthAddr(i%50), 0, start+int64(i))
			least(&began[i], t0, round)
		}
		for i, more := 0, true; more; i++ {
			t0 := time.Now()
			_, more = f.Expire(start+1000*second, ExpireStep)
			least(&ended[i], t0, round)
		}
		f, _ = newFlows(2*total, 2*total)
		for p := range numPorts {
			f.Outgoing(udp, uint16(p), proxyA, realA, 0, start)
		}
		for i := range 1000 {
			t0 := time.Now()
			f.Outgoing(udp, uint16(i*64), proxyB, realA, 0, start)
			least(&refused[i], t0, round)
		}
	}
	for _, c := range []struct {
		what string
		took []int32
	}{
		{"beginning a flow", began},
		{"a step of expiry", ended[:total/ExpireStep]},
		{"a flow without a free port", refused},
	} {
		slices.Sort(c.took)
		t.Logf("%s: median %d ns, longest %d ns", c.what, c.took[len(c.took)/2], c.took[len(c.took)-1])
		if c.took[len(c.took)-1] > bound {
			t.Errorf("%s takes %d ns", c.what, c.took[len(c.took)-1])
		}
	}
}
