package udp

import (
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

const (
	// maxPieces is how many pieces one message may have (UIO_MAXIOV, include/uapi/linux/uio.h).
	maxPieces = 1024
	// gatherPieces is how many pieces one call carries at most: eight trains of 127 segments with
	// a header each, or sendSlots messages of 16 pieces. More pieces take more calls.
	gatherPieces = 2048
)

// SendGathers is Send for gathers, with the same rules: sent < len(gathers) without an error means
// that the send buffer is full, and a gather sent in part has been moved past what was sent.
// A gather may be one empty segment.
func (s *Socket) SendGathers(gathers []*batch.Gather) (sent int, err error) {
	if s.out.pieces == nil {
		s.out.pieces = make([]unix.Iovec, gatherPieces)
	}
	return send(s, gatherQueue(gathers))
}

// gatherQueue is a queue of gathers.
type gatherQueue []*batch.Gather

func (q gatherQueue) len() int                       { return len(q) }
func (q gatherQueue) front(i int) (batch.Train, int) { return headOf(q[i]), q[i].Len() }
func (q gatherQueue) skip(i, end int)                { q[i].Skip(end) }

// headOf returns what a gather has in common with a train.
func headOf(g *batch.Gather) batch.Train {
	return batch.Train{Stride: g.Stride, Remote: g.Remote, Local: g.Local, ECN: g.ECN}
}

// stage also stops when the vectors are full.
func (q gatherQueue) stage(s *Socket, from int, try *attempt) int {
	o := s.out
	n, used := 0, 0
	for i := from; i < len(q); i++ {
		g := q[i]
		total, each := g.Len(), g.PerSegment
		if total == 0 || each > maxPieces || g.Stride < 0 || g.Size > total*g.Stride || g.Size < (total-1)*g.Stride {
			return n
		}
		t := headOf(g)
		segs, pinned := 1, t.Local.Addr().IsValid()
		if total > 1 {
			segs = min(o.segments(&t, s.segs), maxPieces/each)
		}
		if i == from {
			if try.split {
				segs = 1
			}
			pinned = pinned && !try.unpinned
		}
		for at := 0; at < total; n++ {
			end := min(at+segs, total)
			if n == sendSlots || used+(end-at)*each > len(o.pieces) {
				return n
			}
			size := min(end*g.Stride, g.Size) - at*g.Stride
			if !o.head(n, &t, size, pinned, s.v6) {
				return n
			}
			h := &o.msgs[n].Hdr
			h.Iov = &o.pieces[used]
			h.SetIovlen((end - at) * each)
			fill(o.pieces[used:], g.Pieces[at*each:end*each])
			used += (end - at) * each
			o.place[n] = place{item: i, end: end, segs: end - at, bytes: size, last: end == total}
			at = end
		}
	}
	return n
}

// fill writes pieces as vectors.
func fill(to []unix.Iovec, pieces [][]byte) {
	to = to[:len(pieces)]
	for i, p := range pieces {
		to[i].Base = nil
		if len(p) > 0 {
			to[i].Base = &p[0]
		}
		to[i].Len = uint64(len(p))
	}
}
