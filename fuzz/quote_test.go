package fuzz

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/packet"
)

// quoteSeeds are ICMP errors about the packets of packetSeeds.
var quoteSeeds = []string{
	// Destination unreachable about TCP over IPv4, 8 bytes behind the header.
	"450000380000400040010000" + "c633640164400001" + "0301" + "0000" + "00000000" +
		"452a002c000740003d06000064400001c0000207" + "0fa001bb00000001",
	// Too big about UDP over IPv4, with an MTU and 3 bytes of the header only.
	"450000330000400040010000" + "c633640164400001" + "0304" + "0000" + "00000500" +
		"45000020000700004011000064400001" + "0a000007" + "0fa013",
	// Time exceeded about an echo.
	"450000380000400040010000" + "c633640164400001" + "0b00" + "0000" + "00000000" +
		"4500001c00070000400100006440000108080808" + "0800000012340001",
	// An error about an error.
	"450000380000400040010000" + "c633640164400001" + "0301" + "0000" + "00000000" +
		"4500001c00070000400100006440000108080808" + "0301000000000000",
	// ICMPv6 too big about UDP behind extension headers.
	"60000000" + "0054" + "3a" + "40" + "20010db8ffff00000000000000000001" + "fd002021111100000000000000000001" + "0200000000000500" +
		"600000000024" + "00" + "40" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" +
		"3c00010400000000" + "2c00010400000000" + "1100000000000007" + "0fa01389",
	// ICMPv6 time exceeded about TCP, with a length attribute that points past the end.
	"60000000" + "0044" + "3a" + "40" + "20010db8ffff00000000000000000001" + "fd002021111100000000000000000001" + "03000000ff000000" +
		"60000000001806" + "40" + "fd002021111100000000000000000001" + "20010db8000000000000000000000007" + "0fa001bb0000000100000002501801f5",
}

