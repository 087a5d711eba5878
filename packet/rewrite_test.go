package packet

import (
	"bytes"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// A rewritten packet is, byte for byte, the one that a sender with the new addresses and ports
// would have made; rewriting back restores it.
func TestRewriteEqualsRecomputation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPacket(t)
		var info Info
		if !Parse(p, &info) {
			t.Fatalf("drew a packet that does not parse: %x", p)
		}
		src, dst := drawAddr(t, info.Version == 6, "new source"), drawAddr(t, info.Version == 6, "new destination")
		sport, dport := rapid.Uint16().Draw(t, "new source port"), rapid.Uint16().Draw(t, "new destination port")
		if IsEcho(&info) {
			dport = sport
		}
		want := bytes.Clone(p)
		n := copy(addresses(want, info.Version), src.AsSlice())
		copy(addresses(want, info.Version)[n:], dst.AsSlice())
		switch {
		case info.Proto == ProtoTCP || info.Proto == ProtoUDP:
			put16(want[info.L4:], sport)
			put16(want[info.L4+2:], dport)
		case IsEcho(&info):
			put16(want[info.L4+icmpID:], sport)
		}
		sumWhole(t, want)

		got := bytes.Clone(p)
		there := NewRewrite(&info, src, dst, sport, dport)
		there.Apply(got, &info, false)
		if !samePacket(got, want) {
			t.Fatalf("rewritten\n%x, want\n%x", got, want)
		}
		var after Info
		Parse(got, &after)
		back := NewRewrite(&after, info.Src, info.Dst, info.SrcPort, info.DstPort)
		back.Apply(got, &after, false)
		if !samePacket(got, p) {
			t.Fatalf("rewritten back\n%x, want\n%x", got, p)
		}
	})
}

// An unfinished checksum is still the sum of the pseudo-header, so that finishing it after the
// rewrite gives a right packet.
func TestRewritePartialChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPacket(t)
		var info Info
		Parse(p, &info)
		field := checksumField(&info)
		pseudo := Fold(PseudoSum(info.Src, info.Dst, info.Proto, info.Len-info.L4))
		if info.Proto == ProtoICMP {
			pseudo = 0
		}
		put16(p[info.L4+field:], pseudo)
		r := NewRewrite(&info, drawAddr(t, info.Version == 6, "new source"), drawAddr(t, info.Version == 6, "new destination"), 7, 7)
		r.Apply(p, &info, true)
		FinishChecksum(p, uint16(info.L4), uint16(field))
		if !Parse(p, &info) || !VerifyHeader(p, &info) || !VerifyTransport(p, &info) {
			t.Fatalf("finished packet is wrong: %x", p)
		}
		if info.Src != r.Src || info.Dst != r.Dst {
			t.Fatalf("packet %v → %v, want %v → %v", info.Src, info.Dst, r.Src, r.Dst)
		}
	})
}

func TestRewriteUDPChecksumZero(t *testing.T) {
	src, dst := netip.MustParseAddr("100.64.0.9"), netip.MustParseAddr("10.1.2.3")
	t.Run("none over IPv4 stays none", func(t *testing.T) {
		p := flow{udp: true, payload: []byte("data")}.build(t)
		var info Info
		Parse(p, &info)
		put16(p[info.L4+udpChecksum:], 0)
		r := NewRewrite(&info, src, dst, 1, 2)
		r.Apply(p, &info, false)
		if sum := get16(p[info.L4+udpChecksum:]); sum != 0 {
			t.Errorf("checksum %04x, want 0", sum)
		}
	})
	t.Run("computed zero is written as ffff", func(t *testing.T) {
		p := flow{udp: true, payload: make([]byte, 2)}.build(t)
		var info Info
		Parse(p, &info)
		r := NewRewrite(&info, src, dst, 1, 2)
		probe := bytes.Clone(p)
		r.Apply(probe, &info, false)
		// A payload that is the missing complement completes the sum to ffff.
		put16(p[info.Payload:], get16(probe[info.L4+udpChecksum:]))
		sumWhole(t, p)
		r.Apply(p, &info, false)
		if sum := get16(p[info.L4+udpChecksum:]); sum != 0xffff {
			t.Errorf("checksum %04x, want ffff", sum)
		}
	})
}

