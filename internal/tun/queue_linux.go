package tun

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
)

// MaxPayloads is how many pieces a Super may have besides its head: the kernel takes 1,024 in
// one call (UIO_MAXIOV), and the head is one. A superpacket of 64 KiB in pieces of 64 bytes
// just fits.
const MaxPayloads = 1023

// maxPacket is the longest packet that IPv4's length field and the slabs can hold.
const maxPacket = 65535

// ErrRemoved says that the interface is gone or the queue was detached from it.
var ErrRemoved = errors.New("tunnel interface was removed")

// ErrNoSlabs says that the packet pool had no slab left to read into: nothing was read.
var ErrNoSlabs = errors.New("read the tunnel queue: packet pool is exhausted")

// Stats is a snapshot of what a Queue has counted since it was opened.
type Stats struct {
	// ReadPackets and ReadBytes count what Read delivered, superpackets as one, without the
	// virtio-net header; ReadMalformed what was dropped for a header that contradicts its
	// packet.
	ReadPackets, ReadBytes, ReadMalformed uint64
	// WrittenPackets and WrittenBytes count what the kernel took.
	WrittenPackets, WrittenBytes uint64
	// WriteInvalid counts packets that were not offered to the kernel: too many pieces, too
	// long, no headroom, or an offload that contradicts the packet or the queue.
	WriteInvalid uint64
	// WriteRefused counts packets the kernel called invalid (EINVAL); WriteDown those that met
	// an interface that is down (EIO); WriteNoMemory such without kernel memory; WriteOther
	// the rest.
	WriteRefused, WriteDown, WriteNoMemory, WriteOther uint64
	// WriteBlocked counts Write calls that ended at a full queue.
	WriteBlocked uint64
}

// Queue is one queue of a Device. See the package comment for who may call what.
type Queue struct {
	fd   int
	hdr  int // bytes of virtio-net header in front of each packet: vnetHdrLen or 0
	iovs []unix.Iovec

	readPackets, readBytes, readMalformed atomic.Uint64

	_ [64]byte // the two loops may run on different cores

	writtenPackets, writtenBytes                     atomic.Uint64
	invalid, refused, down, noMemory, other, blocked atomic.Uint64
}

func newQueue(fd int, vnetHdr bool) *Queue {
	q := &Queue{fd: fd, iovs: make([]unix.Iovec, 1+MaxPayloads)}
	if vnetHdr {
		q.hdr = vnetHdrLen
	}
	return q
}

// Fd returns the file descriptor, for polling. It stays the queue's.
func (q *Queue) Fd() int { return q.fd }

// Read resets b and reads packets until the queue is empty or b is full. It never waits: an
// empty queue is no packets and no error. The packets' bytes are lent by b and valid until it
// is reset. An error comes only without packets: ErrRemoved, ErrNoSlabs or the kernel's.
//
// Offload is checked against the packet; a packet that contradicts it is dropped and counted.
func (q *Queue) Read(b *batch.SuperBatch) error {
	b.Reset()
	var bytes, malformed uint64
	err := error(nil)
	for {
		slab, ok := b.Next()
		if !ok {
			if b.Cap() == 0 || len(b.Packets) < b.Cap() {
				err = ErrNoSlabs
			}
			break
		}
		size, errno := q.readOne(slab)
		if errno != 0 {
			if errno == unix.EINTR {
				continue
			}
			err = readError(errno)
			break
		}
		var p batch.Packet
		if p, ok = q.parse(slab, size); !ok {
			malformed++
			if malformed > uint64(b.Cap()) {
				break // bounds the turn; the rest is read in the next one
			}
			continue
		}
		bytes += uint64(len(p.Buf))
		b.Packets = append(b.Packets, p)
	}
	if malformed != 0 {
		q.readMalformed.Add(malformed)
	}
	if len(b.Packets) > 0 {
		q.readPackets.Add(uint64(len(b.Packets)))
		q.readBytes.Add(bytes)
		return nil
	}
	return err
}

// readOne reads one packet so that its IP header is the first byte of the slab's data: the
// virtio-net header ends up in the headroom.
func (q *Queue) readOne(slab bufpool.Slab) (int, unix.Errno) {
	room := slab.Whole()[bufpool.Headroom-q.hdr:]
	// The descriptor is non-blocking, so the scheduler need not know about this call.
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(q.fd), uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)))
	return int(n), errno
}

