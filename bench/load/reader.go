package load

import (
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// reader reads datagrams in batches, and those that the kernel has joined (UDP_GRO) in trains.
type reader struct {
	conn batchConn
	msgs []ipv4.Message
}

func newReader(c *net.UDPConn) *reader {
	r := &reader{conn: packetConn(c), msgs: make([]ipv4.Message, readBatch)}
	for i := range r.msgs {
		r.msgs[i].Buffers = [][]byte{make([]byte, maxDatagram)}
		r.msgs[i].OOB = make([]byte, unix.CmsgSpace(4))
	}
	return r
}

// read waits for datagrams and gives each to take, with the time in nanoseconds since 1970.
func (r *reader) read(take func(b []byte, now int64) error) error {
	n, err := r.conn.ReadBatch(r.msgs, 0)
	now := time.Now().UnixNano()
	for i := range r.msgs[:max(n, 0)] {
		m := &r.msgs[i]
		b := m.Buffers[0][:m.N]
		size := segmentSize(m.OOB[:m.NN], len(b))
		for len(b) > 0 {
			one := b[:min(size, len(b))]
			b = b[len(one):]
			if err := take(one, now); err != nil {
				return err
			}
		}
	}
	return err
}

// segmentSize is that of the datagrams in a train, by the kernel's control message; without one
// it is the whole length.
func segmentSize(oob []byte, length int) int {
	if len(oob) < unix.CmsgSpace(4) {
		return max(length, 1)
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(oob)
	if err != nil || h.Level != unix.SOL_UDP || h.Type != unix.UDP_GRO || len(data) < 4 {
		return max(length, 1)
	}
	return max(int(binary.NativeEndian.Uint32(data)), 1)
}

const (
	// readBatch and maxDatagram bound one receive call.
	readBatch   = 64
	maxDatagram = 1 << 16
)
