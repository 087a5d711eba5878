package relay

import "math/rand/v2"

// failedPortRest is how long a port that could not be bound, because another program has it, is
// not tried again.
const failedPortRest = 60 * second

// portTries is how many random ports are tried before the range is searched in order: with the
// range three quarters full, 16 tries find a free one in 99 cases of 100.
const portTries = 16

// ports hands out relayed ports at random, which peers that guess must not know.
type ports struct {
	rng     *rand.Rand
	lowest  int
	count   int
	free    int
	taken   [1 << 16]bool
	resting []resting // the earliest first
}

type resting struct {
	port  uint16
	until int64
}

func newPorts(rng *rand.Rand, lowest uint16, count int) *ports {
	return &ports{rng: rng, lowest: int(lowest), count: count, free: count}
}

// wake gives ports back that have rested.
func (p *ports) wake(now int64) {
	n := 0
	for ; n < len(p.resting) && p.resting[n].until <= now; n++ {
		p.release(p.resting[n].port)
	}
	p.resting = append(p.resting[:0], p.resting[n:]...)
}

// take returns a free port, or false if there is none.
func (p *ports) take(now int64) (uint16, bool) {
	if len(p.resting) > 0 {
		p.wake(now)
	}
	if p.free == 0 {
		return 0, false
	}
	at := p.rng.IntN(p.count)
	for range portTries {
		if !p.taken[p.lowest+at] {
			break
		}
		at = p.rng.IntN(p.count)
	}
	for p.taken[p.lowest+at] {
		at = (at + 1) % p.count
	}
	p.taken[p.lowest+at] = true
	p.free--
	return uint16(p.lowest + at), true
}

func (p *ports) release(port uint16) {
	p.taken[port] = false
	p.free++
}

// rest keeps a taken port that could not be bound out of reach for a while.
func (p *ports) rest(port uint16, now int64) {
	p.resting = append(p.resting, resting{port, now + failedPortRest})
}
