package packet

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"
)

// The NAT of an error is an error about the NAT of the packet: what is quoted is, as far as it
// goes, the rewritten packet, whose checksums are right, and rewriting back restores it all.
func TestRewriteErrorQuotesRewrittenPacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPacket(t)
		var whole Info
		Parse(p, &whole)
		if IsError(&whole) {
			return
		}
		v6 := whole.Version == 6
		kept := rapid.IntRange(whole.L4+8, len(p)).Draw(t, "quoted bytes")
		if kept == whole.L4+checksumField(&whole)+1 {
			kept++ // half a checksum cannot be patched
		}
		kind := rapid.SampledFrom([]uint8{3, 4, 5, 11, 12}).Draw(t, "type")
		if v6 {
			kind = rapid.SampledFrom([]uint8{1, 2, 3, 4}).Draw(t, "type")
		}
		code, mtu := rapid.Byte().Draw(t, "code"), rapid.Uint16().Draw(t, "MTU")
		b := errorAbout(t, v6, kind, code, uint32(mtu), p[:kept])
		src, dst, to := inside4, tunnel4, netip.MustParseAddr("10.11.12.13")
		if v6 {
			src, dst, to = inside6, tunnel6, netip.MustParseAddr("2001:db8::13")
		}
		var info, quoted Info
		if !Parse(b, &info) || !ParseQuote(b, &info, &quoted) {
			t.Fatal("drew no error with a quote")
		}
		inner := NewRewrite(&quoted, dst, to, 4711, 4711)
		out := make([]byte, len(b))
		n, ok := RewriteError(out, b, &info, &quoted, src, dst, &inner, 20)
		if !ok {
			t.Fatal("refused")
		}
		inner.Apply(p, &whole, false)
		want := errorAbout(t, v6, kind, code, uint32(mtu), p[:kept])
		var after Info
		if !Parse(out[:n], &after) || !VerifyHeader(out[:n], &after) || !VerifyTransport(out[:n], &after) {
			t.Fatalf("new error is wrong: %x", out[:n])
		}
		if after.Src != src || after.Dst != dst || after.HopLimit != 20 || n != len(want) {
			t.Fatalf("new error is %+v", after)
		}
		skip := after.L4 + icmpChecksum // with the header, the checksum is another
		if !bytes.Equal(out[after.L4:skip], want[after.L4:skip]) || !bytes.Equal(out[skip+2:n], want[skip+2:]) {
			t.Fatalf("new error\n%x, want\n%x", out[:n], want)
		}

		back, again := make([]byte, n), Info{}
		if !ParseQuote(out[:n], &after, &again) {
			t.Fatal("new error has no quote")
		}
		restore := NewRewrite(&again, quoted.Src, quoted.Dst, quoted.SrcPort, quoted.DstPort)
		if n, ok := RewriteError(back, out[:n], &after, &again, info.Src, info.Dst, &restore, info.HopLimit); !ok || !bytes.Equal(back[:n], b) {
			if quoted.Proto != ProtoICMP { // 0 and ffff are the same to some echo replies
				t.Fatalf("rewritten back\n%x, want\n%x", back[:n], b)
			}
		}
	})
}

