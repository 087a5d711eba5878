package fuzz

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/fastpath"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

const (
	fpNow   = 1_000_000_000
	fpIndex = 2<<8 | 1 // connection id of the second device, first session: what a seed aims at
)

var (
	fpInside  = [2]netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("192.0.2.7")}
	fpInside6 = [2]netip.Addr{netip.MustParseAddr("fd00:2021:1111::1"), netip.MustParseAddr("2001:db8::7")}
)

// fpEnds are two gateways' tables and loops with one session between them: what the first seals,
// the second opens.
type fpEnds struct {
	pool    *bufpool.Pool
	cache   *bufpool.Cache
	keys    *wireguard.Keypair // of the first
	encap   *fastpath.Encap
	decap   *fastpath.Decap
	signals *fastpath.Punts
	sent    []batch.Train
	read    *batch.SuperBatch
	in      *batch.Batch
	before  fastpath.Snapshot
}

// Send keeps copies of what the first end sends.
func (e *fpEnds) Send(trains []batch.Train) {
	for _, t := range trains {
		t.Buf = bytes.Clone(t.Buf)
		e.sent = append(e.sent, t)
	}
}

func newFPEnds(t testing.TB) *fpEnds {
	w := newWGPair(t, false)
	w.devices[1].HandleMessage(w.initiation, wgFrom, wgStart)
	answer := w.settle(t, 1, wgStart)
	w.devices[0].HandleMessage(answer.Datagrams[0].Bytes, wgFrom, wgStart)
	sessions := [2]wireguard.SessionEvent{w.settle(t, 0, wgStart).NewSessions[0], answer.NewSessions[0]}
	pool, err := bufpool.New(64)
	if err != nil {
		t.Fatal(err)
	}
	e := &fpEnds{pool: pool, cache: pool.NewCache(32), keys: sessions[0].Keypair, signals: fastpath.NewPunts(16)}
	var tables [2]*fib.Table
	for i := range tables {
		tables[i] = fib.NewTable(1280)
		tables[i].TakeConnectionID(func() uint32 { return uint32(i + 1) })
		p := fib.NewPeer(1, fib.RoamNever, 2)
		life := fib.Lifetime{RejectAt: fib.Never, SendUntil: fib.Never, RekeyOnSendAt: fib.Never, RekeyOnReceiveAt: fib.Never}
		s := fib.NewSession(p, sessions[i].Keypair, true, life)
		routes := fib.NewRoutes().With(netip.PrefixFrom(fpInside[1-i], 32), p).With(netip.PrefixFrom(fpInside6[1-i], 128), p)
		tables[i].Apply([]fib.Change{fib.PutSession{Session: s}, fib.SetCurrent{Session: s}, fib.SetRoutes{Routes: routes},
			fib.SetPath{Peer: p, Path: &fib.Path{Remote: wgFrom}}})
	}
	inner := fastpath.NewPunts(16)
	e.encap = fastpath.NewEncap(tables[0], 0, 63, e.cache, inner, e)
	e.decap = fastpath.NewDecap(tables[1], 0, 64, e.signals, inner, fastpath.Offloads{TSO: true, USO: true})
	e.read = batch.NewSuperBatch(8, e.cache)
	e.in = batch.NewBatch(64, e.cache)
	return e
}

// fpShared serves all inputs of a process, one after the other: making it takes longer than an
// input does.
var fpShared *fpEnds

// fpFresh lends the shared ends with nothing left of the input before.
func fpFresh(t *testing.T) *fpEnds {
	if fpShared == nil {
		fpShared = newFPEnds(t)
	}
	e := fpShared
	e.sent = e.sent[:0]
	for e.signals.Pop(new(fastpath.Punted)) {
	}
	e.before = fastpath.Snapshot{}
	e.before.Add(e.decap.Counters())
	return e
}

func (e *fpEnds) close(t *testing.T) {
	e.encap.Release()
	if n := e.pool.Outstanding(); n != 0 {
		t.Errorf("%d slabs leaked", n)
	}
}

func (e *fpEnds) segments() uint64 {
	return e.decap.Counters().Figure(fastpath.Segments) - e.before.Figures[fastpath.Segments]
}

