package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/protocol/stun"
)

// carrier is one thread's share: the kernel sends each client's datagrams to the same one.
type carrier struct {
	public netip.Addr
	pause  time.Duration
	epoll  int
	listen int
	ports  []*line // by descriptor
	known  map[[6]byte]*line
	in     messages
	out    messages
	queued int // in out
}

// line is an allocation with its only channel.
type line struct {
	fd           int
	port         uint16
	number       uint16
	client, peer unix.RawSockaddrInet4
}

func newCarrier(public netip.Addr, port uint16, pause time.Duration) (*carrier, error) {
	c := &carrier{public: public, pause: pause, known: make(map[[6]byte]*line)}
	c.in.init(true)
	c.out.init(false)
	var err error
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a poll set: %w", err)
	}
	c.listen, _, err = c.open(netip.IPv4Unspecified(), port)
	return c, err
}

// open binds a socket and watches it.
func (c *carrier) open(addr netip.Addr, port uint16) (fd int, bound uint16, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("open a socket: %w", err)
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer}, {unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffer},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return -1, 0, fmt.Errorf("configure a socket: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()}); err != nil {
		return -1, 0, fmt.Errorf("bind port %d: %w", port, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, fmt.Errorf("read the bound port: %w", err)
	}
	err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	return fd, uint16(name.(*unix.SockaddrInet4).Port), err
}

// run carries until something fails.
func (c *carrier) run() error {
	events := make([]unix.EpollEvent, 256)
	timeout := -1
	for {
		n, err := unix.EpollWait(c.epoll, events, timeout)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == c.listen {
				c.fromClients()
			} else {
				c.fromPeers(c.ports[e.Fd])
			}
		}
		c.flush()
		if timeout = -1; n > 0 {
			rest := unix.NsecToTimespec(c.pause.Nanoseconds())
			rawNanosleep(&rest)
			timeout = 0
		}
	}
}

// fromClients sends payloads on, one system call for each because each leaves by another socket.
func (c *carrier) fromClients() {
	for range rounds {
		n := c.in.receive(c.listen)
		for i := range n {
			b := c.in.bytes(i)
			l := c.known[key(&c.in.names[i])]
			switch {
			case len(b) > stun.ChannelHeader && !stun.Is(b[0]) && l != nil && l.number != 0:
				size := min(int(binary.BigEndian.Uint16(b[2:])), len(b)-stun.ChannelHeader)
				sendTo(l.fd, b[stun.ChannelHeader:stun.ChannelHeader+size], &l.peer)
			case len(b) > 0 && stun.Is(b[0]):
				c.answer(b, &c.in.names[i], l)
			}
		}
		if n < slots {
			return
		}
	}
}

// fromPeers takes what a line's socket holds, and sends it together with that of others.
func (c *carrier) fromPeers(l *line) {
	for range rounds {
		n := c.in.receive(l.fd)
		for i := range n {
			b := c.in.bytes(i)
			if c.queued == slots {
				c.flush()
			}
			// Swapped, not copied: the bytes stay where they are until they are sent.
			c.in.blocks[i], c.out.blocks[c.queued] = c.out.blocks[c.queued], c.in.blocks[i]
			c.out.load(c.queued, l, len(b))
			c.queued++
		}
		if n < slots {
			return
		}
	}
}

func (c *carrier) flush() {
	for at := 0; at < c.queued; {
		n := c.out.send(c.listen, at, c.queued)
		if n <= 0 {
			break // full, or refused: lost, as datagrams may be
		}
		at += n
	}
	c.queued = 0
}

// answer grants what is asked.
func (c *carrier) answer(b []byte, from *unix.RawSockaddrInet4, l *line) {
	var m stun.Message
	if m.Parse(b) != nil || m.Class != stun.Request {
		return
	}
	w := stun.Start(nil, stun.Success, m.Method, m.ID)
	switch m.Method {
	case stun.Allocate:
		if l == nil {
			fd, port, err := c.open(c.public, 0)
			if err != nil {
				return
			}
			l = &line{fd: fd, port: port, client: *from}
			for len(c.ports) <= fd {
				c.ports = append(c.ports, nil)
			}
			c.ports[fd], c.known[key(from)] = l, l
		}
		w.Address(stun.XORRelayedAddress, netip.AddrPortFrom(c.public, l.port))
		w.Uint32(stun.Lifetime, 600)
	case stun.ChannelBind:
		if l == nil || !m.Peer.IsValid() {
			return
		}
		l.number = m.Channel
		l.peer = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: m.Peer.Addr().As4()}
		binary.BigEndian.PutUint16(portBytes(&l.peer), m.Peer.Port())
	default:
		return
	}
	sendTo(c.listen, w.Bytes(), from)
}

const (
	buffer = 7 << 20
	rounds = 4
)
