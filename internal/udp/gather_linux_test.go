package udp

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

// headed returns a gather that puts head in front of each of the segments of payload.
func headed(payload []byte, stride int, head []byte, to netip.AddrPort) *batch.Gather {
	g := &batch.Gather{PerSegment: 2, Stride: stride + len(head), Remote: to}
	for at := 0; at < len(payload); at += stride {
		piece := payload[at:min(at+stride, len(payload))]
		g.Pieces = append(g.Pieces, head, piece)
		g.Size += len(head) + len(piece)
	}
	return g
}

// joined returns what a gather stands for.
func joined(g *batch.Gather) []byte { return bytes.Join(g.Pieces, nil) }

func sendGathers(t testing.TB, s *Socket, gathers ...*batch.Gather) {
	t.Helper()
	if n, err := s.SendGathers(gathers); n != len(gathers) || err != nil {
		t.Fatalf("sent %d of %d: %v, stats %+v", n, len(gathers), err, s.Stats())
	}
}

func TestAGatherArrivesAsATrain(t *testing.T) {
	enterNetns(t)
	for _, v6 := range []bool{false, true} {
		from, to, dst := pair(t, both, v6)
		g := headed(pattern(19*1000+5, 1), 1000, []byte("head"), dst)
		g.ECN, g.Local = 1, netip.AddrPortFrom(dst.Addr(), from.port)
		want := joined(g)
		sendGathers(t, from, g)
		got := recvBytes(t, to, newBatch(t, 8), len(want))
		if len(got) != 1 || got[0].Stride != 1004 || got[0].Len() != 20 || got[0].ECN != 1 || !bytes.Equal(got[0].Buf, want) {
			t.Errorf("v6=%v: %d trains, the first %d segments of %d bytes", v6, len(got), got[0].Len(), got[0].Stride)
		}
		if st := from.Stats(); st.SentDatagrams != 20 || st.SentTrains != 1 || st.SentBytes != uint64(len(want)) {
			t.Errorf("v6=%v: stats %+v", v6, st)
		}
	}
}

// Over the limits of segments and bytes of a message and of pieces of a call, refused by the
// kernel, or whole: the same bytes arrive in the same order.
func TestGathersOfAnySizeArriveInOrder(t *testing.T) {
	enterNetns(t)
	for _, refusal := range []unix.Errno{0, unix.EIO, unix.EINVAL, unix.EMSGSIZE} {
		for _, stride := range []int{3, 700, 1400, 20000} {
			from, to, dst := pair(t, both, false)
			if refusal != 0 {
				from.out.call = refuseTrains(from, refusal)
			}
			var want []byte
			var gathers []*batch.Gather
			for i := range 6 {
				g := headed(pattern(min(300*stride, 100_000)-2, i), stride, []byte("head"), dst)
				if i == 3 {
					g = headed(pattern(stride, i), stride, nil, dst)
				}
				want = append(want, joined(g)...)
				gathers = append(gathers, g)
			}
			sendGathers(t, from, gathers...)
			var got []byte
			for _, tr := range recvBytes(t, to, newBatch(t, 64), len(want)) {
				got = append(got, tr.Buf...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v, stride %d: %d bytes differ from the %d sent", refusal, stride, len(got), len(want))
			}
			st := from.Stats()
			if refused := refusal != 0; refused != (st.GSORefused == 1) || refused != (st.SplitTrains == 5) || st.SentTrains != 6 {
				t.Errorf("%v, stride %d: stats %+v", refusal, stride, st)
			}
		}
	}
}

func TestARefusalIsAboutLongStridesOnly(t *testing.T) {
	enterNetns(t)
	for _, c := range []struct {
		refusal unix.Errno
		shorter int // trains that are whole
	}{{unix.EMSGSIZE, 1}, {unix.EIO, 0}} {
		from, to, dst := pair(t, both, false)
		from.out.call = refuseTrains(from, c.refusal)
		long := batch.Train{Buf: pattern(3000, 1), Stride: 1000, Remote: dst}
		sendAll(t, from, long)
		from.out.call = nil
		sendAll(t, from, batch.Train{Buf: pattern(3000, 1), Stride: 1000, Remote: dst})
		sendAll(t, from, batch.Train{Buf: pattern(3000, 1), Stride: 999, Remote: dst})
		whole := 0
		for _, tr := range recvBytes(t, to, newBatch(t, 16), 9000) {
			if tr.Len() > 1 {
				whole++
			}
		}
		if whole != c.shorter {
			t.Errorf("%v: %d trains came whole, want %d", c.refusal, whole, c.shorter)
		}
	}
}

// With thousands of sockets in one scratch, many refusing destinations make it forget, not stop
// sending trains.
func TestASharedScratchForgetsRefusals(t *testing.T) {
	enterNetns(t)
	from, _, _ := pair(t, both, false)
	from.Share(NewScratch())
	from.out.call = refuseTrains(from, unix.EIO)
	for i := range maxRefusals + 2 {
		dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)
		sendAll(t, from, batch.Train{Buf: pattern(40, i), Stride: 20, Remote: dst})
	}
	if st := from.Stats(); st.GSODisabled != 0 || !from.out.gso || len(from.out.refused.to) != 2 {
		t.Errorf("%d destinations remembered, stats %+v", len(from.out.refused.to), st)
	}
}

