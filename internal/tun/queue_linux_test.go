package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

var dstUDP = netip.MustParseAddrPort("10.7.0.2:9")

// pattern returns n bytes that differ by position.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// sendUDP sends payload to dst, in segments if stride is not 0.
func sendUDP(t testing.TB, dst netip.AddrPort, payload []byte, stride int) {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dst))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if stride != 0 {
		err = raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, stride)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write(payload); err != nil {
		t.Fatal(err)
	}
}

// readUDP reads until a UDP packet has come, passing over what the kernel says by itself.
func readUDP(t testing.TB, q *Queue, b *batch.SuperBatch) *batch.Packet {
	t.Helper()
	for wait(t, q) {
		if err := q.Read(b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			p := &b.Packets[i]
			if p.Buf[0]>>4 == 4 && p.Buf[9] == unix.IPPROTO_UDP || p.Buf[0]>>4 == 6 && p.Buf[6] == unix.IPPROTO_UDP {
				return p
			}
		}
	}
	t.Fatalf("no packet came, stats %+v", q.Stats())
	return nil
}

func TestAUDPSuperpacketIsReadWhole(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", all)
	if want := (Caps{VnetHdr: true, Csum: true, TSO: true, USO: true}); d.Caps() != want {
		t.Fatalf("caps %+v, want %+v: this test needs Linux 6.2", d.Caps(), want)
	}
	up(t, d, "10.7.0.1/24", "fd07::1/64")
	want := pattern(20*1000 + 3)
	for dst, headers := range map[string]int{"10.7.0.2": 20, "fd07::2": 40} {
		sendUDP(t, netip.AddrPortFrom(netip.MustParseAddr(dst), 9), want, 1000)
		p := readUDP(t, d.Queue(0), newBatch(t, 16))
		o := batch.Offload{Kind: batch.OffloadUDP, NeedsCsum: true, HdrLen: uint16(headers + 8),
			SegmentSize: 1000, CsumStart: uint16(headers), CsumOffset: 6}
		if p.Offload != o {
			t.Errorf("%s: offload %+v, want %+v", dst, p.Offload, o)
		}
		if !bytes.Equal(p.Buf[headers+8:], want) {
			t.Errorf("%s: %d bytes differ from the %d sent", dst, len(p.Buf)-headers-8, len(want))
		}
	}
}

func TestWithoutOffloadsPacketsComeSingleAndSummed(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", Options{USO: true, TSO: true})
	if want := (Caps{VnetHdr: true}); d.Caps() != want {
		t.Fatalf("caps %+v, want %+v", d.Caps(), want)
	}
	up(t, d, "10.7.0.1/24")
	sendUDP(t, netip.MustParseAddrPort("10.7.0.2:9"), pattern(3000), 1000)
	b := newBatch(t, 16)
	for got := 0; got < 3; {
		p := readUDP(t, d.Queue(0), b)
		for range b.Packets {
			got++
		}
		if p.Offload != (batch.Offload{}) || len(p.Buf) != 1028 {
			t.Errorf("%d bytes with offload %+v, want 1028 and none", len(p.Buf), p.Offload)
		}
	}
}

// udpSuper builds an IPv4 UDP superpacket in pieces, from 10.7.0.2:9 to dst.
func udpSuper(dst netip.AddrPort, payload []byte, stride int) batch.Super {
	head := make([]byte, batch.SuperHeadroom+28)
	ip := head[batch.SuperHeadroom:]
	size := len(ip) + len(payload)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(size))
	src, to := [4]byte{10, 7, 0, 2}, dst.Addr().As4()
	copy(ip[12:], src[:])
	copy(ip[16:], to[:])
	binary.BigEndian.PutUint16(ip[10:], ^fold(ip[:20], 0))
	binary.BigEndian.PutUint16(ip[20:], 9)
	binary.BigEndian.PutUint16(ip[22:], dst.Port())
	binary.BigEndian.PutUint16(ip[24:], uint16(size-20))
	binary.BigEndian.PutUint16(ip[26:], fold(ip[12:20], uint32(unix.IPPROTO_UDP)+uint32(size-20)))
	s := batch.Super{Head: head, Offload: batch.Offload{Kind: batch.OffloadUDP, NeedsCsum: true,
		HdrLen: 28, SegmentSize: uint16(stride), CsumStart: 20, CsumOffset: 6}}
	for rest := payload; len(rest) > 0; {
		n := min(stride, len(rest))
		s.Payloads = append(s.Payloads, rest[:n])
		rest = rest[n:]
	}
	return s
}

