package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

// sendSlots is how many messages one sendmmsg carries at most: as trains, 8 MiB; as single
// datagrams, one long train. More messages take more calls.
const sendSlots = 128

// maxPayload is the most bytes one message can carry: an IPv4 packet of 65,535 bytes less
// 20 bytes of IPv4 and 8 of UDP header. IPv6 could carry 20 more; one figure serves both.
const maxPayload = 65507

// sender is the memory of send calls.
type sender struct {
	gso     bool // cleared when refused overflows
	shared  bool // by many sockets: then refused starts anew instead
	refused refusals
	msgs    []mmsghdr
	iovs    []unix.Iovec
	pieces  []unix.Iovec // of gathers; made when the first is sent
	names   []sockaddr
	control [][controlSpace]byte
	place   []place
	try     attempt // of the call under way

	// call stands in for sendmmsg in tests that need an error the kernel at hand does not give;
	// nil otherwise, and looked at once per system call.
	call func(fd int, msgs []mmsghdr) (int, unix.Errno)
}

// place is what a message stands for: segs segments and bytes bytes of an item, a train or a
// gather, up to end, which counts as the item does: bytes of a train, segments of a gather.
type place struct {
	item, end, segs, bytes int
	last                   bool // of the item
}

func (o *sender) init() {
	o.gso = true
	o.msgs = make([]mmsghdr, sendSlots)
	o.iovs = make([]unix.Iovec, sendSlots)
	o.names = make([]sockaddr, sendSlots)
	o.control = make([][controlSpace]byte, sendSlots)
	o.place = make([]place, sendSlots)
	for i := range o.msgs {
		h := &o.msgs[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&o.names[i]))
		h.Control = &o.control[i][0]
	}
}

// attempt is how the train at the front is being sent, after the kernel refused other ways.
type attempt struct {
	split    bool // as single datagrams
	suspect  bool // split, and not yet known whether that was the cause
	unpinned bool // without its pinned source address
	// least is the shortest stride that the refusal seems to be about.
	least int
}

// Send sends trains in order and returns how many of them, from the first on, are settled: sent,
// or given up with an error of their own and counted. It never waits. sent < len(trains) without
// an error means that the send buffer is full: the caller drops the rest or calls again, for
// which a train sent in part has had its Buf moved past what was sent. An error is one of the
// socket itself; the trains from sent on were not sent.
//
// A train of several segments that the kernel refuses whole is sent again as single datagrams,
// which the kernel may fragment, and so are later ones to its destination, if their stride is not
// shorter, while the socket lives. A refused source address is left to the kernel's choice for that train.
func (s *Socket) Send(trains []batch.Train) (sent int, err error) {
	return send(s, trainQueue(trains))
}

// queue is what Send and SendGathers send from.
type queue interface {
	len() int
	// stage writes messages for the items from the given one on, until the slots are full or an
	// item makes no sense, and returns their number. try is about the first of these items.
	stage(s *Socket, from int, try *attempt) int
	// front returns what matters of an item when it is refused: how many segments it has, and as a
	// train without bytes where it goes, in which stride.
	front(i int) (t batch.Train, segments int)
	// skip moves an item past the place where it was sent up to.
	skip(i, end int)
}

// send is Send of any queue.
func send[Q queue](s *Socket, q Q) (sent int, err error) {
	try := &s.out.try
	*try = attempt{}
	for sent < q.len() {
		n := q.stage(s, sent, try)
		front, segments := q.front(sent)
		if n == 0 {
			s.count.invalid.Add(uint64(max(segments, 1))) // without bytes or stride it has none
			sent++
			*try = attempt{}
			continue
		}
		k, errno := s.sendmmsg(n)
		if errno == 0 {
			if try.suspect { // a single datagram went where the train did not
				s.refuse(front.Remote, try.least)
				try.suspect = false
			}
			settled, end := s.advance(k)
			if end > 0 {
				q.skip(settled, end)
			}
			if settled > sent {
				sent, *try = settled, attempt{}
			}
			continue
		}
		switch s.settle(&front, try, errno) {
		case again:
		case full:
			return sent, nil
		case broken:
			return sent, errno
		case lost:
			s.giveUp(errno, uint64(segments))
			sent++
			*try = attempt{}
		}
	}
	return sent, nil
}

