package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

var both = Options{GSO: true, GRO: true, ReceiveBuffer: 4 << 20, SendBuffer: 4 << 20}

var (
	loop4 = netip.MustParseAddr("127.0.0.1")
	loop6 = netip.MustParseAddr("::1")
)

func pair(t testing.TB, o Options, v6 bool) (from, to *Socket, dst netip.AddrPort) {
	t.Helper()
	g, h := open(t, 1, o), open(t, 1, o)
	f4, f6 := g.Worker(0)
	t4, t6 := h.Worker(0)
	if v6 {
		return f6, t6, netip.AddrPortFrom(loop6, h.Port())
	}
	return f4, t4, netip.AddrPortFrom(loop4, h.Port())
}

func sendAll(t testing.TB, s *Socket, trains ...batch.Train) {
	t.Helper()
	n, err := s.Send(trains)
	if err != nil || n != len(trains) {
		t.Fatalf("sent %d of %d: %v, stats %+v", n, len(trains), err, s.Stats())
	}
}

func TestATrainArrivesAsATrain(t *testing.T) {
	enterNetns(t)
	for _, v6 := range []bool{false, true} {
		for _, gso := range []bool{false, true} {
			for _, gro := range []bool{false, true} {
				from, to, dst := pair(t, Options{GSO: gso, GRO: gro, ReceiveBuffer: 1 << 20}, v6)
				name := fmt.Sprintf("v6=%v gso=%v gro=%v", v6, gso, gro)
				want := pattern(20*1000+77, 3)
				sendAll(t, from, batch.Train{Buf: want, Stride: 1000, Remote: dst})
				trains := recvBytes(t, to, newBatch(t, 64), len(want))
				checkTrains(t, name, trains, want, from.port, dst)
				if gso && gro && len(trains) != 1 {
					t.Errorf("%s: %d trains, want 1", name, len(trains))
				}
				if !gro && len(trains) != 21 {
					t.Errorf("%s: %d trains, want one per datagram, 21", name, len(trains))
				}
				if st := from.Stats(); st.SentDatagrams != 21 || st.SentTrains != 1 || st.SentBytes != uint64(len(want)) {
					t.Errorf("%s: stats of the sender %+v", name, st)
				}
				if st := to.Stats(); st.RecvDatagrams != 21 || st.RecvBytes != uint64(len(want)) {
					t.Errorf("%s: stats of the receiver %+v", name, st)
				}
			}
		}
	}
}

func checkTrains(t *testing.T, name string, trains []received, want []byte, fromPort uint16, dst netip.AddrPort) {
	t.Helper()
	var got []byte
	for _, tr := range trains {
		got = append(got, tr.Buf...)
		if tr.Local != dst {
			t.Errorf("%s: local address %v, want %v", name, tr.Local, dst)
		}
		if wantFrom := netip.AddrPortFrom(dst.Addr(), fromPort); tr.Remote != wantFrom {
			t.Errorf("%s: remote address %v, want %v", name, tr.Remote, wantFrom)
		}
		if tr.Len() > 1 && tr.Stride != 1000 {
			t.Errorf("%s: stride %d, want 1000", name, tr.Stride)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes differ from the %d sent", name, len(got), len(want))
	}
}

func TestATrainBeyondTheKernelsLimitIsCutIntoMessages(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, both, false)
	// Over the segment limit with small segments, over 65,507 bytes with large ones.
	for _, stride := range []int{10, 1400, 30000} {
		want := pattern(min(300*stride, 150000)-3, stride)
		sendAll(t, from, batch.Train{Buf: bytes.Clone(want), Stride: stride, Remote: dst})
		var got []byte
		for _, tr := range recvBytes(t, to, newBatch(t, 64), len(want)) {
			got = append(got, tr.Buf...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("stride %d: %d bytes differ from the %d sent", stride, len(got), len(want))
		}
	}
	if st := from.Stats(); st.GSORefused != 0 || st.SplitTrains != 0 {
		t.Errorf("the kernel refused a train: %+v", st)
	}
}

func TestECNAndPinnedSourceTravel(t *testing.T) {
	enterNetns(t)
	addDummyAddrs(t, "10.9.9.9/32", "fd00::9/128")
	for _, v6 := range []bool{false, true} {
		from, to, dst := pair(t, both, v6)
		src := netip.MustParseAddr("10.9.9.9")
		if v6 {
			src = netip.MustParseAddr("fd00::9")
		}
		for ecn := range uint8(4) {
			for _, n := range []int{100, 1000} { // a lone datagram, a train
				sendAll(t, from, batch.Train{Buf: pattern(n, 1), Stride: 100, Remote: dst, ECN: ecn,
					Local: netip.AddrPortFrom(src, from.port)})
				for _, tr := range recvBytes(t, to, newBatch(t, 8), n) {
					if tr.ECN != ecn || tr.Remote.Addr() != src {
						t.Errorf("ECN %d from %v, want %d from %v", tr.ECN, tr.Remote, ecn, src)
					}
				}
			}
		}
	}
}

// addDummyAddrs gives loopback more addresses.
func addDummyAddrs(t *testing.T, prefixes ...string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
		// Of IPv6 it is usable a moment later.
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			routes, err := netlink.RouteGet(addr.IP)
			if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no way to %v: %v, %v", addr.IP, routes, err)
			}
		}
	}
}

