package packet

import (
	"bytes"
	"testing"
)

// labels is an extension structure with an object of n bytes in all (RFC 4884, section 7).
func labels(n int) []byte {
	x := make([]byte, n)
	x[0] = 0x20
	put16(x[4:], uint16(n-4))
	x[6], x[7] = 1, 1
	for i := 8; i < n; i++ {
		x[i] = byte(i)
	}
	put16(x[2:], ^slowSum(x))
	return x
}

// RFC 7915, sections 4.2 and 5.2; RFC 4884.
func TestTranslateErrorCarriesExtensionsAlong(t *testing.T) {
	v4 := func(n int) []byte { return flow{udp: true, payload: make([]byte, n)}.build(t) }
	v6 := func(n int) []byte { return flow{v6: true, udp: true, payload: make([]byte, n)}.build(t) }
	for _, c := range []struct {
		name       string
		version    uint8
		kind, code uint8
		offending  []byte
		extension  int
		// length is what the result's length attribute says, in bytes, 0 for no extension; kept is how
		// much of the extension is there.
		length, kept int
	}{
		{"4 to 6, a short quote stays padded to 128", 4, 11, 0, v4(10), 16, 128, 16},
		{"4 to 6, the quote grows and is padded to 8 bytes", 4, 11, 0, v4(173), 16, 224, 16},
		{"4 to 6, destination unreachable", 4, 3, 1, v4(100), 16, 152, 16},
		{"4 to 6, the quote is cut for the extension", 4, 3, 1, v4(900), 400, 832, 400},
		{"4 to 6, an extension that leaves too little is cut", 4, 3, 1, v4(100), 1160, 128, 1104},
		{"4 to 6, packet too big has no length attribute", 4, 3, 4, v4(100), 16, 0, 0},
		{"4 to 6, parameter problem has no length attribute", 4, 12, 0, v4(100), 16, 0, 0},
		{"4 to 6, protocol unreachable has no length attribute", 4, 3, 2, v4(100), 16, 0, 0},
		{"6 to 4, a short quote stays padded to 128", 6, 3, 0, v6(10), 16, 128, 16},
		{"6 to 4, the quote shrinks and is padded to 4 bytes", 6, 3, 0, v6(173), 16, 204, 16},
		{"6 to 4, destination unreachable", 6, 1, 0, v6(100), 16, 128, 16},
		{"6 to 4, the quote is cut for the extension", 6, 1, 4, v6(900), 200, 348, 200},
		{"6 to 4, an extension that leaves too little is cut", 6, 1, 4, v6(900), 500, 128, 420},
		{"6 to 4, parameter problem comes without and stays so", 6, 4, 1, v6(100), 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var x []byte
			if c.extension > 0 {
				x = labels(c.extension)
			}
			out, ok := translateError(t, errorPacket(c.version, c.kind, c.code, 0, c.offending, x), nil)
			if !ok {
				t.Fatal("dropped")
			}
			var info Info
			Parse(out, &info)
			length := int(out[info.L4+5]) * 4
			if info.Version == 6 {
				length = int(out[info.L4+4]) * 8
			}
			quote := out[info.Payload:]
			if length != c.length {
				t.Fatalf("length attribute says %d bytes, want %d", length, c.length)
			}
			if length == 0 {
				return
			}
			var quoted Info
			ParseQuote(out, &info, &quoted)
			if !bytes.Equal(quote[length:], x[:c.kept]) {
				t.Errorf("extension %x, want %x", quote[length:], x[:c.kept])
			}
			if pad := quote[min(length, quoted.Len):length]; !bytes.Equal(pad, make([]byte, len(pad))) {
				t.Errorf("quote is padded with %x", pad)
			}
		})
	}
}

func TestTranslateErrorTakesNoExtensionForOne(t *testing.T) {
	offending := flow{udp: true, payload: make([]byte, 200)}.build(t)
	other := labels(16)
	other[0] = 0x10
	for name, b := range map[string][]byte{
		"of another version":                 errorPacket(4, 11, 0, 0, offending, other),
		"shorter than its header":            errorPacket(4, 11, 0, 0, offending, []byte{0x20, 0, 0}),
		"length attribute past the end":      errorPacket(4, 11, 0, 0xff<<16, offending, nil),
		"length attribute of all":            errorPacket(4, 11, 0, 57<<16, offending, nil),
		"behind a quote of less than 128":    errorPacket(4, 11, 0, 20<<16, append(bytes.Clone(offending[:80]), labels(16)...), nil),
		"without length attribute":           errorPacket(4, 11, 0, 0, append(bytes.Clone(offending), labels(16)...), nil),
		"length attribute in its IPv6 place": errorPacket(4, 11, 0, 16<<24, append(bytes.Clone(offending[:128]), labels(16)...), nil),
	} {
		t.Run(name, func(t *testing.T) {
			out, ok := translateError(t, b, nil)
			if !ok {
				t.Fatal("dropped")
			}
			if out[44] != 0 {
				t.Errorf("the result says it has an extension: %x", out)
			}
		})
	}
}

// RFC 4443, section 2.4; RFC 1812, section 4.3.2.3.
func TestTranslateErrorKeepsWithinTheLeastMTU(t *testing.T) {
	for _, n := range []int{0, 480, 520, 521, 1172, 1173, 1300} {
		for _, version := range []uint8{4, 6} {
			offending := flow{v6: version == 6, udp: true, payload: make([]byte, n)}.build(t)
			kind := map[uint8]uint8{4: 11, 6: 3}[version]
			out, ok := translateError(t, errorPacket(version, kind, 0, 0, offending, nil), nil)
			want := min(1280, 48+len(offending)+20)
			if version == 6 {
				want = min(576, 28+len(offending)-20)
			}
			if !ok || len(out) != want {
				t.Errorf("version %d, quote of %d bytes: %v, %d bytes, want %d", version, len(offending), ok, len(out), want)
			}
		}
	}
}
