package packet

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// syn returns a TCP packet with the given flags and options, which it fills up to whole words
// with no-operations.
func syn(t fataler, v6 bool, flags uint8, options []byte) []byte {
	t.Helper()
	for len(options)%4 != 0 {
		options = append(options, tcpOptionNone)
	}
	f := flow{v6: v6, flags: flags, options: len(options)}
	b := f.build(t)
	var info Info
	if !Parse(b, &info) {
		t.Fatal("does not parse")
	}
	copy(b[info.L4+tcpHeaderLen:], options)
	sumWhole(t, b)
	return b
}

func TestClampMSS(t *testing.T) {
	mss := func(v uint16) []byte { return []byte{tcpOptionMSS, 4, byte(v >> 8), byte(v)} }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	nop := []byte{tcpOptionNone}
	for _, c := range []struct {
		name    string
		flags   uint8
		options []byte
		want    []byte // nil: unchanged
	}{
		{"larger", FlagSYN, mss(1460), mss(1240)},
		{"larger in the answer", FlagSYN | FlagACK, mss(65535), mss(1240)},
		{"equal", FlagSYN, mss(1240), nil},
		{"smaller", FlagSYN, mss(536), nil},
		{"no SYN", FlagACK, mss(1460), nil},
		{"no options", FlagSYN, nil, nil},
		{"at an odd offset", FlagSYN, join(nop, mss(1460)), join(nop, mss(1240))},
		{"behind others", FlagSYN, join([]byte{4, 2, 3, 3, 7}, mss(9000)), join([]byte{4, 2, 3, 3, 7}, mss(1240))},
		{"twice", FlagSYN, join(mss(1460), nop, mss(1461)), join(mss(1240), nop, mss(1240))},
		{"behind the end of options", FlagSYN, join([]byte{tcpOptionEnd}, mss(1460)), nil},
		{"cut off", FlagSYN, []byte{tcpOptionNone, tcpOptionNone, tcpOptionMSS, 4}, nil},
		{"one byte short", FlagSYN, []byte{tcpOptionNone, tcpOptionMSS, 4, 0xff}, nil},
		{"kind alone at the end", FlagSYN, []byte{tcpOptionNone, tcpOptionNone, tcpOptionNone, tcpOptionMSS}, nil},
		{"of a wrong length", FlagSYN, []byte{tcpOptionMSS, 3, 0xff, tcpOptionNone}, nil},
		{"behind an option of no length", FlagSYN, join([]byte{8, 0}, mss(1460)), nil},
		{"behind an option past the end", FlagSYN, join([]byte{8, 40}, mss(1460)), nil},
	} {
		for _, v6 := range []bool{false, true} {
			b := syn(t, v6, c.flags, c.options)
			want := bytes.Clone(b)
			if c.want != nil {
				want = syn(t, v6, c.flags, c.want)
			}
			var info Info
			Parse(b, &info)
			if got := ClampMSS(b, &info, 1240, false); got != (c.want != nil) {
				t.Errorf("%s, IPv6 %v: %v", c.name, v6, got)
			}
			if !bytes.Equal(b, want) {
				t.Errorf("%s, IPv6 %v: %x, want %x", c.name, v6, b, want)
			}
		}
	}
}

func TestClampMSSLeavesUnfinishedChecksum(t *testing.T) {
	b := syn(t, false, FlagSYN, []byte{tcpOptionMSS, 4, 0x05, 0xb4})
	var info Info
	Parse(b, &info)
	put16(b[info.L4+tcpChecksum:], Fold(PseudoSum(info.Src, info.Dst, ProtoTCP, info.Len-info.L4)))
	if !ClampMSS(b, &info, 1240, true) {
		t.Fatal("not lowered")
	}
	FinishChecksum(b, uint16(info.L4), tcpChecksum)
	if !VerifyTransport(b, &info) || get16(b[info.Payload-2:]) != 1240 {
		t.Errorf("finished packet is wrong: %x", b)
	}
}

func TestClampMSSIsOnlyForHeadersOfTCP(t *testing.T) {
	b := syn(t, false, FlagSYN, []byte{tcpOptionMSS, 4, 0x05, 0xb4})
	var info Info
	Parse(b, &info)
	for _, set := range []func(i *Info){
		func(i *Info) { i.Fragment = true },
		func(i *Info) { i.Proto = ProtoUDP },
		func(i *Info) { i.Payload = i.L4 },
		func(i *Info) { i.Payload = len(b) + 1 },
	} {
		other := info
		set(&other)
		if ClampMSS(b, &other, 1240, false) {
			t.Errorf("lowered in %+v", other)
		}
	}
}

// Whatever stands in the option space, the checksum stays right and nothing else changes.
func TestClampMSSKeepsChecksums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		octet := rapid.OneOf(rapid.ByteRange(0, 4), rapid.Byte())
		options := rapid.SliceOfN(octet, 0, 40).Draw(t, "options")
		b := syn(t, rapid.Bool().Draw(t, "IPv6"), FlagSYN, options)
		most := rapid.Uint16().Draw(t, "most")
		before := bytes.Clone(b)
		var info Info
		Parse(b, &info)
		lowered := ClampMSS(b, &info, most, false)
		if !VerifyTransport(b, &info) || lowered == bytes.Equal(b, before) {
			t.Fatalf("%v: %x became %x", lowered, before, b)
		}
		if ClampMSS(b, &info, most, false) {
			t.Fatal("lowered twice")
		}
	})
}

func BenchmarkClampMSS(b *testing.B) {
	p := syn(b, false, FlagSYN, []byte{tcpOptionMSS, 4, 0x04, 0xd8, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7})
	var info Info
	Parse(p, &info)
	for b.Loop() {
		ClampMSS(p, &info, 1240, false)
	}
}