func fold(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestAWrittenUDPSuperpacketArrivesAsItsDatagrams(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", all)
	up(t, d, "10.7.0.1/24")
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	dst := netip.AddrPortFrom(netip.MustParseAddr("10.7.0.1"), uint16(c.LocalAddr().(*net.UDPAddr).Port))
	want := pattern(4*1200 + 7)
	n, err := d.Queue(0).Write([]batch.Super{udpSuper(dst, want, 1200)})
	if n != 1 || err != nil {
		t.Fatalf("wrote %d, %v, stats %+v", n, err, d.Queue(0).Stats())
	}
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 65536)
	for datagrams := 1; len(got) < len(want); datagrams++ {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("datagram %d: %v", datagrams, err)
		}
		if datagrams <= 4 && n != 1200 {
			t.Errorf("datagram %d has %d bytes, want 1200", datagrams, n)
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes that arrived differ from those written")
	}
}

// Two network namespaces, each with a tunnel, whose packets the test carries over: what one
// kernel's TCP cuts off for us, the other's takes from us.
func TestTCPCrossesTwoTunnelsInSuperpackets(t *testing.T) {
	enterNetns(t)
	near := newDevice(t, "near", all)
	up(t, near, "10.7.0.1/24", "fd07::1/64")
	var listeners []net.Listener
	for _, addr := range []string{"10.7.0.1:0", "[fd07::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		listeners = append(listeners, l)
	}
	enterNetns(t)
	far := newDevice(t, "far", all)
	up(t, far, "10.7.0.2/24", "fd07::2/64")
	var seen [4]atomic.Uint64
	stop := carry(t, &seen, near.Queue(0), far.Queue(0))
	defer stop()
	want := pattern(8 << 20)
	for i, kind := range []batch.OffloadKind{batch.OffloadTCP4, batch.OffloadTCP6} {
		sums := make(chan []byte, 1)
		go func() {
			c, err := listeners[i].Accept()
			if err != nil {
				sums <- nil
				return
			}
			got, _ := io.ReadAll(c)
			_ = c.Close()
			sums <- got
		}()
		c, err := net.DialTimeout("tcp", listeners[i].Addr().String(), 5*time.Second)
		if err != nil {
			t.Fatalf("%v: near %+v, far %+v", err, near.Queue(0).Stats(), far.Queue(0).Stats())
		}
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if got := <-sums; !bytes.Equal(got, want) {
			t.Errorf("kind %d: %d bytes arrived, or other ones, of %d", kind, len(got), len(want))
		}
		if seen[kind].Load() == 0 {
			t.Errorf("no superpacket of kind %d was read", kind)
		}
	}
	for _, q := range []*Queue{near.Queue(0), far.Queue(0)} {
		if st := q.Stats(); st.WriteInvalid+st.WriteRefused+st.WriteOther+st.ReadMalformed != 0 {
			t.Errorf("stats %+v", st)
		}
	}
}

