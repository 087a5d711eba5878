package store

import (
	"math/bits"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats say what the writer has done since Open.
type Stats struct {
	// Writes were confirmed; Failed got an error; Withdrawn left the queue because their context
	// ended; Refused found the queue full.
	Writes, Failed, Withdrawn, Refused uint64
	// Groups are the transactions that carried Writes and Failed, Largest the most in one. Sizes[i]
	// are those of at most 1<<i writes, and more than the ones before.
	Groups, Largest uint64
	Sizes           [groupSizes]uint64
	// Waiting is the length of the queue now.
	Waiting int
	// Lost says that the log could not be synced, and nothing is written any more.
	Lost bool
	// Latency is the time from the call of a writing method to its outcome, Commit that of whole
	// transactions, syncing included.
	Latency, Commit Histogram
	// Checkpoints is how often the log was copied into the database, LogBytes the size of its file.
	Checkpoints uint64
	LogBytes    int64
}

// Histogram counts durations. Counts[i] are those up to Bounds[i] and above Bounds[i-1]; the last
// one, those above all bounds.
type Histogram struct {
	Counts [len(bounds) + 1]uint64
	Count  uint64
	Sum    time.Duration
}

// groupSizes is the length of Stats.Sizes: up to maxGroup.
const groupSizes = 9

// bounds are those of every Histogram: from 100 µs to 1.2 s, each a quarter more than the one before, so
// that a percentile is known that well.
var bounds = func() (all [43]time.Duration) {
	us := 100.0
	for i := range all {
		all[i] = time.Duration(us) * time.Microsecond
		us *= 1.25
	}
	return all
}()

// Bounds returns the upper bounds of all but the last of h.Counts.
func (h *Histogram) Bounds() []time.Duration { return slices.Clone(bounds[:]) }

func (h *Histogram) add(d time.Duration) {
	i, _ := slices.BinarySearch(bounds[:], d)
	h.Counts[i]++
	h.Count++
	h.Sum += d
}

// Stats returns the numbers of now.
func (s *Store) Stats() Stats {
	st := s.writer.stats.snapshot()
	st.Waiting = len(s.writer.queue)
	st.Checkpoints = s.copier.done.Load()
	if fi, err := os.Stat(s.logPath()); err == nil {
		st.LogBytes = fi.Size()
	}
	return st
}

// writeStats are the writer's own counters.
type writeStats struct {
	withdrawn, refused atomic.Uint64
	lost               atomic.Bool

	mu sync.Mutex
	s  Stats
}

func (w *writeStats) outcome(err error, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.s.Failed++
	} else {
		w.s.Writes++
	}
	w.s.Latency.add(took)
}

func (w *writeStats) group(n int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.Groups++
	w.s.Largest = max(w.s.Largest, uint64(n))
	w.s.Sizes[bits.Len(uint(n-1))]++
	w.s.Commit.add(took)
}

func (w *writeStats) snapshot() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := w.s
	st.Withdrawn, st.Refused, st.Lost = w.withdrawn.Load(), w.refused.Load(), w.lost.Load()
	return st
}