// An echo reply of nothing but zeros sums to zero, which is not the zero of other sums.
func TestRewriteEchoReplyToZeros(t *testing.T) {
	p := make([]byte, ip4HeaderLen+icmpHeaderLen+6)
	p[0], p[ip4Proto] = 0x45, ProtoICMP
	put16(p[ip4Length:], uint16(len(p)))
	put16(p[ip4HeaderLen+icmpID:], 1)
	sumWhole(t, p)
	var info Info
	Parse(p, &info)
	r := NewRewrite(&info, info.Src, info.Dst, 0, 0)
	r.Apply(p, &info, false)
	if sum := get16(p[ip4HeaderLen+icmpChecksum:]); sum != 0xffff || !VerifyTransport(p, &info) {
		t.Errorf("checksum %04x, want ffff", sum)
	}
}

// Both fragments of a datagram are rewritten alone; put together again they sum up.
func TestRewriteFragments(t *testing.T) {
	whole := flow{udp: true, payload: bytes.Repeat([]byte("fragment"), 8)}.build(t)
	const cut = 32 // bytes behind the IP header
	first := bytes.Clone(whole[:ip4HeaderLen+cut])
	later := append(bytes.Clone(whole[:ip4HeaderLen]), whole[ip4HeaderLen+cut:]...)
	put16(first[ip4Fragment:], ip4More)
	put16(later[ip4Fragment:], cut/8)
	var info Info
	Parse(whole, &info)
	r := NewRewrite(&info, netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("10.0.0.1"), 9999, 53)
	for _, f := range [][]byte{first, later} {
		put16(f[ip4Length:], uint16(len(f)))
		put16(f[ip4Checksum:], 0)
		put16(f[ip4Checksum:], ^slowSum(f[:ip4HeaderLen]))
		var part Info
		if !Parse(f, &part) || !part.Fragment {
			t.Fatal("test made no fragment")
		}
		r.Apply(f, &part, false)
		if !Parse(f, &part) || !VerifyHeader(f, &part) || part.Src != r.Src || part.Dst != r.Dst {
			t.Errorf("fragment is wrong: %x", f)
		}
	}
	if !bytes.Equal(later[ip4HeaderLen:], whole[ip4HeaderLen+cut:]) {
		t.Error("payload of the later fragment changed")
	}
	again := append(bytes.Clone(first), later[ip4HeaderLen:]...)
	put16(again[ip4Length:], uint16(len(again)))
	put16(again[ip4Fragment:], 0)
	if !Parse(again, &info) || !VerifyTransport(again, &info) || info.SrcPort != 9999 || info.DstPort != 53 {
		t.Errorf("reassembled packet is wrong: %x", again)
	}
}

// One rewrite of a superpacket's headers is the rewrite of all packets it stands for.
func TestRewriteSuperpacket(t *testing.T) {
	for _, f := range []flow{{}, {v6: true}, {udp: true}, {udp: true, v6: true}} {
		f.payload = make([]byte, 100)
		b := append(f.build(t), make([]byte, 450)...)
		var info Info
		Parse(b, &info)
		offset := WriteSuper(b, info.Version, info.Proto, info.L4, len(b))
		Parse(b, &info)
		src, dst := netip.MustParseAddr("10.9.8.7"), netip.MustParseAddr("10.6.5.4")
		kind := KindTCP4
		if f.v6 {
			src, dst, kind = netip.MustParseAddr("fd00::9"), netip.MustParseAddr("2001:db8::8"), KindTCP6
		}
		if f.udp {
			kind = KindUDP
		}
		r := NewRewrite(&info, src, dst, 1111, 2222)
		r.Apply(b, &info, true)
		g, ok := PlanCut(b, kind, 100, uint16(info.L4), offset)
		if !ok || g.Count() != 6 {
			t.Fatalf("%d packets, %v", g.Count(), ok)
		}
		for i := range g.Count() {
			cut := make([]byte, g.Size(i))
			g.Cut(cut, b, i)
			var part Info
			if !Parse(cut, &part) || !VerifyHeader(cut, &part) || !VerifyTransport(cut, &part) {
				t.Errorf("packet %d is wrong", i)
			}
			if part.Src != src || part.Dst != dst || part.SrcPort != 1111 || part.DstPort != 2222 {
				t.Errorf("packet %d is of flow %+v", i, part)
			}
		}
	}
}

