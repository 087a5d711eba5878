package netnstest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// sniffer reads what arrives at an interface.
type sniffer struct {
	h  *host
	fd int
}

// sniff begins to note what arrives at an interface of a host.
func (h *host) sniff(name string) *sniffer {
	h.t.Helper()
	s := &sniffer{h: h, fd: -1}
	all := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	h.try(h.within(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
		return err
	}))
	h.t.Cleanup(func() { unix.Close(s.fd) })
	h.try(unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: h.link(name).Attrs().Index}))
	return s
}

// next returns the next ICMP error that arrives and quotes a packet to an address.
func (s *sniffer) next(quoting netip.Addr) icmpError {
	s.h.t.Helper()
	b := make([]byte, 1<<16)
	for end := time.Now().Add(tool); time.Now().Before(end); {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 100)
		if ready == 0 || err == unix.EINTR {
			continue
		}
		s.h.try(err)
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		s.h.try(err)
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if e, ok := parseICMPError(b[:n]); ok && e.quoted.dst.Addr() == quoting {
			return e
		}
	}
	s.h.t.Fatalf("no ICMP error about a packet to %v", quoting)
	return icmpError{}
}

// icmpError is an ICMP error of either family.
type icmpError struct {
	src, dst   netip.Addr
	kind, code uint8
	mtu        uint32 // as far as the type has one
	quoted     quote
}

// quote is what an ICMP error says about a packet. Ports are those of TCP and UDP.
type quote struct {
	proto    uint8
	src, dst netip.AddrPort
}

func (e icmpError) String() string {
	return fmt.Sprintf("%v to %v: type %d code %d MTU %d about %d from %v to %v",
		e.src, e.dst, e.kind, e.code, e.mtu, e.quoted.proto, e.quoted.src, e.quoted.dst)
}

// parseICMPError reads an ICMP error behind IP headers without options, and whether it is one.
func parseICMPError(b []byte) (e icmpError, ok bool) {
	proto, src, dst, body := parseIP(b)
	e.src, e.dst = src, dst
	switch {
	case len(body) < 8:
		return e, false
	case proto == unix.IPPROTO_ICMP && (body[0] == 3 || body[0] == 11):
		e.mtu = uint32(binary.BigEndian.Uint16(body[6:]))
	case proto == unix.IPPROTO_ICMPV6 && body[0] < 128:
		e.mtu = binary.BigEndian.Uint32(body[4:])
	default:
		return e, false
	}
	e.kind, e.code = body[0], body[1]
	inner, from, to, ports := parseIP(body[8:])
	if len(ports) < 8 {
		return e, false
	}
	e.quoted = quote{proto: inner, src: netip.AddrPortFrom(from, 0), dst: netip.AddrPortFrom(to, 0)}
	if inner == unix.IPPROTO_TCP || inner == unix.IPPROTO_UDP {
		e.quoted.src = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports))
		e.quoted.dst = netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
	}
	return e, true
}

// parseIP splits a packet, of which the end may be missing; of one that is none it returns no body.
func parseIP(b []byte) (proto uint8, src, dst netip.Addr, body []byte) {
	switch {
	case len(b) >= 20 && b[0] == 0x45:
		src, _ = netip.AddrFromSlice(b[12:16])
		dst, _ = netip.AddrFromSlice(b[16:20])
		return b[9], src, dst, b[20:]
	case len(b) >= 40 && b[0]>>4 == 6:
		src, _ = netip.AddrFromSlice(b[8:24])
		dst, _ = netip.AddrFromSlice(b[24:40])
		return b[6], src, dst, b[40:]
	}
	return 0, src, dst, nil
}
