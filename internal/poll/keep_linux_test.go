package poll

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// The collector stops a loop that keeps the scheduler's processor while it waits or sleeps, by a
// signal and long before that would be over by itself, and Ring still wakes it. The loop keeps the
// processor in every wait: a wait that brought nothing is not counted as idle.
func TestTheCollectorDoesNotWaitForACrowd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	const (
		collections = 40
		nap         = keepMillis * time.Millisecond
	)
	for _, c := range []struct {
		name string
		wait func(*Crowd)
		// each is how long one collection would take if it had to wait for the end of a wait.
		each time.Duration
	}{
		{"wait", func(c *Crowd) { c.idle = 0; _, _, _ = c.Wait(nil, -1) }, nap},
		{"short sleep", func(c *Crowd) { c.Sleep(shortNap) }, shortNap},
		{"long sleep", func(c *Crowd) { c.Sleep(time.Minute) }, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			crowd, err := NewCrowd()
			if err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			started, ended := make(chan bool), make(chan bool)
			go func() {
				close(started)
				for !stop.Load() {
					c.wait(crowd)
				}
				close(ended)
			}()
			<-started
			// A collection stops the world at least twice, and would wait half a wait each time.
			quickest := time.Duration(1<<63 - 1)
			for range collections {
				begun := time.Now()
				runtime.GC()
				quickest = min(quickest, time.Since(begun))
			}
			t.Logf("the quickest of %d collections took %v", collections, quickest)
			if quickest >= c.each/2 {
				t.Errorf("the quickest of %d collections took %v, as if each waited for the crowd", collections, quickest)
			}
			stop.Store(true)
			crowd.Ring()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Fatal("the crowd does not wake up")
			}
			if err := crowd.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
