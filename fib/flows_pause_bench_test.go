package fib

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkWorkerBesideExpiry measures how long a worker's look-ups take while a million flows of
// its client end, in steps between which the driver goes once around its loop, and the same while
// nothing ends: what the machine itself adds. It reports microseconds.
func BenchmarkWorkerBesideExpiry(b *testing.B) {
	const flows = 1_000_000
	for _, ending := range []bool{false, true} {
		name := "nothing-ends"
		if ending {
			name = "flows-end"
		}
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			var ended time.Duration
			for b.Loop() {
				f, _ := newFlows(2*flows, 2*flows)
				for i := range flows {
					f.Outgoing(udp, uint16(i/50), nthAddr(i%50), nthAddr(i%50), 0, start+int64(i))
				}
				begin := time.Now()
				done := expireAsDriver(f, ending)
				took = append(took, lookUpUntil(f, done)...)
				ended += time.Since(begin)
			}
			slices.Sort(took)
			us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
			b.ReportMetric(us(took[len(took)/2]), "median-us")
			b.ReportMetric(us(took[len(took)*99/100]), "p99-us")
			b.ReportMetric(us(took[len(took)*9999/10000]), "p99.99-us")
			b.ReportMetric(us(took[len(took)-1]), "longest-us")
			if ending {
				b.ReportMetric(float64(flows)*float64(b.N)/ended.Seconds(), "flows/s")
			}
		})
	}
}

// expireAsDriver ends what has expired in the driver's manner, a timer between two steps.
func expireAsDriver(f *Flows, ending bool) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		if !ending {
			time.Sleep(time.Second)
			return
		}
		timer := time.NewTimer(0)
		for more := true; more; {
			<-timer.C
			_, more = f.Expire(start+1000*second, ExpireStep)
			timer.Reset(ExpirePause)
		}
	}()
	return done
}

// lookUpUntil looks flows up as a worker does, every 20 µs, and returns how long each look-up took.
func lookUpUntil(f *Flows, done chan struct{}) (took []time.Duration) {
	for n := 0; ; n++ {
		select {
		case <-done:
			return took
		default:
		}
		begin := time.Now()
		f.Outgoing(udp, uint16(50000+n%1000), nthAddr(7), nthAddr(7), 0, start+1000*second)
		took = append(took, time.Since(begin))
		for time.Since(begin) < 20*time.Microsecond {
		}
	}
}
