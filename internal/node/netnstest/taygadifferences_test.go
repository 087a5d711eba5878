package netnstest

import (
	"encoding/binary"
	"slices"
)

// side says which translator makes something of a packet.
type side int

const (
	either    side = iota
	onlyOurs       // tayga drops it
	onlyTayga      // ours drops it
)

// difference is one that is known and allowed between our translator and tayga.
type difference struct {
	name    string
	section string // of RFC 7915, or another RFC
	ours    string // what ours does, and why
	tayga   string // what tayga does
	only    side
	applies func(w *world, s *sample) bool
	// before returns the packet of which ours makes what tayga makes of s.
	before func(s *sample) *sample
	// after changes a packet that ours has made into what tayga makes. always says that it concerns
	// nearly all packets.
	after  func(w *world, s *sample, b, theirs []byte)
	always bool
}

// taygaDifferences lists them all; docs/conformance/tayga.md shows them to readers. Of several that
// explain why one makes nothing, the first is counted.
var taygaDifferences = slices.Concat(dropsOfTayga, dropsOfTaygaByQuote, dropsOfOurs, contents)

var dropsOfTayga = []difference{
	{
		name: "time to live used up", section: "4.1, 5.1", only: onlyOurs,
		ours:    "copies it: the kernel, which routes the packet before or behind, counts down and answers",
		tayga:   "drops 0, and answers 1 with time exceeded",
		applies: func(_ *world, s *sample) bool { return s.ttl < 2 },
	},
	{
		name: "too long with DF", section: "4", only: onlyOurs,
		ours:  "translates; the caller knows the next hop, asks MayFragment, and answers",
		tayga: "answers fragmentation needed",
		applies: func(w *world, s *sample) bool {
			return !s.v6 && s.df && s.whole() && s.length() > w.mtu-20 && !s.error()
		},
	},
	{
		name: "UDP without checksum from IPv4", section: "4.5", only: onlyOurs,
		ours:    "computes one, as the RFC allows; the alternative loses the packet",
		tayga:   "drops it, as the RFC allows too",
		applies: func(_ *world, s *sample) bool { return !s.v6 && s.whole() && s.udpWithoutSum() },
	},
	{
		name: "UDP without checksum from IPv6", section: "5.5", only: onlyOurs,
		ours:    "leaves it without one, which IPv4 allows; it is the sender that broke RFC 8200, section 8.1",
		tayga:   "drops it",
		applies: func(_ *world, s *sample) bool { return s.v6 && s.udpWithoutSum() },
	},
	{
		name: "fragment of odd length", section: "RFC 791, RFC 8200 4.5", only: onlyOurs,
		ours:  "translates it; whoever puts the fragments together drops it",
		tayga: "drops a fragment with more behind it whose length is not a multiple of 8",
		applies: func(_ *world, s *sample) bool {
			return s.more && s.payload()%8 != 0
		},
	},
	{
		name: "fragment without data", section: "4.1", only: onlyOurs,
		ours:  "translates it like others",
		tayga: "drops it",
		applies: func(_ *world, s *sample) bool {
			return !s.v6 && s.fragmented && s.payload() == 0
		},
	},
	{
		name: "echo with a wrong checksum", section: "4.2, 5.2", only: onlyOurs,
		ours:    "patches the checksum, which stays wrong, so that the receiver drops it: translating by patches needs no look at the payload",
		tayga:   "drops it",
		applies: func(_ *world, s *sample) bool { return s.echo() && s.icmp.wrongSum },
	},
	{
		name: "suffix behind an embedded address", section: "RFC 6052 2.2", only: onlyOurs,
		ours:    "ignores it, for it is reserved for extensions that must not matter to translators of today",
		tayga:   "knows no such address",
		applies: func(w *world, s *sample) bool { return s.v6 && w.suffixed(s.dst) },
	},
	{
		name: "pointer of a parameter problem", section: "4.2, 5.2", only: onlyOurs,
		ours:  "maps it by figures 3 and 6",
		tayga: "drops all parameter problems of code 0 and 2",
		applies: func(_ *world, s *sample) bool {
			return s.is(false, 12, 0, 2) || s.is(true, 4, 0)
		},
	},
	{
		name: "address unreachable", section: "5.2", only: onlyOurs,
		ours:    "turns code 3 of destination unreachable into host unreachable",
		tayga:   "drops it",
		applies: func(_ *world, s *sample) bool { return s.is(true, 1, 3) },
	},
	{
		name: "packet too big with less than 68", section: "5.2", only: onlyOurs,
		ours:    "takes any MTU below 1,280 for 1,280",
		tayga:   "drops it",
		applies: func(_ *world, s *sample) bool { return s.is(true, 2) && s.icmp.rest < 68 },
	},
	{
		name: "error from a router without address there", section: "4.1, 5.1, RFC 6791", only: onlyOurs,
		ours:  "sends all errors from the address that the caller gives",
		tayga: "sends those that say no route or too big from its own address, and drops others",
		applies: func(w *world, s *sample) bool {
			if !s.error() || s.src != w.router6 && s.src != w.local {
				return false
			}
			return !s.is(true, 1, 0, 2) && !s.is(true, 2) && !s.is(false, 3, 0, 1, 4, 5, 6, 7, 8, 11, 12)
		},
	},
}

