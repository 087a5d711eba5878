package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// translateError returns what TranslateError makes of b for the usual rewrite of what it quotes, and
// checks what holds for all results.
func translateError(t fataler, b []byte, change func(*ErrorHeader)) ([]byte, bool) {
	t.Helper()
	var info, quoted Info
	if !Parse(b, &info) {
		t.Fatalf("refused by Parse: %x", b)
	}
	if !ParseQuote(b, &info, &quoted) {
		t.Fatalf("refused by ParseQuote: %x", b)
	}
	r, outer := otherFamily(&quoted), outerFor(&info)
	if change != nil {
		change(&outer)
	}
	dst, before := bytes.Repeat([]byte{0xa5}, MaxTranslatedError), bytes.Clone(b)
	n, ok := r.TranslateError(dst, b, &info, &quoted, &outer)
	if !bytes.Equal(b, before) {
		t.Fatal("the packet was written to")
	}
	if !ok {
		return nil, false
	}
	out := dst[:n]
	checkTranslatedError(t, out, &info, &quoted, &r, &outer)
	return out, true
}

func checkTranslatedError(t fataler, out []byte, info, quoted *Info, r *Rewrite, outer *ErrorHeader) {
	t.Helper()
	var to, q Info
	limit := map[uint8]int{4: 576, 6: 1280}
	if !Parse(out, &to) || to.Len != len(out) || to.Version == info.Version || len(out) > limit[to.Version] {
		t.Fatalf("malformed as %d bytes: %x", len(out), out)
	}
	if !VerifyHeader(out, &to) || !VerifyTransport(out, &to) {
		t.Fatalf("wrong checksum: %x", out)
	}
	if to.Src != outer.Src || to.Dst != outer.Dst || to.TOS != info.TOS || to.HopLimit != info.HopLimit || to.Fragment {
		t.Fatalf("outer header %+v becomes %+v", info, to)
	}
	if !ParseQuote(out, &to, &q) {
		t.Fatalf("the quote does not parse: %x", out)
	}
	if q.Src != r.Src || q.Dst != r.Dst || q.TOS != quoted.TOS || q.HopLimit != quoted.HopLimit || q.Fragment != quoted.Fragment {
		t.Fatalf("quoted %+v becomes %+v", quoted, q)
	}
	if q.Len-q.L4 != quoted.Len-quoted.L4 {
		t.Fatalf("quoted length %d becomes %d", quoted.Len-quoted.L4, q.Len-q.L4)
	}
	switch {
	case quoted.Proto == ProtoTCP, quoted.Proto == ProtoUDP, IsEcho(quoted):
		if q.SrcPort != r.SrcPort || q.DstPort != r.DstPort {
			t.Fatalf("quoted ports %d, %d, want %d, %d", q.SrcPort, q.DstPort, r.SrcPort, r.DstPort)
		}
	}
	if quote := Quote(out, &to); !VerifyHeader(quote, &q) || IsEcho(&q) && len(quote) >= q.Len && !VerifyTransport(quote[:q.Len], &q) {
		t.Fatalf("wrong checksum in the quote: %x", quote)
	}
}

