package traffic

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/internal/poll"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/stun"
)

// sink receives one direction of a run. One goroutine; total may be read by any.
type sink struct {
	dir     Direction
	run     uint32
	lines   []*line
	in      *batch.Batch
	pattern []byte
	flow    Flow
	total   atomic.Uint64 // all that arrived
	stop    atomic.Bool
}

// receive looks for datagrams at intervals until stop.
func (s *sink) receive() error {
	if err := poll.PinThread(-1); err != nil {
		return err
	}
	for !s.stop.Load() {
		nap(lookEvery)
		for _, l := range s.lines {
			if err := s.drain(l); err != nil {
				return fmt.Errorf("receive: %w", err)
			}
		}
	}
	return nil
}

// drain reads what waits at the line's end.
func (s *sink) drain(l *line) error {
	socket := l.peer
	if s.dir == Down {
		socket = l.client
	}
	for {
		n, err := s.look(socket, l)
		if err != nil {
			return err
		}
		if n < batchSlabs {
			return nil
		}
	}
}

func (s *sink) look(socket *udp.Socket, l *line) (int, error) {
	s.in.Reset()
	n, err := socket.RecvMore(s.in, batchSlabs)
	if err != nil {
		return 0, err
	}
	arrived := 0
	for i := range s.in.Trains {
		t := &s.in.Trains[i]
		for at := 0; at < len(t.Buf); at += t.Stride {
			s.take(l, t.Buf[at:min(at+t.Stride, len(t.Buf))])
			arrived++
		}
	}
	if arrived > 0 {
		s.total.Add(uint64(arrived))
	}
	return n, nil
}

// take judges one datagram.
func (s *sink) take(l *line, b []byte) {
	if s.dir == Down {
		number, payload, ok := stun.ChannelData(b)
		if !ok || number != l.number {
			s.flow.Corrupt++
			return
		}
		b = payload
	}
	f, ok := parseFrame(b, s.pattern)
	switch {
	case ok && f.run != s.run:
		return // a straggler of the run before
	case !ok || f.dir != s.dir || f.line != lineID(l):
		s.flow.Corrupt++
		return
	}
	s.flow.Delivered++
	if f.seq < l.next[s.dir] {
		s.flow.Late++
		return
	}
	l.next[s.dir] = f.seq + 1
}

// lookEvery is short enough for 8 MiB of buffer at 10 Gbit/s, and long enough to cost little.
const lookEvery = 500 * time.Microsecond
