package poll

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// The collector stops a loop that keeps the scheduler's processor while it waits or sleeps, long
// before that would be over by itself, and Ring still wakes it.
func TestTheCollectorDoesNotWaitForACrowd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	for _, c := range []struct {
		name string
		wait func(*Crowd)
	}{
		{"wait", func(c *Crowd) { _, _, _ = c.Wait(nil, -1) }},
		{"sleep", func(c *Crowd) { c.Sleep(time.Minute) }},
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
			begun := time.Now()
			for range 20 {
				runtime.GC()
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("20 collections took %v", took)
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