var dropsOfTaygaByQuote = []difference{
	{
		name: "length attribute past the end", section: "RFC 4884 5.5", only: onlyOurs,
		ours:  "takes all for the quote, as of a sender that puts something else there",
		tayga: "drops the error",
		applies: func(_ *world, s *sample) bool {
			return s.error() && s.attribute() > len(s.icmp.bytes(s))-8
		},
	},
	{
		name: "quoted echo reply", section: "4.3, 5.3", only: onlyOurs,
		ours:  "translates it like any packet",
		tayga: "drops errors about ICMP other than echo requests",
		applies: func(_ *world, s *sample) bool {
			if !s.error() || s.icmp.quote.icmp == nil {
				return false
			}
			m := s.quotedTransport() // the type may be one of padding
			return len(m) > 0 && (m[0] == 0 || m[0] == 129)
		},
	},
	{
		name: "quoted header that is cut off", section: "4.3, 5.3", only: onlyOurs,
		ours:  "translates what is there, if it has the ports: RFC 792 has routers quote 8 bytes",
		tayga: "drops errors that quote less than 20 bytes of TCP, or 8 of UDP",
		applies: func(_ *world, s *sample) bool {
			if !s.error() || s.icmp.quote.offset > 0 {
				return false
			}
			there := len(s.quotedTransport())
			return s.icmp.quote.proto == protoTCP && there < 20 || s.icmp.quote.proto == protoUDP && there < 8
		},
	},
	{
		name: "quoted UDP without checksum", section: "4.5, 5.5", only: onlyOurs,
		ours:  "leaves it without one",
		tayga: "drops the error",
		applies: func(_ *world, s *sample) bool {
			return s.error() && s.icmp.quote.offset == 0 && s.icmp.quote.proto == protoUDP && withoutSum(s.quotedTransport())
		},
	},
	{
		name: "quoted first fragment that is cut", section: "4.3, 5.3", only: onlyOurs,
		ours:  "translates what is there",
		tayga: "takes the rest for a fragment of odd length",
		applies: func(_ *world, s *sample) bool {
			return s.error() && s.icmp.quote.more && len(s.quotedTransport())%8 != 0
		},
	},
}

var dropsOfOurs = []difference{
	{
		name: "protocols that mean another thing", section: "4.1, 5.1", only: onlyTayga,
		ours:  "drops what would become an extension header in IPv6 or was one, and ICMP and IGMP of the wrong version: a policy has not seen what is in it",
		tayga: "copies the number, as the RFC has it",
		applies: func(_ *world, s *sample) bool {
			return s.foreign() || s.error() && s.icmp.quote.foreign()
		},
	},
	{
		name: "source route with a way to go", section: "4.1, 5.1", only: onlyTayga,
		ours:  "drops it, as the RFC has it",
		tayga: "leaves the route out and sends the packet to the next waypoint's address",
		applies: func(_ *world, s *sample) bool {
			route := func(e extension) bool { return e.proto == protoRouting && e.rest[2] > 0 }
			return slices.ContainsFunc(s.chain, route) || s.sourceRouted()
		},
	},
	{
		name: "malformed options", section: "RFC 791", only: onlyTayga,
		ours:    "drops packets with IPv4 options that reach past the header",
		tayga:   "does not look at options",
		applies: func(_ *world, s *sample) bool { return len(s.options) > 1 && s.options[0] == 68 },
	},
	{
		name: "hop-by-hop options that are not first", section: "RFC 8200 4.1", only: onlyTayga,
		ours:  "drops the packet",
		tayga: "takes the headers in any order",
		applies: func(_ *world, s *sample) bool {
			for i, e := range s.chain {
				if i > 0 && e.proto == protoHopByHop {
					return true
				}
			}
			return false
		},
	},
	{
		name: "transport lengths that do not add up", section: "RFC 768, RFC 9293 3.1", only: onlyTayga,
		ours:    "drops a UDP length and a TCP data offset that are too long or too short for the packet, and first fragments without the whole TCP header (RFC 7112)",
		tayga:   "looks at neither",
		applies: func(_ *world, s *sample) bool { return s.offset == 0 && s.lies() },
	},
	{
		name: "fragments that overwrite a TCP header", section: "RFC 3128", only: onlyTayga,
		ours:    "drops fragments of TCP at the offsets 8 and 16",
		tayga:   "translates them",
		applies: func(_ *world, s *sample) bool { return s.proto == protoTCP && s.offset > 0 && s.offset < 20 },
	},
	{
		name: "error about a later fragment", section: "4.3, 5.3", only: onlyTayga,
		ours:    "drops it: without ports it is of no flow that a policy or a NAT could find",
		tayga:   "translates it",
		applies: func(_ *world, s *sample) bool { return s.error() && s.icmp.quote.offset > 0 },
	},
	{
		name: "shared addresses under the well-known prefix", section: "RFC 6052 3.1", only: onlyTayga,
		ours:    "drops packets from 100.64.0.0/10 (RFC 6598), as from all addresses that are not global",
		tayga:   "has a list that is older than that network",
		applies: func(w *world, s *sample) bool { return w.wellKnown && w.uses(s, w.shared) },
	},
}

