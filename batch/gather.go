package batch

import "net/netip"

// Gather is a train whose segments are put together from pieces that lie apart, by the kernel,
// while it sends: a relay takes a header away from each segment of a train, or puts one in front
// of each, without moving a payload byte.
//
//	Pieces, PerSegment 1: [payload 0][payload 1] … [last payload]
//	Pieces, PerSegment 2: [header][payload 0][header][payload 1] … [header][last payload]
//
// All segments are Stride bytes long, only the last may be shorter, as in a Train.
type Gather struct {
	// Pieces are the bytes in the order in which they are sent. Lent. A piece may stand for
	// several segments (one header for all of them) and may be empty.
	Pieces [][]byte
	// PerSegment is how many pieces make one segment, at least 1.
	PerSegment int
	// Stride is the length of each segment but the last in bytes; Size that of all of them.
	Stride, Size int
	// Remote is who shall get the segments. IPv4 is never 4-in-6 mapped here.
	Remote netip.AddrPort
	// Local is the source address to pin, or the zero Addr for the kernel's choice.
	Local netip.AddrPort
	// ECN is the two ECN bits of the outer IP header (RFC 3168) to be sent.
	ECN uint8
}

// Len returns the number of segments.
func (g *Gather) Len() int {
	if g.PerSegment <= 0 {
		return 0
	}
	return len(g.Pieces) / g.PerSegment
}

// Skip moves the gather past its first n segments, 0 ≤ n ≤ Len(): they are sent.
func (g *Gather) Skip(n int) {
	left := g.Len() - n
	g.Pieces = g.Pieces[n*g.PerSegment:]
	g.Size = max(0, g.Size-n*g.Stride)
	if left == 0 {
		g.Size = 0
	}
}