func (q *Queue) parse(slab bufpool.Slab, size int) (p batch.Packet, ok bool) {
	if size <= q.hdr {
		return p, false
	}
	p.Room = slab.Whole()[bufpool.Headroom-batch.PacketRoom : bufpool.Headroom+size-q.hdr]
	p.Buf = p.Room[batch.PacketRoom:]
	if q.hdr == 0 {
		return p, true
	}
	h := slab.Whole()[bufpool.Headroom-vnetHdrLen:]
	p.Offload, ok = decode((*[vnetHdrLen]byte)(h), p.Buf)
	return p, ok
}

func readError(errno unix.Errno) error {
	switch errno {
	case unix.EAGAIN:
		return nil
	case unix.EBADFD:
		return ErrRemoved
	}
	return errno
}

// Write writes supers in order, one call each, and returns how many of them, from the first on,
// are settled: taken by the kernel, or dropped for an error of their own and counted. It never
// waits. written < len(supers) without an error means that the queue is full: the caller drops
// the rest or calls again. An error (ErrRemoved or the kernel's) is one of the queue: the
// supers from written on were not written.
//
// The SuperHeadroom bytes of each Head are overwritten.
func (q *Queue) Write(supers []batch.Super) (written int, err error) {
	var packets, bytes uint64
	for written < len(supers) && err == nil {
		s := &supers[written]
		n, size := q.gather(s)
		if n == 0 {
			q.invalid.Add(1)
			written++
			continue
		}
		// The descriptor is non-blocking, so the scheduler need not know about this call.
		_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(&q.iovs[0])), uintptr(n))
		switch errno {
		case 0:
			packets++
			bytes += uint64(size)
			written++
			continue
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS:
			q.blocked.Add(1)
			q.settle(packets, bytes)
			return written, nil
		case unix.EBADFD:
			err = ErrRemoved
		case unix.EBADF, unix.EFAULT:
			err = errno
		default:
			q.drop(errno)
			written++
		}
	}
	q.settle(packets, bytes)
	return written, err
}

func (q *Queue) settle(packets, bytes uint64) {
	q.writtenPackets.Add(packets)
	q.writtenBytes.Add(bytes)
}

// gather points the iovecs at the pieces of s behind its virtio-net header, and returns their
// number and the length of the packet; 0 for a super that cannot be written.
func (q *Queue) gather(s *batch.Super) (n, size int) {
	if len(s.Head) <= batch.SuperHeadroom || len(s.Payloads) > MaxPayloads {
		return 0, 0
	}
	size = len(s.Head) - batch.SuperHeadroom
	n = 1
	for _, p := range s.Payloads {
		if len(p) == 0 {
			continue
		}
		q.iovs[n].Base = &p[0]
		q.iovs[n].SetLen(len(p))
		size += len(p)
		n++
	}
	if size > maxPacket {
		return 0, 0
	}
	head := s.Head[batch.SuperHeadroom-q.hdr:]
	if q.hdr != 0 {
		if !encode((*[vnetHdrLen]byte)(head), &s.Offload, size) {
			return 0, 0
		}
	} else if s.Offload.Kind != batch.OffloadNone || s.Offload.NeedsCsum {
		return 0, 0
	}
	q.iovs[0].Base = &head[0]
	q.iovs[0].SetLen(len(head))
	return n, size
}

// drop counts a packet the kernel refused, by reason.
func (q *Queue) drop(errno unix.Errno) {
	switch errno {
	case unix.EINVAL:
		q.refused.Add(1)
	case unix.EIO:
		q.down.Add(1)
	case unix.ENOMEM:
		q.noMemory.Add(1)
	default:
		q.other.Add(1)
	}
}

// Stats returns a snapshot; each field is exact, the set of them is not one instant.
func (q *Queue) Stats() Stats {
	return Stats{
		ReadPackets:    q.readPackets.Load(),
		ReadBytes:      q.readBytes.Load(),
		ReadMalformed:  q.readMalformed.Load(),
		WrittenPackets: q.writtenPackets.Load(),
		WrittenBytes:   q.writtenBytes.Load(),
		WriteInvalid:   q.invalid.Load(),
		WriteRefused:   q.refused.Load(),
		WriteDown:      q.down.Load(),
		WriteNoMemory:  q.noMemory.Load(),
		WriteOther:     q.other.Load(),
		WriteBlocked:   q.blocked.Load(),
	}
}
