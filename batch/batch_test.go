package batch

import (
	"testing"

	"github.com/firelane/firelane/bufpool"
)

func TestTrainSegments(t *testing.T) {
	for _, c := range []struct{ bytes, stride, segments, last int }{
		{0, 10, 0, 0}, {10, 0, 0, 0}, {10, -1, 0, 0}, {10, 10, 1, 10}, {10, 99, 1, 10}, {30, 10, 3, 10}, {31, 10, 4, 1},
	} {
		tr := Train{Buf: make([]byte, c.bytes, 100), Stride: c.stride}
		if tr.Len() != c.segments {
			t.Errorf("%d bytes of stride %d: %d segments, want %d", c.bytes, c.stride, tr.Len(), c.segments)
			continue
		}
		if n := c.segments; n > 0 && (len(tr.Segment(n-1)) != c.last || cap(tr.Segment(0)) > c.bytes) {
			t.Errorf("last of %d segments has %d bytes, want %d", n, len(tr.Segment(n-1)), c.last)
		}
	}
}

// Batches borrow up to their cap, keep slabs over Reset, and give all back in Release.
func TestBatchesBorrowAndGiveBack(t *testing.T) {
	pool, err := bufpool.New(6)
	if err != nil {
		t.Fatal(err)
	}
	cache := pool.NewCache(4)
	b, s := NewBatch(4, cache), NewSuperBatch(4, cache)
	b.SetCap(2)
	if n := len(b.Slabs()); n != 2 || b.Cap() != 2 {
		t.Errorf("%d slabs at a cap of 2", n)
	}
	b.SetCap(99)
	first := b.Slabs()
	if b.Cap() != 4 || len(first) != 4 {
		t.Errorf("cap %d with %d slabs, want 4", b.Cap(), len(first))
	}
	for s.Cap() > len(s.Packets) {
		if _, ok := s.Next(); !ok {
			break
		}
		s.Packets = append(s.Packets, Packet{})
	}
	if len(s.Packets) != 2 || pool.Stats().Exhausted == 0 {
		t.Errorf("%d packets from what the pool has left", len(s.Packets))
	}
	s.Reset()
	if slab, ok := s.Next(); !ok || slab != s.slabs[0] || len(s.slabs) != 2 {
		t.Error("a reset gave slabs away")
	}
	s.SetCap(0)
	if s.Packets = append(s.Packets, Packet{}); s.Cap() != 1 {
		t.Errorf("cap %d, want 1", s.Cap())
	}
	if _, ok := s.Next(); ok {
		t.Error("a full batch lends a slab")
	}
	b.Release()
	s.Release()
	cache.Flush()
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
}

func TestAGatherIsMovedPastWhatWasSent(t *testing.T) {
	head, tail := []byte("h"), []byte("t")
	g := Gather{Pieces: [][]byte{head, []byte("one"), head, []byte("two"), tail, []byte("x")}, PerSegment: 2, Stride: 4, Size: 10}
	for _, want := range []struct{ skip, segments, size int }{{0, 3, 10}, {1, 2, 6}, {1, 1, 2}, {1, 0, 0}} {
		g.Skip(want.skip)
		if g.Len() != want.segments || g.Size != want.size {
			t.Errorf("%d segments of %d bytes, want %+v", g.Len(), g.Size, want)
		}
	}
	if (&Gather{}).Len() != 0 {
		t.Error("the zero gather has segments")
	}
}
