package netnstest

import (
	"testing"
	"time"
)

// The order tests send this many flows and packets of each: many flows share each queue.
const (
	orderFlows   = 64
	orderPackets = 400
)

// orderQueues gives each tunnel more queues than this machine may have cores.
var orderQueues = []string{"--queues", "4"}

// TestFlowsKeepTheirOrderOverSeveralQueues sends flows one way: the kernel keeps each on the
// queue that its hash picks, because no answer teaches it another.
func TestFlowsKeepTheirOrderOverSeveralQueues(t *testing.T) {
	a, b := newHost(t), newHost(t)
	connect(a, b, 1)
	ta, tb := startOurs(a, 1, orderQueues...), startOurs(b, 2, orderQueues...)
	ta.peer(tb, tb.at("10.77.1.2"))
	tb.peer(ta, ta.at("10.77.1.1"))
	for _, addr := range []string{tb.addr4(), tb.addr6()} {
		ta.reaches(addr, 5*time.Second)
		f := openFlows(a, b, addr, orderFlows, false)
		sent := load(f)
		await(t, 10*time.Second, "end of the traffic", f.idle())
		f.close()
		got, inversions, doubles := f.totals()
		t.Logf("to %s: %d of %d packets, %d inversions", addr, got, sent, inversions)
		if inversions != 0 || doubles != 0 {
			t.Errorf("to %s: %d packets out of order and %d twice", addr, inversions, doubles)
		}
		if got < sent*9/10 {
			t.Errorf("to %s: %d of %d packets arrived, too few to say anything", addr, got, sent)
		}
	}
}

// load sends orderPackets of each flow, in turns and in sizes that make trains, short tails and
// single packets, and returns how many packets that was.
func load(f *flows) (sent int) {
	sizes := []int{1200, 1200, 1200, 300, 64, 1200, 1372}
	for n := range orderPackets {
		for i := range f.out {
			f.write(i, sizes[(n+i)%len(sizes)])
			sent++
		}
		f.pace(n)
	}
	return sent
}

// pace lets the receiver keep up: it waits until all but the newest packets were seen, for a
// moment at most, because some may be lost.
func (f *flows) pace(round int) {
	const ahead = 8
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
		if f.received.Load() >= int64((round-ahead)*len(f.out)) {
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// idle returns a condition that holds once nothing has arrived for a moment.
func (f *flows) idle() func() bool {
	last, since := f.received.Load(), time.Now()
	return func() bool {
		if now := f.received.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 200*time.Millisecond
	}
}

// TestFlowsMoveToAnotherQueueOnceAtMost has the receiver echo. The kernel then learns from the
// answers to which queue a flow belongs, and moves it there once: what it has sent until the
// first answer, and what was under way then, may arrive out of order, and nothing later.
func TestFlowsMoveToAnotherQueueOnceAtMost(t *testing.T) {
	a, b := newHost(t), newHost(t)
	connect(a, b, 1)
	ta, tb := startOurs(a, 1, orderQueues...), startOurs(b, 2, orderQueues...)
	ta.peer(tb, tb.at("10.77.1.2"))
	tb.peer(ta, ta.at("10.77.1.1"))
	ta.reaches(tb.addr4(), 5*time.Second)
	f := openFlows(a, b, tb.addr4(), orderFlows, true)
	sent := load(f)
	await(t, 10*time.Second, "end of the traffic", f.idle())
	f.close()
	moved, later, answered := 0, 0, 0
	for i := range f.seen {
		first := f.answered[i].Load()
		if first > 0 {
			answered++
		}
		for _, n := range f.seen[i].inversions {
			if n <= first {
				moved++
			} else {
				later++
			}
		}
	}
	got, _, doubles := f.totals()
	t.Logf("%d of %d packets, %d flows answered; %d inversions while the kernel moved flows, %d later", got, sent, answered, moved, later)
	if later != 0 || doubles != 0 {
		t.Errorf("%d packets out of order on flows that had found their queue, %d twice", later, doubles)
	}
	if answered != orderFlows || got < sent*9/10 {
		t.Errorf("%d of %d flows answered, %d of %d packets arrived: too few to say anything", answered, orderFlows, got, sent)
	}
}
