package relay

import (
	"sync/atomic"

	"github.com/firelane/firelane/protocol/stun"
)

// Counters is what a relay counts besides the data it carries. All fields are atomic: the server, the workers and who shows
// them may use them at once. Figures gives the names.
type Counters struct {
	// ActiveAllocations is how many allocations are in the table.
	ActiveAllocations atomic.Int64
	// BoundChannels is how many channels are in the table.
	BoundChannels atomic.Int64

	responses [kinds][outcomes]atomic.Uint64
	events    [events]atomic.Uint64
}

// Event is something that a relay counts besides answers.
type Event uint8

// The events.
const (
	// EventAllocated: an allocation was made.
	EventAllocated Event = iota
	// EventExpired: an allocation was not refreshed.
	EventExpired
	// EventDeleted: a client gave its allocation up.
	EventDeleted
	// EventReplaced: an allocation made way for a newer one of its user.
	EventReplaced
	// EventOpenFailed: a port could not be bound, whatever the reason.
	EventOpenFailed
	// EventPortZero: a datagram came from UDP port 0.
	EventPortZero
	// EventNotRequest: a message is not STUN, or a response, or an indication.
	EventNotRequest
	// EventMalformedUser: a request has a user name that cannot be ours.
	EventMalformedUser
	// EventBindingRate: a source asked for more Binding answers than it may.
	EventBindingRate
	// EventRefusalRate: a source sent more requests without credentials, or with wrong ones, than
	// are answered.
	EventRefusalRate
	// EventOutputFull: more answers were pending than the driver may leave undrained.
	EventOutputFull
	// EventOpening: a client repeated an Allocate while its port was being bound.
	EventOpening
	// EventDeniedPeer: a channel to a denied address was refused.
	EventDeniedPeer
	// EventAnswerLost: an answer of the machine did not fit into the send buffer in time, or its
	// socket failed.
	EventAnswerLost
	// EventLost: an allocation ended because the kernel did not let its port be served.
	EventLost

	events
)

var eventNames = [events]string{
	"relay.allocations.made", "relay.allocations.expired", "relay.allocations.deleted", "relay.allocations.replaced",
	"relay.open_failed", "relay.drops.port_zero", "relay.drops.not_request", "relay.drops.malformed_user",
	"relay.drops.binding_rate", "relay.drops.refusal_rate", "relay.drops.output_full", "relay.drops.opening",
	"relay.denied_peers", "relay.drops.answer_lost", "relay.allocations.lost",
}

// kinds are the methods that answers are counted by, the last for any other.
const (
	kindBinding = iota
	kindAllocate
	kindRefresh
	kindChannelBind
	kindCreatePermission
	kindOther
	kinds
)

var kindNames = [kinds]string{"binding", "allocate", "refresh", "channelbind", "createpermission", "other"}

// codes are the error codes of a relay; outcome 0 is success and outcome i+1 is codes[i].
var codes = [...]struct {
	code   int
	text   string
	reason string
}{
	{400, "400", "Bad Request"},
	{401, "401", "Unauthorized"},
	{403, "403", "Forbidden"},
	{437, "437", "Allocation Mismatch"},
	{438, "438", "Stale Nonce"},
	{440, "440", "Address Family not Supported"},
	{443, "443", "Peer Address Family Mismatch"},
	{486, "486", "Allocation Quota Reached"},
	{508, "508", "Insufficient Capacity"},
}

const outcomes = len(codes) + 1

// Figure is one number with its name, in the terms of OpenTelemetry.
type Figure struct {
	// Name is the metric: relay.active_allocations, relay.bound_channels, relay.responses or
	// the name of an event.
	Name string
	// MessageType, ResponseClass and ErrorCode are the attributes message_type, response_class
	// and error_code of relay.responses; "" means that the figure has none.
	MessageType, ResponseClass, ErrorCode string
	// Value is a current level for the two gauges, and a count since the start for the rest.
	Value uint64
}

// Figures returns all numbers, those of answers that were never given left out.
func (c *Counters) Figures() []Figure {
	out := []Figure{
		{Name: "relay.active_allocations", Value: uint64(c.ActiveAllocations.Load())},
		{Name: "relay.bound_channels", Value: uint64(c.BoundChannels.Load())},
	}
	for i := range c.events {
		out = append(out, Figure{Name: eventNames[i], Value: c.events[i].Load()})
	}
	for k := range c.responses {
		for o := range c.responses[k] {
			n := c.responses[k][o].Load()
			if n == 0 {
				continue
			}
			f := Figure{Name: "relay.responses", MessageType: kindNames[k], ResponseClass: "success", Value: n}
			if o > 0 {
				f.ResponseClass, f.ErrorCode = "error", codes[o-1].text
			}
			out = append(out, f)
		}
	}
	return out
}

// Event returns how often e has happened.
func (c *Counters) Event(e Event) uint64 { return c.events[e].Load() }

// Responses returns how many answers to a method were given; code 0 means success.
func (c *Counters) Responses(m stun.Method, code int) uint64 {
	return c.responses[kindOf(m)][outcomeOf(code)].Load()
}

func (c *Counters) count(e Event) { c.events[e].Add(1) }

func (c *Counters) responded(m stun.Method, code int) {
	c.responses[kindOf(m)][outcomeOf(code)].Add(1)
}

func kindOf(m stun.Method) int {
	switch m {
	case stun.Binding:
		return kindBinding
	case stun.Allocate:
		return kindAllocate
	case stun.Refresh:
		return kindRefresh
	case stun.ChannelBind:
		return kindChannelBind
	case stun.CreatePermission:
		return kindCreatePermission
	}
	return kindOther
}

// outcomeOf panics for a code that is not in the list, which would be a bug of ours.
func outcomeOf(code int) int {
	if code == 0 {
		return 0
	}
	for i := range codes {
		if codes[i].code == code {
			return i + 1
		}
	}
	panic("relay: error code without a counter")
}

func reasonOf(code int) string { return codes[outcomeOf(code)-1].reason }
