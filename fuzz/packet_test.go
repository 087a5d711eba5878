package fuzz

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/packet"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// packetSeeds are well-formed packets of the shapes that Parse tells apart.
var packetSeeds = []string{
	// TCP over IPv4 with four bytes of payload.
	"452a002c000740003d06000064400001c00002070fa001bb0000000100000002501801f50000000001020304",
	// UDP over IPv4.
	"450000200007000040110000644000010a0000070fa01389000c000001020304",
	// ICMP echo over IPv4.
	"4500001c00070000400100006440000108080808080000001234" + "0001",
	// First and later fragment over IPv4.
	"4500001c0007200040110000644000010a0000070fa013890100" + "0000",
	"450000180007000340110000644000010a000007deadbeef",
	// TCP over IPv6.
	"60000000001806" + "40" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" + "0fa001bb0000000100000002501801f50000000001020304",
	// UDP over IPv6 behind hop-by-hop, destination and fragment headers.
	"600000000024" + "00" + "40" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" +
		"3c00010400000000" + "2c00010400000000" + "1100000000000007" + "0fa01389000c000001020304",
	// ICMPv6 echo.
	"60000000" + "0008" + "3a" + "40" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" + "8000000012340001",
}

// FuzzParse: offsets lie inside the packet, in order; bytes behind the packet change nothing; and
// where gopacket finds a transport header in an unfragmented packet, both agree on addresses and
// ports.
func FuzzParse(f *testing.F) {
	for _, s := range packetSeeds {
		f.Add(seed(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var info, again packet.Info
		if !packet.Parse(b, &info) {
			return
		}
		if info.L4 < 20 || info.Payload < info.L4 || info.Len < info.Payload || len(b) < info.Len {
			t.Fatalf("offsets out of order in %d bytes: %+v", len(b), info)
		}
		if info.FirstFragment && !info.Fragment {
			t.Fatalf("first fragment that is none: %+v", info)
		}
		if !packet.Parse(b[:info.Len:info.Len], &again) || again != info {
			t.Fatalf("padding matters: %+v with, %+v without", info, again)
		}
		packet.VerifyHeader(b, &info)
		packet.VerifyTransport(b, &info)
		if !info.Fragment {
			agree(t, b[:info.Len], &info)
		}
	})
}

// FuzzCut: whatever the superpacket and the numbers beside it, a plan that is accepted cuts into
// packets of the promised sizes that parse, belong to the same flow, sum up, and carry the payload
// piece by piece.
func FuzzCut(f *testing.F) {
	for _, s := range packetSeeds {
		b := seed(f, s)
		for kind := packet.KindNone; kind <= packet.KindUDP; kind++ {
			f.Add(b, uint8(kind), uint16(3), uint16(0), uint16(0))
		}
		f.Add(b, uint8(packet.KindNone), uint16(0), uint16(20), uint16(6))
		f.Add(b, uint8(packet.KindTCP6), uint16(1), uint16(40), uint16(16))
	}
	f.Fuzz(func(t *testing.T, super []byte, kind uint8, segment, csumStart, csumOffset uint16) {
		g, ok := packet.PlanCut(super, packet.Kind(kind), segment, csumStart, csumOffset)
		if !ok {
			return
		}
		var whole packet.Info
		if !packet.Parse(super, &whole) {
			t.Fatal("a plan for a packet that does not parse")
		}
		before := bytes.Clone(super)
		payload := before[whole.Payload:whole.Len]
		for i := range g.Count() {
			b := bytes.Repeat([]byte{0xa5}, g.Size(i)+1)
			n := g.Cut(b, super, i)
			if n != g.Size(i) || n > whole.Len || b[n] != 0xa5 {
				t.Fatalf("packet %d: wrote %d of %d bytes", i, n, g.Size(i))
			}
			var info packet.Info
			if !packet.Parse(b[:n], &info) || info.Len != n {
				t.Fatalf("packet %d does not parse: %x", i, b[:n])
			}
			if info.Src != whole.Src || info.Dst != whole.Dst || info.Proto != whole.Proto || info.SrcPort != whole.SrcPort || info.DstPort != whole.DstPort {
				t.Fatalf("packet %d is of another flow: %+v, want %+v", i, info, whole)
			}
			if packet.Kind(kind) == packet.KindNone {
				continue
			}
			if !packet.VerifyHeader(b[:n], &info) || !packet.VerifyTransport(b[:n], &info) {
				t.Fatalf("packet %d of %d does not sum up: %x", i, g.Count(), b[:n])
			}
			piece := b[info.Payload:n]
			if !bytes.HasPrefix(payload, piece) {
				t.Fatalf("packet %d carries other bytes", i)
			}
			payload = payload[len(piece):]
		}
		if packet.Kind(kind) != packet.KindNone && len(payload) != 0 {
			t.Fatalf("%d bytes of payload are in no packet", len(payload))
		}
		if !bytes.Equal(super, before) {
			t.Fatal("cutting changed the superpacket")
		}
	})
}

// agree compares what Parse found with what gopacket finds.
func agree(t *testing.T, b []byte, info *packet.Info) {
	first := layers.LayerTypeIPv4
	if info.Version == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	n := p.NetworkLayer()
	if n == nil {
		return
	}
	src, _ := netip.AddrFromSlice(n.NetworkFlow().Src().Raw())
	dst, _ := netip.AddrFromSlice(n.NetworkFlow().Dst().Raw())
	if src != info.Src || dst != info.Dst {
		t.Fatalf("gopacket reads %v → %v, Parse %v → %v", src, dst, info.Src, info.Dst)
	}
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		if info.Proto == packet.ProtoTCP && (uint16(l.SrcPort) != info.SrcPort || uint16(l.DstPort) != info.DstPort) {
			t.Fatalf("gopacket reads TCP ports %d → %d, Parse %d → %d", l.SrcPort, l.DstPort, info.SrcPort, info.DstPort)
		}
	case *layers.UDP:
		if info.Proto == packet.ProtoUDP && (uint16(l.SrcPort) != info.SrcPort || uint16(l.DstPort) != info.DstPort) {
			t.Fatalf("gopacket reads UDP ports %d → %d, Parse %d → %d", l.SrcPort, l.DstPort, info.SrcPort, info.DstPort)
		}
	}
}

func seed(f *testing.F, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		f.Fatal(err)
	}
	return b
}
