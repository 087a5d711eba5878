package fuzz

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/packet"
)

// translateSeeds are packets that packetSeeds lacks: errors with quotes, and what only one IP
// version has.
var translateSeeds = []string{
	// UDP over IPv4 without checksum and with options.
	"4600002400070000401100006440000" + "10a000007" + "01940400" + "0fa01389000c000001020304",
	// Later fragment over IPv6, and an atomic one.
	"60000000000c2c40" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" + "1100001900000007" + "01020304",
	"6000000000142c40" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" + "1100000000000007" + "0fa01389000c000001020304",
	// Time exceeded over IPv4 about UDP; fragmentation needed about TCP.
	"450000380007000040010000" + "cb00710164400001" + "0b00" + "f88b" + "00000000" +
		"450000200007000001110000" + "644000010a000007" + "0fa01389000c0000",
	"450000380007000040010000" + "cb00710164400001" + "0304" + "ee4e" + "00000578" +
		"450005dc00074000010600006440000" + "10a000007" + "0fa001bb00000001",
	// Packet too big over IPv6 about TCP; port unreachable about UDP.
	"6000000000383a40" + "20010db800000000000000000000000a" + "fd002021111100000000000000000001" + "0200" + "c7a7" + "00000578" +
		"6000000005b40601" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" + "0fa001bb00000001",
	"6000000000383a40" + "20010db800000000000000000000000a" + "fd002021111100000000000000000001" + "0104" + "bb64" + "00000000" +
		"60000000000c1101" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" + "0fa01389000c0000",
}

var (
	translated4 = [2]netip.Addr{netip.MustParseAddr("192.0.2.33"), netip.MustParseAddr("198.51.100.2")}
	translated6 = [2]netip.Addr{netip.MustParseAddr("2001:db8:1::33"), netip.MustParseAddr("64:ff9b::c633:6402")}
)