func (e *fpEnds) seal(inner []byte) []byte {
	m := make([]byte, wireguard.HeaderSize+len(inner)+wireguard.TagSize)
	copy(m[wireguard.HeaderSize:], inner)
	first, _ := e.keys.Take(1)
	e.keys.Seal(new(wireguard.Scratch), [][]byte{m}, first)
	return m
}

// receive returns the packets that the kernel gets: superpackets are cut as it cuts them.
func (e *fpEnds) receive(t *testing.T, trains ...batch.Train) (packets [][]byte) {
	e.in.Trains = append(e.in.Trains[:0], trains...)
	for _, s := range e.decap.Batch(e.in, fpNow) {
		b := bytes.Clone(s.Head[batch.SuperHeadroom:])
		for _, p := range s.Payloads {
			b = append(b, p...)
		}
		if s.Offload.Kind == batch.OffloadNone {
			packets = append(packets, b)
			continue
		}
		plan, ok := packet.PlanCut(b, packet.Kind(s.Offload.Kind), s.Offload.SegmentSize, s.Offload.CsumStart, s.Offload.CsumOffset)
		if !ok {
			t.Fatalf("superpacket that cannot be cut: %+v", s.Offload)
		}
		for i := range plan.Count() {
			cut := make([]byte, plan.Size(i))
			plan.Cut(cut, b, i)
			packets = append(packets, cut)
		}
	}
	return packets
}

func (e *fpEnds) dropped() uint64 {
	var s fastpath.Snapshot
	s.Add(e.decap.Counters())
	return s.Dropped() - e.before.Dropped()
}

// FuzzDemux: arbitrary bytes as a train of an arbitrary stride, beside a genuine packet and a
// keepalive: no panic, and every segment is dropped and counted, punted, or delivered.
func FuzzDemux(f *testing.F) {
	data := append([]byte{4, 0, 0, 0}, make([]byte, 60)...)
	binary.LittleEndian.PutUint32(data[4:], fpIndex)
	f.Add(bytes.Repeat(data, 3), 64)
	f.Add([]byte{}, 0)
	f.Add(make([]byte, 65000), 1)
	f.Add(append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 52)...), 20)
	f.Add(append([]byte{1, 0, 0, 0}, make([]byte, 144+148)...), 148)
	f.Fuzz(func(t *testing.T, b []byte, stride int) {
		e := fpFresh(t)
		defer e.close(t)
		genuine := seedPacket(false, []byte("payload"))
		good, alive := e.seal(genuine), e.seal(nil)
		any := batch.Train{Buf: bytes.Clone(b), Stride: stride, Remote: wgFrom}
		got := e.receive(t, any, batch.Train{Buf: good, Stride: len(good), Remote: wgFrom}, batch.Train{Buf: alive, Stride: len(alive), Remote: wgFrom})
		if len(got) != 1 || !bytes.Equal(got[0], genuine) {
			t.Fatalf("%d packets delivered, want the genuine one", len(got))
		}
		punted := uint64(0)
		for p := new(fastpath.Punted); e.signals.Pop(p); punted++ {
			if len(p.Payload) > len(b) {
				t.Fatalf("punted %d bytes of %d", len(p.Payload), len(b))
			}
		}
		if c := e.segments(); e.dropped()+punted+2 != c {
			t.Fatalf("%d segments: %d dropped, %d punted, 2 carried", c, e.dropped(), punted)
		}
	})
}

// FuzzInner: arbitrary bytes inside genuine messages: what reaches the tunnel parses, is of the
// peer, is what was sent, and is accounted for.
func FuzzInner(f *testing.F) {
	for _, s := range packetSeeds {
		f.Add(seed(f, s), seed(f, s))
	}
	f.Add(seedPacket(false, []byte("one")), seedPacket(false, []byte("two")))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a)+len(b) > 60000 {
			return
		}
		e := fpFresh(t)
		defer e.close(t)
		var trains []batch.Train
		sent := [][]byte{a, b, a, b}
		empty := 0
		for _, inner := range sent {
			if len(inner) == 0 {
				empty++
			}
			m := e.seal(inner)
			trains = append(trains, batch.Train{Buf: m, Stride: len(m), Remote: wgFrom})
		}
		got := e.receive(t, trains...)
		if len(got)+int(e.dropped())+empty != len(sent) {
			t.Fatalf("%d delivered, %d dropped, %d keepalives of %d", len(got), e.dropped(), empty, len(sent))
		}
		for _, p := range got {
			var info packet.Info
			if !packet.Parse(p, &info) || info.Len != len(p) || info.Src != fpInside[0] && info.Src != fpInside6[0] {
				t.Fatalf("malformed or foreign packet in the tunnel: %x", p)
			}
			if !bytes.HasPrefix(a, p) && !bytes.HasPrefix(b, p) && !packet.VerifyTransport(p, &info) {
				t.Fatalf("packet that nobody sent: %x", p)
			}
		}
	})
}