// RFC 7915, sections 4.2 and 5.2, for every type and code; what is not listed is dropped.
func TestTranslateErrorMapsTypesAndCodes(t *testing.T) {
	type header struct {
		kind, code uint8
		rest       uint32
	}
	unreachable := func(code uint8) header { return header{1, code, 0} }
	want6 := map[[2]uint8]header{
		{3, 0}: unreachable(0), {3, 1}: unreachable(0), {3, 2}: {4, 1, 6}, {3, 3}: unreachable(4), {3, 4}: {2, 0, 1520},
		{3, 5}: unreachable(0), {3, 6}: unreachable(0), {3, 7}: unreachable(0), {3, 8}: unreachable(0),
		{3, 9}: unreachable(1), {3, 10}: unreachable(1), {3, 11}: unreachable(0), {3, 12}: unreachable(0),
		{3, 13}: unreachable(1), {3, 15}: unreachable(1),
		{11, 0}: {3, 0, 0}, {11, 1}: {3, 1, 0},
		{12, 0}: {4, 0, 0}, {12, 2}: {4, 0, 0}, // pointer 0
	}
	want4 := map[[2]uint8]header{
		{1, 0}: {3, 1, 0}, {1, 1}: {3, 10, 0}, {1, 2}: {3, 1, 0}, {1, 3}: {3, 1, 0}, {1, 4}: {3, 3, 0},
		{2, 0}: {3, 4, 1480}, {3, 0}: {11, 0, 0}, {3, 1}: {11, 1, 0},
		{4, 0}: {12, 0, 9 << 24}, {4, 1}: {3, 2, 0},
	}
	offending := map[uint8][]byte{4: flow{udp: true}.build(t), 6: flow{v6: true, udp: true}.build(t)}
	for version, want := range map[uint8]map[[2]uint8]header{4: want6, 6: want4} {
		for kind := 1; kind < 20; kind++ {
			for code := range 20 {
				key := [2]uint8{uint8(kind), uint8(code)}
				rest := uint32(0)
				switch {
				case version == 4 && kind == 3 && code == 4, version == 6 && kind == 2:
					rest = 1500
				case version == 6 && kind == 4:
					rest = 6
				}
				b := errorPacket(version, key[0], key[1], rest, offending[version], nil)
				var info, quoted Info
				Parse(b, &info)
				if !ParseQuote(b, &info, &quoted) { // no error, or one without a quote
					Parse(offending[version], &quoted)
				}
				r, outer := otherFamily(&quoted), outerFor(&info)
				dst := make([]byte, MaxTranslatedError)
				n, ok := r.TranslateError(dst, b, &info, &quoted, &outer)
				w, wanted := want[key]
				switch {
				case version == 6 && kind == 2:
					w, wanted = want4[[2]uint8{2, 0}], true // the code says nothing (RFC 4443, 3.2)
				case (version == 4 && kind == 11 || version == 6 && kind == 3) && code > 1:
					w, wanted = header{14 - uint8(kind), uint8(code), 0}, true // codes are copied
				}
				if ok != wanted {
					t.Errorf("ICMPv%d type %d code %d: translated is %v", version, kind, code, ok)
					continue
				}
				if !ok {
					continue
				}
				checkTranslatedError(t, dst[:n], &info, &quoted, &r, &outer)
				Parse(dst[:n], &info)
				if m := dst[info.L4:]; (header{m[0], m[1], binary.BigEndian.Uint32(m[4:])}) != w {
					t.Errorf("ICMPv%d type %d code %d becomes %x, want %v", version, kind, code, m[:8], w)
				}
			}
		}
	}
}

// RFC 7915, figures 3 and 6.
func TestTranslateErrorMapsPointers(t *testing.T) {
	want6 := map[int]int{0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24}
	want4 := map[int]int{0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8}
	for i := range 16 {
		want4[8+i], want4[24+i] = 12, 16
	}
	offending := map[uint8][]byte{4: flow{udp: true}.build(t), 6: flow{v6: true, udp: true}.build(t)}
	for pointer := range 256 {
		for _, code := range []uint8{0, 2} {
			out, ok := translateError(t, errorPacket(4, 12, code, uint32(pointer)<<24, offending[4], nil), nil)
			want, wanted := want6[pointer]
			if ok != wanted || ok && binary.BigEndian.Uint32(out[44:]) != uint32(want) {
				t.Errorf("4 to 6: pointer %d with code %d: %v, %x", pointer, code, ok, out)
			}
		}
		out, ok := translateError(t, errorPacket(6, 4, 0, uint32(pointer), offending[6], nil), nil)
		want, wanted := want4[pointer]
		if ok != wanted || ok && binary.BigEndian.Uint32(out[24:]) != uint32(want)<<24 {
			t.Errorf("6 to 4: pointer %d: %v, %x", pointer, ok, out)
		}
	}
	for _, pointer := range []uint32{1 << 8, 1 << 24, 1<<32 - 1} {
		if out, ok := translateError(t, errorPacket(6, 4, 0, pointer, offending[6], nil), nil); ok {
			t.Errorf("6 to 4: pointer %#x becomes %x", pointer, out)
		}
	}
}

