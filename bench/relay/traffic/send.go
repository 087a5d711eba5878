package traffic

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/internal/poll"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/stun"
)

// sender sends one direction of a plan. One goroutine.
type sender struct {
	Plan
	dir    Direction
	run    uint32
	lines  []*line
	server netip.AddrPort
	buf    []byte // what one call hands over
	stride int
	trains []batch.Train
	sent   uint64
}

func newSender(p Plan, d Direction, run uint32, lines []*line, server netip.AddrPort) *sender {
	s := &sender{Plan: p, dir: d, run: run, lines: lines, server: server, stride: p.Payload}
	if d == Up {
		s.stride += headerLen
	}
	pattern := newPattern(p.Payload)
	for range p.inARow() {
		if d == Up {
			s.buf = append(s.buf, make([]byte, headerLen)...)
		}
		s.buf = append(s.buf, pattern...)
	}
	return s
}

// send sends until the plan's time is over and returns how long that took.
func (s *sender) send() (time.Duration, error) {
	if err := poll.PinThread(-1); err != nil {
		return 0, err
	}
	start := time.Now()
	var pause time.Duration // between two calls
	if s.Rate > 0 {
		pause = time.Duration(float64(s.inARow()) / s.Rate * float64(time.Second))
	}
	due := start
	for i := 0; ; i++ {
		now := time.Now()
		if now.Sub(start) >= s.Length {
			return now.Sub(start), nil
		}
		if pause > 0 {
			if wait := due.Sub(now); wait > 0 {
				nap(wait)
			} else if wait < -maxLag {
				due = now // the machine has been elsewhere: what was missed is not made up for at once
			}
			due = due.Add(pause)
		}
		if err := s.burst(s.lines[i%len(s.lines)]); err != nil {
			return 0, err
		}
	}
}

// burst sends what one call hands over on a line.
func (s *sender) burst(l *line) error {
	for at := 0; at < len(s.buf); at += s.stride {
		b := s.buf[at:]
		if s.dir == Up {
			stun.PutChannelHeader(b, l.number, s.Payload)
			b = b[headerLen:]
		}
		frame{run: s.run, line: lineID(l), dir: s.dir, seq: l.sent[s.dir]}.put(b)
		l.sent[s.dir]++
	}
	socket, to := l.client, s.server
	if s.dir == Down {
		socket, to = l.peer, l.relayed
	}
	return s.hand(socket, to)
}

// hand gives buf to the kernel: as one train, or as single datagrams in one call. What finds the
// send buffer full is not sent.
func (s *sender) hand(socket *udp.Socket, to netip.AddrPort) error {
	s.trains = s.trains[:0]
	if s.Train > 1 {
		s.trains = append(s.trains, batch.Train{Buf: s.buf, Stride: s.stride, Remote: to})
	} else {
		for at := 0; at < len(s.buf); at += s.stride {
			s.trains = append(s.trains, batch.Train{Buf: s.buf[at:][:s.stride], Stride: s.stride, Remote: to})
		}
	}
	before := socket.Stats().SentDatagrams
	if _, err := socket.Send(s.trains); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	s.sent += socket.Stats().SentDatagrams - before
	return nil
}

// lineID tells lines apart by what both their ends know.
func lineID(l *line) uint16 { return l.relayed.Port() }

// nap sleeps in the kernel, to the microsecond on a thread of PinThread; a signal ends it early.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil)
}

// maxLag is how far behind its schedule a sender may be before it gives up catching up: a burst of
// that much is what the machine makes of the pattern, not the pattern.
const maxLag = 5 * time.Millisecond
