package fib

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkWorkerBesideExpiry measures how long a worker's look-ups take while a million flows of
// its client end, in steps between which the driver goes once around its loop, and for as long
// while nothing ends: what the machine itself adds. It reports microseconds.
//
// The longest look-ups are told apart by what the worker's thread did meanwhile: it ran, it waited
// for the lock of its own accord (blocked), or the kernel gave its processor to others
// (preempted), which no lock of ours has a part in.
func BenchmarkWorkerBesideExpiry(b *testing.B) {
	const flows = 1_000_000
	long := 20 * time.Second // what the end of so many flows takes, about
	for _, ending := range []bool{true, false} {
		name := "nothing-ends"
		if ending {
			name = "flows-end"
		}
		b.Run(name, func(b *testing.B) {
			var p pauses
			var ended time.Duration
			for b.Loop() {
				f, _ := newFlows(2*flows, 2*flows)
				for i := range flows {
					f.Outgoing(udp, uint16(i/50), nthAddr(i%50), nthAddr(i%50), 0, start+int64(i))
				}
				runtime.GC()
				begin := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					if ending {
						expireAsDriver(f)
						long = time.Since(begin)
					} else {
						time.Sleep(long)
					}
				}()
				lookUpUntil(f, done, &p)
				ended += time.Since(begin)
			}
			us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
			b.ReportMetric(us(p.share(0.5)), "median-us")
			b.ReportMetric(us(p.share(0.99)), "p99-us")
			b.ReportMetric(us(p.share(0.9999)), "p99.99-us")
			b.ReportMetric(us(p.running), "longest-running-us")
			b.ReportMetric(us(p.blocked), "longest-blocked-us")
			b.ReportMetric(us(p.preempted), "longest-preempted-us")
			b.ReportMetric(float64(p.manyBlocked), "blocked-over-1ms")
			if ending {
				b.ReportMetric(float64(flows)*float64(b.N)/ended.Seconds(), "flows/s")
			}
		})
	}
}

// expireAsDriver ends what has expired in the driver's manner, a timer between two steps.
func expireAsDriver(f *Flows) {
	timer := time.NewTimer(0)
	for more := true; more; {
		<-timer.C
		_, more = f.Expire(start+1000*second, ExpireStep)
		timer.Reset(ExpirePause)
	}
}

// pauses is how long look-ups took, in steps of 100 ns up to 10 ms, and the longest of each kind.
type pauses struct {
	steps                       [100_000]int
	n                           int
	running, blocked, preempted time.Duration
	manyBlocked                 int // blocked for more than 1 ms
}

func (p *pauses) share(of float64) time.Duration {
	left := int(float64(p.n) * of)
	for i, k := range p.steps {
		if left -= k; left < 0 {
			return time.Duration(i) * 100
		}
	}
	return time.Duration(len(p.steps)) * 100
}

func (p *pauses) add(took time.Duration, before, after *unix.Rusage) {
	p.steps[min(int(took/100), len(p.steps)-1)]++
	p.n++
	switch {
	case after.Nivcsw != before.Nivcsw:
		p.preempted = max(p.preempted, took)
	case after.Nvcsw != before.Nvcsw:
		p.blocked = max(p.blocked, took)
		if took > time.Millisecond {
			p.manyBlocked++
		}
	default:
		p.running = max(p.running, took)
	}
}

// lookUpUntil looks flows up as a worker does, on a thread of its own, every 20 µs.
func lookUpUntil(f *Flows, done chan struct{}, p *pauses) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		default:
		}
		_ = unix.Getrusage(unix.RUSAGE_THREAD, &before)
		begin := time.Now()
		f.Outgoing(udp, uint16(50000+n%1000), nthAddr(7), nthAddr(7), 0, start+1000*second)
		took := time.Since(begin)
		_ = unix.Getrusage(unix.RUSAGE_THREAD, &after)
		p.add(took, &before, &after)
		for time.Since(begin) < 20*time.Microsecond {
		}
	}
}
