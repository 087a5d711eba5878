package packet

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	src4, dst4 = "64400001", "c0000207"                                                 // 100.64.0.1 → 192.0.2.7
	src6, dst6 = "fd002021111100000000000000000001", "20010db8000000000000000000000007" // fd00:2021:1111::1 → 2001:db8::7
	tcp        = "0fa001bb 00000001 00000002 5018 01f5 0000 0000"
	udp        = "0fa014b4 000c 0000 01020304"
)

func ip4(length, frag, proto, rest string) string {
	return "45 2a" + length + "0007" + frag + "3d" + proto + "0000" + src4 + dst4 + rest
}

func ip6(length, next, rest string) string {
	return "62a12345" + length + next + "3d" + src6 + dst6 + rest
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseReadsWellFormedPackets(t *testing.T) {
	v4 := Info{Version: 4, TOS: 0x2a, HopLimit: 61, Src: netip.MustParseAddr("100.64.0.1"), Dst: netip.MustParseAddr("192.0.2.7"), L4: 20}
	v6 := Info{Version: 6, TOS: 0x2a, HopLimit: 61, Src: netip.MustParseAddr("fd00:2021:1111::1"), Dst: netip.MustParseAddr("2001:db8::7"), L4: 40}
	for _, c := range []struct {
		name, packet string
		base, want   Info // want: what differs from base
	}{
		{"TCP over IPv4", ip4("0028", "4000", "06", tcp), v4,
			Info{Proto: 6, SrcPort: 4000, DstPort: 443, Payload: 40, Len: 40, TCPFlags: FlagPSH | FlagACK}},
		{"UDP over IPv4 with padding behind the packet", ip4("0020", "0000", "11", udp+"00000000"), v4,
			Info{Proto: 17, SrcPort: 4000, DstPort: 5300, Payload: 28, Len: 32}},
		{"UDP that ends before its packet does", ip4("0022", "0000", "11", udp+"beef"), v4,
			Info{Proto: 17, SrcPort: 4000, DstPort: 5300, Payload: 28, Len: 34}},
		{"ping over IPv4 has its identifier as both ports", ip4("001c", "0000", "01", "0800 0000 1234 0001"), v4,
			Info{Proto: 1, SrcPort: 0x1234, DstPort: 0x1234, Payload: 28, Len: 28, ICMPType: 8}},
		{"ICMP error has no ports", ip4("001c", "0000", "01", "0304 0000 0000 0500"), v4,
			Info{Proto: 1, Payload: 28, Len: 28, ICMPType: 3, ICMPCode: 4}},
		{"unknown protocol passes without ports", ip4("0014", "0000", "84", ""), v4, Info{Proto: 132, Payload: 20, Len: 20}},
		{"ICMPv6 inside IPv4 is an unknown protocol", ip4("0014", "0000", "3a", ""), v4, Info{Proto: 58, Payload: 20, Len: 20}},
		{"first fragment shows its ports", ip4("0028", "2000", "06", tcp), v4,
			Info{Proto: 6, SrcPort: 4000, DstPort: 443, Payload: 40, Len: 40, TCPFlags: FlagPSH | FlagACK, Fragment: true, FirstFragment: true}},
		{"first fragment of UDP is shorter than its datagram", ip4("001c", "2000", "11", "0fa0 14b4 1000 0000"), v4,
			Info{Proto: 17, SrcPort: 4000, DstPort: 5300, Payload: 28, Len: 28, Fragment: true, FirstFragment: true}},
		{"later fragment has no ports", ip4("0016", "0003", "06", "abcd"), v4, Info{Proto: 6, Payload: 20, Len: 22, Fragment: true}},
		{"IPv4 options are skipped", "46 2a 0020 0007 0000 3d 11 0000" + src4 + dst4 + "01 94 03 00" + "0fa0 14b4 0008 0000", v4,
			Info{Proto: 17, SrcPort: 4000, DstPort: 5300, L4: 24, Payload: 32, Len: 32}},
		{"a used-up source route is history", "47 2a 001c 0007 0000 3d 84 0000" + src4 + dst4 + "83 07 08 c0000201 00", v4,
			Info{Proto: 132, L4: 28, Payload: 28, Len: 28}},
		{"TCP over IPv6", ip6("0014", "06", tcp), v6,
			Info{Proto: 6, SrcPort: 4000, DstPort: 443, Payload: 60, Len: 60, TCPFlags: FlagPSH | FlagACK}},
		{"ping over IPv6", ip6("0008", "3a", "8100 0000 1234 0001"), v6,
			Info{Proto: 58, SrcPort: 0x1234, DstPort: 0x1234, Payload: 48, Len: 48, ICMPType: 129}},
		{"hop-by-hop, destination, spent routing and authentication headers are skipped",
			ip6("0034", "00", "3c00 0104 00000000"+"2b00 0104 00000000"+"3300 0400 00000000"+"1102 0000 00000001 00000002 00000003"+udp), v6,
			Info{Proto: 17, SrcPort: 4000, DstPort: 5300, L4: 80, Payload: 88, Len: 92}},
		{"an atomic fragment is whole", ip6("0014", "2c", "1100 0000 00000007"+udp), v6,
			Info{Proto: 17, SrcPort: 4000, DstPort: 5300, L4: 48, Payload: 56, Len: 60}},
		{"first fragment over IPv6", ip6("0014", "2c", "1100 0001 00000007"+udp), v6,
			Info{Proto: 17, SrcPort: 4000, DstPort: 5300, L4: 48, Payload: 56, Len: 60, Fragment: true, FirstFragment: true}},
		{"later fragment over IPv6 is not looked into", ip6("000a", "2c", "3c00 0019 00000007"+"abcd"), v6,
			Info{Proto: 60, L4: 48, Payload: 48, Len: 50, Fragment: true}},
		{"no next header", ip6("0000", "3b", ""), v6, Info{Proto: 59, Payload: 40, Len: 40}},
	} {
		want := c.want
		want.Version, want.TOS, want.HopLimit, want.Src, want.Dst = c.base.Version, c.base.TOS, c.base.HopLimit, c.base.Src, c.base.Dst
		if want.L4 == 0 {
			want.L4 = c.base.L4
		}
		var got Info
		if !Parse(unhex(t, c.packet), &got) {
			t.Errorf("%s: refused", c.name)
		} else if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, want)
		}
	}
}

