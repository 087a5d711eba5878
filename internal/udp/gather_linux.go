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
	var try attempt
	for sent < len(gathers) {
		g := gathers[sent]
		n := s.stageGathers(gathers[sent:], &try)
		if n == 0 {
			s.count.invalid.Add(1)
			sent++
			try = attempt{}
			continue
		}
		k, errno := s.sendmmsg(n)
		if errno == 0 {
			sent += s.advanceGathers(gathers[sent:], k, &try)
			continue
		}
		front := headOf(g)
		switch s.settle(&front, &try, errno) {
		case again:
		case full:
			return sent, nil
		case broken:
			return sent, errno
		case lost:
			s.giveUp(errno, uint64(g.Len()))
			sent++
			try = attempt{}
		}
	}
	return sent, nil
}

// headOf returns what a gather has in common with a train.
func headOf(g *batch.Gather) batch.Train {
	return batch.Train{Stride: g.Stride, Remote: g.Remote, Local: g.Local, ECN: g.ECN}
}

// stageGathers writes messages for gathers from the first on, until slots or vectors are full or
// a gather makes no sense, and returns their number. try is about the first gather.
func (s *Socket) stageGathers(gathers []*batch.Gather, try *attempt) int {
	o := s.out
	n, used := 0, 0
	for i, g := range gathers {
		total, each := g.Len(), g.PerSegment
		if total == 0 || each > maxPieces || g.Stride < 0 || g.Size > total*g.Stride || g.Size < (total-1)*g.Stride {
			return n
		}
		t := headOf(g)
		segs, pinned := 1, t.Local.Addr().IsValid()
		if total > 1 {
			segs = min(o.segments(&t, s.segs), maxPieces/each)
		}
		if i == 0 {
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
			o.place[n] = place{train: i, end: end, segs: end - at}
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

// advanceGathers counts the k messages the kernel took and returns how many gathers they finish.
// A gather sent in part is moved past what was sent.
func (s *Socket) advanceGathers(gathers []*batch.Gather, k int, try *attempt) (settled int) {
	var datagrams, bytes uint64
	at := 0
	for i := range k {
		p := &s.out.place[i]
		g := gathers[p.train]
		datagrams += uint64(p.segs)
		bytes += uint64(min(p.end*g.Stride, g.Size) - at*g.Stride)
		at = p.end
		if at == g.Len() {
			if at > 1 && p.segs == 1 && s.out.place[i-1].segs == 1 {
				s.count.splitTrains.Add(1)
			}
			at = 0
		}
	}
	if try.suspect {
		s.refuse(gathers[0].Remote, try.least)
		try.suspect = false
	}
	last := s.out.place[k-1]
	settled = last.train
	if g := gathers[settled]; last.end == g.Len() {
		settled++
	} else {
		g.Skip(last.end)
	}
	if settled > 0 {
		*try = attempt{}
	}
	c := &s.count
	c.sentTrains.Add(uint64(settled))
	c.sentDatagrams.Add(datagrams)
	c.sentBytes.Add(bytes)
	return settled
}
