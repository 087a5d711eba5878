package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/bench/sample"
)

// receive counts the datagrams of one run that arrive at the address at, until ctx ends and
// then until nothing has come for a moment. ready, if any, is called with the address listened at.
func receive(ctx context.Context, at string, run uint64, ready func(net.Addr)) (Arrivals, error) {
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		return Arrivals{}, err
	}
	defer pc.Close()
	uc := pc.(*net.UDPConn)
	if err := forceReceiveBuffer(uc); err != nil {
		return Arrivals{}, err
	}
	if ready != nil {
		ready(uc.LocalAddr())
	}
	if err := setUDPOption(uc, unix.UDP_GRO, 1); err != nil {
		return Arrivals{}, err
	}
	r := newReader(uc)
	var a Arrivals
	err = a.gather(ctx, uc, func() error {
		return r.read(func(b []byte, now int64) error {
			if f, ok := parseFrame(b); ok && f.run == run {
				a.add(f, len(b), now)
			}
			return nil
		})
	})
	return a, err
}

// gather calls read, which reads from uc, until ctx has ended and the socket is quiet, and
// counts what the host's sockets lose meanwhile.
func (a *Arrivals) gather(ctx context.Context, uc *net.UDPConn, read func() error) error {
	before, err := sample.ReadUDP(os.Getpid())
	if err != nil {
		return err
	}
	// The end of ctx interrupts a waiting read.
	stop := context.AfterFunc(ctx, func() { _ = uc.SetReadDeadline(time.Now().Add(drainQuiet)) })
	defer stop()
	if err := untilQuiet(ctx, uc, read); err != nil {
		return err
	}
	after, err := sample.ReadUDP(os.Getpid())
	a.Drops = after.Rcvbuf - before.Rcvbuf
	return err
}

func untilQuiet(ctx context.Context, uc *net.UDPConn, read func() error) error {
	var end time.Time // of draining, which must end even if packets never do
	for {
		err := read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if ctx.Err() == nil {
			continue
		}
		now := time.Now()
		if end.IsZero() {
			end = now.Add(drainMost)
		}
		if now.After(end) {
			return nil
		}
		if err := uc.SetReadDeadline(now.Add(drainQuiet)); err != nil {
			return err
		}
	}
}

// forceReceiveBuffer makes the sink's buffer large, so that what is lost is lost before it.
func forceReceiveBuffer(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, sinkBuffer)
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	return nil
}

const (
	// sinkBuffer holds some 20,000 small datagrams: 100 ms without the processor.
	sinkBuffer = 16 << 20
	// drainQuiet without a packet ends a run; queues on the way are shorter than that.
	drainQuiet = 100 * time.Millisecond
	// drainMost ends it in any case.
	drainMost = time.Second
)
