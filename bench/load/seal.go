package load

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/protocol/wireguard"
)

// seal sends datagrams for c.length as the messages of a WireGuard session: the generator is
// client and tunnel in one.
func seal(c sendConfig) (Sent, error) {
	from, err := netip.ParseAddr(c.peer.inner)
	if err != nil {
		return Sent{}, err
	}
	to, err := netip.ParseAddrPort(c.to)
	if err != nil {
		return Sent{}, err
	}
	t, err := newTemplate(from, to, c.payload)
	if err != nil {
		return Sent{}, err
	}
	if c.burst < 1 || c.burst > maxSealed {
		return Sent{}, fmt.Errorf("bursts of %d packets are not between 1 and %d", c.burst, maxSealed)
	}
	s, err := c.peer.dial(c.run)
	if err != nil {
		return Sent{}, err
	}
	defer s.conn.Close()
	f, err := newFlood(s, t, c)
	if err != nil {
		return Sent{}, err
	}
	start := time.Now()
	for until := start.Add(c.length); err == nil && time.Now().Before(until); {
		err = f.burst()
	}
	f.Seconds = time.Since(start).Seconds()
	return f.Sent, err
}

// flood is a session that sends as much as it can, of flows that take turns.
type flood struct {
	Sent
	*session
	*template
	batch    batchConn
	trains   bool
	run, seq uint64
	all      []byte         // all messages, one after the other
	messages [][]byte       // each of them
	msgs     []ipv4.Message // and for the kernel
}

func newFlood(s *session, t *template, c sendConfig) (*flood, error) {
	f := &flood{session: s, template: t, batch: packetConn(s.conn), run: c.run, trains: c.trains}
	size, n := len(t.plain)+wireguard.DataMinSize, c.burst
	if c.trains {
		n = min(n, maxTrain/size)
		if err := segmentAt(s.conn, size); err != nil {
			return nil, err
		}
	}
	f.all = make([]byte, n*size)
	for at := 0; at < len(f.all); at += size {
		m := f.all[at : at+size : at+size]
		f.messages = append(f.messages, m)
		f.msgs = append(f.msgs, ipv4.Message{Buffers: [][]byte{m}})
	}
	return f, nil
}

// burst seals and sends as many packets as it has messages. What the kernel has no room for
// counts as refused and uses up sequence numbers all the same.
func (f *flood) burst() error {
	n := len(f.messages)
	first, ok := f.keys.Take(n)
	if !ok {
		return errKeyUsedUp
	}
	now := time.Now().UnixNano()
	for _, m := range f.messages {
		flow := f.seq % flows
		f.put(m[wireguard.HeaderSize:], frame{run: f.run, seq: flow<<flowShift | f.seq, sent: now})
		f.seq++
	}
	f.keys.Seal(&f.scratch, f.messages, first)
	var sent int
	var err error
	if f.trains {
		if _, err = f.conn.Write(f.all); err == nil {
			sent = n
		}
	} else {
		sent, err = f.batch.WriteBatch(f.msgs, 0)
	}
	sent = max(sent, 0)
	f.Packets += uint64(sent)
	f.Refused += uint64(n - sent)
	if errors.Is(err, unix.ENOBUFS) {
		err = nil
	}
	return err
}

// segmentAt has the kernel cut what is written to c into datagrams of size bytes.
func segmentAt(c *net.UDPConn, size int) error { return setUDPOption(c, unix.UDP_SEGMENT, size) }

func setUDPOption(c *net.UDPConn, option, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_UDP, option, value) })
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("set UDP option %d: %w", option, err)
	}
	return nil
}

const (
	// flows is how many a gateway meets at once: some, and not so many that each has but one
	// packet in a burst.
	flows = 16
	// maxSealed is what wireguard.Keypair reserves counters for at once, and the kernel's limit.
	maxSealed = maxBurst
	// maxTrain is what the kernel takes to segment, which over IPv6 is a UDP datagram at most.
	maxTrain = 65535 - 48
)