// Protocols without ports that we know get new addresses and keep every byte of payload.
func TestRewriteOtherProtocol(t *testing.T) {
	for _, proto := range []uint8{47, 50, 132, ProtoICMPv6} {
		p := flow{payload: []byte("0123456789abcdef")}.build(t)
		p[ip4Proto] = proto
		put16(p[ip4Checksum:], 0)
		put16(p[ip4Checksum:], ^slowSum(p[:ip4HeaderLen]))
		var info Info
		Parse(p, &info)
		before := bytes.Clone(p)
		r := NewRewrite(&info, netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("5.6.7.8"), 1, 2)
		r.Apply(p, &info, false)
		if !Parse(p, &info) || !VerifyHeader(p, &info) || info.Src != r.Src || info.Dst != r.Dst {
			t.Errorf("protocol %d: %x", proto, p)
		}
		if !bytes.Equal(p[ip4HeaderLen:], before[ip4HeaderLen:]) {
			t.Errorf("protocol %d: payload changed", proto)
		}
	}
}

func TestRewriteAllocatesNothing(t *testing.T) {
	for _, f := range []flow{{}, {v6: true}, {udp: true}, {udp: true, v6: true}} {
		p := f.build(t)
		var info Info
		Parse(p, &info)
		src, dst := info.Dst, info.Src
		if n := testing.AllocsPerRun(100, func() {
			r := NewRewrite(&info, src, dst, 1, 2)
			r.Apply(p, &info, false)
		}); n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
	}
}

func BenchmarkRewrite(b *testing.B) {
	for _, c := range []struct {
		name string
		flow flow
	}{{"TCP4", flow{}}, {"TCP6", flow{v6: true}}, {"UDP4", flow{udp: true}}, {"UDP6", flow{v6: true, udp: true}}} {
		c.flow.payload = make([]byte, 1200)
		p := c.flow.build(b)
		var info Info
		Parse(p, &info)
		src, dst := info.Dst, info.Src
		var r Rewrite
		b.Run(c.name+"/NewDestination", func(b *testing.B) {
			for b.Loop() {
				r = NewRewrite(&info, info.Src, dst, 4001, 443)
			}
		})
		b.Run(c.name+"/New", func(b *testing.B) {
			for b.Loop() {
				r = NewRewrite(&info, src, dst, 4001, 443)
			}
		})
		r = NewRewrite(&info, src, dst, 4001, 443)
		b.Run(c.name+"/Apply", func(b *testing.B) {
			for b.Loop() {
				r.Apply(p, &info, false)
			}
		})
	}
}