// FuzzTranslate: whatever of the packets that Parse accepts translates to the other IP version
// becomes a packet that parses, of the length that it says, with the addresses and ports asked
// for, the same payload, and a checksum that is right where the old one was. Errors likewise, with
// the quote translated too and all checksums right.
func FuzzTranslate(f *testing.F) {
	for _, s := range append(packetSeeds, translateSeeds...) {
		f.Add(seed(f, s), uint16(0x7001), uint16(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, port, id uint16) {
		var info, quoted packet.Info
		if !packet.Parse(b, &info) {
			return
		}
		before := bytes.Clone(b)
		translateWhole(t, b, &info, port, id)
		if packet.ParseQuote(b, &info, &quoted) {
			translateQuoting(t, b, &info, &quoted, port, id)
			// An error that is only wrong in its checksum reaches further with the right one.
			summed := bytes.Clone(b)
			if sum, ok := icmpSum(summed, &info); ok {
				summed[info.L4+2], summed[info.L4+3] = byte(sum>>8), byte(sum)
				translateQuoting(t, summed, &info, &quoted, port, id)
			}
		}
		if !bytes.Equal(b, before) {
			t.Fatal("translation changed the packet")
		}
	})
}

func rewriteFor(info *packet.Info, port uint16) packet.Rewrite {
	to, other := translated6, info.DstPort
	if info.Version == 6 {
		to = translated4
	}
	if packet.IsEcho(info) {
		other = port
	}
	return packet.NewRewrite(info, to[0], to[1], port, other)
}

func translateWhole(t *testing.T, b []byte, info *packet.Info, port, id uint16) {
	r := rewriteFor(info, port)
	dst := bytes.Repeat([]byte{0xa5}, packet.MaxTranslatedHeaders)
	headers, payload, ok := r.Translate(dst, b, info, false, 0, id)
	if !ok {
		return
	}
	if payload != info.Payload || headers > packet.MaxTranslatedHeaders {
		t.Fatalf("%d headers, payload at %d, for %+v", headers, payload, info)
	}
	out := append(dst[:headers:headers], b[payload:info.Len]...)
	var to packet.Info
	if !packet.Parse(out, &to) {
		if reachesFar(b, info) {
			return
		}
		t.Fatalf("does not parse: %x from %x", out, b)
	}
	if to.Version == info.Version || to.Len != len(out) || to.Src != r.Src || to.Dst != r.Dst || to.TOS != info.TOS || to.HopLimit != info.HopLimit {
		t.Fatalf("%+v from %+v", to, info)
	}
	if to.Fragment != info.Fragment || to.FirstFragment != info.FirstFragment || to.Len-to.L4 != info.Len-info.L4 {
		t.Fatalf("%+v from %+v", to, info)
	}
	if info.Payload > info.L4 && (to.SrcPort != r.SrcPort || to.DstPort != r.DstPort) {
		t.Fatalf("ports of %+v, want %d and %d", to, r.SrcPort, r.DstPort)
	}
	if !packet.VerifyHeader(out, &to) {
		t.Fatalf("wrong header checksum: %x", out)
	}
	if packet.VerifyTransport(b, info) && !packet.VerifyTransport(out, &to) {
		t.Fatalf("a right checksum became a wrong one: %x from %x", out, b)
	}
}

func translateQuoting(t *testing.T, b []byte, info, quoted *packet.Info, port, id uint16) {
	r := rewriteFor(quoted, port)
	to, most := translated6, 1280
	if info.Version == 6 {
		to, most = translated4, 576
	}
	outer := packet.ErrorHeader{Src: to[1], Dst: to[0], MTU4: int(id), MTU6: int(port), ID: id}
	dst := bytes.Repeat([]byte{0xa5}, packet.MaxTranslatedError)
	n, ok := r.TranslateError(dst, b, info, quoted, &outer)
	if !ok {
		return
	}
	if !packet.VerifyTransport(b, info) {
		t.Fatalf("an error with a wrong checksum passes: %x", b)
	}
	out := dst[:n]
	var whole, inner packet.Info
	if n > most || !packet.Parse(out, &whole) || whole.Len != n || whole.Version == info.Version || whole.Src != to[1] || whole.Dst != to[0] {
		t.Fatalf("malformed: %x from %x", out, b)
	}
	if !packet.IsError(&whole) || !packet.VerifyHeader(out, &whole) || !packet.VerifyTransport(out, &whole) {
		t.Fatalf("no error with right checksums: %x", out)
	}
	if !packet.ParseQuote(out, &whole, &inner) {
		if reachesFar(packet.Quote(b, info), quoted) {
			return
		}
		t.Fatalf("quote does not parse: %x from %x", out, b)
	}
	if inner.Src != r.Src || inner.Dst != r.Dst || inner.Len-inner.L4 != quoted.Len-quoted.L4 || inner.TOS != quoted.TOS {
		t.Fatalf("quoted %+v becomes %+v", quoted, inner)
	}
	if ports := quoted.Proto == packet.ProtoTCP || quoted.Proto == packet.ProtoUDP || packet.IsEcho(quoted); ports && (inner.SrcPort != r.SrcPort || inner.DstPort != r.DstPort) {
		t.Fatalf("quoted ports %+v, want %d and %d", inner, r.SrcPort, r.DstPort)
	}
	if !packet.VerifyHeader(packet.Quote(out, &whole), &inner) {
		t.Fatalf("wrong header checksum in the quote: %x", out)
	}
}

// reachesFar reports whether b is a fragment that in IPv6 ends where Parse, which counts the IPv6
// header in, no longer likes it, though hosts do.
func reachesFar(b []byte, info *packet.Info) bool {
	if info.Version != 4 || !info.Fragment {
		return false
	}
	offset := (int(b[6])&0x1f<<8 | int(b[7])) * 8
	return offset+info.Len-info.L4+48 > 65535
}

// icmpSum returns the checksum that the ICMP message in b ought to have.
func icmpSum(b []byte, info *packet.Info) (uint16, bool) {
	message := bytes.Clone(b[info.L4:info.Len])
	message[2], message[3] = 0, 0
	if info.Version == 4 {
		return ^packet.Fold(packet.Sum(message, 0)), info.Proto == packet.ProtoICMP
	}
	pseudo := packet.PseudoSum(info.Src, info.Dst, packet.ProtoICMPv6, len(message))
	return ^packet.Fold(packet.Sum(message, pseudo)), info.Proto == packet.ProtoICMPv6
}