// advance counts the k messages the kernel took. It returns the first item that is not sent in
// full, and up to where it is. An error that stopped the kernel short comes back from the next call.
func (s *Socket) advance(k int) (item, end int) {
	var trains, datagrams, bytes uint64
	for i := range k {
		p := &s.out.place[i]
		datagrams += uint64(p.segs)
		bytes += uint64(p.bytes)
		if !p.last {
			continue
		}
		trains++
		if i > 0 && p.segs == 1 && s.out.place[i-1].item == p.item && s.out.place[i-1].segs == 1 {
			s.count.splitTrains.Add(1)
		}
	}
	c := &s.count
	c.sentTrains.Add(trains)
	c.sentDatagrams.Add(datagrams)
	c.sentBytes.Add(bytes)
	last := s.out.place[k-1]
	if last.last {
		return last.item + 1, 0
	}
	return last.item, last.end
}

// trainQueue is a queue of trains.
type trainQueue []batch.Train

func (q trainQueue) len() int                       { return len(q) }
func (q trainQueue) front(i int) (batch.Train, int) { return q[i], q[i].Len() }
func (q trainQueue) skip(i, end int)                { q[i].Buf = q[i].Buf[end:] }

func (q trainQueue) stage(s *Socket, from int, try *attempt) int {
	n := 0
	for i := from; i < len(q); i++ {
		t := &q[i]
		segs, pinned := s.segmentsPerMessage(t), t.Local.Addr().IsValid()
		if i == from {
			if try.split {
				segs = 1
			}
			pinned = pinned && !try.unpinned
		}
		if len(t.Buf) == 0 || t.Stride <= 0 {
			return n
		}
		for at := 0; at < len(t.Buf); n++ {
			if n == sendSlots {
				return n
			}
			size := min(segs*t.Stride, len(t.Buf)-at)
			if !s.out.head(n, t, size, pinned, s.v6) {
				return n
			}
			iov := &s.out.iovs[n]
			iov.Base = &t.Buf[at]
			iov.SetLen(size)
			s.out.msgs[n].Hdr.Iov = iov
			s.out.msgs[n].Hdr.SetIovlen(1)
			at += size
			p := &s.out.place[n]
			p.item, p.end, p.bytes, p.last = i, at, size, at == len(t.Buf)
		}
	}
	return n
}

// outcome is what an error of the kernel means for the train at the front.
type outcome uint8

const (
	again  outcome = iota // repeat the call, perhaps in another way
	full                  // the send buffer has no room
	broken                // the error is one of the socket itself
	lost                  // the train cannot be sent
)

// settle decides what to do about errno.
func (s *Socket) settle(t *batch.Train, try *attempt, errno unix.Errno) outcome {
	switch errno {
	case unix.EINTR:
		return again
	case unix.EAGAIN:
		s.count.sendBlocked.Add(1)
		return full
	case unix.EBADF, unix.ENOTSOCK, unix.EFAULT, unix.ENOSYS:
		return broken
	}
	if s.retry(t, try, errno) {
		return again
	}
	return lost
}

// segmentsPerMessage returns how many segments of t one message may carry.
func (s *Socket) segmentsPerMessage(t *batch.Train) int {
	if len(t.Buf) <= t.Stride {
		return 1
	}
	return s.out.segments(t, s.segs)
}

// segments returns how many segments of a train with t's stride and destination one message of a
// socket that can carry limit may carry.
func (o *sender) segments(t *batch.Train, limit int) int {
	if !o.gso || t.Stride <= 0 || o.refused.has(t.Remote, t.Stride) {
		return 1
	}
	return max(1, min(limit, maxPayload/t.Stride))
}

