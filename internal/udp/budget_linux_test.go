package udp

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/firelane/firelane/batch"
)

func TestSendAndRecvAllocateNothing(t *testing.T) {
	enterNetns(t)
	for _, v6 := range []bool{false, true} {
		from, to, dst := pair(t, both, v6)
		b := newBatch(t, 16)
		payload := pattern(40*1000+7, 1)
		local := netip.AddrPortFrom(dst.Addr(), from.port)
		whole := []batch.Train{
			{Buf: payload, Stride: 1000, Remote: dst, Local: local, ECN: 1},
			{Buf: payload[:1000], Stride: 1000, Remote: dst},
			{}, // given up
			{Buf: payload[:3000], Stride: 1000, Remote: dst, ECN: 2},
		}
		trains := make([]batch.Train, len(whole))
		turn := func() {
			copy(trains, whole)
			if n, err := from.Send(trains); n != len(trains) || err != nil {
				t.Errorf("sent %d, %v", n, err)
			}
			if err := to.Recv(b); err != nil || len(b.Trains) != 3 {
				t.Errorf("%d trains, %v", len(b.Trains), err)
			}
		}
		if n := testing.AllocsPerRun(100, turn); n != 0 {
			t.Errorf("v6=%v: %v allocations per turn, want 0", v6, n)
		}
		// The same once the destination takes no trains.
		from.out.refused.add(dst, 0)
		n := testing.AllocsPerRun(100, func() {
			copy(trains, whole)
			if n, err := from.Send(trains); n != len(trains) || err != nil {
				t.Errorf("split: sent %d, %v", n, err)
			}
			for range 8 { // single datagrams need more batches
				if err := to.Recv(b); err != nil {
					t.Error(err)
				}
			}
		})
		if n != 0 {
			t.Errorf("v6=%v: %v allocations per split turn, want 0", v6, n)
		}
	}
}

func TestAMessageWithCutControlDataIsDroppedAndCounted(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, both, false)
	b := newBatch(t, 4)
	sendAll(t, from, batch.Train{Buf: pattern(3000, 1), Stride: 1000, Remote: dst},
		batch.Train{Buf: pattern(500, 2), Stride: 500, Remote: dst})
	to.in.msgs[0].Hdr.SetControllen(cmsgHeader) // too little for the packet info
	if err := to.Recv(b); err != nil {
		t.Fatal(err)
	}
	if len(b.Trains) != 1 || len(b.Trains[0].Buf) != 500 {
		t.Errorf("%d trains came, want the second alone", len(b.Trains))
	}
	if st := to.Stats(); st.RecvTruncated != 1 || st.RecvTrains != 1 {
		t.Errorf("stats %+v", st)
	}
	sendAll(t, from, batch.Train{Buf: pattern(100, 1), Stride: 100, Remote: dst})
	recvBytes(t, to, b, 100) // the slot works again
}

func TestKernelDropsAreCounted(t *testing.T) {
	enterNetns(t)
	from, to, dst := pair(t, Options{GSO: true, GRO: true, SendBuffer: 1 << 20, ReceiveBuffer: 5000}, false)
	for range 20 {
		sendAll(t, from, batch.Train{Buf: pattern(5000, 1), Stride: 1000, Remote: dst})
	}
	b := newBatch(t, 32)
	if err := to.Recv(b); err != nil {
		t.Fatal(err)
	}
	sendAll(t, from, batch.Train{Buf: pattern(10, 1), Stride: 10, Remote: dst})
	recvBytes(t, to, b, 10)
	if st := to.Stats(); st.RecvOverflow == 0 {
		t.Errorf("no drops counted: %+v", st)
	}
}

// Whatever the kernel or a bug of ours puts into control data, the train that comes of it can be
// walked.
func TestAnyControlDataGivesAWalkableTrainOrNone(t *testing.T) {
	s := &Socket{port: 1, in: &newScratch().in}
	rapid.Check(t, func(rt *rapid.T) {
		control := s.in.control[0][:]
		copy(control, rapid.SliceOfN(rapid.Byte(), controlSpace, controlSpace).Draw(rt, "noise"))
		rest := control
		for len(rest) >= cmsgSpace(20) && rapid.Bool().Draw(rt, "more") {
			kind := rapid.SampledFrom([][2]int{{unix.SOL_UDP, unix.UDP_GRO}, {unix.IPPROTO_IP, unix.IP_PKTINFO},
				{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}, {unix.IPPROTO_IP, unix.IP_TOS}}).Draw(rt, "kind")
			var data []byte
			data, rest = putCmsg(rest, kind[0], kind[1], rapid.IntRange(0, 20).Draw(rt, "length"))
			copy(data, rapid.SliceOfN(rapid.Byte(), len(data), len(data)).Draw(rt, "data"))
		}
		s.in.msgs[0].Hdr.SetControllen(rapid.IntRange(0, 2*controlSpace).Draw(rt, "control length"))
		s.in.names[0].Family = rapid.SampledFrom([]uint16{0, unix.AF_INET, unix.AF_INET6}).Draw(rt, "family")
		size := rapid.IntRange(1, 65535).Draw(rt, "size")
		train := batch.Train{Buf: make([]byte, size), Stride: size}
		if !s.describe(&train, 0) {
			return
		}
		total := 0
		for i := range train.Len() {
			total += len(train.Segment(i))
		}
		if total != size || train.ECN > 3 || !train.Local.IsValid() {
			rt.Errorf("segments of %d bytes in a train of %d: %+v", total, size, train)
		}
	})
}

// One operation is one turn of a train of 46 segments of 1,400 bytes, or of 46 single datagrams.
func BenchmarkTurn(b *testing.B) {
	for name, o := range map[string]Options{"trains": both, "datagrams": {ReceiveBuffer: 4 << 20, SendBuffer: 4 << 20}} {
		b.Run(name, func(b *testing.B) {
			enterNetns(b)
			from, to, dst := pair(b, o, false)
			in := newBatch(b, 64)
			payload := pattern(46*1400, 1)
			var trains [1]batch.Train
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				trains[0] = batch.Train{Buf: payload, Stride: 1400, Remote: dst}
				if n, err := from.Send(trains[:]); n != 1 || err != nil {
					b.Fatal(n, err)
				}
				if err := to.Recv(in); err != nil || len(in.Trains) == 0 {
					b.Fatal(len(in.Trains), err)
				}
			}
		})
	}
}

// One operation is one system call that finds nothing, or sends one small datagram.
func BenchmarkCall(b *testing.B) {
	for _, slots := range []int{1, 64} {
		b.Run(fmt.Sprintf("recv empty, %d slots", slots), func(b *testing.B) {
			enterNetns(b)
			_, to, _ := pair(b, both, false)
			in := newBatch(b, slots)
			for b.Loop() {
				if err := to.Recv(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("send one", func(b *testing.B) {
		enterNetns(b)
		from, _, dst := pair(b, both, false)
		trains := []batch.Train{{Buf: pattern(100, 1), Stride: 100, Remote: dst}}
		for b.Loop() {
			if n, err := from.Send(trains); n != 1 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
}
