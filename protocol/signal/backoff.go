package signal

import (
	"math/rand/v2"
	"time"
)

// Figures of the back-off. Before the first join a device fails fast, for its supervisor to see;
// afterwards it is patient.
const (
	firstDelay  = time.Second
	firstBudget = 15 * time.Second
	minDelay    = 500 * time.Millisecond
	maxDelay    = 60 * time.Second
)

// backoff hands out delays between attempts.
type backoff struct {
	// joined says that there was a successful join, ever.
	joined   bool
	base     time.Duration
	spent    time.Duration
	attempts int
}

func (b *backoff) reset(joined bool) { *b = backoff{joined: joined, base: minDelay} }

// next returns the delay before the next attempt, or false when the sum of delays would exceed
// the budget. A budget of zero has no end.
func (b *backoff) next(rng *rand.Rand, budget time.Duration) (delay time.Duration, ok bool) {
	delay = firstDelay
	if b.joined {
		delay = b.base + time.Duration(rng.Int64N(int64(b.base)))
		b.base = min(b.base*3/2, maxDelay)
	} else {
		budget = firstBudget
	}
	if budget > 0 && b.spent+delay > budget {
		return 0, false
	}
	b.spent += delay
	return delay, true
}
