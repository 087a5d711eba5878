package packet

import (
	"bytes"
	"testing"
)

// translate returns the packet that Translate makes of b for the flow's usual rewrite, and checks
// what holds for all: nothing written behind the headers, b as it was, the result well-formed with
// right checksums, ports and addresses.
func translate(t fataler, b []byte, id uint16) ([]byte, bool) {
	t.Helper()
	var info Info
	if !Parse(b, &info) {
		t.Fatalf("refused by Parse: %x", b)
	}
	r := otherFamily(&info)
	dst, before := bytes.Repeat([]byte{0xa5}, MaxTranslatedHeaders+4), bytes.Clone(b)
	headers, payload, ok := r.Translate(dst, b, &info, false, 0, id)
	if !bytes.Equal(b, before) {
		t.Fatal("the packet was written to")
	}
	if !ok {
		return nil, false
	}
	if !bytes.Equal(dst[headers:][:4], []byte{0xa5, 0xa5, 0xa5, 0xa5}) {
		t.Fatalf("wrote behind %d bytes of headers: %x", headers, dst)
	}
	out := append(dst[:headers:headers], b[payload:info.Len]...)
	checkTranslated(t, out, &info, &r)
	return out, true
}

func checkTranslated(t fataler, out []byte, from *Info, r *Rewrite) {
	t.Helper()
	var to Info
	if !Parse(out, &to) || to.Len != len(out) {
		t.Fatalf("the result does not parse as %d bytes: %x", len(out), out)
	}
	if to.Version == from.Version || to.Src != r.Src || to.Dst != r.Dst || to.TOS != from.TOS || to.HopLimit != from.HopLimit {
		t.Fatalf("translated %+v to %+v", from, to)
	}
	if to.Fragment != from.Fragment || to.FirstFragment != from.FirstFragment {
		t.Fatalf("fragment %v becomes %v", from.Fragment, to.Fragment)
	}
	if !VerifyHeader(out, &to) {
		t.Fatalf("wrong header checksum: %x", out)
	}
	if from.Payload == from.L4 {
		return
	}
	if to.SrcPort != r.SrcPort || to.DstPort != r.DstPort {
		t.Fatalf("ports %d, %d, want %d, %d", to.SrcPort, to.DstPort, r.SrcPort, r.DstPort)
	}
	if !to.Fragment && !VerifyTransport(out, &to) {
		t.Fatalf("wrong transport checksum: %x", out)
	}
}

const (
	datagram = "0fa014b4 000c 26d2 01020304" // a right checksum between neither pair of addresses
	site6Hex = "20010db8000100000000000000000033"
	peer6Hex = "0064ff9b0000000000000000c6336402"
	site4Hex = "c0000221"
	peer4Hex = "c6336402"
)

// shape leaves out of a packet what the tables do not spell out: checksums and all behind the IP
// and fragment headers.
func shape(b []byte) []byte {
	b = bytes.Clone(b)
	if b[0]>>4 == 4 {
		put16(b[ip4Checksum:], 0)
		return b[:ip4HeaderLen]
	}
	if b[ip6Next] == extFragment {
		return b[:ip6HeaderLen+fragmentHeaderLen]
	}
	return b[:ip6HeaderLen]
}