// carry moves packets between two queues until the returned function is called, and counts them
// by kind.
func carry(t *testing.T, seen *[4]atomic.Uint64, a, b *Queue) (stop func()) {
	var wg sync.WaitGroup
	var done atomic.Bool
	for _, way := range [][2]*Queue{{a, b}, {b, a}} {
		packets := newBatch(t, 16)
		wg.Go(func() {
			fds := []unix.PollFd{{Fd: int32(way[0].Fd()), Events: unix.POLLIN}}
			for !done.Load() {
				if n, _ := unix.Poll(fds, 20); n < 1 {
					continue
				}
				if err := way[0].Read(packets); err != nil {
					t.Errorf("read: %v", err)
					return
				}
				for i := range packets.Packets {
					s := super(&packets.Packets[i])
					seen[s.Offload.Kind].Add(1)
					if n, err := way[1].Write([]batch.Super{s}); n != 1 || err != nil {
						t.Errorf("wrote %d, %v", n, err)
					}
				}
			}
		})
	}
	return func() {
		done.Store(true)
		wg.Wait()
	}
}

func TestAWriteErrorCostsOnlyItsPacket(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", all)
	up(t, d, "10.7.0.1/24")
	dst := netip.MustParseAddrPort("10.7.0.1:9")
	good := func() batch.Super { return udpSuper(dst, pattern(3000), 1000) }
	many, long, noSegments, noHeader, offset := good(), good(), good(), good(), good()
	many.Payloads = make([][]byte, MaxPayloads+1)
	long.Payloads = [][]byte{make([]byte, 65535)}
	noSegments.Offload.SegmentSize = 0
	noHeader.Offload.HdrLen = 20
	offset.Offload.CsumStart = 60000
	garbage := batch.Super{Head: make([]byte, batch.SuperHeadroom+40)} // IP version 0
	supers := []batch.Super{good(), many, long, noSegments, noHeader, offset, {}, garbage, good()}
	q := d.Queue(0)
	n, err := q.Write(supers)
	if n != len(supers) || err != nil {
		t.Fatalf("wrote %d of %d, %v", n, len(supers), err)
	}
	if st := q.Stats(); st.WrittenPackets != 2 || st.WriteInvalid != 6 || st.WriteRefused != 1 || st.WrittenBytes != 2*3028 {
		t.Errorf("stats %+v", st)
	}
}

func TestADownAndARemovedInterface(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", all)
	q, b := d.Queue(0), newBatch(t, 4)
	supers := []batch.Super{udpSuper(netip.MustParseAddrPort("10.7.0.1:9"), pattern(3000), 1000)}
	if n, err := q.Write(supers); n != 1 || err != nil || q.Stats().WriteDown != 1 {
		t.Errorf("down: wrote %d, %v, stats %+v", n, err, q.Stats())
	}
	if err := q.Read(b); err != nil || len(b.Packets) != 0 {
		t.Errorf("down: read %d packets, %v", len(b.Packets), err)
	}
	link, err := netlink.LinkByName("fire0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if n, err := q.Write(supers); n != 0 || !errors.Is(err, ErrRemoved) {
		t.Errorf("removed: wrote %d, %v", n, err)
	}
	if err := q.Read(b); !errors.Is(err, ErrRemoved) {
		t.Errorf("removed: read gives %v", err)
	}
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", all)
	up(t, d, "10.7.0.1/24")
	q, b := d.Queue(0), newBatch(t, 8)
	c, err := net.Dial("udp", "10.7.0.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	payload := pattern(1000)
	supers := []batch.Super{
		udpSuper(netip.MustParseAddrPort("10.7.0.1:9"), pattern(60000), 1000),
		{}, // refused
		udpSuper(netip.MustParseAddrPort("10.7.0.1:9"), pattern(100), 1000),
	}
	n := testing.AllocsPerRun(200, func() {
		if _, err := c.Write(payload); err != nil {
			t.Error(err)
		}
		if err := q.Read(b); err != nil || len(b.Packets) == 0 {
			t.Errorf("read %d packets, %v", len(b.Packets), err)
		}
		if n, err := q.Write(supers); n != 3 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per turn, want 0", n)
	}
}