func TestParseRefusesMalformedPackets(t *testing.T) {
	route := "2b00 0400 00000000"
	for name, packet := range map[string]string{
		"nothing":                         "",
		"a cut IPv4 header":               ip4("0014", "0000", "84", "")[:39],
		"version 5":                       "55" + ip4("0014", "0000", "84", "")[2:],
		"IPv4 header length below 20":     "44" + ip4("0014", "0000", "84", "")[2:],
		"IPv4 header longer than packet":  "46" + ip4("0014", "0000", "84", "")[2:],
		"IPv4 length beyond the bytes":    ip4("0015", "0000", "84", ""),
		"IPv4 length of zero":             ip4("0000", "0000", "84", ""),
		"an IPv4 option of length zero":   "46 2a 0018 0007 0000 3d 84 0000" + src4 + dst4 + "94 00 00 00",
		"an IPv4 option past the header":  "46 2a 0018 0007 0000 3d 84 0000" + src4 + dst4 + "94 05 00 00",
		"an IPv4 option without length":   "46 2a 0018 0007 0000 3d 84 0000" + src4 + dst4 + "01 01 01 94",
		"a strict source route":           "47 2a 001c 0007 0000 3d 84 0000" + src4 + dst4 + "89 07 04 c0000201 00",
		"a source route without pointer":  "46 2a 0018 0007 0000 3d 84 0000" + src4 + dst4 + "01 01 83 02",
		"a TCP header cut short":          ip4("0027", "4000", "06", tcp),
		"a TCP data offset below 5":       ip4("0028", "4000", "06", strings.Replace(tcp, "5018", "4018", 1)),
		"a TCP data offset past the end":  ip4("0028", "4000", "06", strings.Replace(tcp, "5018", "6018", 1)),
		"a UDP length below 8":            ip4("0020", "0000", "11", strings.Replace(udp, "000c", "0007", 1)),
		"a UDP length past the end":       ip4("0020", "0000", "11", strings.Replace(udp, "000c", "000d", 1)),
		"a UDP header cut short":          ip4("001b", "0000", "11", udp),
		"an ICMP header cut short":        ip4("001b", "0000", "01", "0800 0000 1234 0001"),
		"a tiny first fragment of TCP":    ip4("001c", "2000", "06", tcp),
		"a fragment over the TCP header":  ip4("0028", "0001", "06", tcp),
		"a fragment over the TCP options": ip4("0028", "0002", "06", tcp),
		"a fragment past 65535":           ip4("0028", "1fff", "11", tcp),
		"a cut IPv6 header":               ip6("0000", "3b", "")[:78],
		"IPv6 length beyond the bytes":    ip6("0001", "3b", ""),
		"a jumbogram":                     ip6("0000", "00", "3b00 c204 00010000"),
		"hop-by-hop options not first":    ip6("0018", "3c", "0000 0104 00000000"+"3b00 0104 00000000"+"00000000 00000000"),
		"a routing header with a way":     ip6("0008", "2b", "3b00 0001 00000000"),
		"an extension past the end":       ip6("0008", "3c", "3b01 0104 00000000"),
		"an extension cut short":          ip6("0007", "3c", "3b00 0104 000000"),
		"authentication past the end":     ip6("0008", "33", "3b04 0000 00000000"),
		"two fragment headers":            ip6("0010", "2c", "2c00 0000 00000007"+"3b00 0000 00000007"),
		"nine extension headers":          ip6("0048", "2b", strings.Repeat(route, 8)+"3b00 0400 00000000"),
		"IPv6 first fragment without TCP": ip6("0010", "2c", "0600 0001 00000007"+"0fa001bb 00000001"),
		"IPv6 fragment over the header":   ip6("0010", "2c", "0600 0009 00000007"+"0fa001bb 00000001"),
	} {
		var info Info
		if Parse(unhex(t, packet), &info) {
			t.Errorf("accepted %s: %+v", name, info)
		}
	}
}