// RFC 7915, sections 4.1 and 5.1.
func TestTranslateWritesHeadersByTheRFC(t *testing.T) {
	// Inputs are headers around a UDP datagram; flows have no checksum that would verify, so these
	// compare headers only. Identification given: 0x7777.
	hop, dest, routing := func(next string) string { return next + "00 0104 00000000" },
		func(next string) string { return next + "00 0104 00000000" },
		func(next string) string { return next + "00 0000 00000000" }
	to6 := func(tos, length, next, hops string) string {
		return "6" + tos + "00000" + length + next + hops + site6Hex + peer6Hex
	}
	to4 := func(length, id, flags, proto string) string {
		return "452a" + length + id + flags + "3d" + proto + "0000" + site4Hex + peer4Hex
	}
	for _, c := range []struct{ name, packet, want string }{
		{"4 to 6: flow label is zero, type of service, time to live and addresses move",
			ip4("0020", "4000", "11", datagram), to6("2a", "000c", "11", "3d")},
		{"4 to 6: an unfragmented packet gets no fragment header though routers may fragment it",
			ip4("0020", "0000", "11", datagram), to6("2a", "000c", "11", "3d")},
		{"4 to 6: options are left out",
			"47 ff 0028 0007 4000 ff 11 0000" + src4 + dst4 + "01 94 04 00 00 00 00 00" + datagram, to6("ff", "000c", "11", "ff")},
		{"4 to 6: a source route that is used up is left out",
			"47 00 0028 0007 4000 01 11 0000" + src4 + dst4 + "83 07 08 c0000201 00" + datagram, to6("00", "000c", "11", "01")},
		{"4 to 6: the first fragment gets a fragment header with the identification in the low bits",
			ip4("0020", "2000", "11", "0fa014b4 1000 26d2 01020304"), to6("2a", "0014", "2c", "3d") + "11 00 0001 00000007"},
		{"4 to 6: a later fragment keeps its offset and more flag",
			ip4("001c", "2003", "11", "0102030405060708"), to6("2a", "0010", "2c", "3d") + "11 00 0019 00000007"},
		{"4 to 6: the last fragment has no more flag",
			ip4("0018", "0100", "11", "01020304"), to6("2a", "000c", "2c", "3d") + "11 00 0800 00000007"},
		{"4 to 6: other protocols are copied",
			ip4("0018", "4000", "84", "01020304"), to6("2a", "0004", "84", "3d")},

		{"6 to 4: no options, all bits of the traffic class, an identification, fragmentable",
			ip6("000c", "11", datagram), to4("0020", "7777", "0000", "11")},
		{"6 to 4: hop-by-hop, routing and destination headers are left out",
			ip6("0024", "00", hop("3c")+dest("2b")+routing("11")+datagram), to4("0020", "7777", "0000", "11")},
		{"6 to 4: the first fragment brings the low bits of its identification",
			ip6("0014", "2c", "11 00 0001 abcd0007 0fa014b4 1000 26d2 01020304"), to4("0020", "0007", "2000", "11")},
		{"6 to 4: a later fragment keeps offset and more flag and may be fragmented further",
			ip6("0010", "2c", "11 00 0019 abcd0007 0102030405060708"), to4("001c", "0007", "2003", "11")},
		{"6 to 4: the last fragment has no more flag",
			ip6("000c", "2c", "11 00 0018 abcd0007 01020304"), to4("0018", "0007", "0003", "11")},
		{"6 to 4: an atomic fragment becomes a whole packet with its identification",
			ip6("0014", "2c", "11 00 0000 abcd0007"+datagram), to4("0020", "0007", "0000", "11")},
		{"6 to 4: fragments behind a hop-by-hop header",
			ip6("0018", "00", hop("2c")+"11 00 0019 abcd0007 0102030405060708"), to4("001c", "0007", "2003", "11")},
		{"6 to 4: other protocols are copied",
			ip6("0004", "84", "01020304"), to4("0018", "7777", "0000", "84")},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.packet)
			var info Info
			if !Parse(b, &info) {
				t.Fatal("refused by Parse")
			}
			r := otherFamily(&info)
			dst := make([]byte, MaxTranslatedHeaders)
			headers, payload, ok := r.Translate(dst, b, &info, false, 0, 0x7777)
			if !ok {
				t.Fatal("dropped")
			}
			out := append(dst[:headers:headers], b[payload:info.Len]...)
			if want := unhex(t, c.want); !bytes.Equal(shape(out), want) {
				t.Errorf("wrote\n%x, want\n%x", shape(out), want)
			}
			var to Info
			if !Parse(out, &to) || !VerifyHeader(out, &to) {
				t.Errorf("the result is malformed: %x", out)
			}
		})
	}
}

