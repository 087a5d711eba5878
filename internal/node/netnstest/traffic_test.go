package netnstest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// transferLimit bounds one TCP transfer.
const transferLimit = 60 * time.Second

// transfer is what came out of a TCP transfer.
type transfer struct {
	took    time.Duration
	resent  uint32 // segments that TCP had to send again
	segment uint32 // the sender's segment size at the end
}

// send carries size random bytes over TCP from one host to an address of another, and fails the
// test unless they arrive whole.
func send(from, to *host, addr string, size int64) transfer {
	from.t.Helper()
	done, err := trySend(from, to, addr, size)
	if err != nil {
		from.t.Fatalf("TCP to %s: %v", addr, err)
	}
	return done
}

func trySend(from, to *host, addr string, size int64) (done transfer, err error) {
	var l net.Listener
	if err := to.within(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	}); err != nil {
		return done, err
	}
	defer l.Close()
	began := time.Now()
	received := make(chan error, 1)
	var got [sha256.Size]byte
	go func() {
		sum, err := receive(l, began.Add(transferLimit))
		got = sum
		received <- err
	}()
	ctx, cancel := context.WithDeadline(from.t.Context(), began.Add(transferLimit))
	defer cancel()
	var c net.Conn
	err = from.within(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		return err
	})
	if err != nil {
		return done, err
	}
	defer c.Close()
	if err := c.SetDeadline(began.Add(transferLimit)); err != nil {
		return done, err
	}
	sent := sha256.New()
	source := rand.NewChaCha8([32]byte{1})
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(c, sent)}, io.LimitReader(source, size), make([]byte, 256<<10)); err != nil {
		return done, err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return done, err
	}
	if err := <-received; err != nil {
		return done, err
	}
	done.took = time.Since(began)
	if got != [sha256.Size]byte(sent.Sum(nil)) {
		return done, errors.New("other bytes came out than went in")
	}
	return done, done.look(c.(*net.TCPConn))
}

func (d *transfer) look(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var infoErr error
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			infoErr = err
			return
		}
		d.resent, d.segment = info.Total_retrans, info.Snd_mss
	})
	return errors.Join(err, infoErr)
}

func receive(l net.Listener, deadline time.Time) (sum [sha256.Size]byte, err error) {
	if err := l.(*net.TCPListener).SetDeadline(deadline); err != nil {
		return sum, err
	}
	c, err := l.Accept()
	if err != nil {
		return sum, err
	}
	defer c.Close()
	if err := c.SetDeadline(deadline); err != nil {
		return sum, err
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{c}, make([]byte, 256<<10)); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// flows are UDP flows from one host to a socket on another, each packet with its flow's number
// and its own. Where the receiver echoes, the sender notes the answers.
type flows struct {
	t        testing.TB
	out      []*net.UDPConn
	in       *net.UDPConn
	answered []atomic.Int64 // by flow: the highest number sent when its first answer came, plus 1
	sent     []atomic.Int64 // by flow: the next number
	received atomic.Int64   // packets in all
	seen     []seen         // by flow; the receiving goroutine's until close
	wg       sync.WaitGroup
}

// seen is what a receiver knows of one flow.
type seen struct {
	got        map[int64]bool
	next       int64
	inversions []int64 // numbers that arrived behind a higher one
	doubles    int
}

// flowHeader is the flow's number and the packet's: 8 bytes each.
const flowHeader = 16

// openFlows makes n flows from one host to an inner address of another.
func openFlows(from, to *host, addr string, n int, echo bool) *flows {
	from.t.Helper()
	f := &flows{
		t: from.t, in: to.listenUDP(net.JoinHostPort(addr, "0")),
		answered: make([]atomic.Int64, n), sent: make([]atomic.Int64, n), seen: make([]seen, n),
	}
	for i := range n {
		f.seen[i].got = map[int64]bool{}
		var c *net.UDPConn
		from.try(from.within(func() (err error) {
			c, err = net.DialUDP("udp", nil, f.in.LocalAddr().(*net.UDPAddr))
			return err
		}))
		from.t.Cleanup(func() { c.Close() })
		f.out = append(f.out, c)
		if echo {
			f.wg.Go(func() { f.answers(i, c) })
		}
	}
	f.wg.Go(func() { f.receive(echo) })
	return f
}

// write sends flow i's next packet with size payload bytes. Errors such as an unreachable
// network lose it, as any packet may be lost.
func (f *flows) write(i, size int) {
	b := make([]byte, max(size, flowHeader))
	binary.BigEndian.PutUint64(b, uint64(i))
	binary.BigEndian.PutUint64(b[8:], uint64(f.sent[i].Add(1)-1))
	_, _ = f.out[i].Write(b)
}

func (f *flows) receive(echo bool) {
	b := make([]byte, 65536)
	for {
		n, from, err := f.in.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < flowHeader {
			f.t.Errorf("%d bytes, %v", n, err)
			return
		}
		i, number := binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:]))
		if i >= uint64(len(f.seen)) {
			f.t.Errorf("a packet of flow %d", i)
			return
		}
		f.seen[i].note(number)
		f.received.Add(1)
		if echo {
			_, _ = f.in.WriteToUDPAddrPort(b[:flowHeader], from)
		}
	}
}

func (s *seen) note(number int64) {
	if s.got[number] {
		s.doubles++
		return
	}
	s.got[number] = true
	if number < s.next {
		s.inversions = append(s.inversions, number)
		return
	}
	s.next = number + 1
}

func (f *flows) answers(i int, c *net.UDPConn) {
	b := make([]byte, 65536)
	for {
		_, err := c.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the network was unreachable for a moment
		}
		f.answered[i].CompareAndSwap(0, f.sent[i].Load())
	}
}

// close ends the flows. The fields seen may be read then.
func (f *flows) close() {
	for _, c := range f.out {
		c.Close()
	}
	f.in.Close()
	f.wg.Wait()
}

// totals sums up what was received.
func (f *flows) totals() (got, inversions, doubles int) {
	for i := range f.seen {
		got += len(f.seen[i].got)
		inversions += len(f.seen[i].inversions)
		doubles += f.seen[i].doubles
	}
	return got, inversions, doubles
}

// background runs f again and again until the returned function is called, which waits for it.
func background(f func()) (stop func()) {
	var end atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !end.Load() {
			f()
		}
	})
	return func() { end.Store(true); wg.Wait() }
}

// writeSysctl sets a network sysctl of the host.
func (h *host) writeSysctl(name, value string) {
	h.t.Helper()
	h.try(h.within(func() error {
		return os.WriteFile(fmt.Sprintf("/proc/sys/net/%s", name), []byte(value), 0o644)
	}))
}