func TestRewriteErrorRefuses(t *testing.T) {
	b := errorAbout(t, false, 3, 1, 0, flow{payload: []byte("data")}.build(t))
	var info, quoted Info
	Parse(b, &info)
	ParseQuote(b, &info, &quoted)
	inner := NewRewrite(&quoted, tunnel4, inside4, 1, 2)
	try := func(b []byte, room int, quoted Info, src, dst netip.Addr, inner Rewrite) bool {
		_, ok := RewriteError(make([]byte, room), b, &info, &quoted, src, dst, &inner, 20)
		return ok
	}
	if !try(b, len(b), quoted, inside4, tunnel4, inner) {
		t.Fatal("refused what is right")
	}
	wrong := bytes.Clone(b)
	wrong[len(wrong)-1] ^= 1
	cut := quoted
	cut.L4 = len(b)
	portless := quoted
	portless.Len = quoted.L4 + 3
	other := NewRewrite(&quoted, tunnel6, inside6, 1, 2)
	for name, accepted := range map[string]bool{
		"a wrong checksum":                try(wrong, len(b), quoted, inside4, tunnel4, inner),
		"too little room":                 try(b, len(b)-1, quoted, inside4, tunnel4, inner),
		"a source of the other family":    try(b, len(b)+40, quoted, inside6, tunnel4, inner),
		"a destination of the other":      try(b, len(b)+40, quoted, inside4, tunnel6, inner),
		"no destination":                  try(b, len(b), quoted, inside4, netip.Addr{}, inner),
		"a translation between families":  try(b, len(b), quoted, inside4, tunnel4, other),
		"a quote without its ports":       try(b, len(b), portless, inside4, tunnel4, inner),
		"no quote":                        try(b, len(b), Info{}, inside4, tunnel4, inner),
		"a quote of more than there is":   try(b, len(b), cut, inside4, tunnel4, inner),
		"a quote of the other IP version": try(b, len(b), Info{Version: 6, L4: 40, Len: 60}, inside4, tunnel4, inner),
	} {
		t.Run(name, func(t *testing.T) {
			if accepted {
				t.Error("accepted")
			}
		})
	}
}

// What follows the quoted packet is not its checksum, wherever that would stand.
func TestRewriteErrorKeepsPaddingOfQuote(t *testing.T) {
	p := flow{payload: []byte("data")}.build(t)
	put16(p[ip4Length:], ip4HeaderLen+8)
	b := errorAbout(t, false, 3, 1, 0, p)
	var info, quoted Info
	Parse(b, &info)
	ParseQuote(b, &info, &quoted)
	inner := NewRewrite(&quoted, tunnel4, inside4, 1, 2)
	out := make([]byte, len(b))
	if _, ok := RewriteError(out, b, &info, &quoted, inside4, tunnel4, &inner, 20); !ok {
		t.Fatal("refused")
	}
	if at := info.Payload + ip4HeaderLen + 8; !bytes.Equal(out[at:], b[at:]) {
		t.Errorf("padding %x became %x", b[at:], out[at:])
	}
}

// Wrong checksums in the quote are no reason to withhold an error, and stay wrong by as much.
func TestRewriteErrorKeepsWrongQuotedChecksums(t *testing.T) {
	p := flow{payload: []byte("data")}.build(t)
	p[ip4Checksum] ^= 0x40
	p[ip4HeaderLen+tcpChecksum] ^= 0x40
	b := errorAbout(t, false, 3, 1, 0, p)
	var info, quoted Info
	Parse(b, &info)
	ParseQuote(b, &info, &quoted)
	inner := NewRewrite(&quoted, tunnel4, inside4, 1, 2)
	out := make([]byte, len(b))
	if _, ok := RewriteError(out, b, &info, &quoted, inside4, tunnel4, &inner, 20); !ok {
		t.Fatal("refused")
	}
	q := out[info.Payload:]
	if VerifyHeader(q, &quoted) || Fold(PseudoSum(tunnel4, inside4, ProtoTCP, len(q)-20)+Sum(q[20:], 0)) == 0xffff {
		t.Error("a wrong checksum became right")
	}
}