func TestTranslateRefusesWhatHasNoCounterpart(t *testing.T) {
	for _, c := range []struct{ name, packet string }{
		{"IGMP", ip4("001c", "4000", "02", "1600 0000 e0000001")},
		{"ICMPv6 in IPv4", ip4("001c", "4000", "3a", "8000 0000 12340001")},
		{"fragment of an echo in IPv4", ip4("001c", "2000", "01", "0800 0000 12340001")},
		{"later fragment of an echo in IPv4", ip4("001c", "0001", "01", "0800 0000 12340001")},
		{"hop-by-hop header in IPv4", ip4("001c", "4000", "00", "1100 0104 00000000")},
		{"routing header in IPv4", ip4("001c", "4000", "2b", "1100 0001 00000000")},
		{"fragment header in IPv4", ip4("001c", "4000", "2c", "1100 0001 00000000")},
		{"destination header in IPv4", ip4("001c", "4000", "3c", "1100 0104 00000000")},
		{"authentication header in IPv4", ip4("0020", "4000", "33", "1101 0000 00000001 00000001")},
		{"mobility header in IPv4", ip4("001c", "4000", "87", "3b00 0000 00000000")},
		{"UDP without checksum in a first fragment", ip4("0020", "2000", "11", "0fa014b4 1000 0000 01020304")},
		{"ICMPv4 in IPv6", ip6("0008", "01", "0800 0000 12340001")},
		{"IGMP in IPv6", ip6("0008", "02", "1600 0000 e0000001")},
		{"atomic fragment before an extension header", ip6("001c", "2c", "3c000000abcd0007 1100010400000000"+datagram)},
		{"first fragment before an extension header", ip6("001c", "2c", "3c000001abcd0007 1100010400000000"+datagram)},
		{"later fragment of an extension header", ip6("0010", "2c", "3c000019abcd0007 0102030405060708")},
		{"fragment of an echo in IPv6", ip6("0010", "2c", "3a000001abcd0007 8000 0000 12340001")},
		{"authentication header in IPv6", ip6("0018", "33", "1101 0000 00000001 00000001"+datagram)},
		{"mobility header in IPv6", ip6("0014", "87", "1100 0000 00000000"+datagram)},
		{"host identity header in IPv6", ip6("0014", "8b", "1100 0000 00000000"+datagram)},
		{"shim6 header in IPv6", ip6("0014", "8c", "1100 0000 00000000"+datagram)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, ok := translate(t, unhex(t, c.packet), 1); ok {
				t.Errorf("translated to %x", out)
			}
		})
	}
}

// RFC 7915, sections 4.1 and 5.1: all protocols that mean the same in both versions pass, ESP (50)
// and tunnels (4, 41, 47) among them, with their bytes as they are.
func TestTranslateCopiesOtherProtocols(t *testing.T) {
	refused := map[int]bool{0: true, 1: true, 2: true, 43: true, 44: true, 51: true, 58: true, 60: true, 135: true, 139: true, 140: true}
	segment := []byte("sixteen bytes at least, and then some more of them")
	for _, version := range []uint8{4, 6} {
		for proto := range 256 {
			if proto == ProtoTCP || proto == ProtoUDP || refused[proto] {
				continue
			}
			out, ok := translate(t, rawPacket(version, uint8(proto), segment), 1)
			if !ok {
				t.Errorf("protocol %d in IPv%d is dropped", proto, version)
				continue
			}
			var info Info
			Parse(out, &info)
			if int(info.Proto) != proto || !bytes.Equal(out[info.L4:], segment) {
				t.Errorf("protocol %d in IPv%d becomes %x", proto, version, out)
			}
		}
	}
}

// RFC 7915, sections 4.1 and 5.1: a source route with way to go is never translated.
func TestSourceRoutesWithWayToGoNeverReachTranslate(t *testing.T) {
	for name, packet := range map[string]string{
		"loose source route":  "47 00 0028 0007 4000 01 11 0000" + src4 + dst4 + "83 07 04 c0000201 00" + datagram,
		"strict source route": "47 00 0028 0007 4000 01 11 0000" + src4 + dst4 + "89 07 04 c0000201 00" + datagram,
		"routing header":      ip6("0014", "2b", "1100 0001 00000000"+datagram),
	} {
		t.Run(name, func(t *testing.T) {
			var info Info
			if Parse(unhex(t, packet), &info) {
				t.Error("Parse lets it through")
			}
		})
	}
}