var contents = []difference{
	{
		name: "hop", section: "4.1, 5.1", always: true,
		ours:    "copies the time to live, since the kernel that routes the packet counts down",
		tayga:   "counts down itself, beside the kernel that routes to it and from it",
		applies: func(*world, *sample) bool { return true },
		after: func(_ *world, _ *sample, b, _ []byte) {
			if b[0]>>4 == 6 {
				b[7]--
				return
			}
			b[8]--
			sum4(b)
		},
	},
	{
		name: "identification and DF", section: "5.1", always: true,
		ours:    "gives each packet an identification and clears DF up to 1,260 bytes",
		tayga:   "sets DF and identification 0 until an IPv4 router asks for less than 1,280; then clears DF up to 1,280 bytes of payload and counts",
		applies: func(_ *world, s *sample) bool { return s.v6 && !s.fragmented },
		after:   identify,
	},
	{
		name: "identification and DF of a quoted packet", section: "5.3",
		ours:    "as for packets",
		tayga:   "as for packets",
		applies: func(_ *world, s *sample) bool { return s.v6 && s.error() && !s.icmp.quote.fragmented },
		after: func(_ *world, _ *sample, b, _ []byte) {
			atomic4(b[28:])
			sumICMP(b)
		},
	},
	{
		name: "DF of a fragment", section: "4",
		ours:  "leaves a fragment with DF whole; where it is too long the caller answers",
		tayga: "ignores DF in fragments and cuts them to 1,280 bytes",
		applies: func(w *world, s *sample) bool {
			return !s.v6 && s.df && s.fragmented && s.payload()+48 > w.limit
		},
		before: func(s *sample) *sample {
			x := *s
			x.df = false
			return &x
		},
	},
	{
		name: "UDP checksum that comes to zero", section: "RFC 768",
		ours:    "writes ffff, as RFC 768 demands",
		tayga:   "writes 0: then there is none in IPv4, and in IPv6 the packet is dropped",
		applies: func(_ *world, s *sample) bool { return s.proto == protoUDP && s.offset == 0 },
		after:   func(_ *world, _ *sample, b, _ []byte) { zeroUDP(b) },
	},
	{
		name: "checksum of an echo reply of zeros", section: "5.2",
		ours:  "writes ffff: the sum over nothing but zeros is 0, and that is its complement",
		tayga: "writes 0, which is wrong",
		applies: func(_ *world, s *sample) bool {
			return s.v6 && s.echo() && s.icmp.kind == 129 && s.icmp.code == 0 && s.icmp.rest == 0
		},
		after: func(_ *world, _ *sample, b, _ []byte) { b[22], b[23] = 0, 0 },
	},
	{
		name: "MTU of 1 to 67 from IPv4", section: "4.2, 6",
		ours:    "takes it as it is said, and says 1,280; the RFC has an estimate for 0 only",
		tayga:   "estimates it, as for 0",
		applies: func(_ *world, s *sample) bool { return s.is(false, 3, 4) && s.icmp.rest&0xffff < 68 },
		after:   mtuOfTayga,
	},
	{
		name: "least MTU from IPv6", section: "5.2, RFC 8201 4",
		ours:    "takes less than 1,280 for 1,280, since no IPv6 path has less",
		tayga:   "takes it as it is said",
		applies: func(_ *world, s *sample) bool { return s.is(true, 2) && s.icmp.rest < 1280 },
		after: func(_ *world, s *sample, b, _ []byte) {
			binary.BigEndian.PutUint16(b[26:], uint16(s.icmp.rest-20))
			sumICMP(b)
		},
	},
	{
		name: "extension of an error", section: "4.2, 5.2",
		ours:  "carries it along with an adjusted length attribute, where the new type has one",
		tayga: "leaves it out",
		applies: func(_ *world, s *sample) bool {
			return s.error() && s.attribute() > 0 && s.attribute() < len(s.icmp.bytes(s))-8
		},
		before: withoutExtension,
	},
	{
		name: "fragment header in a quote", section: "4.3",
		ours:    "gives the quoted first fragment a fragment header, like any packet",
		tayga:   "leaves it out",
		applies: func(_ *world, s *sample) bool { return !s.v6 && s.error() && s.icmp.quote.more },
		before: func(s *sample) *sample {
			x, m, q := *s, *s.icmp, *s.icmp.quote
			q.more, q.fragmented = false, false
			m.quote, x.icmp = &q, &m
			return &x
		},
	},
}
