// Package stun is the wire format of STUN (RFC 8489) with the attributes of TURN (RFC 8656) and
// ICE (RFC 8445), and of ChannelData: it parses into a struct of the caller and builds into
// bytes of the caller, signs and verifies. It knows nothing of transactions, servers or agents;
// the relay, the TURN client and the ICE agent share it.
//
// # Rules
//
// The peers that we must understand decide where they are laxer or stricter than the RFCs:
//
//   - A header that is not STUN's (first two bits, magic cookie, a length that is not a multiple
//     of four or not that of the datagram) is ErrHeader: not STUN, to be ignored or tried as
//     something else. RFC 3489, which has no cookie, is not spoken.
//   - An attribute of the relay protocol that is cut short, of a wrong size or value, or text
//     that is not UTF-8 or longer than the RFC allows, is ErrAttribute: a relay answers 400.
//     CHANNEL-NUMBER must lie in 0x4000–0x4FFF.
//   - ICE's attributes and FINGERPRINT count as absent when their size is wrong: a relay ignores
//     them, and an ICE agent refuses a check without them.
//   - Attributes that are not listed in this package are ignored, comprehension-required ones
//     too. There is no list of unknown ones, because none of the protocols here answers 420.
//   - Of several attributes of one type the first counts; of XOR-RELAYED-ADDRESS the first of
//     each address family.
//   - What follows MESSAGE-INTEGRITY is not covered by it and ignored, except FINGERPRINT,
//     behind which everything is ignored.
//   - Messages of more than MaxSize bytes or MaxAttributes attributes are refused.
//
// # Why not a library
//
// pion/stun v3 is the maintained codec in Go. These rules do not fit it (read at v3.1, November
// 2026): it keeps attributes in a slice that grows with the message and reads values into
// net.IP; it builds an error text for every message it refuses, so garbage costs more than good
// messages; checking MESSAGE-INTEGRITY writes to the message and allocates; attributes behind
// MESSAGE-INTEGRITY are handed out unless an option forbids it; a length that is not a multiple
// of four and bytes behind the message pass; and which attribute was malformed comes out one
// getter at a time, so "any malformed attribute is 400" would have to be written anyway.
//
// # Memory and concurrency
//
// Parse keeps slices of the bytes it is lent; the Message is valid as long as they are. Parse,
// Verify and the Builder do not allocate, unless the builder's buffer must grow. Functions have
// no state: a Message or Builder belongs to one goroutine at a time.
package stun
