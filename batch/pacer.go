package batch

// Wake-up moderation. A wake-up costs whoever causes it and whoever wakes up several microseconds
// of processor time each, on a virtual machine more than ten: as much as a dozen packets. While
// packets come fast, a worker therefore looks for them at intervals instead of waiting for the
// kernel: they gather meanwhile, nobody is woken for each of them, and what they become on the
// other side is larger and wakes others less often too. All times are in nanoseconds.

const (
	// briskGap is the time between two wake-ups below which they count as brisk, unless a Pacer
	// says otherwise. 5,000 packets a second are not, 31,000 are.
	briskGap = 100_000
	// briskRuns is by how many brisk wake-ups must outnumber others to start the moderation: an
	// exchange of a few packets, such as a TCP or TLS handshake, is over by then.
	briskRuns = 16
	// briskMost bounds the count, and so how many slow wake-ups end the moderation.
	briskMost = 2 * briskRuns
	// idleGap is the time between two wake-ups after which all counting starts anew.
	idleGap = 10_000_000
	// fewPackets is what an interval should bring, or it grows; manyPackets what it may bring,
	// or it shrinks: the tunnel's queue holds 500 packets.
	fewPackets  = 64
	manyPackets = 192
	// shortestPeriod and shortestSleep bound the moderation from below: a sleep has a cost too.
	shortestPeriod = 50_000
	shortestSleep  = 10_000
	// patience is how many intervals in a row may bring next to nothing before the worker goes
	// back to waiting for the kernel: it bounds what moderation costs when traffic stops.
	patience = 2
	// worthIt is how many packets an interval must bring to count as more than next to nothing.
	worthIt = 3
)

// Pacer decides when a worker sleeps until its next look for packets instead of waiting for the
// kernel. One goroutine at a time.
type Pacer struct {
	// Longest is the longest interval in nanoseconds; 0 switches moderation off.
	Longest int64
	// Brisk is the time in nanoseconds between two wake-ups below which they count as brisk; 0 is
	// 100 µs.
	Brisk int64
	// First is the interval in nanoseconds with which moderation starts; 0 is the shortest. Who
	// counts wake-ups as brisk that bring less than three packets in the shortest needs a longer
	// one, or moderation ends as soon as it begins.
	First int64

	period int64 // the interval now
	last   int64 // when the worker was last woken
	brisk  int   // brisk wake-ups, less others
	poor   int   // intervals in a row that brought next to nothing
}

// Woken records a wake-up by the kernel.
func (p *Pacer) Woken(now int64) {
	brisk := p.Brisk
	if brisk == 0 {
		brisk = briskGap
	}
	switch gap := now - p.last; {
	case gap < brisk:
		if p.brisk++; p.brisk == briskRuns {
			p.period = max(p.period, p.First)
		}
		p.brisk = min(p.brisk, briskMost)
	case gap < idleGap:
		p.brisk = max(p.brisk-1, 0)
	default:
		p.brisk = 0
	}
	p.last = now
	p.poor = 0
}

// Rest returns how long to sleep after a turn that began at began, ended at now and carried got
// packets; 0 to go on at once, and to wait for the kernel if there is nothing. more says that the
// turn ended at its budget.
func (p *Pacer) Rest(got int, more bool, began, now int64) int64 {
	if p.Longest == 0 || p.brisk < briskRuns {
		return 0
	}
	switch {
	case got < worthIt:
		if p.poor++; p.poor >= patience {
			p.brisk = briskRuns / 2
			return 0
		}
	case got < fewPackets:
		p.poor = 0
		p.period += p.period / 4
	case got > manyPackets:
		p.poor = 0
		p.period -= p.period / 4
	default:
		p.poor = 0
	}
	p.period = max(shortestPeriod, min(p.period, p.Longest))
	if sleep := began + p.period - now; !more && sleep >= shortestSleep {
		return sleep
	}
	return 0
}
