package wireguard

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// wakeHeap orders the peers that wait for something by their deadline.
type wakeHeap []*Peer

func (h wakeHeap) Len() int { return len(h) }

func (h wakeHeap) Less(i, j int) bool { return h[i].wakeAt.Before(h[j].wakeAt) }

func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

func (h *wakeHeap) Push(x any) {
	p := x.(*Peer)
	p.heapAt = len(*h)
	*h = append(*h, p)
}

func (h *wakeHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.heapAt = -1
	return p
}

// until appends the peers below entry i whose deadline is not after now.
func (h wakeHeap) until(now time.Time, i int, due []*Peer) []*Peer {
	if i >= len(h) || h[i].wakeAt.After(now) {
		return due
	}
	due = h.until(now, 2*i+1, append(due, h[i]))
	return h.until(now, 2*i+2, due)
}

// schedule puts a peer where its deadlines say, after anything about it has changed.
func (d *Device) schedule(p *Peer) {
	at := p.deadline()
	switch {
	case p.removed:
	case at.IsZero() && p.heapAt >= 0:
		heap.Remove(&d.wake, p.heapAt)
	case at.IsZero():
	case p.heapAt < 0:
		p.wakeAt = at
		heap.Push(&d.wake, p)
	default:
		p.wakeAt = at
		heap.Fix(&d.wake, p.heapAt)
	}
}

func sortByConn(peers []*Peer) {
	slices.SortFunc(peers, func(a, b *Peer) int { return cmp.Compare(a.conn, b.conn) })
}

// earlier returns the earlier of two deadlines; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later returns the later of two stamps; the zero time is never.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
