package packet

import (
	"bytes"
	"testing"

	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"
)

// plan makes the superpacket of f as the kernel hands it over, with only the pseudo-header summed,
// and plans to cut it.
func plan(t fataler, f flow, segment uint16) ([]byte, Segmentation) {
	t.Helper()
	super := f.build(t)
	var info Info
	if !Parse(super, &info) {
		t.Fatal("superpacket refused")
	}
	kind, field := KindTCP4, uint16(tcpChecksum)
	switch {
	case f.udp:
		kind, field = KindUDP, udpChecksum
	case f.v6:
		kind = KindTCP6
	}
	partial := Fold(PseudoSum(info.Src, info.Dst, info.Proto, info.Len-info.L4))
	put16(super[info.L4+int(field):], partial)
	g, ok := PlanCut(super, kind, segment, uint16(info.L4), field)
	if !ok {
		t.Fatalf("no plan for %+v", info)
	}
	return super, g
}

func drawFlow(t *rapid.T) flow {
	f := flow{
		v6: rapid.Bool().Draw(t, "v6"), udp: rapid.Bool().Draw(t, "udp"),
		id: rapid.Uint16().Draw(t, "id"), seq: rapid.Uint32().Draw(t, "seq"), flags: rapid.Byte().Draw(t, "flags"),
		options: 4 * rapid.IntRange(0, 10).Draw(t, "options"), ipOptions: rapid.Bool().Draw(t, "IP options"),
	}
	f.payload = make([]byte, rapid.IntRange(0, 9000).Draw(t, "payload"))
	seed := rapid.Byte().Draw(t, "seed")
	for i := range f.payload {
		f.payload[i] = byte(i)*seed + byte(i>>8)
	}
	return f
}

// Whatever is cut decodes independently, says what it must, sums up, and put together again is
// the flow that went in.
func TestCutPacketsAreTheSuperpacketInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFlow(t)
		segment := rapid.IntRange(1, 1500).Draw(t, "segment")
		super, g := plan(t, f, uint16(max(segment, len(f.payload)/60)))
		before := bytes.Clone(super)
		var joined []byte
		for i := range g.Count() {
			dst := bytes.Repeat([]byte{0xa5}, g.Size(i)+8)
			n := g.Cut(dst, super, i)
			if n != g.Size(i) || !bytes.Equal(dst[n:], bytes.Repeat([]byte{0xa5}, 8)) {
				t.Fatalf("packet %d: wrote %d bytes or more, want %d", i, n, g.Size(i))
			}
			if i < g.Count()-1 && n != g.Size(0) {
				t.Fatalf("packet %d has %d bytes, the first has %d", i, n, g.Size(0))
			}
			checkPiece(t, f, &g, dst[:n], i, len(joined))
			joined = append(joined, dst[g.headers:n]...)
		}
		if !bytes.Equal(joined, f.payload) {
			t.Fatal("the pieces are not the payload")
		}
		if !bytes.Equal(super, before) {
			t.Fatal("cutting changed the superpacket")
		}
	})
}

// checkPiece compares packet i, whose payload begins at offset from of the whole, with what the
// encoder makes of the same fields.
func checkPiece(t fataler, f flow, g *Segmentation, b []byte, i, from int) {
	t.Helper()
	first, last := i == 0, i == g.Count()-1
	one := f
	one.id += uint16(i)
	one.seq += uint32(from)
	one.payload = f.payload[from : from+len(b)-g.headers]
	if !first {
		one.flags &^= FlagCWR
	}
	if !last {
		one.flags &^= FlagFIN | FlagPSH
	}
	if want := one.build(t); !bytes.Equal(b, want) {
		t.Fatalf("packet %d of %d differs:\n got %x\nwant %x", i, g.Count(), b, want)
	}
	var info Info
	if !Parse(b, &info) || info.Len != len(b) || !VerifyHeader(b, &info) || !VerifyTransport(b, &info) {
		t.Fatalf("packet %d does not verify: %+v", i, info)
	}
	p := decode(t, b)
	if f.udp {
		if u := p.Layer(layers.LayerTypeUDP).(*layers.UDP); int(u.Length) != len(b)-info.L4 || !bytes.Equal(u.Payload, one.payload) {
			t.Fatalf("packet %d decodes to %+v", i, u)
		}
		return
	}
	if c := p.Layer(layers.LayerTypeTCP).(*layers.TCP); c.Seq != f.seq+uint32(from) || c.FIN && !last || c.PSH && !last || c.CWR && !first || !bytes.Equal(c.Payload, one.payload) {
		t.Fatalf("packet %d decodes to %+v", i, c)
	}
}

func TestSequenceNumberAndIDWrapAround(t *testing.T) {
	f := flow{id: 0xfffe, seq: 0xffffff00, flags: FlagACK | FlagPSH | FlagFIN | FlagCWR, payload: make([]byte, 5000)}
	super, g := plan(t, f, 1000)
	dst := make([]byte, 1500)
	for i := range g.Count() {
		checkPiece(t, f, &g, dst[:g.Cut(dst, super, i)], i, i*1000)
	}
	if g.Count() != 5 {
		t.Errorf("%d packets, want 5", g.Count())
	}
}

