package signal

import (
	"fmt"
	"unicode/utf8"
)

// Limits bound one frame.
type Limits struct {
	// Bytes is the length of the text.
	Bytes int
	// Depth is how far arrays and objects nest, the frame itself included.
	Depth int
	// Values bounds the number of values and keys. A value costs a reader far more memory than
	// the two bytes it may take on the wire.
	Values int
}

// FromPortal bounds what a device accepts. The largest message is a client's init: a resource
// takes about 350 bytes and 25 values, so there is room for some ten thousand. The deepest value
// is a site in a resource in init: five levels.
var FromPortal = Limits{Bytes: 4 << 20, Depth: 16, Values: 1 << 18}

// FromDevice bounds what a portal accepts from a device, of which there are thousands. The
// largest message carries candidates: 64 KiB hold five hundred, and an agent has a dozen.
var FromDevice = Limits{Bytes: 64 << 10, Depth: 8, Values: 4096}

// scan checks text against l without decoding it. It need not recognise invalid JSON.
func (l Limits) scan(text []byte) error {
	if len(text) > l.Bytes {
		return fmt.Errorf("frame of %d bytes is longer than %d", len(text), l.Bytes)
	}
	if !utf8.Valid(text) {
		return fmt.Errorf("frame is not UTF-8")
	}
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			values++
		case c == '}' || c == ']':
			depth--
		case c == ',' || c == ':':
			values++
		}
		if depth > l.Depth {
			return fmt.Errorf("frame nests deeper than %d levels", l.Depth)
		}
		if values > l.Values {
			return fmt.Errorf("frame holds more than %d values", l.Values)
		}
	}
	return nil
}
