package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/net/ipv4"
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
	before, err := sample.ReadUDP(os.Getpid())
	if err != nil {
		return Arrivals{}, err
	}
	uc := pc.(*net.UDPConn)
	if err := forceReceiveBuffer(uc); err != nil {
		return Arrivals{}, err
	}
	// The end of ctx interrupts a waiting read.
	stop := context.AfterFunc(ctx, func() { _ = uc.SetReadDeadline(time.Now().Add(drainQuiet)) })
	defer stop()
	if ready != nil {
		ready(uc.LocalAddr())
	}
	a, err := collect(ctx, uc, run)
	if err != nil {
		return a, err
	}
	after, err := sample.ReadUDP(os.Getpid())
	a.Drops = after.Rcvbuf - before.Rcvbuf
	return a, err
}

// collect reads until ctx has ended and the socket is quiet.
func collect(ctx context.Context, uc *net.UDPConn, run uint64) (Arrivals, error) {
	conn, msgs := packetConn(uc), make([]ipv4.Message, sinkBatch)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{make([]byte, maxPayload)}
	}
	var a Arrivals
	var end time.Time // of draining, which must end even if packets never do
	for {
		n, err := conn.ReadBatch(msgs, 0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return a, nil
		}
		if err != nil {
			return a, fmt.Errorf("receive: %w", err)
		}
		now := time.Now()
		for i := range msgs[:n] {
			if f, ok := parseFrame(msgs[i].Buffers[0][:msgs[i].N]); ok && f.run == run {
				a.add(f, msgs[i].N, now.UnixNano())
			}
		}
		if ctx.Err() == nil {
			continue
		}
		if end.IsZero() {
			end = now.Add(drainMost)
		}
		if now.After(end) {
			return a, nil
		}
		if err := uc.SetReadDeadline(now.Add(drainQuiet)); err != nil {
			return a, err
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
	// sinkBatch and maxPayload bound one receive call.
	sinkBatch  = 64
	maxPayload = 2048
	// sinkBuffer holds some 20,000 small datagrams: 100 ms without the processor.
	sinkBuffer = 16 << 20
	// drainQuiet without a packet ends a run; queues on the way are shorter than that.
	drainQuiet = 100 * time.Millisecond
	// drainMost ends it in any case.
	drainMost = time.Second
)
