package main

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/protocol/stun"
)

// slots is how many datagrams a system call takes or gives.
const slots = 64

// block is room for a datagram of an Ethernet link, behind that for a ChannelData header.
type block [2048]byte

// messages is what recvmmsg and sendmmsg work in.
type messages struct {
	headers [slots]message
	vectors [slots]unix.Iovec
	names   [slots]unix.RawSockaddrInet4
	blocks  [slots]*block
	at      int // in a block, of what is received
}

// message is struct mmsghdr.
type message struct {
	unix.Msghdr
	size uint32
	_    [4]byte
}

func (m *messages) init(receive bool) {
	if receive {
		m.at = stun.ChannelHeader
	}
	for i := range m.headers {
		m.blocks[i] = new(block)
		h := &m.headers[i]
		h.Iov = &m.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&m.names[i]))
		h.Namelen = unix.SizeofSockaddrInet4
	}
}

// receive takes what fd holds, slots datagrams at most.
func (m *messages) receive(fd int) int {
	for i := range m.vectors {
		m.vectors[i].Base = &m.blocks[i][m.at]
		m.vectors[i].SetLen(len(m.blocks[i]) - m.at)
		m.headers[i].Namelen = unix.SizeofSockaddrInet4
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.headers[0])), slots, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// bytes returns what the i-th datagram received holds.
func (m *messages) bytes(i int) []byte { return m.blocks[i][m.at:][:m.headers[i].size] }

// load makes the i-th message the ChannelData of size bytes in its block, for a line's client.
func (m *messages) load(i int, l *line, size int) {
	stun.PutChannelHeader(m.blocks[i][:], l.number, size)
	m.vectors[i].Base = &m.blocks[i][0]
	m.vectors[i].SetLen(stun.ChannelHeader + size)
	m.names[i] = l.client
}

// send gives fd the messages from to end and returns how many it took.
func (m *messages) send(fd, from, end int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.headers[from])), uintptr(end-from), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// sendTo sends one datagram, which may get lost as any may.
func sendTo(fd int, b []byte, to *unix.RawSockaddrInet4) {
	_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
}

// rawNanosleep sleeps without a word to the Go scheduler, which would look for the thread meanwhile.
func rawNanosleep(d *unix.Timespec) {
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(d)), 0, 0)
}

// key names a client.
func key(a *unix.RawSockaddrInet4) (k [6]byte) {
	copy(k[:], a.Addr[:])
	copy(k[4:], portBytes(a))
	return k
}

// portBytes is a port in network byte order.
func portBytes(a *unix.RawSockaddrInet4) []byte {
	return (*[2]byte)(unsafe.Pointer(&a.Port))[:]
}
