package tun

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
)

// enterNetns moves the test into a network namespace of its own. The thread is never unlocked,
// so it ends with the test, and the namespace with its descriptors.
func enterNetns(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("new network namespace (root needed): %v", err)
	}
}

var all = Options{Csum: true, TSO: true, USO: true}

// newDevice makes an interface and closes it with the test.
func newDevice(t testing.TB, name string, o Options) *Device {
	t.Helper()
	d, err := Create(name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return d
}

// up gives the interface addresses and sets it up.
func up(t testing.TB, d *Device, prefixes ...string) {
	t.Helper()
	link, err := netlink.LinkByName(d.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// newBatch returns a batch for n packets with a pool of its own.
func newBatch(t testing.TB, n int) *batch.SuperBatch {
	t.Helper()
	pool, err := bufpool.New(n + 1)
	if err != nil {
		t.Fatal(err)
	}
	cache := pool.NewCache(n + 1)
	b := batch.NewSuperBatch(n, cache)
	t.Cleanup(func() {
		b.Release()
		cache.Flush()
		if err := pool.Close(); err != nil {
			t.Errorf("close the pool: %v", err)
		}
	})
	return b
}

// wait waits up to two seconds for the queue to have a packet, and reports whether it does.
func wait(t testing.TB, q *Queue) bool {
	t.Helper()
	for {
		fds := []unix.PollFd{{Fd: int32(q.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 2000)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
}

// super copies a packet into pieces of SegmentSize bytes.
func super(p *batch.Packet) batch.Super {
	s := batch.Super{Offload: p.Offload}
	head := int(p.Offload.HdrLen)
	if p.Offload.Kind == batch.OffloadNone {
		head = len(p.Buf)
	}
	s.Head = append(make([]byte, batch.SuperHeadroom), p.Buf[:head]...)
	for rest := p.Buf[head:]; len(rest) > 0; {
		n := min(len(rest), int(p.Offload.SegmentSize))
		s.Payloads = append(s.Payloads, append([]byte(nil), rest[:n]...))
		rest = rest[n:]
	}
	return s
}
