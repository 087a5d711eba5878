package udp

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
)

// enterNetns moves the test into a network namespace of its own with loopback up. The thread
// is never unlocked, so it ends with the test, and the namespace with its sockets.
func enterNetns(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("new network namespace (root needed): %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}

// newBatch returns a batch for n trains with a pool of its own.
func newBatch(t testing.TB, n int) *batch.Batch {
	t.Helper()
	pool, err := bufpool.New(n + 1)
	if err != nil {
		t.Fatal(err)
	}
	cache := pool.NewCache(n + 1)
	b := batch.NewBatch(n, cache)
	t.Cleanup(func() {
		b.Release()
		cache.Flush()
		if err := pool.Close(); err != nil {
			t.Errorf("close the pool: %v", err)
		}
	})
	return b
}

// open opens a group of n and closes it with the test.
func open(t testing.TB, n int, o Options) *Group {
	t.Helper()
	g, err := OpenGroup(0, n, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("close the group: %v", err)
		}
	})
	return g
}

// received is a train whose bytes are the test's own.
type received struct {
	batch.Train
}

// recvBytes receives until total bytes have come or nothing comes for two seconds.
func recvBytes(t testing.TB, s *Socket, b *batch.Batch, total int) []received {
	t.Helper()
	var all []received
	for got := 0; got < total; {
		fds := []unix.PollFd{{Fd: int32(s.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 2000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("only %d of %d bytes came (%v), stats %+v", got, total, err, s.Stats())
		}
		if err := s.Recv(b); err != nil {
			t.Fatal(err)
		}
		for _, tr := range b.Trains {
			got += len(tr.Buf)
			tr.Buf = append([]byte(nil), tr.Buf...)
			all = append(all, received{tr})
		}
	}
	return all
}

// pattern returns n bytes that differ by position and seed.
func pattern(n, seed int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8 + seed)
	}
	return p
}
