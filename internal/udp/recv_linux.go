package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
)

// recvSlots is how many messages one Recv takes at most, whatever the batch could hold: with
// UDP_GRO that is up to 4 MiB a call, more than a turn's budget.
const recvSlots = 64

// receiver is the memory of receive calls. Headers point into the arrays for good;
// only the iovecs change with the batch.
type receiver struct {
	msgs    []mmsghdr
	iovs    []unix.Iovec
	names   []sockaddr
	control [][controlSpace]byte
	zones   zones
}

func (r *receiver) init() {
	r.msgs = make([]mmsghdr, recvSlots)
	r.iovs = make([]unix.Iovec, recvSlots)
	r.names = make([]sockaddr, recvSlots)
	r.control = make([][controlSpace]byte, recvSlots)
	for i := range r.msgs {
		h := &r.msgs[i].Hdr
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = &r.control[i][0]
		r.rearm(i)
	}
}

// rearm makes message i ready for the next call: the kernel overwrites these lengths.
func (r *receiver) rearm(i int) {
	h := &r.msgs[i].Hdr
	h.Namelen = uint32(unsafe.Sizeof(sockaddr{}))
	h.SetControllen(controlSpace)
	h.Flags = 0
}

// Recv resets b and fills it with what one recvmmsg delivers, at most b.Cap() trains and at most
// 64. It never waits: nothing to receive is no trains and no error. Their bytes are lent by b
// and valid until b is reset.
//
// Remote is the sender (zone: decimal interface index), Local our address with the socket's
// port, Stride the segment size the kernel reported. Messages whose bytes or control data were
// cut off are dropped and counted. ErrNoSlabs means the pool is exhausted.
func (s *Socket) Recv(b *batch.Batch) error {
	b.Reset()
	_, err := s.RecvMore(b, recvSlots)
	return err
}

// RecvMore is Recv of limit messages at most behind the trains that b already holds, which may
// have come from other sockets. It returns how many messages there were, dropped ones included:
// fewer than limit, and than there were slabs, means that the socket was drained. ErrNoSlabs
// means that b is full or the pool is exhausted.
func (s *Socket) RecvMore(b *batch.Batch, limit int) (messages int, err error) {
	slabs := b.Free()
	n := min(len(slabs), recvSlots, limit)
	if n == 0 {
		return 0, ErrNoSlabs
	}
	r := s.in
	for i := range n {
		data := slabs[i].Data()
		r.iovs[i].Base = &data[0]
		r.iovs[i].SetLen(len(data))
	}
	// MSG_DONTWAIT never sleeps, so the scheduler need not know about this call.
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd),
		uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	default:
		return 0, errno
	}
	s.take(b, slabs, int(got))
	return int(got), nil
}

// take turns the first n messages into trains.
func (s *Socket) take(b *batch.Batch, slabs []bufpool.Slab, n int) {
	r := s.in
	var trains, segments, bytes, truncated, malformed uint64
	for i := range n {
		m := &r.msgs[i]
		size := int(m.Len)
		t := batch.Train{Stride: size}
		switch {
		case m.Hdr.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			truncated++
		case size == 0 || !s.describe(&t, i):
			malformed++
		default:
			t.Buf = slabs[i].Data()[:size]
			trains++
			segments += uint64(t.Len())
			bytes += uint64(size)
			b.Trains = append(b.Trains, t)
		}
		r.rearm(i)
	}
	b.Use(n)
	c := &s.count
	c.recvTrains.Add(trains)
	c.recvDatagrams.Add(segments)
	c.recvBytes.Add(bytes)
	if truncated+malformed != 0 {
		c.recvTruncated.Add(truncated)
		c.recvMalformed.Add(malformed)
	}
}

// describe fills addresses, stride and ECN of message i, and reports whether they make sense.
func (s *Socket) describe(t *batch.Train, i int) bool {
	r := s.in
	h := &r.msgs[i].Hdr
	t.Remote = getAddr(&r.names[i], h.Namelen, &r.zones)
	control := r.control[i][:min(uint64(h.Controllen), controlSpace)]
	for len(control) >= cmsgHeader {
		size := binary.NativeEndian.Uint64(control)
		if size < cmsgHeader || size > uint64(len(control)) {
			return false
		}
		level := binary.NativeEndian.Uint32(control[8:])
		typ := binary.NativeEndian.Uint32(control[12:])
		s.note(t, level, typ, control[cmsgHeader:size])
		control = control[min((size+7)&^7, uint64(len(control))):]
	}
	return t.Stride > 0 && t.Remote.IsValid() && t.Local.IsValid()
}

// note takes what one control message says about the train.
func (s *Socket) note(t *batch.Train, level, typ uint32, data []byte) {
	switch {
	case level == unix.SOL_UDP && typ == unix.UDP_GRO && len(data) >= 4:
		// A stride beyond the message is a lone datagram; 0 is refused by describe.
		t.Stride = min(int(int32(binary.NativeEndian.Uint32(data))), t.Stride)
	case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(data) >= 12:
		// struct in_pktinfo: [interface 4][local address 4][header destination 4]. The local
		// address is one that can be pinned as a source, even where the two differ.
		t.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[4:8])), s.port)
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= 20:
		// struct in6_pktinfo: [header destination 16][interface 4]
		a := netip.AddrFrom16([16]byte(data[:16]))
		if a.IsLinkLocalUnicast() {
			a = a.WithZone(s.in.zones.text(binary.NativeEndian.Uint32(data[16:])))
		}
		t.Local = netip.AddrPortFrom(a, s.port)
	case level == unix.IPPROTO_IP && typ == unix.IP_TOS && len(data) >= 1:
		t.ECN = data[0] & 3
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_TCLASS && len(data) >= 4:
		t.ECN = uint8(binary.NativeEndian.Uint32(data) & 3)
	case level == unix.SOL_SOCKET && typ == unix.SO_RXQ_OVFL && len(data) >= 4:
		s.count.recvOverrun.Store(uint64(binary.NativeEndian.Uint32(data)))
	}
}
