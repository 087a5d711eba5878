package packet

import (
	"bytes"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

var (
	router4, router6 = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:ffff::1")
	inside4, inside6 = netip.MustParseAddr("100.96.0.7"), netip.MustParseAddr("fd00:2021:1111:8000::7")
	tunnel4, tunnel6 = netip.MustParseAddr("100.64.0.42"), netip.MustParseAddr("fd00:2021:1111::42")
)

// errorAbout returns an ICMP error from a router whose message, behind 8 bytes of ICMP header, is
// the quote given.
func errorAbout(t fataler, v6 bool, kind, code uint8, rest uint32, quote []byte) []byte {
	t.Helper()
	header := ip4HeaderLen
	if v6 {
		header = ip6HeaderLen
	}
	b := make([]byte, header+icmpHeaderLen, header+icmpHeaderLen+len(quote))
	b[header], b[header+1] = kind, code
	put16(b[header+4:], uint16(rest>>16))
	put16(b[header+6:], uint16(rest))
	b = append(b, quote...)
	if v6 {
		writeErrorHeader(b, router6, netip.MustParseAddr("fd00:2021:1111::1"), 0, 60)
	} else {
		writeErrorHeader(b, router4, netip.MustParseAddr("100.64.0.1"), 0, 60)
	}
	sumWhole(t, b)
	return b
}

func TestIsErrorAndIsEcho(t *testing.T) {
	errors4 := map[uint8]bool{3: true, 4: true, 5: true, 11: true, 12: true}
	for kind := range 256 {
		k := uint8(kind)
		four := Info{Version: 4, Proto: ProtoICMP, ICMPType: k}
		six := Info{Version: 6, Proto: ProtoICMPv6, ICMPType: k}
		if IsError(&four) != errors4[k] || IsError(&six) != (k < 128) {
			t.Errorf("type %d: error of IPv4 %v, of IPv6 %v", k, IsError(&four), IsError(&six))
		}
		if IsEcho(&four) != (k == 0 || k == 8) || IsEcho(&six) != (k == 128 || k == 129) {
			t.Errorf("type %d: echo of IPv4 %v, of IPv6 %v", k, IsEcho(&four), IsEcho(&six))
		}
		for _, no := range []Info{
			{Version: 6, Proto: ProtoICMP, ICMPType: k},
			{Version: 4, Proto: ProtoICMPv6, ICMPType: k},
			{Version: 4, Proto: ProtoUDP, ICMPType: k},
			{Version: 6, Proto: ProtoICMPv6, ICMPType: k, Fragment: true},
		} {
			if IsError(&no) || IsEcho(&no) {
				t.Errorf("type %d of %+v is neither error nor echo", k, no)
			}
		}
	}
}

// However much of a packet is quoted, what is read of it is what Parse read of the whole.
func TestParseQuoteOfTruncatedPacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPacket(t)
		var whole Info
		Parse(p, &whole)
		kept := rapid.IntRange(0, len(p)).Draw(t, "quoted bytes")
		kind := uint8(icmpUnreachable)
		if whole.Version == 6 {
			kind = icmp6ParameterProblem
		}
		b := errorAbout(t, whole.Version == 6, kind, 0, 0, p[:kept])
		var info, quoted Info
		Parse(b, &info)
		need := whole.L4
		switch whole.Proto {
		case ProtoTCP, ProtoUDP:
			need += 4
		case ProtoICMP, ProtoICMPv6:
			need += icmpHeaderLen
		}
		if got, want := ParseQuote(b, &info, &quoted), kept >= need && !IsError(&whole); got != want {
			t.Fatalf("%d of %d bytes: %v, want %v", kept, len(p), got, want)
		} else if !got {
			return
		}
		if kept < whole.Payload {
			whole.Payload = whole.L4
		}
		if kept <= whole.L4+tcpFlags {
			whole.TCPFlags = 0
		}
		if quoted != whole {
			t.Fatalf("%d of %d bytes: read %+v, want %+v", kept, len(p), quoted, whole)
		}
	})
}

