package relay

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// Limits bound what the relay gives and keeps. Firezone's relay has none but its ports; the
// defaults are meant to be out of the way of honest use and to hold a flood.
type Limits struct {
	// Allocations bounds all allocations; 0 means as many as there are ports. Beyond: 508.
	Allocations int
	// AllocationsPerSource bounds those of one IPv4 address or IPv6 /64; 0 means no bound.
	// Beyond: 486, upon which Firezone's clients leave the relay alone.
	AllocationsPerSource int
	// Channels bounds the channels of all allocations, which cost about 400 bytes each; 0 means
	// the default. Beyond: 508.
	Channels int
	// ChannelsPerAllocation bounds those of one; 0 means the 4,096 numbers that there are. With
	// more than 16 it may also have no more than a 64th of those that the others leave of Channels,
	// so that a few cannot use up all. Beyond: 508.
	ChannelsPerAllocation int
	// BytesPerSecond bounds the payload that an allocation carries, both directions together,
	// in bursts of up to half a second and at least 64 KiB; 0 means no bound. Beyond: dropped by
	// the workers.
	BytesPerSecond int64
	// BindingsPerSecond bounds the answers to Binding requests from one IPv4 address or IPv6
	// /64, in bursts of up to four seconds, those of clients with an allocation apart; 0 means no
	// bound. Beyond: no answer.
	BindingsPerSecond int
	// RefusalsPerSecond bounds, likewise, the answers to requests that have neither valid
	// credentials nor the nonce that was sent to their address, be it used up; and as many again to
	// requests with the nonce and wrong credentials. A source beyond the latter is not heard at all
	// for a while where passwords can be guessed (Users), so that it learns of no right one either,
	// but for clients that have an allocation.
	RefusalsPerSecond int
	// Nonces bounds the clients whose use of their nonce is counted, about 250 bytes each; 0 means
	// the default. Beyond, the one that has been silent for longest starts anew.
	Nonces int
}

// DefaultLimits are for a public relay with some thousand clients. A site of a thousand clients
// behind one address that all lose their network at once sends 1,000 Bindings and as many
// requests without a nonce within a few seconds, and then one Binding in 25 seconds each.
func DefaultLimits() Limits {
	return Limits{
		AllocationsPerSource:  2048,
		Channels:              1 << 18,
		ChannelsPerAllocation: MaxChannel - MinChannel + 1,
		BindingsPerSecond:     512,
		RefusalsPerSecond:     512,
		Nonces:                1 << 16,
	}
}

// burstSeconds is how many seconds' worth of answers a source that was silent gets at once.
const burstSeconds = 4

// limiterCells is the number of buckets in a Limiter: 512 KiB. Sources whose hash is the same
// share one, which the seed makes unpredictable.
const limiterCells = 1 << 16

// Limiter is a token bucket for each source address in a table of fixed size without keys: an
// attacker can neither make it grow nor push others out, at worst share their bucket. Any number
// of goroutines may use it.
type Limiter struct {
	seed        uint64
	cost, burst int64
	cells       []atomic.Int64
}

// NewLimiter returns a limiter to perSecond events for each IPv4 address or IPv6 /64; 0 means no
// limit.
func NewLimiter(perSecond int, seed uint64) *Limiter {
	l := &Limiter{seed: seed}
	if perSecond > 0 {
		l.cost = int64(1e9) / int64(perSecond)
		l.burst = burstSeconds * 1e9
		l.cells = make([]atomic.Int64, limiterCells)
	}
	return l
}

// Allow reports whether source may have one more. now is in nanoseconds of any clock, the same
// in all calls.
func (l *Limiter) Allow(source netip.Addr, now int64) bool {
	if l.cells == nil {
		return true
	}
	return takeAt(l.cell(source), l.cost, l.burst, now)
}

// Spent reports whether Allow would refuse, and changes nothing.
func (l *Limiter) Spent(source netip.Addr, now int64) bool {
	if l.cells == nil {
		return false
	}
	var peek atomic.Int64
	peek.Store(l.cell(source).Load())
	return !takeAt(&peek, l.cost, l.burst, now)
}

func (l *Limiter) cell(source netip.Addr) *atomic.Int64 {
	return &l.cells[addrKey{hi: sourceOf(source)}.hash(l.seed)%limiterCells]
}

// sourceOf is what stands for one source: an IPv4 address, or the network part of an IPv6
// address, of which a host has all the others.
func sourceOf(a netip.Addr) uint64 {
	b := a.As16()
	if a.Is4() || a.Is4In6() {
		return 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[12:]))
	}
	return binary.BigEndian.Uint64(b[:8])
}
