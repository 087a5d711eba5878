package packet

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// backTo makes the rewrite that undoes the translation of the packet in info to the one in to.
func backTo(info, to *Info) Rewrite {
	return NewRewrite(to, info.Src, info.Dst, info.SrcPort, info.DstPort)
}

// Whatever translates sums up, and translated back it is the packet that it was, up to what the
// other version has no place for: flow label and extension headers, options and the don't-fragment
// flag.
func TestTranslationThereAndBackIsTheSamePacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFlow(t)
		f.ipOptions = false
		b := f.build(t)
		if rapid.Bool().Draw(t, "echo") {
			version, kind := uint8(4), uint8(icmpEchoRequest)
			if f.v6 {
				version, kind = 6, icmp6EchoReply
			}
			b = echoPacket(version, kind, f.payload)
		}
		out, ok := translate(t, b, f.id)
		if !ok {
			t.Fatal("dropped")
		}
		var info, to Info
		Parse(b, &info)
		Parse(out, &to)
		id := uint16(0)
		if info.Version == 4 {
			id = get16(b[ip4ID:])
		}
		r, dst := backTo(&info, &to), make([]byte, MaxTranslatedHeaders)
		headers, payload, ok := r.Translate(dst, out, &to, false, 0, id)
		if !ok {
			t.Fatal("dropped on the way back")
		}
		back := append(dst[:headers:headers], out[payload:]...)
		if !VerifyHeader(back, &info) {
			t.Fatal("wrong header checksum")
		}
		b = bytes.Clone(b)
		if info.Version == 6 {
			b[1], b[2], b[3] = b[1]&0xf0, 0, 0
		} else {
			copy(b[ip4Fragment:], back[ip4Fragment:][:2])
			copy(b[ip4Checksum:], back[ip4Checksum:][:2])
		}
		if !bytes.Equal(back, b) {
			t.Fatalf("came back as\n%x, was\n%x", back, b)
		}
	})
}

// A superpacket is translated by its one set of headers: cut afterwards, it gives the packets that
// it would have given cut before, each translated.
func TestTranslatedSuperpacketsCutIntoTranslatedPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFlow(t)
		if rapid.Bool().Draw(t, "large") {
			f.payload = bytes.Repeat(append(f.payload, 1), 60000/(len(f.payload)+1))
		}
		segment := max(rapid.IntRange(1, 1500).Draw(t, "segment"), len(f.payload)/60)
		super, before := plan(t, f, uint16(segment))
		var info, to Info
		Parse(super, &info)
		r, dst := otherFamily(&info), make([]byte, MaxTranslatedHeaders)
		headers, payload, ok := r.Translate(dst, super, &info, true, segment, f.id)
		if !ok {
			t.Fatal("dropped")
		}
		other := append(dst[:headers:headers], super[payload:]...)
		if !Parse(other, &to) {
			t.Fatal("the translated superpacket does not parse")
		}
		field := checksumOffset(to.Proto)
		if got, want := get16(other[to.L4+field:]), Fold(PseudoSum(to.Src, to.Dst, to.Proto, to.Len-to.L4)); got != want {
			t.Fatalf("unfinished checksum %#x, want the sum of the pseudo-header %#x", got, want)
		}
		kind := map[bool]Kind{false: KindTCP4, true: KindTCP6}[to.Version == 6]
		if f.udp {
			kind = KindUDP
		}
		after, ok := PlanCut(other, kind, uint16(segment), uint16(to.L4), uint16(field))
		if !ok || after.Count() != before.Count() {
			t.Fatalf("cuts into %d packets, want %d", after.Count(), before.Count())
		}
		for i := range before.Count() {
			b, got := make([]byte, before.Size(i)), make([]byte, after.Size(i))
			before.Cut(b, super, i)
			after.Cut(got, other, i)
			want, ok := translate(t, b, f.id+uint16(i))
			if !ok {
				t.Fatal("packet dropped")
			}
			if i > 0 && i == before.Count()-1 && to.Version == 4 {
				// The flag goes by the longest packet, and the last is shorter.
				copy(want[ip4Fragment:], got[ip4Fragment:][:2])
				put16(want[ip4Checksum:], 0)
				put16(want[ip4Checksum:], ^slowSum(want[:ip4HeaderLen]))
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("packet %d of %d is\n%x, want\n%x", i, before.Count(), got, want)
			}
		}
	})
}