func TestAppendError(t *testing.T) {
	for _, c := range []struct {
		name       string
		v6         bool
		e          Error
		kind, code uint8
		rest       uint32
	}{
		{"prohibited IPv4", false, Error{Kind: Prohibited}, 3, 13, 0},
		{"prohibited IPv6", true, Error{Kind: Prohibited}, 1, 1, 0},
		{"unreachable IPv4", false, Error{Kind: Unreachable}, 3, 0, 0},
		{"unreachable IPv6", true, Error{Kind: Unreachable}, 1, 3, 0},
		{"too big IPv4", false, Error{Kind: TooBig, MTU: 1280}, 3, 4, 1280},
		{"too big IPv6", true, Error{Kind: TooBig, MTU: 1400}, 2, 0, 1400},
		{"too big for the field", false, Error{Kind: TooBig, MTU: 1 << 20}, 3, 4, 65535},
		{"too small for IPv6", true, Error{Kind: TooBig, MTU: 576}, 2, 0, 1280},
		{"an MTU without a meaning", false, Error{Kind: Prohibited, MTU: 1280}, 3, 13, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := flow{v6: c.v6, ipOptions: true, payload: make([]byte, 1400)}.build(t)
			var offending Info
			Parse(p, &offending)
			got, ok := AppendError([]byte("before"), p, &offending, c.e)
			if !ok || string(got[:6]) != "before" {
				t.Fatalf("%v, %x", ok, got)
			}
			got = got[6:]
			var info Info
			if !Parse(got, &info) || info.Len != len(got) || !VerifyHeader(got, &info) || !VerifyTransport(got, &info) {
				t.Fatalf("wrong: %x", got)
			}
			decode(t, got)
			if info.Src != offending.Dst || info.Dst != offending.Src || info.HopLimit != 20 || info.TOS != 0 {
				t.Errorf("headers %+v", info)
			}
			h := got[info.L4:]
			if h[0] != c.kind || h[1] != c.code || uint32(get16(h[4:]))<<16|uint32(get16(h[6:])) != c.rest {
				t.Errorf("ICMP header %x", h[:8])
			}
			want := p[:28+8] // with IPv4 options
			if c.v6 {
				want = p[:1232]
			}
			if !bytes.Equal(got[info.Payload:], want) {
				t.Errorf("quote of %d bytes, want %d", len(got)-info.Payload, len(want))
			}
			var quoted Info
			if !ParseQuote(got, &info, &quoted) || quoted.Src != offending.Src || quoted.DstPort != offending.DstPort {
				t.Errorf("quote reads %+v", quoted)
			}
		})
	}
}

func TestAppendErrorOptions(t *testing.T) {
	p := flow{v6: true, payload: make([]byte, 40)}.build(t)
	var offending, info Info
	Parse(p, &offending)
	t.Run("another source", func(t *testing.T) {
		got, ok := AppendError(nil, p, &offending, Error{Source: router6})
		if !ok || !Parse(got, &info) || info.Src != router6 || !VerifyTransport(got, &info) {
			t.Errorf("%v %x", ok, got)
		}
	})
	t.Run("truncated at hand", func(t *testing.T) {
		got, ok := AppendError(nil, p[:50], &offending, Error{})
		if !ok || !Parse(got, &info) || !bytes.Equal(got[info.Payload:], p[:50]) {
			t.Errorf("%v %x", ok, got)
		}
	})
	t.Run("padding is not quoted", func(t *testing.T) {
		got, ok := AppendError(nil, append(bytes.Clone(p), 1, 2, 3), &offending, Error{})
		if !ok || !Parse(got, &info) || !bytes.Equal(got[info.Payload:], p) {
			t.Errorf("%v %x", ok, got)
		}
	})
	t.Run("no allocation with room", func(t *testing.T) {
		room := make([]byte, 0, MaxError)
		if n := testing.AllocsPerRun(100, func() {
			if _, ok := AppendError(room, p, &offending, Error{Kind: TooBig, MTU: 1300}); !ok {
				t.Fatal("refused")
			}
		}); n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
	})
}