// RFC 7915, section 5.1: fragmentable up to 1,260 bytes, by the length after translation.
func TestTranslateLetsRoutersFragmentPacketsUpTo1260Bytes(t *testing.T) {
	extension := unhex(t, "11 00 0104 00000000")
	for _, c := range []struct {
		name    string
		packet  []byte
		segment int
		flags   uint16
	}{
		{"1260 bytes", rawPacket(6, 132, make([]byte, 1240)), 0, 0},
		{"1261 bytes", rawPacket(6, 132, make([]byte, 1241)), 0, ip4DontFragment},
		{"1260 bytes that were more before", rawPacket(6, extDestination, append(extension, udpSegment(1232)...)), 0, 0},
		{"superpacket of 1260 bytes each", flow{v6: true, payload: make([]byte, 9000)}.build(t), 1220, 0},
		{"superpacket of 1261 bytes each", flow{v6: true, payload: make([]byte, 9000)}.build(t), 1221, ip4DontFragment},
		{"superpacket with a single short packet", flow{v6: true, payload: make([]byte, 100)}.build(t), 1400, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var info Info
			if !Parse(c.packet, &info) {
				t.Fatal("refused by Parse")
			}
			r, dst := otherFamily(&info), make([]byte, MaxTranslatedHeaders)
			if _, _, ok := r.Translate(dst, c.packet, &info, c.segment > 0, c.segment, 1); !ok {
				t.Fatal("dropped")
			}
			if flags := get16(dst[ip4Fragment:]); flags != c.flags {
				t.Errorf("flags and offset %#x, want %#x", flags, c.flags)
			}
		})
	}
}

// udpSegment is a UDP datagram with a payload of n zeros and no checksum.
func udpSegment(n int) []byte {
	b := make([]byte, udpHeaderLen+n)
	copy(b, "\x0f\xa0\x14\xb4")
	put16(b[udpLength:], uint16(len(b)))
	return b
}

func TestTranslateRefusesPacketsTooLongForTheOtherVersion(t *testing.T) {
	if _, ok := translate(t, rawPacket(6, 132, make([]byte, 65515)), 1); !ok {
		t.Error("a packet of 65,535 bytes in IPv4 is dropped")
	}
	if _, ok := translate(t, rawPacket(6, 132, make([]byte, 65516)), 1); ok {
		t.Error("a packet of 65,536 bytes in IPv4 passes")
	}
	if _, ok := translate(t, rawPacket(4, 132, make([]byte, 65515)), 1); !ok {
		t.Error("the longest IPv4 packet is dropped")
	}
}

// The largest datagram in IPv4 has fragments that reach further than Parse likes in IPv6; hosts put
// them together.
func TestTranslateCarriesTheLastFragmentOfTheLongestDatagram(t *testing.T) {
	b := rawBetween(4, ProtoUDP, make([]byte, 35), false)
	put16(b[ip4Fragment:], (65515-35)/8)
	var info Info
	if !Parse(b, &info) {
		t.Fatal("refused by Parse")
	}
	r, dst := otherFamily(&info), make([]byte, MaxTranslatedHeaders)
	headers, payload, ok := r.Translate(dst, b, &info, false, 0, 0)
	if !ok || headers != 48 || payload != 20 || get16(dst[ip6HeaderLen+fragmentOffset:]) != 65480 {
		t.Errorf("%v, %d headers, payload at %d: %x", ok, headers, payload, dst[:48])
	}
}

func TestTranslateRefusesARewriteWithinTheFamily(t *testing.T) {
	for _, b := range [][]byte{flow{}.build(t), flow{v6: true}.build(t)} {
		var info Info
		Parse(b, &info)
		r := NewRewrite(&info, info.Src, info.Dst, 1, 2)
		if _, _, ok := r.Translate(make([]byte, MaxTranslatedHeaders), b, &info, false, 0, 1); ok {
			t.Errorf("translated version %d to itself", info.Version)
		}
	}
}
