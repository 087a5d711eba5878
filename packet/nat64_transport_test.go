package packet

import (
	"bytes"
	"strings"
	"testing"
)

// RFC 7915, sections 4.2 and 5.2.
func TestTranslateTurnsEchoIntoEcho(t *testing.T) {
	for _, c := range []struct {
		name       string
		version    uint8
		kind, want uint8
	}{
		{"request 4 to 6", 4, 8, 128}, {"reply 4 to 6", 4, 0, 129},
		{"request 6 to 4", 6, 128, 8}, {"reply 6 to 4", 6, 129, 0},
	} {
		for _, data := range []string{"", "x", "abcdefgh", strings.Repeat("odd", 333)} {
			t.Run(c.name, func(t *testing.T) {
				out, ok := translate(t, echoPacket(c.version, c.kind, []byte(data)), 1)
				if !ok {
					t.Fatal("dropped")
				}
				var info Info
				Parse(out, &info)
				if info.ICMPType != c.want || info.ICMPCode != 0 || get16(out[info.L4+6:]) != 1 || string(out[info.Payload:]) != data {
					t.Errorf("became %x", out)
				}
			})
		}
	}
}

func TestTranslateWritesUnfinishedEchoChecksums(t *testing.T) {
	for _, version := range []uint8{4, 6} {
		b := echoPacket(version, map[uint8]uint8{4: 8, 6: 128}[version], []byte("data"))
		var info, to Info
		Parse(b, &info)
		put16(b[info.L4+icmpChecksum:], 0)
		if version == 6 {
			put16(b[info.L4+icmpChecksum:], slowSum(pseudo6(info.Len-info.L4, ProtoICMPv6)))
		}
		r, dst := otherFamily(&info), make([]byte, MaxTranslatedHeaders)
		headers, payload, ok := r.Translate(dst, b, &info, true, 0, 1)
		if !ok {
			t.Fatal("dropped")
		}
		out := append(dst[:headers:headers], b[payload:]...)
		Parse(out, &to)
		if !FinishChecksum(out, uint16(to.L4), icmpChecksum) || !VerifyTransport(out, &to) {
			t.Errorf("version %d: finished, it does not verify: %x", version, out)
		}
	}
}

// RFC 7915, section 4.2 and 5.2: all other ICMP goes silently.
func TestTranslateDropsICMPOtherThanEcho(t *testing.T) {
	for kind := 0; kind < 256; kind++ {
		if kind != 0 && kind != 8 {
			if _, ok := translate(t, icmpPacket(4, uint8(kind), 0, 0, make([]byte, 40)), 1); ok {
				t.Errorf("ICMPv4 type %d passes", kind)
			}
		}
		if kind != 128 && kind != 129 {
			if _, ok := translate(t, icmpPacket(6, uint8(kind), 0, 0, make([]byte, 40)), 1); ok {
				t.Errorf("ICMPv6 type %d passes", kind)
			}
		}
	}
}

// RFC 7915, section 4.5.
func TestTranslateSumsUDPThatCameWithoutChecksum(t *testing.T) {
	for _, c := range []struct{ name, packet string }{
		{"even length", ip4("0020", "4000", "11", "0fa014b4 000c 0000 01020304")},
		{"odd length", ip4("001f", "4000", "11", "0fa014b4 000b 0000 010203")},
		{"datagram that ends before its packet", ip4("0022", "4000", "11", "0fa014b4 000b 0000 010203 ffffff")},
		{"empty", ip4("001c", "4000", "11", "0fa014b4 0008 0000")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, ok := translate(t, unhex(t, c.packet), 1); !ok {
				t.Error("dropped")
			}
		})
	}
	t.Run("a sum of zero is written as ffff", func(t *testing.T) {
		b := unhex(t, ip4("001e", "4000", "11", "0fa014b4 000a 0000 0000"))
		out, ok := translate(t, b, 1)
		if !ok {
			t.Fatal("dropped")
		}
		put16(b[28:], get16(out[46:])) // adding its own checksum makes the sum zero
		if out, ok = translate(t, b, 1); !ok || get16(out[46:]) != 0xffff {
			t.Errorf("%v: %x", ok, out)
		}
	})
	t.Run("a later fragment passes", func(t *testing.T) {
		if _, ok := translate(t, unhex(t, ip4("001c", "0001", "11", "0102030405060708")), 1); !ok {
			t.Error("dropped")
		}
	})
	t.Run("no checksum in IPv6 is none in IPv4", func(t *testing.T) {
		if out, ok := translate(t, unhex(t, ip6("000c", "11", "0fa014b4 000c 0000 01020304")), 1); !ok || get16(out[26:]) != 0 {
			t.Errorf("%v: %x", ok, out)
		}
	})
}

// RFC 7915, sections 4.5 and 5.5: the checksum of a first fragment, which covers bytes of other
// fragments, changes by what the headers change.
func TestTranslatedFragmentsAddUpToTheTranslatedDatagram(t *testing.T) {
	whole := rawBetween(4, ProtoUDP, udpSegment(96), false)
	var info Info
	Parse(whole, &info)
	sum := PseudoSum(info.Src, info.Dst, ProtoUDP, 104)
	put16(whole[26:], finished(Sum(whole[20:], sum)))
	want, _ := translate(t, whole, 0)
	var got []byte
	for from := 0; from < 104; from += 48 {
		to := min(104, from+48)
		b := append(bytes.Clone(whole[:20]), whole[20+from:20+to]...)
		put16(b[ip4Length:], uint16(len(b)))
		put16(b[ip4Fragment:], uint16(from/8))
		if to < 104 {
			put16(b[ip4Fragment:], uint16(from/8)|ip4More)
		}
		Parse(whole, &info)
		var piece Info
		if !Parse(b, &piece) {
			t.Fatal("refused by Parse")
		}
		r := otherFamily(&info)
		dst := make([]byte, MaxTranslatedHeaders)
		headers, payload, ok := r.Translate(dst, b, &piece, false, 0, 0)
		if !ok {
			t.Fatal("dropped")
		}
		got = append(append(got, dst[48:headers]...), b[payload:]...)
	}
	if !bytes.Equal(got, want[40:]) {
		t.Errorf("fragments carry\n%x, want\n%x", got, want[40:])
	}
}
