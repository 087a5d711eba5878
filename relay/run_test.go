package relay

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/stun"
)

const (
	testSecret = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab"
	testExpiry = 1892160000
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// start runs a relay in the test's network namespace until the test ends.
func start(t testing.TB, change func(*Settings)) *Relay {
	t.Helper()
	r := listen(t, change)
	serve(t, r)
	return r
}

// listen opens a relay, for serve.
func listen(t testing.TB, change func(*Settings)) *Relay {
	t.Helper()
	credentials, err := SharedSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	s := Settings{
		Server: Config{Public4: public4, Public6: public6, Credentials: credentials, Peers: PeerRules{AllowLoopback: true}},
		GSO:    true, GRO: true, Workers: 2, WakeupDelay: 500 * time.Microsecond, RaiseLimits: true,
	}
	if change != nil {
		change(&s)
	}
	r, err := Listen(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serve runs a relay in the test's network namespace until the test ends.
func serve(t testing.TB, r *Relay) {
	t.Helper()
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // relayed ports are opened by this goroutine
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the relay ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the relay does not end")
		}
		_ = unix.Close(ns)
	})
}

// turner is a TURN client with a socket of its own.
type turner struct {
	t       testing.TB
	socket  *udp.Socket
	in      *batch.Batch
	addr    netip.AddrPort
	server  netip.AddrPort
	user    string
	key     [16]byte
	nonce   []byte
	n       byte
	relayed [2]netip.AddrPort
}

func newTurner(t testing.TB, server netip.AddrPort, salt string) *turner {
	t.Helper()
	g := openGroup(t)
	pool, err := bufpool.New(64)
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := g.Worker(0)
	c := &turner{t: t, socket: v6, addr: netip.AddrPortFrom(loop6, g.Port()), server: server,
		in: batch.NewBatch(16, pool.NewCache(64)), user: strconv.Itoa(testExpiry) + ":" + salt}
	if server.Addr().Is4() {
		c.socket, c.addr = v4, netip.AddrPortFrom(loop4, g.Port())
	}
	c.key = stun.LongTermKey([]byte(c.user), []byte(PortalRealm), []byte(Password(testExpiry, testSecret, salt)))
	return c
}