func TestAnErrorCostsOnlyItsGather(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, both, false)
	good := headed(pattern(3000, 1), 1000, []byte("head"), dst)
	want := joined(good)
	empty := &batch.Gather{Pieces: [][]byte{nil}, PerSegment: 1, Remote: dst}
	sendGathers(t, from,
		headed(pattern(3000, 1), 1000, []byte("head"), netip.MustParseAddrPort("192.0.2.1:5")), // no route
		&batch.Gather{Remote: dst}, // of nothing
		headed(pattern(30, 1), 10, []byte("head"), netip.AddrPortFrom(loop6, 5)),                         // other family
		&batch.Gather{Pieces: [][]byte{make([]byte, 9)}, PerSegment: 1, Stride: 3, Size: 9, Remote: dst}, // longer than its stride
		empty, good)
	got := recvBytes(t, to, newBatch(t, 8), len(want))
	if len(got) != 1 || !bytes.Equal(got[0].Buf, want) {
		t.Errorf("%d trains came", len(got))
	}
	st := from.Stats()
	if st.SendInvalid != 1+3+1 || st.SendUnreachable != 3 || st.SentTrains != 2 || st.SentDatagrams != 4 {
		t.Errorf("stats %+v", st)
	}
	if datagrams, bytes := from.Sent(); datagrams != st.SentDatagrams || bytes != st.SentBytes || int(bytes) != len(want) {
		t.Errorf("%d datagrams of %d bytes sent, stats %+v", datagrams, bytes, st)
	}
	if st := to.Stats(); st.RecvMalformed != 1 {
		t.Errorf("the empty datagram did not come: %+v", st)
	}
}

func TestAFullSendBufferSaysHowFarGathersCame(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, both, false)
	from.out.gso = false
	calls := 0
	from.out.call = func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		if calls++; calls == 2 {
			return 0, unix.EAGAIN
		}
		hook := from.out.call
		from.out.call = nil
		defer func() { from.out.call = hook }()
		return from.sendmmsg(min(3, len(msgs)))
	}
	g := headed(pattern(9500, 1), 1000, []byte("head"), dst)
	want := joined(g)
	gathers := []*batch.Gather{g}
	if n, err := from.SendGathers(gathers); n != 0 || err != nil || g.Len() != 7 || g.Size != 7*1004-500 {
		t.Fatalf("sent %d, %v, %d segments of %d bytes left", n, err, g.Len(), g.Size)
	}
	sendGathers(t, from, gathers...)
	var got []byte
	for _, tr := range recvBytes(t, to, newBatch(t, 16), len(want)) {
		got = append(got, tr.Buf...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes sent in two calls differ")
	}
}

func TestSendGathersAllocatesNothing(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, both, true)
	g := headed(pattern(20_000, 1), 1000, []byte("head"), dst)
	whole := *g
	gathers := []*batch.Gather{g}
	b := newBatch(t, 8)
	n := testing.AllocsPerRun(100, func() {
		*g = whole
		if n, err := from.SendGathers(gathers); n != 1 || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
		if err := to.Recv(b); err != nil || len(b.Trains) != 1 {
			t.Errorf("%d trains, %v", len(b.Trains), err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per call, want 0", n)
	}
}
