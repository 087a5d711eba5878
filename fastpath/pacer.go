package fastpath

// Wake-up moderation. A wake-up costs its sender and us several microseconds of processor time
// each, more than a packet does. When they come fast, sleeping for a moment first lets packets
// gather, and the sender then wakes nobody: nobody waits on the descriptors.

const (
	// briskGap is the time between two wake-ups, in nanoseconds, below which they count as
	// brisk. A ping of 1,000 packets per second is not; 31,000 packets per second are.
	briskGap = 250_000
	// briskRuns is how many brisk wake-ups in a row start the moderation: an exchange of a few
	// packets, such as a TCP or TLS handshake, is over by then.
	briskRuns = 16
	// patience is how many pauses in a row may bring nothing before the worker goes back to
	// waiting for the kernel: it bounds what the moderation costs when traffic stops.
	patience = 2
)

// pacer decides when to sleep for a moment instead of waiting for the kernel. All times are in
// nanoseconds.
type pacer struct {
	longest int64 // the pause; 0 switches moderation off
	last    int64 // when the worker was last woken
	brisk   int   // brisk wake-ups in a row
}

// woken records a wake-up by the kernel.
func (p *pacer) woken(now int64) {
	if now-p.last < briskGap {
		p.brisk++
	} else {
		p.brisk = 0
	}
	p.last = now
}

// pause returns how long to sleep before looking for packets again, 0 for not at all; misses is
// how many looks in a row found none.
func (p *pacer) pause(misses int) int64 {
	if p.longest == 0 || p.brisk < briskRuns {
		return 0
	}
	if misses >= patience {
		p.brisk = briskRuns / 2
		return 0
	}
	return p.longest
}
