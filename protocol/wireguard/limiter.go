package wireguard

import (
	"net/netip"
	"time"
)

// loadMeter decides when a cookie is demanded.
type loadMeter struct {
	budget int       // messages per window
	jobs   int       // waiting jobs from which on the device is loaded
	start  time.Time // of the window
	count  int       // messages within it
	until  time.Time // loaded at least until then
}

// loadWindow is both the window of the budget and how long load by jobs lasts.
const loadWindow = time.Second

// loaded counts one message and reports whether the device is under load.
func (l *loadMeter) loaded(waiting int, now time.Time) bool {
	if l.start.IsZero() || now.Sub(l.start) >= loadWindow {
		l.start, l.count = now, 0
	}
	l.count++
	if waiting >= l.jobs {
		l.until = now.Add(loadWindow)
	}
	return l.count > l.budget || now.Before(l.until)
}

const (
	// sourceRate and sourceBurst bound the handshake messages of one source that has proved
	// its address while the device is loaded: a household of peers behind one address may
	// start together, nobody needs more.
	sourceRate  = 20 // per second
	sourceBurst = 5
	// maxSources bounds the table, at about 100 bytes each. An entry is only made for a source
	// that holds a valid cookie, so filling it takes as many addresses within the 0.25 s that
	// a bucket takes to be full again.
	maxSources = 4096
)

// sourceLimiter is a token bucket per source, IPv4 address or IPv6 /64.
type sourceLimiter struct {
	buckets map[netip.Prefix]bucket
	swept   time.Time
}

// bucket has tokens at a time, in units of tokens.
type bucket struct {
	tokens float64
	at     time.Time
}

// allow takes a token of the source and reports whether there was one. A full table first
// forgets the sources whose buckets are full again, at most once per fill time; a newcomer to a
// table that stays full is refused.
func (l *sourceLimiter) allow(from netip.Addr, now time.Time) bool {
	key := sourceOf(from)
	b, known := l.buckets[key]
	if !known {
		if len(l.buckets) >= maxSources && !l.sweep(now) {
			return false
		}
		b = bucket{tokens: sourceBurst, at: now}
	}
	if waited := now.Sub(b.at); waited > 0 {
		b.tokens = min(sourceBurst, b.tokens+waited.Seconds()*sourceRate)
		b.at = now
	}
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	if l.buckets == nil {
		l.buckets = make(map[netip.Prefix]bucket)
	}
	l.buckets[key] = b
	return ok
}

// fillTime is how long an empty bucket takes to be full.
const fillTime = sourceBurst * time.Second / sourceRate

func (l *sourceLimiter) sweep(now time.Time) bool {
	if now.Sub(l.swept) < fillTime {
		return false
	}
	l.swept = now
	for key, b := range l.buckets {
		if now.Sub(b.at) >= fillTime {
			delete(l.buckets, key)
		}
	}
	return len(l.buckets) < maxSources
}

// sourceOf is the block of addresses that one host can have for the asking.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // the invalid address: all such share one bucket
	}
	return p
}
