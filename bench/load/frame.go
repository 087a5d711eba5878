package load

import "encoding/binary"

// frame is what starts the payload of every datagram, big-endian:
//
//	0        8        16                      24
//	[run     ][sequence][sent, ns since 1970  ][zeros up to the payload size …]
//
// The upper eight bits of the sequence number are the flow's: packets of different flows may
// overtake each other.
type frame struct {
	run, seq uint64
	sent     int64
}

func (f frame) put(b []byte) {
	binary.BigEndian.PutUint64(b, f.run)
	binary.BigEndian.PutUint64(b[8:], f.seq)
	binary.BigEndian.PutUint64(b[16:], uint64(f.sent))
}

func parseFrame(b []byte) (f frame, ok bool) {
	if len(b) < frameLen {
		return frame{}, false
	}
	return frame{
		run:  binary.BigEndian.Uint64(b),
		seq:  binary.BigEndian.Uint64(b[8:]),
		sent: int64(binary.BigEndian.Uint64(b[16:])),
	}, true
}

const (
	frameLen  = 24
	flowShift = 56
	maxFlows  = 1 << (64 - flowShift)
)