// Errors translated there and back quote the same packet again.
func TestErrorTranslationThereAndBackIsTheSameQuote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFlow(t)
		f.ipOptions = false
		offending := f.build(t)
		version, kind := uint8(4), uint8(icmpTimeExceeded)
		if f.v6 {
			version, kind = 6, icmp6TimeExceeded
		}
		least := 28
		if f.v6 {
			least = 48
		}
		cut := rapid.IntRange(least, min(len(offending), 520)).Draw(t, "cut")
		b := errorPacket(version, kind, 0, 0, offending[:cut], nil)
		out, ok := translateError(t, b, func(e *ErrorHeader) { e.ID = f.id })
		if !ok {
			t.Fatal("dropped")
		}
		var info, quoted, to, toQuoted Info
		Parse(b, &info)
		ParseQuote(b, &info, &quoted)
		Parse(out, &to)
		ParseQuote(out, &to, &toQuoted)
		r := backTo(&quoted, &toQuoted)
		outer := ErrorHeader{Src: info.Src, Dst: info.Dst, ID: f.id}
		dst := make([]byte, MaxTranslatedError)
		n, ok := r.TranslateError(dst, out, &to, &toQuoted, &outer)
		if !ok {
			t.Fatal("dropped on the way back")
		}
		var back Info
		if !Parse(dst[:n], &back) {
			t.Fatal("malformed on the way back")
		}
		got, want := bytes.Clone(Quote(dst[:n], &back)), bytes.Clone(offending[:cut])
		want = want[:min(cut, len(got))]
		if f.v6 {
			want[1], want[2], want[3] = want[1]&0xf0, 0, 0
		} else {
			copy(want[ip4Fragment:], got[ip4Fragment:][:2])
			copy(want[ip4Checksum:], got[ip4Checksum:][:2])
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("quote came back as\n%x, was\n%x", got, want)
		}
	})
}

// Arbitrary bytes that Parse accepts harm nothing; more of this in the fuzz target.
func TestTranslateTakesWhateverParseAccepts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "segment")
		version := rapid.SampledFrom([]uint8{4, 6}).Draw(t, "version")
		proto := rapid.SampledFrom([]uint8{0, 1, 2, 4, 6, 17, 43, 44, 47, 50, 51, 58, 60, 132, 135, 139}).Draw(t, "protocol")
		b := rawPacket(version, proto, segment)
		var info, quoted Info
		if !Parse(b, &info) {
			return
		}
		r := otherFamily(&info)
		dst := make([]byte, MaxTranslatedError)
		if headers, payload, ok := r.Translate(dst, b, &info, false, 0, 1); ok {
			out := append(dst[:headers:headers], b[payload:info.Len]...)
			if !Parse(out, &quoted) || quoted.Len != len(out) || !VerifyHeader(out, &quoted) {
				t.Fatalf("made %x", out)
			}
		}
		if ParseQuote(b, &info, &quoted) {
			outer := outerFor(&info)
			r = otherFamily(&quoted)
			r.TranslateError(dst, b, &info, &quoted, &outer)
		}
	})
}

func TestTranslateAllocatesNothing(t *testing.T) {
	dst := make([]byte, MaxTranslatedError)
	payload := make([]byte, 300)
	var packets, errors [][]byte
	for _, v6 := range []bool{false, true} {
		version, echo, kind := uint8(4), uint8(8), uint8(11)
		if v6 {
			version, echo, kind = 6, 128, 3
		}
		udp := flow{v6: v6, udp: true, payload: payload}.build(t)
		packets = append(packets, flow{v6: v6, payload: payload}.build(t), udp, echoPacket(version, echo, payload),
			rawPacket(version, ProtoUDP, udpSegment(99)), rawPacket(version, 132, payload))
		errors = append(errors, errorPacket(version, kind, 0, 0, udp, nil), errorPacket(version, kind, 0, 0, udp, labels(16)))
	}
	n := testing.AllocsPerRun(100, func() {
		for _, b := range packets {
			var info Info
			Parse(b, &info)
			r := otherFamily(&info)
			headers, payload, ok := r.Translate(dst, b, &info, false, 0, 1)
			if !ok {
				t.Fatal("dropped")
			}
			if info.Version == 4 {
				CutFragment(dst[MaxTranslatedHeaders:][:1000], dst[:headers], b[payload:], 0, 1280, 1)
			}
		}
		for _, b := range errors {
			var info, quoted Info
			if !Parse(b, &info) || !ParseQuote(b, &info, &quoted) {
				t.Fatal("refused")
			}
			r, outer := otherFamily(&quoted), outerFor(&info)
			if _, ok := r.TranslateError(dst, b, &info, &quoted, &outer); !ok {
				t.Fatal("dropped")
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}
