package relay

import "sync/atomic"

// bucket is a token bucket in one atomic word, by the generic cell rate algorithm (ITU-T I.371):
// it keeps the time at which the bucket will be full again. It may be used by any number of
// goroutines.
type bucket struct {
	// perToken is how long a token takes to come back and burst how long a full bucket takes,
	// in nanoseconds; a perToken of 0 means no limit.
	perToken, burst float64

	full atomic.Int64
}

// set limits the bucket to rate tokens per second and a burst of as many as come in seconds.
// Before publication only.
func (b *bucket) set(rate, seconds float64) {
	if rate > 0 {
		b.perToken, b.burst = 1e9/rate, seconds*1e9
	}
}

// take removes n tokens, or none and reports false if there are fewer, or if n is negative: nobody
// gets tokens by taking.
func (b *bucket) take(n, now int64) bool {
	if n < 0 {
		return false
	}
	if b.perToken == 0 {
		return true
	}
	return takeAt(&b.full, int64(float64(n)*b.perToken), int64(b.burst), now)
}

// clockSlack is how far, in nanoseconds, the clocks of those who share a bucket may lie apart: a
// worker reads its own once per turn, and a turn takes milliseconds at most.
const clockSlack = 1_000_000_000

// takeAt moves the time at which a bucket is full by cost, unless that lies more than burst
// ahead. A time before now stands for a full bucket, and so does one further ahead than any bucket
// can have come to by a clock within clockSlack of this one: then the clock has jumped back.
func takeAt(full *atomic.Int64, cost, burst, now int64) bool {
	for {
		old := full.Load()
		at := old
		if at < now || at > now+burst+clockSlack {
			at = now
		}
		if at+cost > now+burst {
			return false
		}
		if full.CompareAndSwap(old, at+cost) {
			return true
		}
	}
}
