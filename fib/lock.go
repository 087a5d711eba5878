package fib

import (
	"sync"
	"sync/atomic"
)

// lockLooks is how often a taker looks at a lock that is held before it waits for it: some 20 µs,
// longer than anybody holds it against those who look who is not kept from running.
const lockLooks = 10_000

// briefLock is a lock that is held for microseconds by takers that run on threads of their own. A
// worker that waits for one must be put back on its thread by the scheduler, which takes 80 µs
// mostly and milliseconds at worst; to look again until it is free takes what the holder has left
// to do. The zero value is free.
type briefLock struct {
	mu      sync.Mutex
	looking atomic.Int32 // takers that found it held
}

// Lock takes the lock.
func (l *briefLock) Lock() {
	if l.mu.TryLock() {
		return
	}
	l.looking.Add(1)
	defer l.looking.Add(-1)
	for range lockLooks {
		if l.mu.TryLock() {
			return
		}
	}
	l.mu.Lock() // the holder is kept from running: to look on would keep it from that even longer
}

// Unlock gives the lock back.
func (l *briefLock) Unlock() { l.mu.Unlock() }

// LetIn gives the lock to those who look for it and takes it back behind them, or returns false if
// nobody does. Who holds it for long calls it every other microsecond.
func (l *briefLock) LetIn() bool {
	if l.looking.Load() == 0 {
		return false
	}
	l.mu.Unlock()
	for looks := 0; looks < lockLooks && l.looking.Load() > 0; looks++ {
	}
	l.mu.Lock()
	return true
}