func TestParseAcceptsAsManyExtensionsAsItsBound(t *testing.T) {
	packet := ip6("0040", "2b", strings.Repeat("2b00 0400 00000000", 7)+"3b00 0400 00000000")
	var info Info
	if !Parse(unhex(t, packet), &info) || info.L4 != 40+8*maxExtensions || info.Proto != 59 {
		t.Errorf("%d extension headers: %+v", maxExtensions, info)
	}
}

// A packet cut short anywhere is refused, never misread, and bytes behind it change nothing.
func TestParseDependsOnExactlyThePacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := flow{v6: rapid.Bool().Draw(t, "v6"), udp: rapid.Bool().Draw(t, "udp"), ipOptions: rapid.Bool().Draw(t, "options"),
			payload: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "payload")}
		b := f.build(t)
		var whole, padded, cut Info
		if !Parse(b, &whole) || whole.Len != len(b) || len(b)-whole.Payload != len(f.payload) {
			t.Fatalf("whole packet of %d bytes: %+v", len(b), whole)
		}
		if !Parse(append(b[:len(b):len(b)], 1, 2, 3), &padded) || padded != whole {
			t.Fatalf("with padding: %+v, want %+v", padded, whole)
		}
		if n := rapid.IntRange(0, len(b)-1).Draw(t, "n"); Parse(b[:n], &cut) {
			t.Fatalf("accepted %d of %d bytes", n, len(b))
		}
	})
}

func TestVerifyTransportNoticesEveryBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := flow{v6: rapid.Bool().Draw(t, "v6"), udp: rapid.Bool().Draw(t, "udp"),
			payload: rapid.SliceOfN(rapid.Byte(), 1, 90).Draw(t, "payload")}
		b := f.build(t)
		var info Info
		if !Parse(b, &info) || !VerifyTransport(b, &info) || !VerifyHeader(b, &info) {
			t.Fatal("a valid packet does not verify")
		}
		b[rapid.IntRange(info.Payload, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if VerifyTransport(b, &info) {
			t.Fatal("a flipped bit goes unnoticed")
		}
	})
}

func TestVerifyTransportKnowsTheSpecialCases(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		want         bool
	}{
		{"UDP without checksum over IPv4", ip4("0020", "0000", "11", udp), true},
		{"UDP without checksum over IPv6", ip6("000c", "11", udp), false},
		{"ICMP with its sum", ip4("001c", "0000", "01", "0800 e5ca 1234 0001"), true},
		{"ICMP with another", ip4("001c", "0000", "01", "0800 e5cb 1234 0001"), false},
		{"a fragment", ip4("0020", "2000", "11", udp), false},
		{"a protocol without a known sum", ip4("0014", "0000", "84", ""), false},
		{"ICMPv6 over IPv4", ip4("001c", "0000", "3a", "8000 ffff 0000 0000"), false},
		{"ICMP over IPv6", ip6("0008", "01", "0800 e5ca 1234 0001"), false},
	} {
		b := unhex(t, c.packet)
		var info Info
		if !Parse(b, &info) {
			t.Fatalf("%s: refused", c.name)
		}
		if got := VerifyTransport(b, &info); got != c.want {
			t.Errorf("%s: verified %v, want %v", c.name, got, c.want)
		}
	}
	b := unhex(t, ip6("0008", "3a", "8000 0000 1234 0001"))
	var info Info
	Parse(b, &info)
	put16(b[42:], ^Fold(Sum(b[40:], PseudoSum(info.Src, info.Dst, ProtoICMPv6, 8))))
	if !VerifyTransport(b, &info) {
		t.Error("ICMPv6 with the pseudo-header in its sum does not verify")
	}
}