func TestParseQuoteRefuses(t *testing.T) {
	good4, good6 := flow{payload: []byte("data")}.build(t), flow{v6: true, payload: []byte("data")}.build(t)
	change := func(p []byte, f func(p []byte)) []byte {
		p = bytes.Clone(p)
		f(p)
		return p
	}
	extended := func(next uint8, headers ...byte) []byte {
		p := append(bytes.Clone(good6[:ip6HeaderLen]), headers...)
		p = append(p, good6[ip6HeaderLen:]...)
		p[ip6Next] = next
		put16(p[ip6Length:], uint16(len(p)-ip6HeaderLen))
		return p
	}
	for _, c := range []struct {
		name  string
		v6    bool
		kind  uint8
		quote []byte
	}{
		{"nothing", false, 3, nil},
		{"IPv6 in an error of IPv4", false, 3, good6},
		{"IPv4 in an error of IPv6", true, 1, good4},
		{"half an IPv6 header", true, 1, good6[:30]},
		{"a header shorter than 20 bytes", false, 3, change(good4, func(p []byte) { p[0] = 0x44 })},
		{"a header longer than the quote", false, 3, change(good4[:40], func(p []byte) { p[0] = 0x4f })},
		{"a total length shorter than the header", false, 3, change(good4, func(p []byte) { put16(p[ip4Length:], 19) })},
		{"a total length that ends before the ports", false, 3, change(good4, func(p []byte) { put16(p[ip4Length:], 23) })},
		{"a payload length of nothing", true, 1, change(good6, func(p []byte) { put16(p[ip6Length:], 0) })},
		{"a later fragment of IPv4", false, 3, change(good4, func(p []byte) { put16(p[ip4Fragment:], 7) })},
		{"a later fragment of IPv6", true, 1, extended(extFragment, ProtoTCP, 0, 1, 0, 0, 0, 0, 1)},
		{"a source route with a way to go", true, 1, extended(extRouting, ProtoTCP, 0, 0, 1, 0, 0, 0, 0)},
		{"an extension header that is cut off", true, 1, extended(extDestination, ProtoTCP, 9, 1, 4, 0, 0, 0, 0)},
		{"a quote in an unknown type", true, 100, good6},
		{"a quote in an echo", false, 8, good4},
		{"an ICMP error", false, 3, errorAbout(t, false, 11, 0, 0, good4)},
		{"an ICMPv6 error", true, 3, errorAbout(t, true, 2, 0, 1280, good6)},
		{"an ICMP redirect", false, 3, errorAbout(t, false, 5, 0, 0, good4)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := errorAbout(t, c.v6, c.kind, 0, 0, c.quote)
			var info, quoted Info
			if !Parse(b, &info) {
				t.Fatal("test made no packet")
			}
			if ParseQuote(b, &info, &quoted) {
				t.Errorf("accepted as %+v", quoted)
			}
		})
	}
	t.Run("an error in fragments", func(t *testing.T) {
		b := errorAbout(t, false, 3, 0, 0, good4)
		put16(b[ip4Fragment:], ip4More)
		var info, quoted Info
		if !Parse(b, &info) || !info.FirstFragment {
			t.Fatal("test made no fragment")
		}
		if ParseQuote(b, &info, &quoted) {
			t.Errorf("accepted as %+v", quoted)
		}
	})
}