func TestUDPChecksumOfZeroIsWrittenAsOnes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := flow{v6: v6, udp: true, payload: make([]byte, 4)}
		super, g := plan(t, f, 4)
		dst := make([]byte, 100)
		n := g.Cut(dst, super, 0)
		// Make the one's complement sum come out as all ones.
		copy(super[g.headers:], dst[g.l4+udpChecksum:g.l4+udpChecksum+2])
		g.Cut(dst, super, 0)
		var info Info
		if got := get16(dst[g.l4+udpChecksum:]); got != 0xffff {
			t.Errorf("v6 %v: checksum of zero is written as %#04x", v6, got)
		}
		if !Parse(dst[:n], &info) || !VerifyTransport(dst[:n], &info) {
			t.Errorf("v6 %v: it does not verify", v6)
		}
	}
}

func TestSinglePacketIsCopiedAndFinished(t *testing.T) {
	want := flow{udp: true, payload: []byte("a single packet")}.build(t)
	super := append(bytes.Clone(want), 0, 0) // padding
	dst := make([]byte, 100)
	g, ok := PlanCut(super, KindNone, 0, 0, 0)
	if !ok || g.Count() != 1 || g.Size(0) != len(want) || !bytes.Equal(dst[:g.Cut(dst, super, 0)], want) {
		t.Error("a finished packet is not copied as it is")
	}
	put16(super[26:], Fold(Sum(super[12:20], uint64(ProtoUDP+len(want)-20))))
	g, ok = PlanCut(super, KindNone, 0, 20, udpChecksum)
	if !ok || !bytes.Equal(dst[:g.Cut(dst, super, 0)], want) {
		t.Error("an unfinished packet is not finished")
	}
}

func TestPlanRefusesWhatDoesNotFit(t *testing.T) {
	f := flow{flags: FlagACK, payload: make([]byte, 100)}
	tcp4 := f.build(t)
	f.v6 = true
	tcp6 := f.build(t)
	f.udp = true
	udp6 := f.build(t)
	fragment := bytes.Clone(tcp4)
	put16(fragment[ip4Fragment:], ip4More)
	for _, c := range []struct {
		name                     string
		super                    []byte
		kind                     Kind
		segment, start, checksum uint16
	}{
		{"a malformed packet", tcp4[:60], KindTCP4, 50, 20, 16},
		{"a fragment", fragment, KindTCP4, 50, 20, 16},
		{"segments of no bytes", tcp4, KindTCP4, 0, 20, 16},
		{"an unknown kind", tcp4, KindUDP + 1, 50, 20, 16},
		{"IPv6 as TCP over IPv4", tcp6, KindTCP4, 50, 40, 16},
		{"IPv4 as TCP over IPv6", tcp4, KindTCP6, 50, 20, 16},
		{"UDP as TCP", udp6, KindTCP6, 50, 40, 16},
		{"TCP as UDP", tcp6, KindUDP, 50, 40, 6},
		{"a checksum that starts elsewhere", tcp4, KindTCP4, 50, 40, 16},
		{"a checksum that lies elsewhere", tcp4, KindTCP4, 50, 20, 6},
		{"a single packet with a checksum in its IP header", tcp4, KindNone, 0, 10, 0},
		{"a single packet with a checksum over its ports", tcp4, KindNone, 0, 20, 0},
		{"a single packet with a checksum over its TCP header", tcp4, KindNone, 0, 30, 2},
		{"a single packet with a checksum behind its end", tcp4, KindNone, 0, 20, 119},
	} {
		if g, ok := PlanCut(c.super, c.kind, c.segment, c.start, c.checksum); ok {
			t.Errorf("planned %s: %+v", c.name, g)
		}
	}
}

func TestPacketFunctionsAllocateNothing(t *testing.T) {
	dst := make([]byte, 2000)
	for _, f := range []flow{{}, {v6: true}, {udp: true}, {udp: true, v6: true}} {
		f.payload = make([]byte, 5000)
		super, _ := plan(t, f, 1240)
		kind := KindTCP4
		switch {
		case f.udp:
			kind = KindUDP
		case f.v6:
			kind = KindTCP6
		}
		cut := 0
		if n := testing.AllocsPerRun(100, func() {
			var info Info
			g, ok := PlanCut(super, kind, 1240, 0, 0)
			if !ok || !Parse(super, &info) {
				return
			}
			for i := range g.Count() {
				cut += g.Cut(dst, super, i)
				VerifyTransport(dst, &info)
			}
			delta := DeltaAddr(info.Src, info.Dst)
			put16(dst, Patch(get16(dst), delta))
			FinishChecksum(dst, 0, 0)
		}); n != 0 {
			t.Errorf("v6 %v, UDP %v: %v allocations, want 0", f.v6, f.udp, n)
		}
		if cut == 0 {
			t.Error("nothing was cut")
		}
	}
}