// head writes addresses and control data of message i, which carries size bytes of t, and reports
// false if the addresses do not suit the family.
func (o *sender) head(i int, t *batch.Train, size int, pinned, v6 bool) bool {
	h := &o.msgs[i].Hdr
	h.Namelen = putAddr(&o.names[i], t.Remote, v6)
	if h.Namelen == 0 {
		return false
	}
	space := o.control[i][:]
	rest := space
	if pinned {
		if rest = putSource(rest, t, v6); rest == nil {
			return false
		}
	}
	if t.ECN != 0 {
		level, typ := unix.IPPROTO_IP, unix.IP_TOS
		if v6 {
			level, typ = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		var data []byte
		data, rest = putCmsg(rest, level, typ, 4)
		binary.NativeEndian.PutUint32(data, uint32(t.ECN&3))
	}
	o.place[i].segs = 1
	if size > t.Stride {
		var data []byte
		data, rest = putCmsg(rest, unix.SOL_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(t.Stride))
		o.place[i].segs = (size + t.Stride - 1) / t.Stride
	}
	h.SetControllen(len(space) - len(rest))
	h.Control = nil
	if len(rest) < len(space) {
		h.Control = &space[0]
	}
	return true
}

// putSource writes the packet info that pins t's source address; nil for the wrong family.
func putSource(b []byte, t *batch.Train, v6 bool) (rest []byte) {
	addr := t.Local.Addr()
	var data []byte
	switch {
	case !v6 && addr.Is4():
		// struct in_pktinfo: [interface 4][source 4][unused 4]
		data, rest = putCmsg(b, unix.IPPROTO_IP, unix.IP_PKTINFO, 12)
		a := addr.As4()
		copy(data[4:], a[:])
	case v6 && addr.Is6() && !addr.Is4In6():
		// struct in6_pktinfo: [source 16][interface 4]. The interface of a link-local source is
		// that of the destination, which must be link-local too and says it itself.
		data, rest = putCmsg(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, 20)
		a := addr.As16()
		copy(data, a[:])
	}
	return rest
}

// sendmmsg hands the first n messages to the kernel, which takes at least one or gives an error.
func (s *Socket) sendmmsg(n int) (int, unix.Errno) {
	o := s.out
	if o.call != nil {
		return o.call(s.fd, o.msgs[:n])
	}
	// MSG_DONTWAIT never sleeps, so the scheduler need not know about this call.
	k, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd),
		uintptr(unsafe.Pointer(&o.msgs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(k), errno
}

// retry decides whether the train at the front can be sent in another way after errno, and how.
// EINVAL may mean the segments or the source address: the segments are tried first, because a
// datagram from the wrong address is worse than one more call.
func (s *Socket) retry(t *batch.Train, try *attempt, errno unix.Errno) bool {
	whole := s.out.place[0].segs > 1
	if whole && (errno == unix.EINVAL || errno == unix.EMSGSIZE || errno == unix.EIO) {
		try.split, try.suspect, try.least = true, true, t.Stride
		if errno == unix.EIO { // no checksum offload on the way: the length does not matter
			try.least = 0
		}
		return true
	}
	if !t.Local.Addr().IsValid() || try.unpinned {
		return false
	}
	switch errno {
	case unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETUNREACH:
		try.unpinned = true
		if try.suspect {
			try.split, try.suspect = false, false
		}
		s.count.sourceGone.Add(1)
		return true
	}
	return false
}

// refuse remembers that trains of stride least and more to a destination have to be split.
func (s *Socket) refuse(to netip.AddrPort, least int) {
	s.count.gsoRefused.Add(1)
	if s.out.refused.add(to, least) {
		return
	}
	if s.out.shared {
		s.out.refused.forget()
		s.out.refused.add(to, least)
		return
	}
	s.out.gso = false
	s.count.gsoDisabled.Store(1)
}

// giveUp counts the datagrams of a train that could not be sent, by reason.
func (s *Socket) giveUp(errno unix.Errno, n uint64) {
	c := &s.count
	switch errno {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN:
		c.unreachable.Add(n)
	case unix.EPERM, unix.EACCES:
		c.prohibited.Add(n)
	case unix.ECONNREFUSED:
		c.refused.Add(n)
	case unix.EMSGSIZE:
		c.tooLong.Add(n)
	case unix.ENOBUFS, unix.ENOMEM:
		c.noMemory.Add(n)
	default:
		c.other.Add(n)
	}
}