// About these there must be no error (RFC 1122, 3.2.2; RFC 1812, 4.3.2.7; RFC 4443, 2.4).
func TestAppendErrorRefuses(t *testing.T) {
	four := Info{Version: 4, Proto: ProtoUDP, Src: tunnel4, Dst: router4, L4: 20, Payload: 28, Len: 60}
	six := Info{Version: 6, Proto: ProtoUDP, Src: tunnel6, Dst: router6, L4: 40, Payload: 48, Len: 60}
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name string
		info Info
		set  func(*Info)
		e    Error
		want bool
	}{
		{"an ordinary packet of IPv4", four, func(*Info) {}, Error{}, true},
		{"an ordinary packet of IPv6", six, func(*Info) {}, Error{}, true},
		{"a first fragment", four, func(i *Info) { i.Fragment, i.FirstFragment = true, true }, Error{}, true},
		{"a later fragment", four, func(i *Info) { i.Fragment = true }, Error{}, false},
		{"a later fragment of IPv6", six, func(i *Info) { i.Fragment = true }, Error{}, false},
		{"an echo request", four, func(i *Info) { i.Proto, i.ICMPType = ProtoICMP, 8 }, Error{}, true},
		{"an ICMP error", four, func(i *Info) { i.Proto, i.ICMPType = ProtoICMP, 3 }, Error{}, false},
		{"an ICMP redirect", four, func(i *Info) { i.Proto, i.ICMPType = ProtoICMP, 5 }, Error{}, false},
		{"an ICMPv6 error", six, func(i *Info) { i.Proto, i.ICMPType = ProtoICMPv6, 2 }, Error{}, false},
		{"an unknown ICMPv6 error", six, func(i *Info) { i.Proto, i.ICMPType = ProtoICMPv6, 127 }, Error{}, false},
		{"an ICMPv6 redirect", six, func(i *Info) { i.Proto, i.ICMPType = ProtoICMPv6, layers.ICMPv6TypeRedirect }, Error{}, false},
		{"to a multicast group of IPv4", four, func(i *Info) { i.Dst = addr("224.0.0.251") }, Error{Source: router4}, false},
		{"to a multicast group of IPv6", six, func(i *Info) { i.Dst = addr("ff02::fb") }, Error{Source: router6}, false},
		{"to a multicast group, too big", six, func(i *Info) { i.Dst = addr("ff0e::1") }, Error{Kind: TooBig, MTU: 1280, Source: router6}, true},
		{"to a multicast group, from it", six, func(i *Info) { i.Dst = addr("ff0e::1") }, Error{Kind: TooBig, MTU: 1280}, false},
		{"to a multicast group of IPv4, too big", four, func(i *Info) { i.Dst = addr("239.0.0.1") }, Error{Kind: TooBig, Source: router4}, false},
		{"to broadcast", four, func(i *Info) { i.Dst = addr("255.255.255.255") }, Error{Source: router4}, false},
		{"to class E", four, func(i *Info) { i.Dst = addr("240.0.0.1") }, Error{}, true},
		{"to loopback", four, func(i *Info) { i.Dst = addr("127.0.0.1") }, Error{}, false},
		{"to loopback, from a router", four, func(i *Info) { i.Dst = addr("127.0.0.1") }, Error{Source: router4}, true},
		{"to no address", six, func(i *Info) { i.Dst = netip.IPv6Unspecified() }, Error{}, false},
		{"from no address of IPv4", four, func(i *Info) { i.Src = netip.IPv4Unspecified() }, Error{}, false},
		{"from network zero", four, func(i *Info) { i.Src = addr("0.1.2.3") }, Error{}, false},
		{"from loopback", four, func(i *Info) { i.Src = addr("127.0.0.1") }, Error{}, false},
		{"from broadcast", four, func(i *Info) { i.Src = addr("255.255.255.255") }, Error{}, false},
		{"from a multicast group of IPv4", four, func(i *Info) { i.Src = addr("224.0.0.1") }, Error{}, false},
		{"from class E", four, func(i *Info) { i.Src = addr("240.0.0.1") }, Error{}, false},
		{"from no address of IPv6", six, func(i *Info) { i.Src = netip.IPv6Unspecified() }, Error{}, false},
		{"from loopback of IPv6", six, func(i *Info) { i.Src = netip.IPv6Loopback() }, Error{}, false},
		{"from a multicast group of IPv6", six, func(i *Info) { i.Src = addr("ff02::1") }, Error{}, false},
		{"with a source of the other family", four, func(*Info) {}, Error{Source: router6}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.set(&c.info)
			offending := make([]byte, c.info.Len)
			got, ok := AppendError([]byte{7}, offending, &c.info, c.e)
			if ok != c.want || !ok && !bytes.Equal(got, []byte{7}) {
				t.Errorf("%v, %x", ok, got)
			}
		})
	}
}
