package traffic

import (
	"bytes"
	"encoding/binary"
)

// MinPayload is the shortest payload of a datagram: that of the frame at its front,
//
//	0         4        6           7   8                16
//	| run     | line   | direction | 0 | sequence number | the pattern …
const MinPayload = 16

// Direction of a datagram.
type Direction uint8

// Up is from clients to peers, Down from peers to clients.
const (
	Up Direction = iota
	Down
	directions
)

// frame is what a datagram says about itself.
type frame struct {
	run  uint32
	line uint16
	dir  Direction
	seq  uint64
}

func (f frame) put(b []byte) {
	binary.BigEndian.PutUint32(b, f.run)
	binary.BigEndian.PutUint16(b[4:], f.line)
	b[6], b[7] = byte(f.dir), 0
	binary.BigEndian.PutUint64(b[8:], f.seq)
}

// parseFrame reads the frame of a payload whose rest is to be that of pattern.
func parseFrame(b, pattern []byte) (f frame, ok bool) {
	if len(b) != len(pattern) || len(b) < MinPayload || b[7] != 0 || !bytes.Equal(b[MinPayload:], pattern[MinPayload:]) {
		return frame{}, false
	}
	return frame{
		run: binary.BigEndian.Uint32(b), line: binary.BigEndian.Uint16(b[4:]),
		dir: Direction(b[6]), seq: binary.BigEndian.Uint64(b[8:]),
	}, true
}

// newPattern is a payload of n bytes, with room for a frame.
func newPattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*31 + i>>8)
	}
	return b
}