func TestAPinnedSourceThatIsGoneIsLeftToTheKernel(t *testing.T) {
	enterNetns(t)
	for _, v6 := range []bool{false, true} {
		from, to, dst := pair(t, both, v6)
		gone := netip.MustParseAddr("10.99.0.1")
		if v6 {
			gone = netip.MustParseAddr("fd00::99")
		}
		want := pattern(5000, 2)
		sendAll(t, from, batch.Train{Buf: bytes.Clone(want), Stride: 1000, Remote: dst,
			Local: netip.AddrPortFrom(gone, from.port)})
		trains := recvBytes(t, to, newBatch(t, 8), len(want))
		if trains[0].Remote.Addr() != dst.Addr() || len(trains) != 1 || trains[0].Stride != 1000 {
			t.Errorf("v6=%v: %d trains, the first from %v with stride %d", v6, len(trains), trains[0].Remote, trains[0].Stride)
		}
		if st := from.Stats(); st.SourceGone != 1 || st.GSORefused != 0 || st.SentTrains != 1 {
			t.Errorf("v6=%v: stats %+v", v6, st)
		}
	}
}

func TestAnInjectedRefusalSplitsTheTrainAndLosesNothing(t *testing.T) {
	enterNetns(t)
	for _, refusal := range []unix.Errno{unix.EIO, unix.EINVAL, unix.EMSGSIZE} {
		from, to, dst := pair(t, both, false)
		from.out.call = refuseTrains(from, refusal)
		want := pattern(6*1000+5, 4)
		lone := pattern(50, 5)
		sendAll(t, from,
			batch.Train{Buf: bytes.Clone(lone), Stride: 50, Remote: dst},
			batch.Train{Buf: bytes.Clone(want), Stride: 1000, Remote: dst, Local: netip.AddrPortFrom(loop4, from.port)},
			batch.Train{Buf: bytes.Clone(want), Stride: 1000, Remote: dst})
		var got []byte
		for _, tr := range recvBytes(t, to, newBatch(t, 64), 2*len(want)+len(lone)) {
			got = append(got, tr.Buf...)
		}
		if !bytes.Equal(got, bytes.Join([][]byte{lone, want, want}, nil)) {
			t.Errorf("%v: bytes differ or came out of order", refusal)
		}
		st := from.Stats()
		if st.GSORefused != 1 || st.SplitTrains != 2 || st.SentTrains != 3 || st.SourceGone != 0 || st.SentDatagrams != 15 {
			t.Errorf("%v: stats %+v", refusal, st)
		}
	}
}

// refuseTrains answers messages that carry a segment size as a kernel that cannot cut them.
func refuseTrains(s *Socket, refusal unix.Errno) func(int, []mmsghdr) (int, unix.Errno) {
	return func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		for i := range msgs {
			if s.out.place[i].segs > 1 {
				if i == 0 {
					return 0, refusal
				}
				msgs = msgs[:i]
				break
			}
		}
		hook := s.out.call
		s.out.call = nil
		defer func() { s.out.call = hook }()
		return s.sendmmsg(len(msgs))
	}
}

