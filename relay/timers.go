package relay

import "container/heap"

// timer is a deadline of an allocation or a binding, whichever it is part of.
type timer struct {
	at         int64 // nanoseconds since the server's start
	index      int   // in the heap, or -1
	allocation *lease
	binding    *binding
}

// timers is a heap of deadlines, the earliest first.
type timers []*timer

// set moves a deadline, or starts it.
func (h *timers) set(t *timer, at int64) {
	t.at = at
	if t.index < 0 {
		heap.Push(h, t)
		return
	}
	heap.Fix(h, t.index)
}

func (h *timers) stop(t *timer) {
	if t.index >= 0 {
		heap.Remove(h, t.index)
	}
}

// Len, Less, Swap, Push and Pop are for container/heap only.
func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at < h[j].at }

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
