package relay

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/stun"
)

var (
	loop4 = netip.MustParseAddr("127.0.0.1")
	loop6 = netip.MustParseAddr("::1")
	// The relay's public addresses, on loopback; no allocation's peer has them but in hairpins.
	public4 = netip.MustParseAddr("192.0.2.1")
	public6 = netip.MustParseAddr("2001:db8::1")

	offloads = udp.Options{GSO: true, GRO: true, ReceiveBuffer: 4 << 20, SendBuffer: 4 << 20}
)

// enterNetns moves the test into a network namespace of its own with loopback up, which has the
// relay's public addresses too. The thread is never unlocked, so it ends with the test, and the
// namespace with its sockets.
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
	for _, p := range []string{"192.0.2.1/32", "2001:db8::1/128"} {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD // usable at once
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	awaitAddr(t, public6)
}

// awaitAddr waits until packets to an address of this host arrive: of IPv6 that is a moment after
// it was added.
func awaitAddr(t testing.TB, a netip.Addr) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no way to %v: %v, %v", a, routes, err)
		}
	}
}

// rig is a worker that the test moves by hand, over loopback: what is sent has arrived when the
// call returns.
type rig struct {
	t     testing.TB
	w     *Worker
	group *udp.Group
	table *Table
	rings int
	next  AllocationID
	in    *batch.Batch
}

func newRig(t testing.TB) *rig {
	t.Helper()
	enterNetns(t)
	g := openGroup(t)
	pool, err := bufpool.New(4 * batchSlabs)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, group: g, table: NewTable(public4, public6, 1), in: batch.NewBatch(64, pool.NewCache(64))}
	v4, v6 := g.Worker(0)
	w, err := newWorker(workerConfig{
		table: r.table, listen4: v4, listen6: v6, cache: pool.NewCache(2 * batchSlabs),
		segments: v4.MaxSegments(), clock: func() int64 { return time.Now().UnixNano() },
		bell:     func() { r.rings++ },
		bindings: &Bindings{table: r.table, limiter: NewLimiter(0, 1), counters: new(Counters)},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.w = w
	t.Cleanup(w.close)
	return r
}

// openGroup opens one socket per family, at a port of its own.
func openGroup(t testing.TB) *udp.Group {
	t.Helper()
	g, err := udp.OpenGroup(0, 1, offloads)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

// end is a client or peer: a socket and its address.
type end struct {
	*udp.Socket
	addr netip.AddrPort
}

func (r *rig) end(v6 bool) end {
	g := openGroup(r.t)
	s4, s6 := g.Worker(0)
	if v6 {
		return end{s6, netip.AddrPortFrom(loop6, g.Port())}
	}
	return end{s4, netip.AddrPortFrom(loop4, g.Port())}
}

// listens returns the relay's address for an end.
func (r *rig) listens(e end) netip.AddrPort {
	return netip.AddrPortFrom(e.addr.Addr(), r.group.Port())
}

// allocate gives client an allocation, as the driver would for the machine.
func (r *rig) allocate(client end) *Allocation {
	r.t.Helper()
	p, err := openPort(0, IPv4, r.w, offloads, sources{}, r.group.Caps())
	if err != nil {
		r.t.Fatal(err)
	}
	p.number = p.exit4.socket.Port()
	six, err := openPort(p.number, IPv6, r.w, offloads, sources{}, r.group.Caps())
	if err != nil {
		r.t.Fatal(err)
	}
	p.exit6 = six.exit6
	r.w.give(order{port: p})
	r.next++
	a := &Allocation{ID: r.next, Client: Tuple{Remote: client.addr, Local: r.listens(client)}, Port: p.number,
		Families: IPv4 | IPv6, Handle: p, key: keyOfTuple(client.addr, r.listens(client))}
	r.table.publish(a)
	return a
}

// bind binds a channel to a peer.
func bind(a *Allocation, number uint16, peer netip.AddrPort) *Channel {
	c := &Channel{Allocation: a, Peer: peer, Number: number}
	a.bind(c)
	return c
}

// relayed returns where peer sends to reach an allocation.
func relayed(a *Allocation, peer end) netip.AddrPort {
	return netip.AddrPortFrom(peer.addr.Addr(), a.Port)
}

// turn lets the worker do everything there is to do.
func (r *rig) turn() {
	for range 1000 {
		if err := r.w.wait(0); err != nil {
			r.t.Fatal(err)
		}
		if len(r.w.ready) == 0 && !r.w.orders.waiting.Load() {
			return
		}
		r.w.now = r.w.clock()
		r.w.turn()
	}
	r.t.Fatal("the worker does not come to rest")
}

func (r *rig) send(from end, trains ...batch.Train) {
	r.t.Helper()
	if n, err := from.Send(trains); n != len(trains) || err != nil {
		r.t.Fatalf("sent %d of %d: %v", n, len(trains), err)
	}
}

// take returns copies of everything that has arrived at e.
func (r *rig) take(e end) (all []batch.Train) {
	r.t.Helper()
	for {
		if err := e.Recv(r.in); err != nil {
			r.t.Fatal(err)
		}
		if len(r.in.Trains) == 0 {
			return all
		}
		for _, t := range r.in.Trains {
			t.Buf = append([]byte(nil), t.Buf...)
			all = append(all, t)
		}
	}
}

// dropped checks how many datagrams were dropped for a reason, in all.
func (r *rig) dropped(d Drop, want uint64) {
	r.t.Helper()
	if got := r.w.counts.drops[d].Load(); got != want {
		r.t.Errorf("%v is %d, want %d", d, got, want)
	}
}

// pattern returns n bytes that differ by position and seed.
func pattern(n, seed int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8 + seed)
	}
	return p
}

// wrapped cuts payload into segments of size bytes and puts a ChannelData header in front of each.
func wrapped(number uint16, payload []byte, size int) (out []byte) {
	for len(payload) > 0 {
		n := min(size, len(payload))
		var head [stun.ChannelHeader]byte
		stun.PutChannelHeader(head[:], number, n)
		out = append(append(out, head[:]...), payload[:n]...)
		payload = payload[n:]
	}
	return out
}