// drawPacket draws a whole packet of TCP, UDP or ICMP with right checksums, UDP sometimes without.
func drawPacket(t *rapid.T) []byte {
	v6 := rapid.Bool().Draw(t, "IPv6")
	proto := rapid.SampledFrom([]uint8{ProtoTCP, ProtoUDP, ProtoICMP}).Draw(t, "protocol")
	payload := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "payload")
	port := rapid.Uint16()
	var h []byte
	switch proto {
	case ProtoTCP:
		options := rapid.IntRange(0, 10).Draw(t, "words of options")
		h = make([]byte, tcpHeaderLen+4*options)
		h[tcpOffset] = uint8(5+options) << 4
		h[tcpFlags] = rapid.Byte().Draw(t, "flags")
	case ProtoUDP:
		h = make([]byte, udpHeaderLen)
		put16(h[udpLength:], uint16(udpHeaderLen+len(payload)))
	case ProtoICMP:
		h = make([]byte, icmpHeaderLen)
		h[0] = rapid.SampledFrom([]byte{icmpEchoReply, icmpEchoRequest, icmpUnreachable, 13}).Draw(t, "type")
		if v6 {
			proto = ProtoICMPv6
			h[0] = rapid.SampledFrom([]byte{icmp6EchoReply, icmp6EchoRequest, icmp6TooBig, 135}).Draw(t, "type")
		}
		put16(h[icmpID:], port.Draw(t, "identifier"))
	}
	if proto == ProtoTCP || proto == ProtoUDP {
		put16(h[0:], port.Draw(t, "source port"))
		put16(h[2:], port.Draw(t, "destination port"))
	}
	src, dst := drawAddr(t, v6, "source"), drawAddr(t, v6, "destination")
	var ip []byte
	if v6 {
		ip = make([]byte, ip6HeaderLen)
		ip[0], ip[ip6Next], ip[ip6Hops] = 0x60, proto, 64
		if rapid.Bool().Draw(t, "destination options") {
			ip[ip6Next] = extDestination
			ip = append(ip, proto, 0, 1, 4, 0, 0, 0, 0)
		}
		put16(ip[ip6Length:], uint16(len(ip)-ip6HeaderLen+len(h)+len(payload)))
	} else {
		ip = make([]byte, ip4HeaderLen+4*rapid.IntRange(0, 10).Draw(t, "words of IP options"))
		ip[0], ip[ip4TTL], ip[ip4Proto] = 0x40|uint8(len(ip)/4), 64, proto
		put16(ip[ip4Length:], uint16(len(ip)+len(h)+len(payload)))
	}
	a := addresses(ip, ip[0]>>4)
	copy(a[copy(a, src.AsSlice()):], dst.AsSlice())
	p := append(append(ip, h...), payload...)
	noSum := proto == ProtoUDP && !v6 && rapid.Bool().Draw(t, "without checksum")
	if proto == ProtoUDP && !noSum {
		put16(p[len(ip)+udpChecksum:], 1) // sumWhole leaves 0 alone
	}
	sumWhole(t, p)
	return p
}

// samePacket compares packets byte for byte, but for the checksum of an ICMP echo reply without
// identifier and sequence number, where 0 and ffff are the same if both verify.
func samePacket(a, b []byte) bool {
	var info, other Info
	if bytes.Equal(a, b) {
		return true
	}
	if !Parse(a, &info) || !Parse(b, &other) || info != other || !IsEcho(&info) || info.ICMPType != icmpEchoReply || info.SrcPort != 0 {
		return false
	}
	verify := VerifyTransport(a, &info) && VerifyTransport(b, &info)
	a, b = bytes.Clone(a), bytes.Clone(b)
	put16(a[info.L4+icmpChecksum:], 0)
	put16(b[info.L4+icmpChecksum:], 0)
	return verify && bytes.Equal(a, b)
}

func drawAddr(t *rapid.T, v6 bool, label string) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label)))
	}
	return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, label)))
}

// sumWhole writes all checksums of an unfragmented packet from nothing, but leaves a UDP checksum
// of 0 over IPv4 as it is.
func sumWhole(t fataler, p []byte) {
	t.Helper()
	var info Info
	if !Parse(p, &info) {
		t.Fatalf("does not parse: %x", p)
	}
	if info.Version == 4 {
		header := p[:int(p[0]&0x0f)*4]
		put16(header[ip4Checksum:], 0)
		put16(header[ip4Checksum:], ^slowSum(header))
	}
	field := p[info.L4+checksumField(&info):]
	if info.Proto == ProtoUDP && info.Version == 4 && get16(field) == 0 {
		return
	}
	put16(field, 0)
	covered := bytes.Clone(p[info.L4:info.Len])
	if len(covered)%2 != 0 {
		covered = append(covered, 0)
	}
	if info.Proto != ProtoICMP {
		covered = append(covered, addresses(p, info.Version)...)
		covered = append(covered, 0, info.Proto, byte((info.Len-info.L4)>>8), byte(info.Len-info.L4))
	}
	sum := ^slowSum(covered)
	if sum == 0 && info.Proto == ProtoUDP {
		sum = 0xffff
	}
	put16(field, sum)
}

func checksumField(info *Info) int {
	switch info.Proto {
	case ProtoTCP:
		return tcpChecksum
	case ProtoUDP:
		return udpChecksum
	}
	return icmpChecksum
}
