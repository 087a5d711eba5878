package packet

import (
	"net/netip"
	"testing"
)

var (
	site4, peer4 = netip.MustParseAddr("192.0.2.33"), netip.MustParseAddr("198.51.100.2")
	site6, peer6 = netip.MustParseAddr("2001:db8:1::33"), netip.MustParseAddr("64:ff9b::c633:6402")
)

// otherFamily makes the rewrite of b's flow to the other IP version, with ports of its own.
func otherFamily(info *Info) Rewrite {
	src, dst := site6, peer6
	if info.Version == 6 {
		src, dst = site4, peer4
	}
	if IsEcho(info) {
		return NewRewrite(info, src, dst, 0x7001, 0x7001)
	}
	return NewRewrite(info, src, dst, 0x7001, info.DstPort)
}

func BenchmarkTranslate(b *testing.B) {
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"TCP4to6", flow{options: 12, payload: make([]byte, 1200)}.build(b)},
		{"TCP6to4", flow{v6: true, options: 12, payload: make([]byte, 1200)}.build(b)},
		{"UDP4to6", flow{udp: true, payload: make([]byte, 1200)}.build(b)},
		{"UDP6to4", flow{v6: true, udp: true, payload: make([]byte, 1200)}.build(b)},
		{"Echo4to6", echoPacket(4, icmpEchoRequest, make([]byte, 56))},
		{"Echo6to4", echoPacket(6, icmp6EchoRequest, make([]byte, 56))},
	} {
		b.Run(c.name, func(b *testing.B) {
			var info Info
			if !Parse(c.b, &info) {
				b.Fatal("refused")
			}
			r := otherFamily(&info)
			dst := make([]byte, MaxTranslatedHeaders)
			for b.Loop() {
				if _, _, ok := r.Translate(dst, c.b, &info, false, 0, 7); !ok {
					b.Fatal("dropped")
				}
			}
		})
	}
}

func BenchmarkTranslateError(b *testing.B) {
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"4to6", errorPacket(4, icmpUnreachable, icmpCodePort, 0, flow{udp: true, payload: make([]byte, 500)}.build(b), nil)},
		{"6to4", errorPacket(6, icmp6Unreachable, icmp6CodePort, 0, flow{v6: true, udp: true, payload: make([]byte, 1000)}.build(b), nil)},
	} {
		b.Run(c.name, func(b *testing.B) {
			var info, quoted Info
			if !Parse(c.b, &info) || !ParseQuote(c.b, &info, &quoted) {
				b.Fatal("refused")
			}
			r, outer := otherFamily(&quoted), outerFor(&info)
			dst := make([]byte, MaxTranslatedError)
			for b.Loop() {
				if _, ok := r.TranslateError(dst, c.b, &info, &quoted, &outer); !ok {
					b.Fatal("dropped")
				}
			}
		})
	}
}