// FuzzQuote: what ParseQuote accepts lies inside the quote and names a flow; its NAT is a whole
// error that sums up, quotes the rewritten flow and can be undone.
func FuzzQuote(f *testing.F) {
	for _, s := range quoteSeeds {
		f.Add(seed(f, s), uint16(4711))
	}
	for _, s := range packetSeeds {
		f.Add(seed(f, s), uint16(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, port uint16) {
		var info, quoted packet.Info
		if !packet.Parse(b, &info) || !packet.ParseQuote(b, &info, &quoted) {
			return
		}
		q := packet.Quote(b, &info)
		if quoted.Version != info.Version || quoted.L4 < 20 || quoted.L4 > len(q) || quoted.Payload < quoted.L4 || quoted.Payload > len(q) || quoted.Len < quoted.L4 {
			t.Fatalf("offsets out of order in a quote of %d bytes: %+v", len(q), quoted)
		}
		if !packet.IsError(&info) || packet.IsError(&quoted) || quoted.Fragment && !quoted.FirstFragment {
			t.Fatalf("%+v quotes %+v", info, quoted)
		}
		src, dst := other(&info)
		inner := packet.NewRewrite(&quoted, dst, src, port, port)
		out := make([]byte, len(b))
		n, ok := packet.RewriteError(out, b, &info, &quoted, src, dst, &inner, packet.ErrorHopLimit)
		if ok != packet.VerifyTransport(b, &info) {
			t.Fatalf("rewritten: %v", ok)
		}
		if !ok { // once more, with a right checksum
			b = summed(b, &info)
			if n, ok = packet.RewriteError(out, b, &info, &quoted, src, dst, &inner, packet.ErrorHopLimit); !ok {
				t.Fatalf("refused: %x", b)
			}
		}
		checkRewritten(t, b, out[:n], &info, &quoted, &inner)
	})
}

func checkRewritten(t *testing.T, b, out []byte, info, quoted *packet.Info, inner *packet.Rewrite) {
	var after, again packet.Info
	if !packet.Parse(out, &after) || after.Len != len(out) || !packet.VerifyHeader(out, &after) || !packet.VerifyTransport(out, &after) {
		t.Fatalf("new error is wrong: %x", out)
	}
	if after.ICMPType != info.ICMPType || after.ICMPCode != info.ICMPCode || !packet.ParseQuote(out, &after, &again) {
		t.Fatalf("%x became %x", b, out)
	}
	want := *quoted
	want.Src, want.Dst = inner.Src, inner.Dst
	if quoted.Proto == packet.ProtoTCP || quoted.Proto == packet.ProtoUDP || packet.IsEcho(quoted) {
		want.SrcPort, want.DstPort = inner.SrcPort, inner.DstPort
	}
	if again != want {
		t.Fatalf("new quote %+v, want %+v", again, want)
	}
	restore := packet.NewRewrite(&again, quoted.Src, quoted.Dst, quoted.SrcPort, quoted.DstPort)
	back := make([]byte, len(out))
	n, ok := packet.RewriteError(back, out, &after, &again, after.Src, after.Dst, &restore, after.HopLimit)
	if !ok || n != len(out) {
		t.Fatal("cannot be undone")
	}
	before, restored := packet.Quote(b, info), packet.Quote(back, &after)
	if !sameButForZeros(before, restored) {
		t.Fatalf("undone\n%x, want\n%x", restored, before)
	}
}

// FuzzRewrite: the rewrite of any packet stays in its headers, keeps right checksums right, and
// can be undone; clamping does as well; and an error about it, where there may be one, is whole.
func FuzzRewrite(f *testing.F) {
	for _, s := range append(packetSeeds, quoteSeeds...) {
		f.Add(seed(f, s), uint16(4711), false)
		f.Add(seed(f, s), uint16(0), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, port uint16, partial bool) {
		var info, after packet.Info
		if !packet.Parse(b, &info) {
			return
		}
		if port%2 != 0 {
			b = summed(b, &info)
		}
		src, dst := other(&info)
		there := packet.NewRewrite(&info, src, dst, port, port)
		got := bytes.Clone(b)
		there.Apply(got, &info, partial)
		if !packet.Parse(got, &after) || after.Src != src || after.Dst != dst || after.Len != info.Len || after.Payload != info.Payload {
			t.Fatalf("%x became %x", b, got)
		}
		if !bytes.Equal(got[info.Payload:], b[info.Payload:]) {
			t.Fatal("payload changed")
		}
		if packet.VerifyHeader(b, &info) != packet.VerifyHeader(got, &after) {
			t.Fatal("the header checksum became wrong, or right")
		}
		if !partial && packet.VerifyTransport(b, &info) && !packet.VerifyTransport(got, &after) {
			t.Fatalf("the transport checksum became wrong: %x, %x", b, got)
		}
		back := packet.NewRewrite(&after, info.Src, info.Dst, info.SrcPort, info.DstPort)
		back.Apply(got, &after, partial)
		if !sameButForZeros(b, got) {
			t.Fatalf("undone\n%x, want\n%x", got, b)
		}
		copy(got, b)
		right := packet.VerifyTransport(got, &info)
		packet.ClampMSS(got, &info, port, false)
		if right && !packet.VerifyTransport(got, &info) {
			t.Fatalf("clamping broke the checksum of %x", b)
		}
		e := packet.Error{Kind: packet.ErrorKind(port % 4), MTU: uint32(port)}
		about, ok := packet.AppendError(nil, b[:min(len(b), int(port)+40)], &info, e)
		if !ok {
			return
		}
		var report packet.Info
		if !packet.Parse(about, &report) || report.Len != len(about) || len(about) > packet.MaxError || !packet.IsError(&report) ||
			!packet.VerifyHeader(about, &report) || !packet.VerifyTransport(about, &report) || report.Dst != info.Src {
			t.Fatalf("error is wrong: %x", about)
		}
	})
}

// summed returns a copy of the packet whose checksums are right, if it is whole and has any.
func summed(b []byte, info *packet.Info) []byte {
	b = bytes.Clone(b[:info.Len])
	if info.Version == 4 {
		header := b[:int(b[0]&15)*4]
		binary.BigEndian.PutUint16(header[10:], 0)
		binary.BigEndian.PutUint16(header[10:], ^packet.Fold(packet.Sum(header, 0)))
	}
	segment, field := b[info.L4:], 2
	switch {
	case info.Fragment:
		return b
	case info.Proto == packet.ProtoTCP:
		field = 16
	case info.Proto == packet.ProtoUDP:
		segment, field = segment[:binary.BigEndian.Uint16(segment[4:])], 6
	case info.Proto != packet.ProtoICMP && info.Proto != packet.ProtoICMPv6 || (info.Proto == packet.ProtoICMP) != (info.Version == 4):
		return b
	}
	pseudo := uint64(0)
	if info.Proto != packet.ProtoICMP {
		pseudo = packet.PseudoSum(info.Src, info.Dst, info.Proto, len(segment))
	}
	binary.BigEndian.PutUint16(segment[field:], 0)
	binary.BigEndian.PutUint16(segment[field:], ^packet.Fold(packet.Sum(segment, pseudo)))
	return b
}

// other returns two addresses of the packet's family that are unlike those of the seeds.
func other(info *packet.Info) (src, dst netip.Addr) {
	if info.Version == 4 {
		return netip.AddrFrom4([4]byte{100, 96, 0, 7}), netip.AddrFrom4([4]byte{203, 0, 113, 255})
	}
	return netip.AddrFrom16([16]byte{0xfd, 15: 7}), netip.AddrFrom16([16]byte{0xfd, 0xff, 0xff, 15: 9})
}

// sameButForZeros compares packets, taking 0 and ffff in a checksum, which are one number, as the
// same: there may be two checksums in each, and a patched one is never ffff.
func sameButForZeros(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	fields := 0
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		if a[i]^b[i] != 0xff || a[i] != 0 && b[i] != 0 {
			return false
		}
		fields++
	}
	return fields == 0 || fields == 2 || fields == 4
}
