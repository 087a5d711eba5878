package packet

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

func TestMayFragmentReadsTheFlag(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"IPv4 with the flag", rawBetween(4, 132, nil, true), false},
		{"IPv4 without", rawBetween(4, 132, nil, false), true},
		{"IPv6 has no such packets", rawPacket(6, 132, nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var info Info
			if !Parse(c.b, &info) || MayFragment(c.b, &info) != c.want {
				t.Errorf("says %v", !c.want)
			}
		})
	}
}

// RFC 7915, section 4: put together again, the fragments are the translated packet, or the part of a
// packet that it was.
func TestCutFragmentsAddUpToThePacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rawBetween(4, ProtoUDP, udpSegment(rapid.IntRange(0, 6000).Draw(t, "payload")), false)
		for i := 28; i < len(b); i++ {
			b[i] = byte(i * 13 >> 3)
		}
		base := 0
		if rapid.Bool().Draw(t, "of a fragment") {
			base = rapid.IntRange(1, 4000).Draw(t, "offset")
			put16(b[ip4Fragment:], uint16(base)|uint16(rapid.IntRange(0, 1).Draw(t, "more"))<<13)
		}
		limit := rapid.IntRange(1280, 1500).Draw(t, "limit")
		var info Info
		if !Parse(b, &info) {
			t.Fatal("refused by Parse")
		}
		r, dst := otherFamily(&info), make([]byte, MaxTranslatedHeaders)
		headers, payload, ok := r.Translate(dst, b, &info, false, 0, 0)
		if !ok {
			t.Fatal("dropped")
		}
		whole := append(bytes.Clone(dst[:headers]), b[payload:]...)
		part := whole[ip6HeaderLen:]
		if base > 0 {
			part = part[fragmentHeaderLen:]
		}
		lastMore := get16(b[ip4Fragment:]) >> 13
		var joined []byte
		for from, last := 0, false; !last; {
			out := bytes.Repeat([]byte{0xa5}, limit+4)
			n, next := CutFragment(out, dst[:headers], b[payload:], from, limit, 0x1234)
			if n > limit || !bytes.Equal(out[n:][:4], []byte{0xa5, 0xa5, 0xa5, 0xa5}) {
				t.Fatalf("wrote more than %d bytes, says %d", limit, n)
			}
			out = out[:n]
			var piece Info
			if !Parse(out, &piece) || piece.Len != n || piece.Src != r.Src || piece.Dst != r.Dst || piece.TOS != info.TOS || piece.HopLimit != info.HopLimit || piece.Proto != ProtoUDP {
				t.Fatalf("fragment is malformed: %+v", piece)
			}
			last = next == 0
			more := uint16(1)
			if last {
				more = lastMore
			}
			f := out[ip6HeaderLen:]
			if at := get16(f[fragmentOffset:]); at != uint16(base*8+len(joined))|more {
				t.Fatalf("offset %#x with %d bytes before it", at, len(joined))
			}
			if id := binary.BigEndian.Uint32(f[fragmentID:]); id != 0x1234 {
				t.Fatalf("identification %#x", id)
			}
			if !last && (n-48)%8 != 0 {
				t.Fatalf("a fragment that is not the last carries %d bytes", n-48)
			}
			if !last && next != from+n-48 {
				t.Fatalf("next is %d after %d bytes from %d", next, n-48, from)
			}
			joined = append(joined, f[fragmentHeaderLen:]...)
			from = next
		}
		if !bytes.Equal(joined, part) {
			t.Fatal("the fragments are not the packet")
		}
	})
}

func TestCutFragmentRefusesToReachPastTheLongestPacket(t *testing.T) {
	b := rawBetween(4, ProtoUDP, make([]byte, 2000), false)
	put16(b[ip4Fragment:], (65515-2000)/8)
	var info Info
	if !Parse(b, &info) {
		t.Fatal("refused by Parse")
	}
	r, dst, out := otherFamily(&info), make([]byte, MaxTranslatedHeaders), make([]byte, 1280)
	headers, payload, _ := r.Translate(dst, b, &info, false, 0, 0)
	n, next := CutFragment(out, dst[:headers], b[payload:], 0, 1280, 0)
	if n == 0 || next == 0 {
		t.Fatal("the longest datagram is refused")
	}
	if n, next = CutFragment(out, dst[:headers], b[payload:], next, 1280, 0); n == 0 || next != 0 {
		t.Error("the end of the longest datagram is refused")
	}
	put16(dst[ip6HeaderLen+fragmentOffset:], 0xfff8)
	if n, _ = CutFragment(out, dst[:headers], b[payload:], 0, 1280, 0); n != 0 {
		t.Error("a fragment past the longest packet passes")
	}
}
