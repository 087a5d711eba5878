package fib

import (
	"encoding/binary"
	"slices"

	"github.com/firelane/firelane/packet"
)

// Filter is one line of a resource's filter list. A list permits what any of its lines permits;
// an empty list permits everything, IP protocols that nobody knows included.
type Filter struct {
	// Protocol is packet.ProtoTCP, packet.ProtoUDP or packet.ProtoICMP, which stands for ICMP
	// of either family, errors and echo alike. A line of another protocol permits nothing, but
	// it makes a list that is not empty.
	Protocol uint8
	// First and Last bound the ports of TCP and UDP, inclusive; a range that runs backwards
	// permits nothing. The port is that of the resource: destination port of what a client
	// sends, source port of what comes back.
	First, Last uint16
}

// traffic is what filters distinguish packets by.
type traffic struct {
	kind kind
	port uint16 // the resource's, of TCP and UDP
}

type kind uint8

const (
	kindOther kind = iota // only a list that permits everything lets it through
	kindTCP
	kindUDP
	kindICMP
)

// kindOf sorts a packet. A later fragment shows no port, so it is of no kind that a list with
// ports may let through.
func kindOf(info *packet.Info) kind {
	switch {
	case info.Fragment && !info.FirstFragment:
		return kindOther
	case info.Proto == packet.ProtoTCP:
		return kindTCP
	case info.Proto == packet.ProtoUDP:
		return kindUDP
	case info.Proto == packet.ProtoICMP && info.Version == 4, info.Proto == packet.ProtoICMPv6 && info.Version == 6:
		return kindICMP
	}
	return kindOther
}

// rules is the compiled form of filter lists: what one address permits. Immutable; addresses
// that permit the same share it.
type rules struct {
	all, icmp bool
	// tcp and udp are sorted, and neither overlap nor touch.
	tcp, udp []portRange
	// wider is what shorter prefixes permit beside, where joining them would have gone over
	// maxFlatRanges; otherwise nil.
	wider *rules
}

// portRange is a range of ports, inclusive.
type portRange struct{ first, last uint16 }

func (r *rules) permits(t traffic) bool {
	for ; r != nil; r = r.wider {
		switch {
		case r.all:
			return true
		case t.kind == kindTCP && within(r.tcp, t.port), t.kind == kindUDP && within(r.udp, t.port):
			return true
		case t.kind == kindICMP && r.icmp:
			return true
		}
	}
	return false
}

// within reports whether a range holds port.
func within(ranges []portRange, port uint16) bool {
	low, high := 0, len(ranges)
	for low < high {
		middle := int(uint(low+high) / 2)
		if r := ranges[middle]; port > r.last {
			low = middle + 1
		} else if port < r.first {
			high = middle
		} else {
			return true
		}
	}
	return false
}

// add makes r permit what a filter list permits beside. r is still being built.
func (r *rules) add(list []Filter) {
	if len(list) == 0 {
		r.all = true
	}
	for _, f := range list {
		switch {
		case f.Protocol == packet.ProtoICMP:
			r.icmp = true
		case f.First > f.Last:
		case f.Protocol == packet.ProtoTCP:
			r.tcp = append(r.tcp, portRange{f.First, f.Last})
		case f.Protocol == packet.ProtoUDP:
			r.udp = append(r.udp, portRange{f.First, f.Last})
		}
	}
}

// join makes r permit what o permits beside.
func (r *rules) join(o *rules) {
	r.all = r.all || o.all
	r.icmp = r.icmp || o.icmp
	r.tcp = append(r.tcp, o.tcp...)
	r.udp = append(r.udp, o.udp...)
}

// finish sorts and merges the ranges.
func (r *rules) finish() {
	if r.all {
		*r = rules{all: true}
		return
	}
	r.tcp, r.udp = merged(r.tcp), merged(r.udp)
}

func merged(ranges []portRange) []portRange {
	if len(ranges) < 2 {
		return ranges
	}
	slices.SortFunc(ranges, func(a, b portRange) int { return int(a.first) - int(b.first) })
	kept := ranges[:1]
	for _, r := range ranges[1:] {
		if last := &kept[len(kept)-1]; int(r.first) <= int(last.last)+1 {
			last.last = max(last.last, r.last)
		} else {
			kept = append(kept, r)
		}
	}
	return kept
}

// maxFlatRanges bounds the memory of one policy's joined rules: a quarter of a million port
// ranges, 1 MiB. Rules past it refer to those of the shorter prefix instead of holding a copy:
// they permit the same, and only take longer.
const maxFlatRanges = 1 << 18

// compiler makes rules and finds those that it made before.
type compiler struct {
	made map[string]*rules
	// room is how many more ranges may be copied from shorter prefixes: it bounds memory and work.
	room int
}

// joined returns rules that permit what own and wider permit; own may be changed. wider is nil or
// a result of joined.
func (c *compiler) joined(own *rules, wider *rules) *rules {
	if wider != nil {
		if wider.wider != nil || len(wider.tcp)+len(wider.udp) > c.room {
			own.finish()
			own.wider = wider
			return own
		}
		own.join(wider)
		c.room -= len(wider.tcp) + len(wider.udp) // the work is done, whether the result is new or not
	}
	own.finish()
	key := own.key()
	if r := c.made[string(key)]; r != nil {
		return r
	}
	own.tcp, own.udp = slices.Clip(own.tcp), slices.Clip(own.udp)
	c.made[string(key)] = own
	return own
}

// key spells out finished rules that refer to no others.
func (r *rules) key() []byte {
	b := make([]byte, 0, 8+4*(len(r.tcp)+len(r.udp)))
	var flags uint32
	if r.all {
		flags |= 1
	}
	if r.icmp {
		flags |= 2
	}
	b = binary.BigEndian.AppendUint32(b, flags)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.tcp)))
	for _, ranges := range [...][]portRange{r.tcp, r.udp} {
		for _, p := range ranges {
			b = binary.BigEndian.AppendUint16(b, p.first)
			b = binary.BigEndian.AppendUint16(b, p.last)
		}
	}
	return b
}
