package server

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// limiter is a set of token buckets, one for each key: burst at once, then one every interval. It
// forgets buckets that are full again, and arbitrary ones when there are too many keys: whoever has
// as many addresses is not to be stopped here.
type limiter[K comparable] struct {
	burst    int
	interval time.Duration

	mu sync.Mutex
	// fullAt is when a bucket will be full again; those that are missing are full.
	fullAt map[K]time.Time
	swept  time.Time
}

// maxBuckets bounds the keys of a limiter: three times the devices of a large portal, about 8 MiB.
const maxBuckets = 1 << 16

// sweepEvery is how often full buckets are looked for when there are too many.
const sweepEvery = time.Second

func newLimiter[K comparable](burst int, interval time.Duration) *limiter[K] {
	return &limiter[K]{burst: burst, interval: interval, fullAt: map[K]time.Time{}}
}

// take takes one from the key's bucket. If there is none, wait says when there will be.
func (l *limiter[K]) take(k K, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.fullAt[k]
	if at.Before(now) {
		at = now
	}
	at = at.Add(l.interval)
	if over := at.Sub(now) - time.Duration(l.burst)*l.interval; over > 0 {
		return over, false
	}
	l.room(now)
	l.fullAt[k] = at
	return 0, true
}

func (l *limiter[K]) room(now time.Time) {
	if len(l.fullAt) < maxBuckets {
		return
	}
	if now.Sub(l.swept) >= sweepEvery {
		l.swept = now
		for k, at := range l.fullAt {
			if !at.After(now) {
				delete(l.fullAt, k)
			}
		}
	}
	for k := range l.fullAt {
		if len(l.fullAt) < maxBuckets {
			return
		}
		delete(l.fullAt, k)
	}
}

// attempt is the key of the protocol's limit: one upgrade a second for a token from an address.
type attempt struct {
	from  netip.Addr
	token [8]byte
}

func attemptOf(from netip.Addr, token string) attempt {
	sum := sha256.Sum256([]byte(token))
	return attempt{from, [8]byte(sum[:8])}
}

// subnet is whom failures are counted for: an IPv4 address, or the 64 bits of IPv6 that one
// customer has.
func subnet(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // not an address: one bucket for all of these
	}
	return p
}
