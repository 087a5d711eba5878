package packet

import (
	"bytes"
	"testing"
)

// An ICMPv4 echo reply of zeros has the checksum ffff and no other: nothing is left that would make
// a sum of ffff out of 0. ICMPv6 has a pseudo-header, which is never zero.
func TestTranslateSumsAnEchoReplyOfZeros(t *testing.T) {
	for _, c := range []struct {
		name string
		rest uint32
		data []byte
		want uint16 // in IPv4
	}{
		{"nothing but a header", 0, nil, 0xffff},
		{"zeros", 0, make([]byte, 57), 0xffff},
		{"words that add up to ffff", 0, []byte{0xff, 0xf0, 0, 0x0f}, 0xffff},
		{"a sequence number", 1, nil, 0xfffe},
		{"a sequence number of ffff", 0xffff, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := icmpPacket(6, icmp6EchoReply, 0, c.rest, c.data)
			var info, to Info
			if !Parse(b, &info) {
				t.Fatal("refused by Parse")
			}
			r, dst := NewRewrite(&info, site4, peer4, 0, 0), make([]byte, MaxTranslatedHeaders)
			headers, payload, ok := r.Translate(dst, b, &info, false, 0, 1)
			if !ok {
				t.Fatal("dropped")
			}
			out := append(dst[:headers:headers], b[payload:info.Len]...)
			if !Parse(out, &to) || !VerifyTransport(out, &to) {
				t.Errorf("does not verify: %x", out)
			}
			if got := get16(out[to.L4+icmpChecksum:]); got != c.want {
				t.Errorf("checksum %04x, want %04x", got, c.want)
			}
			// And back.
			back := NewRewrite(&to, info.Src, info.Dst, 0, 0)
			dst = make([]byte, MaxTranslatedHeaders)
			headers, payload, ok = back.Translate(dst, out, &to, false, 0, 0)
			if !ok || !bytes.Equal(append(dst[ip6HeaderLen:headers:headers], out[payload:]...), b[ip6HeaderLen:]) {
				t.Errorf("came back as %x", dst[:headers])
			}
		})
	}
}
