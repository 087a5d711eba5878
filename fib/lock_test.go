package fib

import (
	"sync"
	"testing"
	"time"
)

// Takers of a brief lock exclude each other, those let in by a holder included.
func TestABriefLockExcludes(t *testing.T) {
	var l briefLock
	inside, let := 0, 0
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 20_000 {
				l.Lock()
				inside++
				l.Unlock()
			}
		})
	}
	all.Go(func() {
		for range 200 {
			l.Lock()
			for range 100 {
				before := inside
				if l.LetIn() {
					let++
				} else if inside != before {
					t.Error("somebody was inside beside the holder")
				}
			}
			l.Unlock()
		}
	})
	all.Wait()
	if inside != 60_000 {
		t.Errorf("%d turns, want 60000", inside)
	}
	t.Logf("the holder let others in %d times", let)
}

// Who looks for the lock gets it from a holder that lets others in and never unlocks.
func TestAHolderLetsOthersIn(t *testing.T) {
	var l briefLock
	l.Lock()
	got := make(chan struct{})
	go func() {
		l.Lock()
		close(got)
		l.Unlock()
	}()
	deadline := time.Now().Add(10 * time.Second)
	for {
		l.LetIn()
		select {
		case <-got:
			l.Unlock()
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody was let in")
		}
	}
}

// A table that is reset while Expire lets somebody in is left alone.
func TestATableIsResetAmidItsExpiry(t *testing.T) {
	f, _ := newFlows(20_000, 20_000)
	for round := range 20 {
		for i := range 10_000 {
			f.Outgoing(udp, uint16(i), proxyA, realA, 0, start)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Reset(uint64(round + 1))
		}()
		for more := true; more; {
			_, more = f.Expire(start+1000*second, 10_000)
		}
		<-done
		if s := f.Stats(); s.Live != 0 {
			t.Fatalf("%d flows live after their end and a reset", s.Live)
		}
	}
}
