package portal

import (
	"container/heap"
	"time"
)

// timer is one deadline. It is not in the heap after it has fired or been cancelled.
type timer struct {
	at  time.Time
	why string
	do  func(now time.Time)
	// seq makes the order of equal deadlines that of their making.
	seq   uint64
	index int
}

// timers are all deadlines of the machine, each of which can be cancelled in logarithmic time: the
// expiry of a token may be days away, and its channel gone long before.
type timers struct {
	heap []*timer
	seq  uint64
}

// start sets a deadline.
func (t *timers) start(at time.Time, why string, do func(now time.Time)) *timer {
	t.seq++
	n := &timer{at: at, why: why, do: do, seq: t.seq}
	heap.Push(t, n)
	return n
}

// cancel forgets a deadline; nil and those that have fired do no harm.
func (t *timers) cancel(n *timer) {
	if n != nil && n.index >= 0 {
		heap.Remove(t, n.index)
	}
}

// first returns the earliest deadline, or nil.
func (t *timers) first() *timer {
	if len(t.heap) == 0 {
		return nil
	}
	return t.heap[0]
}

// due removes and returns the earliest deadline if it has passed, or nil.
func (t *timers) due(now time.Time) *timer {
	if n := t.first(); n != nil && !now.Before(n.at) {
		heap.Pop(t)
		return n
	}
	return nil
}

// Len, Less, Swap, Push and Pop are for container/heap.
func (t *timers) Len() int { return len(t.heap) }

func (t *timers) Less(i, j int) bool {
	a, b := t.heap[i], t.heap[j]
	if a.at.Equal(b.at) {
		return a.seq < b.seq
	}
	return a.at.Before(b.at)
}

func (t *timers) Swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.heap[i].index, t.heap[j].index = i, j
}

func (t *timers) Push(x any) {
	n := x.(*timer)
	n.index = len(t.heap)
	t.heap = append(t.heap, n)
}

func (t *timers) Pop() any {
	last := len(t.heap) - 1
	n := t.heap[last]
	t.heap[last] = nil
	t.heap = t.heap[:last]
	n.index = -1
	return n
}
