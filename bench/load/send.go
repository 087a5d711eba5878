package load

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Sent is what a sender did.
type Sent struct {
	// Packets is how many the kernel took; Refused how many it had no buffer for.
	Packets, Refused uint64
	// Seconds is how long the sender was at it, and CPU what its process used, in seconds.
	Seconds, CPU float64
}

// sendConfig says what to send.
type sendConfig struct {
	to      string
	run     uint64
	payload int
	rate    int // packets per second, 0 for as many as possible
	burst   int // packets per system call when saturating
	length  time.Duration
	// peer and trains are for generators and sinks that speak WireGuard themselves.
	peer peering
	// trains leaves it to the kernel to make datagrams of a burst.
	trains bool
	cpu    int // to run on, negative for any
}

// batchConn is what ipv4.PacketConn and ipv6.PacketConn have in common: their Message is one type.
type batchConn interface {
	ReadBatch([]ipv4.Message, int) (int, error)
	WriteBatch([]ipv4.Message, int) (int, error)
}

// send sends datagrams for c.length.
func send(c sendConfig) (Sent, error) {
	if c.payload < frameLen {
		return Sent{}, fmt.Errorf("payload of %d bytes has no room for %d", c.payload, frameLen)
	}
	if c.rate == 0 && (c.burst < 1 || c.burst > maxBurst) {
		return Sent{}, fmt.Errorf("bursts of %d packets are not between 1 and %d", c.burst, maxBurst)
	}
	nc, err := net.Dial("udp", c.to)
	if err != nil {
		return Sent{}, err
	}
	defer nc.Close()
	s := &sender{conn: packetConn(nc.(*net.UDPConn)), run: c.run}
	burst := 1
	if c.rate == 0 {
		burst = c.burst
	}
	if c.trains {
		t, err := newTrain(nc.(*net.UDPConn), c.payload, burst)
		if err != nil {
			return Sent{}, err
		}
		s.train, burst = &t, 0
	}
	for range burst {
		s.msgs = append(s.msgs, ipv4.Message{Buffers: [][]byte{make([]byte, c.payload)}})
	}
	start := time.Now()
	if c.rate == 0 {
		err = s.saturate(start.Add(c.length))
	} else {
		err = s.pace(c.rate, c.length)
	}
	s.Seconds = time.Since(start).Seconds()
	return s.Sent, err
}

type sender struct {
	Sent
	conn batchConn
	run  uint64
	seq  uint64
	msgs []ipv4.Message
	// train is sent instead of msgs, if there is one.
	train *train
}

func (s *sender) saturate(until time.Time) error {
	for time.Now().Before(until) {
		if err := s.burst(); err != nil {
			return err
		}
	}
	return nil
}

// pace sends one datagram at each multiple of the interval. It sleeps in the kernel with
// absolute times and a timer slack of a nanosecond, so neither spins nor drifts.
func (s *sender) pace(rate int, length time.Duration) error {
	runtime.LockOSThread() // the slack is the thread's
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	start := monotonic()
	total := int64(length) * int64(rate) / int64(time.Second)
	for i := range total {
		due := start + i*int64(time.Second)/int64(rate)
		for monotonic() < due {
			ts := unix.NsecToTimespec(due)
			if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("sleep: %w", err)
			}
		}
		if err := s.burst(); err != nil {
			return err
		}
	}
	return nil
}

// burst sends all of s.msgs in one call. What the kernel has no room for counts as refused and
// uses up sequence numbers all the same.
func (s *sender) burst() error {
	now := time.Now().UnixNano()
	if s.train != nil {
		for _, b := range s.train.cars {
			frame{run: s.run, seq: s.seq, sent: now}.put(b)
			s.seq++
		}
		return s.train.send(&s.Sent)
	}
	for i := range s.msgs {
		frame{run: s.run, seq: s.seq, sent: now}.put(s.msgs[i].Buffers[0])
		s.seq++
	}
	n, err := s.conn.WriteBatch(s.msgs, 0)
	s.Packets += uint64(max(n, 0))
	if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ECONNREFUSED) {
		err = nil
	}
	s.Refused += uint64(len(s.msgs) - max(n, 0))
	return err
}

// packetConn is c for batches, in its own address family.
func packetConn(c *net.UDPConn) batchConn {
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok && a.IP.To4() == nil {
		return ipv6.NewPacketConn(c)
	}
	return ipv4.NewPacketConn(c)
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("load: the kernel has no monotonic clock: %v", err))
	}
	return ts.Nano()
}

// maxBurst is what the kernel takes in one sendmmsg (UIO_MAXIOV, include/uapi/linux/uio.h).
const maxBurst = 1024