// recv waits for something to arrive and returns copies of it.
func (c *turner) recv() (all []batch.Train) {
	c.t.Helper()
	fds := []unix.PollFd{{Fd: int32(c.socket.Fd()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if n, err := unix.Poll(fds, 1000); n == 0 || err != nil {
			continue
		}
		if err := c.socket.Recv(c.in); err != nil {
			c.t.Fatal(err)
		}
		for _, t := range c.in.Trains {
			t.Buf = bytes.Clone(t.Buf)
			all = append(all, t)
		}
		if len(all) > 0 {
			return all
		}
	}
	c.t.Fatal("nothing arrives")
	return nil
}

func (c *turner) send(buf []byte, stride int, to netip.AddrPort) {
	c.t.Helper()
	trains := []batch.Train{{Buf: buf, Stride: stride, Remote: to, Local: c.addr}}
	if n, err := c.socket.Send(trains); n != 1 || err != nil {
		c.t.Fatalf("send: %v, %+v", err, c.socket.Stats())
	}
}

// ask sends a request and returns the answer, with the nonce of the server if it wants another.
func (c *turner) ask(method stun.Method, fill func(*stun.Builder)) (m stun.Message) {
	c.t.Helper()
	for range 3 {
		c.n++
		b := stun.Start(nil, stun.Request, method, stun.TransactionID{c.n})
		fill(&b)
		if c.nonce != nil {
			b.Text(stun.Username, []byte(c.user))
			b.Text(stun.Realm, []byte(PortalRealm))
			b.Text(stun.Nonce, c.nonce)
			b.Sign(c.key[:])
		}
		c.send(b.Bytes(), len(b.Bytes()), c.server)
		got := c.recv()
		if err := m.Parse(got[0].Buf); err != nil || m.ID != (stun.TransactionID{c.n}) {
			c.t.Fatalf("%v, answer %+v", err, m)
		}
		if m.Code != 401 && m.Code != 438 {
			return m
		}
		c.nonce = bytes.Clone(m.Nonce)
	}
	c.t.Fatalf("the server answers %d", m.Code)
	return m
}

func (c *turner) allocate() {
	c.t.Helper()
	m := c.ask(stun.Allocate, func(b *stun.Builder) {
		b.Transport(stun.UDP)
		b.Family(stun.AdditionalAddressFamily, stun.IPv6)
	})
	if m.Class != stun.Success {
		c.t.Fatalf("allocate: %d %s", m.Code, m.Reason)
	}
	c.relayed = m.Relayed
}

func (c *turner) bind(number uint16, peer netip.AddrPort) {
	c.t.Helper()
	m := c.ask(stun.ChannelBind, func(b *stun.Builder) {
		b.Channel(number)
		b.Address(stun.XORPeerAddress, peer)
	})
	if m.Class != stun.Success {
		c.t.Fatalf("bind a channel: %d %s", m.Code, m.Reason)
	}
}

// exchange sends a train each way over a channel and checks what arrives.
func exchange(t testing.TB, c, peer *turner, number uint16) {
	t.Helper()
	payload := pattern(20*1280, int(number))
	c.send(wrapped(number, payload, 1280), 1284, c.server)
	var got []byte
	var from netip.AddrPort
	for len(got) < len(payload) {
		for _, g := range peer.recv() {
			got, from = append(got, g.Buf...), g.Remote
		}
	}
	if !bytes.Equal(got, payload) {
		t.Fatalf("the peer got %d other bytes than were sent", len(got))
	}
	if from != c.relayed[0] && from != c.relayed[1] {
		t.Fatalf("the peer got data from %v, the client was told %v", from, c.relayed)
	}
	back := pattern(20*1280, int(number)+1)
	peer.send(back, 1280, from)
	got = got[:0]
	for want := wrapped(number, back, 1280); len(got) < len(want); {
		for _, g := range c.recv() {
			got = append(got, g.Buf...)
		}
		if len(got) >= len(want) && !bytes.Equal(got, want) {
			t.Fatalf("the client got %d other bytes than were sent", len(got))
		}
	}
}

// awaitCarried waits until the relay has counted so many datagrams and bytes each way, which it does
// once they are sent.
func awaitCarried(t *testing.T, r *Relay, datagrams, bytes uint64) {
	t.Helper()
	awaitLook(t, "all that was carried", func() bool {
		m := r.Traffic().Measures
		return m[ToPeers] == datagrams && m[ToClients] == datagrams && m[ToPeersBytes] == bytes && m[ToClientsBytes] == bytes
	})
}

func relayAt(a netip.Addr, r *Relay) netip.AddrPort { return netip.AddrPortFrom(a, r.Port()) }

func TestAClientReachesPeersOfBothFamilies(t *testing.T) {
	enterNetns(t)
	r := start(t, nil)
	for _, from := range []netip.Addr{loop4, loop6} {
		c := newTurner(t, relayAt(from, r), "a"+from.String())
		c.allocate()
		if c.relayed[0].Addr() != public4 || c.relayed[1].Addr() != public6 || c.relayed[0].Port() != c.relayed[1].Port() {
			t.Errorf("relayed addresses %v", c.relayed)
		}
		for i, to := range []netip.Addr{loop4, loop6} {
			peer := newTurner(t, relayAt(to, r), "")
			c.bind(uint16(0x4000+i), peer.addr)
			exchange(t, c, peer, uint16(0x4000+i))
		}
	}
	awaitCarried(t, r, 4*20, 4*20*1280)
	if r.Counters().ActiveAllocations.Load() != 2 {
		t.Error("not two allocations")
	}
}

// A relay with one port gives it to the next allocation as soon as the last is deleted.
func TestAPortIsUsedAgainAtOnce(t *testing.T) {
	enterNetns(t)
	r := start(t, func(s *Settings) { s.Server.LowestPort, s.Server.HighestPort = 50000, 50000 })
	for range 20 {
		c := newTurner(t, relayAt(loop4, r), "one")
		c.allocate()
		m := c.ask(stun.Refresh, func(b *stun.Builder) { b.Uint32(stun.Lifetime, 0) })
		if m.Class != stun.Success {
			t.Fatalf("refresh: %d", m.Code)
		}
	}
}

func TestOneBoundAddressIsTheOnlyOneServed(t *testing.T) {
	enterNetns(t)
	r := start(t, func(s *Settings) { s.Bind4, s.Bind6 = public4, public6 })
	c := newTurner(t, relayAt(public4, r), "a")
	c.allocate()
	peer := newTurner(t, relayAt(public6, r), "")
	c.bind(0x4000, peer.addr)
	exchange(t, c, peer, 0x4000)
	for _, w := range r.workers {
		if got, err := unix.Getsockname(w.listen4.Fd()); err != nil || got.(*unix.SockaddrInet4).Addr != public4.As4() {
			t.Errorf("bound to %v, %v", got, err)
		}
		if got, err := unix.Getsockname(w.listen6.Fd()); err != nil || got.(*unix.SockaddrInet6).Addr != public6.As16() {
			t.Errorf("bound to %v, %v", got, err)
		}
	}
}

func TestDataFlowsAgainWhenTheNetworkIsBack(t *testing.T) {
	enterNetns(t)
	r := start(t, nil)
	c, peer := newTurner(t, relayAt(loop4, r), "a"), newTurner(t, relayAt(loop4, r), "")
	c.allocate()
	c.bind(0x4000, peer.addr)
	exchange(t, c, peer, 0x4000)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := netlink.LinkSetDown(lo); err != nil {
			t.Fatal(err)
		}
		trains := []batch.Train{{Buf: wrapped(0x4000, pattern(100, 1), 100), Stride: 104, Remote: c.server}}
		_, _ = c.socket.Send(trains) // to nowhere
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
		exchange(t, c, peer, 0x4000)
	}
}

func TestAPortThatAnotherProgramHasIsLeftToIt(t *testing.T) {
	enterNetns(t)
	r := start(t, func(s *Settings) { s.Server.LowestPort, s.Server.HighestPort = 50000, 50001 })
	if _, err := udp.OpenPort(true, 50000, udp.Options{}, udp.Probe(), udp.NewScratch()); err != nil {
		t.Fatal(err)
	}
	c := newTurner(t, relayAt(loop4, r), "a")
	c.allocate()
	if c.relayed[0].Port() != 50001 {
		t.Errorf("relayed at %v", c.relayed)
	}
	peer := newTurner(t, relayAt(loop6, r), "")
	c.bind(0x4000, peer.addr)
	exchange(t, c, peer, 0x4000)
}

func TestDataFlowsWithoutOffloads(t *testing.T) {
	enterNetns(t)
	r := start(t, func(s *Settings) { s.GSO, s.GRO, s.WakeupDelay, s.Workers = false, false, 0, 1 })
	c, peer := newTurner(t, relayAt(loop6, r), "a"), newTurner(t, relayAt(loop4, r), "")
	c.allocate()
	c.bind(0x4000, peer.addr)
	for range 5 {
		exchange(t, c, peer, 0x4000)
	}
}

// Without descriptors a request is refused at once, and the port it was meant to have is not lost.
func TestARelayWithoutDescriptorsLosesNoPorts(t *testing.T) {
	enterNetns(t)
	r := start(t, func(s *Settings) { s.Server.LowestPort, s.Server.HighestPort = 50000, 50000 })
	c := newTurner(t, relayAt(loop4, r), "a")
	c.ask(stun.Refresh, func(*stun.Builder) {}) // gets a nonce
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(n uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer set(limit.Cur)
	set(3)
	for range 3 {
		if m := c.ask(stun.Allocate, func(b *stun.Builder) { b.Transport(stun.UDP) }); m.Code != 508 {
			t.Errorf("without descriptors: %d", m.Code)
		}
	}
	set(limit.Cur)
	c.allocate()
	if n := r.Counters().Event(EventOpenFailed); n != 3 {
		t.Errorf("%d ports failed to open", n)
	}
}