// RFC 7915, sections 4.2, 5.2 and 6; RFC 1191, section 7.1.
func TestTranslateErrorAdjustsTheMTU(t *testing.T) {
	quoting := func(version uint8, length int) []byte {
		header := map[uint8]int{4: 20, 6: 40}[version]
		b := rawPacket(version, ProtoUDP, udpSegment(length-header-8))
		return b[:min(len(b), 68)]
	}
	for _, c := range []struct {
		name       string
		version    uint8
		advertised uint32
		quoted     int
		mtu4, mtu6 int
		want       uint32
	}{
		{"4 to 6: 20 more", 4, 1400, 1500, 0, 0, 1420},
		{"4 to 6: bound by the IPv6 link", 4, 1400, 1500, 1500, 1410, 1410},
		{"4 to 6: bound by the IPv4 link and 20", 4, 1400, 1500, 1300, 1500, 1320},
		{"4 to 6: not below 1280", 4, 576, 1500, 0, 0, 1280},
		{"4 to 6: not below 1280 for what links say", 4, 1400, 1500, 600, 1000, 1280},
		{"4 to 6: largest", 4, 65535, 1500, 0, 0, 65555},
		{"4 to 6: none advertised, the plateau below the quoted length", 4, 0, 1500, 0, 0, 1512},
		{"4 to 6: none advertised, the quoted length is a plateau", 4, 0, 1492, 0, 0, 1280},
		{"4 to 6: none advertised, long packet", 4, 0, 9000, 0, 0, 8186},
		{"4 to 6: none advertised, longest packet", 4, 0, 65535, 0, 0, 32020},
		{"4 to 6: none advertised, shortest packet", 4, 0, 40, 0, 0, 1280},
		{"6 to 4: 20 less", 6, 1400, 1500, 0, 0, 1380},
		{"6 to 4: bound by the IPv4 link", 6, 1400, 1500, 1300, 0, 1300},
		{"6 to 4: bound by the IPv6 link less 20", 6, 1400, 1500, 1500, 1350, 1330},
		{"6 to 4: below 1280 is taken for 1280", 6, 600, 1500, 0, 0, 1260},
		{"6 to 4: zero is taken for 1280", 6, 0, 1500, 0, 0, 1260},
		{"6 to 4: not below what IPv4 links take", 6, 1500, 1500, 20, 0, 68},
		{"6 to 4: more than IPv4 can say", 6, 1<<32 - 1, 1500, 0, 0, 65535},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind, code := uint8(3), uint8(4)
			if c.version == 6 {
				kind, code = 2, 0
			}
			b := errorPacket(c.version, kind, code, c.advertised, quoting(c.version, c.quoted), nil)
			out, ok := translateError(t, b, func(e *ErrorHeader) { e.MTU4, e.MTU6 = c.mtu4, c.mtu6 })
			if !ok {
				t.Fatal("dropped")
			}
			var info Info
			Parse(out, &info)
			if mtu := binary.BigEndian.Uint32(out[info.L4+4:]); mtu != c.want {
				t.Errorf("MTU %d, want %d", mtu, c.want)
			}
		})
	}
}

// RFC 7915, sections 4.3 and 5.3: the quote is the translation of what was quoted.
func TestTranslateErrorTranslatesTheQuoteLikeAPacket(t *testing.T) {
	for _, version := range []uint8{4, 6} {
		for _, c := range []struct {
			name string
			b    []byte
		}{
			{"TCP", flow{v6: version == 6, options: 12, payload: []byte("some payload")}.build(t)},
			{"UDP", flow{v6: version == 6, udp: true, payload: []byte("some payload")}.build(t)},
			{"echo", echoPacket(version, map[uint8]uint8{4: 8, 6: 128}[version], []byte("some payload"))},
			{"other protocol", rawPacket(version, 132, []byte("some payload"))},
			{"IPv4 options or IPv6 extension headers", func() []byte {
				if version == 4 {
					return flow{udp: true, ipOptions: true}.build(t)
				}
				return unhex(t, ip6("0024", "00", "3c00010400000000 2b00010400000000 1100000000000000"+datagram))
			}()},
		} {
			t.Run(fmt.Sprintf("%s of version %d", c.name, version), func(t *testing.T) {
				var whole Info
				Parse(c.b, &whole)
				r, dst := otherFamily(&whole), make([]byte, MaxTranslatedHeaders)
				headers, payload, ok := r.Translate(dst, c.b, &whole, false, 0, 99)
				if !ok {
					t.Fatal("the packet itself is dropped")
				}
				want := append(dst[:headers:headers], c.b[payload:]...)
				kind := map[uint8]uint8{4: 11, 6: 3}[version]
				shortest := whole.L4 + 8
				for cut := shortest; cut <= len(c.b); cut++ {
					if whole.Proto == ProtoTCP && cut == whole.L4+tcpChecksum+1 {
						continue // half a checksum cannot be patched
					}
					out, ok := translateError(t, errorPacket(version, kind, 0, 0, c.b[:cut], nil), nil)
					if !ok {
						t.Fatalf("dropped when %d bytes are quoted", cut)
					}
					var info Info
					Parse(out, &info)
					quote := Quote(out, &info)
					if len(quote) != len(want)-len(c.b)+cut || !bytes.Equal(quote, want[:len(quote)]) {
						t.Fatalf("%d bytes quoted become\n%x, want\n%x", cut, quote, want)
					}
				}
			})
		}
	}
}

