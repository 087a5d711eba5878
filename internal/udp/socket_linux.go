package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoSlabs says that the packet pool had no slab left to receive into: nothing was read.
var ErrNoSlabs = errors.New("receive datagrams: packet pool is exhausted")

// Options say how the sockets of a group are set up. The zero value is a plain group without
// offloads and with the system's default buffers.
type Options struct {
	// GSO sends trains by UDP_SEGMENT, GRO receives them by UDP_GRO, where the kernel can.
	GSO, GRO bool
	// ReceiveBuffer and SendBuffer are the bytes of payload and overhead asked of the kernel;
	// 0 leaves the default.
	ReceiveBuffer, SendBuffer int
	// RaiseLimits allows raising net.core.rmem_max and wmem_max, for the whole machine, when
	// the process may not go beyond them otherwise.
	RaiseLimits bool
	// Mark is the firewall mark of everything sent (SO_MARK); 0 sets none.
	Mark uint32
	// Family restricts a group to one address family.
	Family Family
	// Bind4 and Bind6 are the addresses to bind to; the zero Addr is all of the family.
	Bind4, Bind6 netip.Addr
}

// Family says which address families a group has.
type Family uint8

// The families. AnyFamily is IPv4, and IPv6 where the host has it.
const (
	AnyFamily Family = iota
	OnlyIPv4
	OnlyIPv6
)

// Socket is one UDP socket of one address family. See the package comment for who may call what.
// It is small: the memory of its calls lies in a Scratch.
type Socket struct {
	fd   int
	v6   bool
	port uint16
	segs int // most segments in one message

	in  *receiver
	out *sender

	count counters
}

// Fd returns the file descriptor, for polling. It stays the socket's.
func (s *Socket) Fd() int { return s.fd }

// MaxSegments returns how many segments one message of this socket can carry at most: 1 without
// UDP_SEGMENT. Longer trains are accepted and cost one message for every MaxSegments.
func (s *Socket) MaxSegments() int { return s.segs }

// Buffers returns the sizes of the receive and the send buffer in bytes as the kernel accounts
// them, twice what was asked when it was granted in full (socket(7)).
func (s *Socket) Buffers() (receive, send int, err error) {
	receive, err = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0, 0, fmt.Errorf("read the receive buffer size: %w", err)
	}
	send, err = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return 0, 0, fmt.Errorf("read the send buffer size: %w", err)
	}
	return receive, send, nil
}

// WaitWritable blocks until the send buffer has room or the timeout is over, and reports which.
// It serves callers that would rather wait a bounded time than drop what Send left over.
func (s *Socket) WaitWritable(timeout time.Duration) bool {
	deadline := time.Now().Add(timeout)
	for {
		left := max(time.Until(deadline), 0)
		ts := unix.NsecToTimespec(left.Nanoseconds())
		fds := [1]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
		n, err := unix.Ppoll(fds[:], &ts, nil)
		if err == unix.EINTR && left > 0 {
			continue
		}
		return n == 1 && err == nil
	}
}

// newSocket opens and configures a socket that works in x, without binding it.
func newSocket(v6 bool, o Options, caps Caps, x *Scratch) (*Socket, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	s := &Socket{fd: fd, v6: v6, segs: 1, in: &x.in, out: &x.out}
	if err := s.configure(o, caps); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return s, nil
}

// configure sets the options that Recv and Send count on, then those that are wishes.
func (s *Socket) configure(o Options, caps Caps) error {
	for _, opt := range s.required() {
		if err := unix.SetsockoptInt(s.fd, opt.level, opt.name, opt.value); err != nil {
			return fmt.Errorf("set %s on a UDP socket: %w", opt.text, err)
		}
	}
	if o.GRO && caps.GRO.Answer == Yes {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
			return fmt.Errorf("switch UDP_GRO on: %w", err)
		}
	}
	if o.GSO && caps.GSO.Answer == Yes {
		s.segs = caps.MaxSegments
	}
	// Kernels before 2.6.33 do not know it; the counter then stays zero.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	if o.Mark != 0 {
		if err := s.setMark(o.Mark); err != nil {
			return err
		}
	}
	s.setBuffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, o.ReceiveBuffer, rmemMax, o.RaiseLimits)
	s.setBuffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, o.SendBuffer, wmemMax, o.RaiseLimits)
	return nil
}

type sockopt struct {
	level, name, value int
	text               string
}

// required lists the options without which the socket would be of no use. Path MTU discovery
// is off, so that an outer packet larger than a link goes on in fragments instead of vanishing
// where ICMP is filtered: a tunnel cannot tell its inner senders about the outer path in time.
func (s *Socket) required() []sockopt {
	if s.v6 {
		return []sockopt{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO"},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1, "IPV6_RECVTCLASS"},
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER"},
		}
	}
	return []sockopt{
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1, "IP_PKTINFO"},
		{unix.IPPROTO_IP, unix.IP_RECVTOS, 1, "IP_RECVTOS"},
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, "IP_MTU_DISCOVER"},
	}
}

const (
	rmemMax = "/proc/sys/net/core/rmem_max"
	wmemMax = "/proc/sys/net/core/wmem_max"
)

// setBuffer asks for size bytes by the best means permitted. What came of it is in Buffers.
func (s *Socket) setBuffer(force, plain, size int, limit string, raise bool) {
	if size <= 0 || unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, size) == nil {
		return
	}
	if raise {
		raiseLimit(limit, size)
	}
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, size)
}

// raiseLimit lifts a sysctl to at least size; without permission it leaves it as it is.
func raiseLimit(path string, size int) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && now < size {
		_ = os.WriteFile(path, []byte(strconv.Itoa(size)), 0o644)
	}
}

func (s *Socket) setMark(mark uint32) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("set firewall mark %#x: %w", mark, err)
	}
	return nil
}

// bind binds to port on the family's address of o and learns the port that came of it.
func (s *Socket) bind(port uint16, o *Options) error {
	addr := o.bindAddr(s.v6)
	if addr.Is4() == s.v6 {
		return fmt.Errorf("bind %s: %w", netip.AddrPortFrom(addr, port), unix.EAFNOSUPPORT)
	}
	var to unix.Sockaddr
	if s.v6 {
		to = &unix.SockaddrInet6{Port: int(port), Addr: addr.As16()}
	} else {
		to = &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()}
	}
	if err := unix.Bind(s.fd, to); err != nil {
		return fmt.Errorf("bind %s: %w", netip.AddrPortFrom(addr, port), err)
	}
	got, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("read the bound port: %w", err)
	}
	switch a := got.(type) {
	case *unix.SockaddrInet4:
		s.port = uint16(a.Port)
	case *unix.SockaddrInet6:
		s.port = uint16(a.Port)
	}
	return nil
}

// bindAddr returns the address to bind a socket of a family to.
func (o *Options) bindAddr(v6 bool) netip.Addr {
	switch {
	case v6 && o.Bind6.IsValid():
		return o.Bind6
	case v6:
		return netip.IPv6Unspecified()
	case o.Bind4.IsValid():
		return o.Bind4
	}
	return netip.IPv4Unspecified()
}

func (s *Socket) close() error { return unix.Close(s.fd) }
