package udp

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) on 64-bit Linux.
type mmsghdr struct {
	Hdr unix.Msghdr
	Len uint32
	_   [4]byte
}

// Control messages (cmsg(3)) on 64-bit Linux:
//
//	[len 8][level 4][type 4][data … padded to 8]
//
// The length counts the header and the data without padding.
const cmsgHeader = 16

// The drawing above must match the platform.
var _ [cmsgHeader]byte = [unix.SizeofCmsghdr]byte{}

// controlSpace holds every control message of one datagram, either way: packet info (40 for
// IPv6), traffic class (24), segment size (24), overflow count (24).
const controlSpace = 128

func cmsgSpace(n int) int { return cmsgHeader + (n+7)&^7 }

// putCmsg writes the header of a control message with n bytes of data at the start of b, and
// returns the room for the data, zeroed, and what is left of b.
func putCmsg(b []byte, level, typ, n int) (data, rest []byte) {
	binary.NativeEndian.PutUint64(b, uint64(cmsgHeader+n))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(typ))
	data = b[cmsgHeader:cmsgSpace(n)]
	clear(data)
	return data[:n], b[cmsgSpace(n):]
}

// sockaddr is room for the address of either family.
type sockaddr = unix.RawSockaddrInet6

// putAddr writes a to sa in the form the socket's family wants and returns its length in bytes;
// 0 when a is of the other family.
func putAddr(sa *sockaddr, a netip.AddrPort, v6 bool) uint32 {
	addr, port := a.Addr(), a.Port()
	if !v6 {
		if !addr.Is4() {
			return 0
		}
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		sa4.Family = unix.AF_INET
		putPort(&sa4.Port, port)
		sa4.Addr = addr.As4()
		return unix.SizeofSockaddrInet4
	}
	if !addr.Is6() || addr.Is4In6() {
		return 0
	}
	*sa = sockaddr{Family: unix.AF_INET6, Addr: addr.As16()}
	putPort(&sa.Port, port)
	if zone := addr.Zone(); zone != "" {
		index, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			return 0
		}
		sa.Scope_id = uint32(index)
	}
	return unix.SizeofSockaddrInet6
}

// putPort stores a port in network byte order.
func putPort(at *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(at))[:], port)
}

func getPort(at *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(at))[:])
}

// zones remembers the text of IPv6 zones, which netip wants as strings and the kernel gives as
// interface indexes, so that link-local traffic allocates nothing after the first packet. Eight
// links with link-local peers are more than a gateway has; a ninth replaces the oldest.
type zones struct {
	known [8]struct {
		index uint32
		text  string
	}
	next int
}

func (z *zones) text(index uint32) string {
	for i := range z.known {
		if z.known[i].index == index {
			return z.known[i].text
		}
	}
	at := &z.known[z.next]
	z.next = (z.next + 1) % len(z.known)
	at.index, at.text = index, strconv.FormatUint(uint64(index), 10)
	return at.text
}

// getAddr reads the address of size bytes that the kernel wrote to sa.
func getAddr(sa *sockaddr, size uint32, z *zones) netip.AddrPort {
	switch {
	case sa.Family == unix.AF_INET && size >= unix.SizeofSockaddrInet4:
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), getPort(&sa4.Port))
	case sa.Family == unix.AF_INET6 && size >= unix.SizeofSockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr)
		if sa.Scope_id != 0 {
			addr = addr.WithZone(z.text(sa.Scope_id))
		}
		return netip.AddrPortFrom(addr, getPort(&sa.Port))
	}
	return netip.AddrPort{}
}