// FuzzSegmentCoalesce: a superpacket that is cut, sealed, opened, joined and cut again by the
// kernel carries the same flow of bytes, in packets with right checksums.
func FuzzSegmentCoalesce(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			f.Add(bytes.Repeat([]byte("0123456789"), 100), uint16(100), uint32(0xffffff00), uint8(packet.FlagACK|packet.FlagPSH), v6, udp)
			f.Add([]byte("odd tail"), uint16(3), uint32(7), uint8(packet.FlagACK|packet.FlagFIN), v6, udp)
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, segment uint16, seq uint32, flags uint8, v6, udp bool) {
		if len(payload) == 0 || len(payload) > 60000 || segment == 0 || len(payload)/int(segment) >= 2000 {
			return
		}
		e := fpFresh(t)
		defer e.close(t)
		super := seedSuper(v6, udp, seq, flags, payload)
		kind := batch.OffloadTCP4
		switch {
		case udp:
			kind = batch.OffloadUDP
		case v6:
			kind = batch.OffloadTCP6
		}
		e.read.Packets = append(e.read.Packets[:0], batch.Packet{Buf: super, Offload: batch.Offload{Kind: kind, SegmentSize: segment}})
		e.encap.Batch(e.read, fpNow)
		var got []byte
		for from := 0; from < len(e.sent); from += 64 {
			for _, p := range e.receive(t, e.sent[from:min(from+64, len(e.sent))]...) {
				var info packet.Info
				if !packet.Parse(p, &info) || !packet.VerifyHeader(p, &info) || !packet.VerifyTransport(p, &info) {
					t.Fatalf("packet with wrong lengths or checksums: %x", p)
				}
				if off := seq + uint32(len(got)); !udp && binary.BigEndian.Uint32(p[info.L4+4:]) != off {
					t.Fatalf("sequence number %d, want %d", binary.BigEndian.Uint32(p[info.L4+4:]), off)
				}
				got = append(got, p[info.Payload:info.Len]...)
			}
		}
		if !bytes.Equal(got, payload) {
			t.Fatalf("%d bytes arrive, %d were sent; %d dropped", len(got), len(payload), e.dropped())
		}
	})
}

// seedPacket is a UDP packet of the first end with right checksums.
func seedPacket(v6 bool, payload []byte) []byte {
	super := seedSuper(v6, true, 0, 0, payload)
	g, _ := packet.PlanCut(super, packet.KindUDP, uint16(len(payload)), 0, 0)
	b := make([]byte, g.Size(0))
	g.Cut(b, super, 0)
	return b
}

// seedSuper is a superpacket of the first end without checksums.
func seedSuper(v6, udp bool, seq uint32, flags uint8, payload []byte) []byte {
	be := binary.BigEndian
	l4 := make([]byte, 20)
	be.PutUint32(l4[4:], seq)
	l4[12], l4[13] = 5<<4, flags
	proto := byte(packet.ProtoTCP)
	if udp {
		l4, proto = make([]byte, 8), packet.ProtoUDP
		be.PutUint16(l4[4:], uint16(8+len(payload)))
	}
	be.PutUint16(l4, 4000)
	be.PutUint16(l4[2:], 443)
	l4 = append(l4, payload...)
	if v6 {
		h := make([]byte, 8, 40+len(l4))
		h[0], h[6], h[7] = 0x60, proto, 64
		be.PutUint16(h[4:], uint16(len(l4)))
		return append(append(append(h, fpInside6[0].AsSlice()...), fpInside6[1].AsSlice()...), l4...)
	}
	h := make([]byte, 12, 20+len(l4))
	h[0], h[6], h[8], h[9] = 0x45, 0x40, 64, proto
	be.PutUint16(h[2:], uint16(20+len(l4)))
	return append(append(append(h, fpInside[0].AsSlice()...), fpInside[1].AsSlice()...), l4...)
}
