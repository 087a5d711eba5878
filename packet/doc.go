// Package packet knows the bytes of IPv4, IPv6, TCP, UDP and ICMP: it parses headers, computes,
// verifies and patches checksums, and cuts superpackets into the packets they stand for. It gives
// packets and the ICMP errors about them new addresses and ports (Rewrite), of the other IP version
// too (Rewrite.Translate, RFC 7915), knows how IPv6 addresses embed IPv4 ones (Prefix64, RFC 6052),
// and makes ICMP errors.
//
// It is not a protocol stack: there is no state, no reassembly and no policy. All functions are
// pure functions of their arguments; where one writes, it writes only into the slice it is
// given, and its comment says so.
//
// Who calls it: fastpath and fib, once for each superpacket or segment, and control for the
// packets it makes.
//
// Trust: every byte may come from an attacker. Parse is the one gate; what it lets through has
// headers and lengths that lie inside the slice. The other functions take the Info it filled,
// or check for themselves, as PlanCut does.
//
// Ownership: packet bytes are lent for the duration of a call. Info and Segmentation hold no
// reference to them.
//
// Concurrency: everything may be called from anywhere at the same time.
//
// Checksums (RFC 1071) travel between functions as unfolded sums of big-endian 16-bit words in a
// uint64, not inverted, so that pieces can be added up in any order; Fold makes the 16-bit
// value, and its complement is what stands in a header. A sum is zero only if all its words are.
package packet
