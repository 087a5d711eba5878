package fastpath

import (
	"sync/atomic"

	"github.com/firelane/firelane/fib"
)

// Counters are one loop's own: it alone writes them, so adding is a load and a store, not a
// locked addition; anyone may read a snapshot. The loops add once per run or batch.
type Counters struct {
	verdicts [fib.NumVerdicts]atomic.Uint64
	figures  [numFigures]atomic.Uint64
}

// Figure names one of a loop's counters that is not a verdict.
type Figure uint8

// The figures.
const (
	// Turns: batches that held at least one packet.
	Turns Figure = iota
	// Trains: trains received (decap) or sent (encap).
	Trains
	// Segments: datagrams in those trains, control's messages included.
	Segments
	// Bytes: bytes of those datagrams.
	Bytes
	// Supers: packets and superpackets written to the tunnel (decap) or read from it (encap).
	Supers
	// InnerBytes: bytes of those.
	InnerBytes
	// Inversions: messages that arrived behind a higher counter of their session.
	Inversions
	// Wakeups: times the worker was woken by the kernel.
	Wakeups
	// Pauses: times the worker slept on purpose to let a batch gather.
	Pauses
	// Stalls: times input had to wait because the slab pool was empty or the kernel refused to
	// hand it over.
	Stalls
	// Unanswered: refused packets that would have been answered, had their client not spent its
	// allowance of answers, or had control kept up with the others.
	Unanswered
	numFigures
)

var figureNames = [numFigures]string{
	Turns: "Turns", Trains: "Trains", Segments: "Segments", Bytes: "Bytes", Supers: "Supers",
	InnerBytes: "InnerBytes", Inversions: "Inversions", Wakeups: "Wakeups", Pauses: "Pauses", Stalls: "Stalls",
	Unanswered: "Unanswered",
}

// String returns the figure's name, which is also its metric's name.
func (f Figure) String() string {
	if f >= numFigures {
		return "Figure?"
	}
	return figureNames[f]
}

func (c *Counters) drop(v fib.Verdict, n int) {
	if n == 0 {
		return
	}
	c.verdicts[v].Store(c.verdicts[v].Load() + uint64(n))
}

func (c *Counters) add(f Figure, n int) {
	c.figures[f].Store(c.figures[f].Load() + uint64(n))
}

// Verdict returns how many packets got verdict v so far.
func (c *Counters) Verdict(v fib.Verdict) uint64 { return c.verdicts[v].Load() }

// Figure returns figure f so far.
func (c *Counters) Figure(f Figure) uint64 { return c.figures[f].Load() }

// Snapshot is the sum of several loops' counters at one time, give or take what is under way.
type Snapshot struct {
	Verdicts [fib.NumVerdicts]uint64
	Figures  [numFigures]uint64
}

// Add adds c's counters to s.
func (s *Snapshot) Add(c *Counters) {
	for i := range s.Verdicts {
		s.Verdicts[i] += c.verdicts[i].Load()
	}
	for i := range s.Figures {
		s.Figures[i] += c.figures[i].Load()
	}
}

// Dropped returns the sum of all verdicts that lose a packet.
func (s *Snapshot) Dropped() (n uint64) {
	for v := fib.Pass + 1; v < fib.NumVerdicts; v++ {
		n += s.Verdicts[v]
	}
	return n
}