func TestParseQuoteFindsTransportBehind(t *testing.T) {
	options := flow{ipOptions: true, payload: []byte("x")}.build(t)
	plain6 := flow{v6: true, udp: true, payload: []byte("x")}.build(t)
	chain := append(bytes.Clone(plain6[:ip6HeaderLen]), extDestination, 0, 1, 4, 0, 0, 0, 0, extFragment, 0, 1, 4, 0, 0, 0, 0, ProtoUDP, 0, 0, 1, 0, 0, 0, 9)
	chain = append(chain, plain6[ip6HeaderLen:]...)
	chain[ip6Next] = extHopByHop
	put16(chain[ip6Length:], uint16(len(chain)-ip6HeaderLen))
	first := flow{udp: true, payload: make([]byte, 64)}.build(t)
	put16(first[ip4Fragment:], ip4More)
	for _, c := range []struct {
		name     string
		v6       bool
		quote    []byte
		l4       int
		dstPort  uint16
		fragment bool
	}{
		{"IPv4 options", false, options, 28, 443, false},
		{"IPv6 extension headers of a first fragment", true, chain, 64, 5300, true},
		{"the header of a first fragment", false, first, 20, 5300, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := errorAbout(t, c.v6, 3, 0, 0, c.quote)
			var info, quoted Info
			if !Parse(b, &info) || !ParseQuote(b, &info, &quoted) {
				t.Fatal("refused")
			}
			if quoted.L4 != c.l4 || quoted.SrcPort != 4000 || quoted.DstPort != c.dstPort || quoted.FirstFragment != c.fragment {
				t.Errorf("read %+v", quoted)
			}
		})
	}
}

// The length attribute of RFC 4884 separates the quote from extensions.
func TestQuoteEndsWhereExtensionsBegin(t *testing.T) {
	original4, original6 := make([]byte, 128), make([]byte, 128)
	copy(original4, flow{payload: make([]byte, 20)}.build(t))
	copy(original6, flow{v6: true, payload: make([]byte, 20)}.build(t))
	extension := []byte{0x20, 0, 0, 0, 0, 8, 1, 1, 0xde, 0xad, 0xbe, 0xef}
	for _, c := range []struct {
		name string
		v6   bool
		kind uint8
		rest uint32
		want int
	}{
		{"destination unreachable", false, 3, 32 << 16, 128},
		{"time exceeded", false, 11, 32 << 16, 128},
		{"parameter problem, with a pointer", false, 12, 20<<24 | 32<<16, 128},
		{"too big, with an MTU", false, 3, 32<<16 | 1400, 128},
		{"redirect has an address there", false, 5, 0x0a200001, 140},
		{"ICMPv6 destination unreachable", true, 1, 16 << 24, 128},
		{"ICMPv6 time exceeded", true, 3, 16 << 24, 128},
		{"ICMPv6 too big has an MTU there", true, 2, 0x10000000, 140},
		{"ICMPv6 parameter problem has a pointer there", true, 4, 0x10000000, 140},
		{"no length", false, 3, 0, 140},
		{"a length past the end", false, 3, 255 << 16, 140},
	} {
		t.Run(c.name, func(t *testing.T) {
			original := original4
			if c.v6 {
				original = original6
			}
			b := errorAbout(t, c.v6, c.kind, 0, c.rest, append(bytes.Clone(original), extension...))
			var info, quoted Info
			Parse(b, &info)
			if n := len(Quote(b, &info)); n != c.want {
				t.Errorf("quote of %d bytes, want %d", n, c.want)
			}
			if !ParseQuote(b, &info, &quoted) || quoted.SrcPort != 4000 {
				t.Errorf("read %+v", quoted)
			}
			r := NewRewrite(&quoted, quoted.Dst, quoted.Src, 1, 2)
			out := make([]byte, len(b))
			n, ok := RewriteError(out, b, &info, &quoted, info.Src, info.Dst, &r, 20)
			if !ok || !bytes.Equal(out[info.Payload+quoted.Len:n], b[info.Payload+quoted.Len:]) {
				t.Error("padding or extensions changed")
			}
		})
	}
}

func TestParseQuoteAllocatesNothing(t *testing.T) {
	b := errorAbout(t, false, 3, 1, 0, flow{payload: []byte("data")}.build(t))
	var info, quoted Info
	Parse(b, &info)
	ParseQuote(b, &info, &quoted)
	out := make([]byte, len(b))
	if n := testing.AllocsPerRun(100, func() {
		if !ParseQuote(b, &info, &quoted) {
			t.Fatal("refused")
		}
		r := NewRewrite(&quoted, quoted.Src, inside4, 4711, quoted.DstPort)
		if _, ok := RewriteError(out, b, &info, &quoted, inside4, tunnel4, &r, ErrorHopLimit); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