func TestTranslateErrorDropsWhatItMayNotPass(t *testing.T) {
	udp4, udp6 := flow{udp: true}.build(t), flow{v6: true, udp: true}.build(t)
	wrong := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"wrong checksum in ICMPv4", wrong(errorPacket(4, 3, 1, 0, udp4, nil))},
		{"wrong checksum in ICMPv6", wrong(errorPacket(6, 1, 0, 0, udp6, nil))},
		{"quoted IGMP", errorPacket(4, 3, 1, 0, rawPacket(4, 2, make([]byte, 8)), nil)},
		{"quoted timestamp request", errorPacket(4, 3, 1, 0, icmpPacket(4, 13, 0, 0, make([]byte, 12)), nil)},
		{"quoted neighbour solicitation", errorPacket(6, 3, 0, 0, icmpPacket(6, 135, 0, 0, make([]byte, 16)), nil)},
		{"quoted fragment of an echo", errorPacket(4, 11, 1, 0, unhex(t, ip4("001c", "2000", "01", "0800 0000 12340001")), nil)},
		{"quoted authentication header", errorPacket(6, 3, 0, 0, unhex(t, ip6("0018", "33", "1101 0000 00000001 00000001"+datagram)), nil)},
		{"quoted packet too long for IPv4", errorPacket(6, 3, 0, 0, rawPacket(6, 132, make([]byte, 65516))[:1200], nil)},
		{"source quench", errorPacket(4, 4, 0, 0, udp4, nil)},
		{"redirect", errorPacket(4, 5, 1, 0, udp4, nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, ok := translateError(t, c.b, nil); ok {
				t.Errorf("became %x", out)
			}
		})
	}
	t.Run("outer authentication header", func(t *testing.T) {
		b := errorPacket(6, 3, 0, 0, udp6, nil)
		b = append(append(b[:40:40], unhex(t, "3a02000000000001 00000001 00000001")...), b[40:]...)
		b[ip6Next] = extAuth
		put16(b[ip6Length:], uint16(len(b)-40))
		if out, ok := translateError(t, b, nil); ok {
			t.Errorf("became %x", out)
		}
	})
	t.Run("quoted headers said to be longer than the quote", func(t *testing.T) {
		for _, proto := range []uint8{ProtoUDP, ProtoICMP} {
			b := errorPacket(4, 3, 1, 0, rawPacket(4, proto, unhex(t, "0800 0000 12340001")), nil)
			var info, quoted Info
			Parse(b, &info)
			if !ParseQuote(b, &info, &quoted) {
				t.Fatal("refused by ParseQuote")
			}
			r, outer := otherFamily(&quoted), outerFor(&info)
			for quoted.L4 = 25; quoted.L4 < 50; quoted.L4++ {
				if n, ok := r.TranslateError(make([]byte, MaxTranslatedError), b, &info, &quoted, &outer); ok {
					t.Errorf("transport header at %d of 28 bytes: became an error of %d bytes", quoted.L4, n)
				}
			}
		}
	})
	t.Run("echo is no error", func(t *testing.T) {
		b := echoPacket(4, 8, udp4)
		var info Info
		Parse(b, &info)
		var quoted Info
		Parse(udp4, &quoted)
		r, outer := otherFamily(&quoted), outerFor(&info)
		if n, ok := r.TranslateError(make([]byte, MaxTranslatedError), b, &info, &quoted, &outer); ok {
			t.Errorf("became an error of %d bytes", n)
		}
	})
	t.Run("error quoting an error", func(t *testing.T) {
		b := errorPacket(4, 3, 1, 0, errorPacket(4, 3, 1, 0, udp4, nil), nil)
		var info, quoted Info
		Parse(b, &info)
		if ParseQuote(b, &info, &quoted) {
			t.Error("ParseQuote takes it")
		}
		// Even for a caller who reads the quote with Parse it goes no further.
		Parse(Quote(b, &info), &quoted)
		r, outer := otherFamily(&quoted), outerFor(&info)
		if n, ok := r.TranslateError(make([]byte, MaxTranslatedError), b, &info, &quoted, &outer); ok {
			t.Errorf("became an error of %d bytes", n)
		}
	})
}
