package packet

import (
	"bytes"
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestSumAgreesWithTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBytes(t)
		want := slowSum(b)
		dst := bytes.Repeat([]byte{0xa5}, len(b)+40)
		for name, got := range map[string]uint64{
			"Sum":             Sum(b, 0),
			"CopySum":         CopySum(dst, b, 0),
			"sumGeneric":      addNative(0, sumGeneric(b)),
			"copySumGeneric":  addNative(0, copySumGeneric(make([]byte, len(b)), b)),
			"Sum with a bias": Sum(b, math.MaxUint64), // 2^64-1 ≡ 0
		} {
			if Fold(got) != want && (want != 0 || name != "Sum with a bias" || Fold(got) != 0xffff) {
				t.Fatalf("%s of %d bytes is %#04x, want %#04x", name, len(b), Fold(got), want)
			}
		}
		if !bytes.Equal(dst[:len(b)], b) || !bytes.Equal(dst[len(b):], bytes.Repeat([]byte{0xa5}, 40)) {
			t.Fatal("CopySum did not copy exactly the source")
		}
		cut := rapid.IntRange(0, len(b)/2).Draw(t, "cut") * 2
		if got := Fold(Sum(b[cut:], Sum(b[:cut], 0))); got != want {
			t.Fatalf("in two pieces the sum is %#04x, want %#04x", got, want)
		}
	})
}

// Every length around the vector sizes, at every alignment, with the bytes that carry most.
func TestSumAgreesAtEveryLengthAndAlignment(t *testing.T) {
	buf := bytes.Repeat([]byte{0xff, 0xfe, 0x00, 0xff, 0x80}, 200)
	dst := make([]byte, len(buf))
	for from := range 33 {
		for n := range 420 {
			b := buf[from : from+n]
			want := addNative(0, sumGeneric(b))
			clear(dst)
			if got := Sum(b, 0); got != want || Fold(got) != slowSum(b) {
				t.Fatalf("Sum of %d bytes at %d: %#x, want %#x", n, from, got, want)
			}
			if got := CopySum(dst[from/2:], b, 0); got != want || !bytes.Equal(dst[from/2:from/2+n], b) {
				t.Fatalf("CopySum of %d bytes at %d: %#x, want %#x", n, from, got, want)
			}
			if copySumGeneric(dst, b) != sumGeneric(b) {
				t.Fatalf("copySumGeneric of %d bytes at %d differs", n, from)
			}
		}
	}
}

func TestSumOfSixtyFourKiBOfOnesLosesNoCarry(t *testing.T) {
	b := bytes.Repeat([]byte{0xff}, 1<<16)
	if Fold(Sum(b, 0)) != 0xffff || Fold(CopySum(make([]byte, len(b)), b, 0)) != 0xffff {
		t.Error("sum of ones is not all ones")
	}
	b[12345] = 0xfe // the low byte of a word
	if Fold(Sum(b, 0)) != 0xfffe {
		t.Errorf("sum is %#x, want 0xfffe", Fold(Sum(b, 0)))
	}
}

func TestPseudoSumEqualsTheWrittenPseudoHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "address size")
		draw := func(name string) netip.Addr {
			a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, name))
			return a
		}
		src, dst := draw("src"), draw("dst")
		proto, length := rapid.Byte().Draw(t, "proto"), rapid.Uint16().Draw(t, "length")
		header := append(append(src.AsSlice(), dst.AsSlice()...), 0, proto, byte(length>>8), byte(length))
		if got, want := Fold(PseudoSum(src, dst, proto, int(length))), slowSum(header); got != want {
			t.Fatalf("pseudo sum %#x, want %#x", got, want)
		}
	})
}

func TestPatchedChecksumsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := flow{v6: rapid.Bool().Draw(t, "v6"), udp: rapid.Bool().Draw(t, "udp"), flags: FlagACK,
			payload: rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "payload")}
		b := f.build(t)
		var info Info
		if !Parse(b, &info) || !VerifyTransport(b, &info) {
			t.Fatal("built packet is not valid")
		}
		at := int(ip4Dst)
		if f.v6 {
			at = ip6Dst
		}
		size := len(info.Dst.AsSlice())
		to, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "to"))
		port := rapid.Uint16().Draw(t, "port")

		delta := DeltaAddr(info.Dst, to)
		if Fold(delta) != Fold(Delta(info.Dst.AsSlice(), to.AsSlice())) {
			t.Fatal("DeltaAddr differs from Delta")
		}
		copy(b[at:], to.AsSlice())
		if !f.v6 {
			put16(b[ip4Checksum:], Patch(get16(b[ip4Checksum:]), delta))
		}
		put16(b[info.L4+2:], port)
		delta += Delta16(info.DstPort, port)
		if f.udp {
			put16(b[info.L4+udpChecksum:], PatchUDP(get16(b[info.L4+udpChecksum:]), delta))
		} else {
			put16(b[info.L4+tcpChecksum:], Patch(get16(b[info.L4+tcpChecksum:]), delta))
		}
		if !Parse(b, &info) || info.Dst != to || info.DstPort != port {
			t.Fatalf("patched packet says %v", info)
		}
		if !VerifyHeader(b, &info) || !VerifyTransport(b, &info) {
			t.Fatal("patched checksum does not hold")
		}
	})
}

func TestPatchKeepsAbsentUDPChecksumAbsent(t *testing.T) {
	if got := PatchUDP(0, Delta16(1, 2)); got != 0 {
		t.Errorf("absent checksum became %#x", got)
	}
	if got := PatchUDP(1, Delta16(1, 2)); got != 0xffff {
		t.Errorf("checksum of zero is written as %#x, want 0xffff", got)
	}
}

func TestPatchedPartialChecksumFinishesRight(t *testing.T) {
	b := flow{payload: []byte("partial")}.build(t)
	var info Info
	Parse(b, &info)
	to := netip.MustParseAddr("203.0.113.99")
	put16(b[info.L4+tcpChecksum:], PatchPartial(Fold(PseudoSum(info.Src, info.Dst, ProtoTCP, len(b)-info.L4)), DeltaAddr(info.Dst, to)))
	copy(b[ip4Dst:], to.AsSlice())
	if !FinishChecksum(b, uint16(info.L4), tcpChecksum) || !VerifyTransport(b, &info) {
		t.Error("finished checksum does not hold")
	}
}

func TestFinishChecksumStaysInsideThePacket(t *testing.T) {
	b := make([]byte, 40)
	for _, c := range []struct{ start, offset uint16 }{{40, 0}, {38, 1}, {65535, 65535}, {0, 39}} {
		if FinishChecksum(b, c.start, c.offset) || !bytes.Equal(b, make([]byte, 40)) {
			t.Errorf("wrote at %d+%d of 40 bytes", c.start, c.offset)
		}
	}
	copy(b[20:], []byte{0xff, 0xff})
	if !FinishChecksum(b, 20, 6) || get16(b[26:]) != 0xffff {
		t.Errorf("a checksum of zero is written as %#x, want 0xffff", get16(b[26:]))
	}
}

func drawBytes(t *rapid.T) []byte {
	b := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "bytes")
	n := rapid.IntRange(0, 1500).Draw(t, "length")
	for len(b) < n {
		b = append(b, append(b, 0xff)...)
	}
	return b
}
