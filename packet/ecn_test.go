package packet

import "testing"

// Every outer mark on every inner codepoint: capable packets are marked, others are refused, and
// the header checksum stays right.
func TestSetCongested(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for ecn := range uint8(4) {
			b := flow{v6: v6, payload: []byte("x")}.build(t)
			tos := uint8(0xb8) | ecn
			if v6 {
				b[0], b[1] = 0x60|tos>>4, b[1]&0x0f|tos<<4
			} else {
				b[1] = tos
				put16(b[ip4Checksum:], 0)
				put16(b[ip4Checksum:], ^slowSum(b[:ip4HeaderLen]))
			}
			var info Info
			if !Parse(b, &info) || info.TOS != tos {
				t.Fatalf("IPv6 %v: type of service %02x, want %02x", v6, info.TOS, tos)
			}
			if got := SetCongested(b, &info); got != (ecn != ECNNotAble) {
				t.Errorf("IPv6 %v, codepoint %d: %v", v6, ecn, got)
			}
			want := tos
			if ecn != ECNNotAble {
				want |= ECNCongested
			}
			var after Info
			if !Parse(b, &after) || after != info || after.TOS != want || !VerifyHeader(b, &after) {
				t.Errorf("IPv6 %v, codepoint %d: type of service %02x, want %02x", v6, ecn, after.TOS, want)
			}
		}
	}
}

// WriteSuper makes headers that stand for any length; cutting the result gives right packets.
func TestWriteSuperIsUndoneByCut(t *testing.T) {
	for _, f := range []flow{{}, {v6: true}, {udp: true}, {udp: true, v6: true}} {
		f.payload = make([]byte, 100)
		b := append(f.build(t), make([]byte, 450)...)
		var info Info
		Parse(b, &info)
		offset := WriteSuper(b, info.Version, info.Proto, info.L4, len(b))
		if got, want := get16(b[info.L4+int(offset):]), Fold(PseudoSum(info.Src, info.Dst, info.Proto, len(b)-info.L4)); got != want {
			t.Errorf("partial checksum %04x, want %04x", got, want)
		}
		kind := KindTCP4
		switch {
		case f.udp:
			kind = KindUDP
		case f.v6:
			kind = KindTCP6
		}
		g, ok := PlanCut(b, kind, 100, uint16(info.L4), offset)
		if !ok || g.Count() != 6 {
			t.Fatalf("%d packets, %v", g.Count(), ok)
		}
		for i := range g.Count() {
			cut := make([]byte, g.Size(i))
			g.Cut(cut, b, i)
			var part Info
			if !Parse(cut, &part) || !VerifyHeader(cut, &part) || !VerifyTransport(cut, &part) {
				t.Errorf("packet %d is wrong", i)
			}
		}
	}
}
