package packet

import "testing"

// benchPayload is the payload of a full TCP segment at the tunnel's MTU of 1280.
const benchPayload = 1240

var sink uint64

func BenchmarkSum(b *testing.B) {
	src, dst := make([]byte, benchPayload), make([]byte, benchPayload)
	for i := range src {
		src[i] = byte(i * 7)
	}
	for _, c := range []struct {
		name string
		f    func() uint64
	}{
		{"Sum", func() uint64 { return Sum(src, 0) }},
		{"SumGeneric", func() uint64 { return addNative(0, sumGeneric(src)) }},
		{"CopySum", func() uint64 { return CopySum(dst, src, 0) }},
		{"CopySumGeneric", func() uint64 { return addNative(0, copySumGeneric(dst, src)) }},
		{"CopyOnly", func() uint64 { return uint64(copy(dst, src)) }},
		{"Sum64", func() uint64 { return Sum(src[:64], 0) }},
		{"Sum96", func() uint64 { return Sum(src[:96], 0) }},
		{"SumGeneric96", func() uint64 { return addNative(0, sumGeneric(src[:96])) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				sink += c.f()
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name string
		flow flow
	}{{"TCP4", flow{}}, {"TCP6", flow{v6: true}}, {"UDP4", flow{udp: true}}, {"UDP6", flow{v6: true, udp: true}}} {
		b.Run(c.name, func(b *testing.B) {
			c.flow.payload = make([]byte, 1200)
			packet := c.flow.build(b)
			var info Info
			for b.Loop() {
				if !Parse(packet, &info) {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkVerifyTransport(b *testing.B) {
	packet := flow{payload: make([]byte, benchPayload)}.build(b)
	var info Info
	Parse(packet, &info)
	for b.Loop() {
		if !VerifyTransport(packet, &info) {
			b.Fatal("does not verify")
		}
	}
}

// One operation plans and cuts a superpacket of 49 packets of 1280 bytes.
func BenchmarkCut(b *testing.B) {
	for _, c := range []struct {
		name    string
		flow    flow
		kind    Kind
		segment uint16
	}{
		{"TCP4", flow{options: 12}, KindTCP4, 1228},
		{"TCP6", flow{v6: true, options: 12}, KindTCP6, 1208},
		{"UDP4", flow{udp: true}, KindUDP, 1252},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.flow.payload = make([]byte, 49*int(c.segment))
			super, _ := plan(b, c.flow, c.segment)
			out := make([]byte, 49*1280)
			b.SetBytes(int64(len(out)))
			for b.Loop() {
				g, ok := PlanCut(super, c.kind, c.segment, 0, 0)
				if !ok {
					b.Fatal("no plan")
				}
				at := 0
				for i := range g.Count() {
					at += g.Cut(out[at:], super, i)
				}
				if at != len(out) {
					b.Fatalf("cut %d bytes", at)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/49, "ns/packet")
		})
	}
}