func TestTooManyRefusingDestinationsSwitchTrainsOff(t *testing.T) {
	enterNetns(t)
	from, _, _ := pair(t, both, false)
	from.out.call = refuseTrains(from, unix.EIO)
	for i := range maxRefusals + 2 {
		dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)
		sendAll(t, from, batch.Train{Buf: pattern(40, i), Stride: 20, Remote: dst})
	}
	st := from.Stats()
	if st.GSODisabled != 1 || len(from.out.refused.to) != maxRefusals || from.out.gso {
		t.Errorf("%d destinations remembered, stats %+v", len(from.out.refused.to), st)
	}
	if st.GSORefused != maxRefusals+1 || st.SentTrains != maxRefusals+2 {
		t.Errorf("stats %+v", st)
	}
}

func TestAnErrorCostsOnlyItsTrain(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, both, false)
	nowhere := netip.MustParseAddrPort("192.0.2.1:5") // there is no route
	want := pattern(3000, 6)
	sendAll(t, from,
		batch.Train{Buf: pattern(3000, 7), Stride: 1000, Remote: nowhere},
		batch.Train{Buf: bytes.Clone(want), Stride: 1000, Remote: dst},
		batch.Train{Remote: dst},
		batch.Train{Buf: pattern(30, 7), Stride: 10, Remote: netip.AddrPortFrom(loop6, 5)},
		batch.Train{Buf: pattern(10, 7), Stride: 10, Remote: dst, Local: netip.AddrPortFrom(loop6, 5)},
		batch.Train{Buf: pattern(65600, 7), Stride: 65600, Remote: dst},
		batch.Train{Buf: bytes.Clone(want), Stride: 1000, Remote: dst})
	trains := recvBytes(t, to, newBatch(t, 8), 2*len(want))
	for _, tr := range trains {
		if !bytes.Equal(tr.Buf, want) {
			t.Errorf("other bytes arrived than were sent")
		}
	}
	st := from.Stats()
	if st.SendUnreachable != 3 || st.SendInvalid != 1+3+1 || st.SendTooLong != 1 || st.SentTrains != 2 {
		t.Errorf("stats %+v", st)
	}
}

func TestAFullSendBufferSaysHowFarItCame(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, both, false)
	want := pattern(10*1000, 8)
	calls := 0
	from.out.call = func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		calls++
		if calls == 2 {
			return 0, unix.EAGAIN
		}
		hook := from.out.call
		from.out.call = nil
		defer func() { from.out.call = hook }()
		return from.sendmmsg(min(3, len(msgs)))
	}
	from.out.gso = false
	trains := []batch.Train{{Buf: bytes.Clone(want), Stride: 1000, Remote: dst}}
	n, err := from.Send(trains)
	if n != 0 || err != nil || len(trains[0].Buf) != 7000 {
		t.Fatalf("sent %d, %v, %d bytes left, want 0, nil, 7000", n, err, len(trains[0].Buf))
	}
	if !from.WaitWritable(0) {
		t.Error("the socket is not writable although its buffer is empty")
	}
	sendAll(t, from, trains...)
	var got []byte
	for _, tr := range recvBytes(t, to, newBatch(t, 16), len(want)) {
		got = append(got, tr.Buf...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes sent in two calls differ")
	}
	if st := from.Stats(); st.SendBlocked != 1 || st.SentDatagrams != 10 || st.SentTrains != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestNothingToReceiveIsNoError(t *testing.T) {
	enterNetns(t)
	_, to, _ := pair(t, both, true)
	b := newBatch(t, 4)
	if err := to.Recv(b); err != nil || len(b.Trains) != 0 {
		t.Errorf("%d trains, %v", len(b.Trains), err)
	}
	if err := to.Recv(batch.NewBatch(0, nil)); !errors.Is(err, ErrNoSlabs) {
		t.Errorf("a batch without slabs gives %v, want ErrNoSlabs", err)
	}
}
