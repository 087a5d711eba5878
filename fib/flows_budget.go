package fib

import (
	"encoding/binary"
	"sync/atomic"
)

// MaxFlowsPerClient bounds the live flows of one client: all ports towards two real addresses,
// far above what a workstation has, and about 12 MiB. At the bound the flow that was idle longest
// goes, counted as Evicted.
const MaxFlowsPerClient = 1 << 17

// MaxFlows bounds the live flows of a process: 64 for each of MaxPeers, about 400 MiB. At the
// bound a client gives its own longest idle flow for a new one (Evicted); one that has none is
// refused (DropFlowsFull).
const MaxFlows = 1 << 22

// Expired tuples are bounded to a fraction of what flows are, per client and in all: they only
// tell late packets from strange ones. At the bound the client's own oldest is forgotten, or,
// if it has none, the newest (Forgotten): what is late for it is then a packet without a flow,
// which only gets to the client if its policy grants the real address itself.
const expiredShare = 4

// FlowBudget bounds the flows of all clients of a process together and holds the key of their
// hashes. Tables share it; safe for concurrent use.
type FlowBudget struct {
	// Set at construction, never written again.
	maxLive, maxRemembered           int64
	clientMaxLive, clientMaxRemember int
	key                              hashKey

	// Written by the tables.
	_                [64]byte // keeps the counters' line away from the limits
	live, remembered atomic.Int64
}

// NewFlowBudget returns a budget of total flows, of which one client may have perClient:
// MaxFlows and MaxFlowsPerClient, except in tests. seed must be random and secret: whoever
// knows it can choose ports and addresses that make the tables slow.
func NewFlowBudget(total, perClient int, seed [16]byte) *FlowBudget {
	return &FlowBudget{
		maxLive:           int64(total),
		maxRemembered:     int64(total / expiredShare),
		clientMaxLive:     perClient,
		clientMaxRemember: perClient / expiredShare,
		key:               hashKey{binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])},
	}
}

// Live returns the number of live flows of all tables, Remembered that of expired tuples.
func (b *FlowBudget) Live() int { return int(b.live.Load()) }

// Remembered returns the number of expired tuples of all tables.
func (b *FlowBudget) Remembered() int { return int(b.remembered.Load()) }

// take adds one to used unless that makes it more than most.
func take(used *atomic.Int64, most int64) bool {
	if used.Add(1) <= most {
		return true
	}
	used.Add(-1)
	return false
}
