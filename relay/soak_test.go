package relay

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// soakVariable says how long TestSoak lasts, as in 1h.
const soakVariable = "FIRELANE_SOAK"

const (
	// soakClients come and go in each round of TestSoak, each at an address of its own.
	soakClients = 200
	// soakNonces are fewer than the clients of the first rounds, so that the oldest are forgotten.
	soakNonces = 500
	// soakStayers are the last clients, who are there when the relay ends.
	soakStayers = 20
	// soakPerSource is how many allocations those behind one NAT may have, who are soakNeighbours.
	soakPerSource, soakNeighbours = 4, 6
	// Every so many rounds strangers send more than they are answered, and the network fails.
	soakFloods, soakOutages = 2, 3
)

// Clients that come and send, and then leave, vanish, move or stay, with right and wrong passwords,
// among garbage, floods beyond what a source is answered, and outages of the network, for as long as
// it takes: descriptors, goroutines, memory, ports and leases are then as they were after the first
// rounds, which have filled what is kept for reuse, and every allocation has ended the way it had to.
func TestSoak(t *testing.T) {
	lasts := 10 * time.Second
	if text := os.Getenv(soakVariable); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", soakVariable, err)
		}
	}
	var ended *Relay
	t.Run("clients", func(t *testing.T) { ended = soakFor(t, lasts) })
	if t.Failed() {
		return
	}
	if n := ended.pool.Outstanding(); n != 0 {
		t.Errorf("%d slabs were not given back", n)
	}
	s := ended.server
	if len(s.leases) != soakStayers || s.channels != soakStayers {
		t.Errorf("%d leases and %d channels when the relay ends, want %d", len(s.leases), s.channels, soakStayers)
	}
	// The longest lifetimes are over for the machine, which needs no relay around it.
	var out Output
	for h := range 2 {
		s.HandleTimeout(time.Now().Add(time.Duration(1+h) * maxLifetime * time.Second))
	}
	s.Drain(&out)
	if len(out.Closes) != soakStayers {
		t.Errorf("%d ports closed at last, want %d", len(out.Closes), soakStayers)
	}
	if s.ports.free != s.cfg.ports()-len(s.ports.resting) || s.channels != 0 ||
		len(s.leases)+len(s.clients)+len(s.users)+len(s.sources)+len(s.timers) != 0 {
		t.Errorf("%d of %d ports free, %d channels, %d leases, %d clients, %d users, %d sources, %d timers are left", s.ports.free,
			s.cfg.ports(), s.channels, len(s.leases), len(s.clients), len(s.users), len(s.sources), len(s.timers))
	}
	if n, m := len(s.nonces.uses), s.nonces.recent.Len(); n != soakNonces || m != soakNonces {
		t.Errorf("%d nonces are counted, in a list of %d, want %d", n, m, soakNonces)
	}
}

// soakFor returns the relay that served clients for some time, ended.
func soakFor(t *testing.T, lasts time.Duration) *Relay {
	enterNetns(t)
	r := start(t, func(s *Settings) {
		s.Server.Limits = DefaultLimits()
		s.Server.Limits.AllocationsPerSource, s.Server.Limits.Nonces = soakPerSource, soakNonces
	})
	at := relayAt(loop4, r)
	k := &soak{t: t, r: r, rng: rand.New(rand.NewPCG(1, 2)), peer: newTurner(t, at, ""),
		crowd: crowd{newTurner(t, at, "")}, strangers: crowd{newTurner(t, at, "")}}
	for range soakNeighbours {
		k.neighbours = append(k.neighbours, newTurner(t, at, ""))
	}
	k.bindingAnswered()
	descriptors, begun := openDescriptors(t), time.Now()
	for range soakOutages { // all that happens has happened once
		k.round()
	}
	before := k.settle(descriptors)
	for time.Since(begun) < lasts {
		k.round()
	}
	after := k.settle(descriptors)
	t.Logf("%d rounds of %d clients; before %+v, after %+v; %+v, %d requests repeated", k.rounds, soakClients, before, after, k.want, k.repeats)
	const heapSlack = 2 << 20
	if after.goroutines > before.goroutines || after.heap > before.heap+heapSlack {
		t.Errorf("before %+v, after %+v", before, after)
	}
	k.checkEvents()
	for i := range soakStayers {
		k.stay(i)
	}
	return r
}

// ends are how allocations come and go.
type ends struct{ made, deleted, expired, replaced, quota uint64 }

// soak is a relay under all kinds of clients.
type soak struct {
	crowd
	t          *testing.T
	r          *Relay
	rng        *rand.Rand
	peer       *turner
	strangers  crowd
	neighbours []*turner
	rounds     int
	ids        uint32
	repeats    int
	want       ends
}

// round has every client allocate, bind and exchange data, and end in its way.
func (k *soak) round() {
	k.t.Helper()
	k.rounds++
	for i := range soakClients {
		number := uint16(MinChannel + k.rng.IntN(soakChannels))
		c := k.client(i)
		k.garbage(c.at)
		switch i % 5 {
		case 0: // leaves
			k.arrive(c, number, defaultLifetime)
			k.leave(c)
		case 1: // has a slip of the pen first
			c.wrong = true
			k.expect(c, k.request(c, stun.Refresh, nil), 401)
			c.wrong = false
			k.arrive(c, number, defaultLifetime)
			k.leave(c)
		case 2: // vanishes
			k.arrive(c, number, 1)
			k.want.expired++
		case 3: // moves to another network
			k.arrive(c, number, defaultLifetime)
			c.at, c.nonce = k.moved(c.at), nil
			k.arrive(c, number, maxLifetime)
			k.want.replaced++
			k.leave(c)
		case 4: // stays for a while, which is more than it needs
			k.arrive(c, number, maxLifetime)
			k.expect(c, k.request(c, stun.Refresh, lasting(1)), 0)
			k.want.expired++
		}
	}
	k.behindNAT()
	if k.rounds%soakFloods == 0 {
		k.flood()
	}
	if k.rounds%soakOutages == 0 {
		k.outage()
	}
}

// soakSources is how many rounds it takes until an address comes again, whose allocation has ended
// long before.
const soakSources = 100

// client returns the i-th client of the round.
func (k *soak) client(i int) *caller {
	n := i + soakClients*(k.rounds%soakSources)
	return &caller{via: k.turner, at: k.address(n), salt: string(appendInt([]byte("soak "), n))}
}

// moved returns where the client at an address of 127.1.0.0/16 moves to.
func (k *soak) moved(from netip.AddrPort) netip.AddrPort {
	b := from.Addr().As4()
	b[1] = 4
	return netip.AddrPortFrom(netip.AddrFrom4(b), from.Port())
}

// arrive allocates for some seconds, binds a channel to the peer and exchanges data on it.
func (k *soak) arrive(c *caller, number uint16, seconds uint32) {
	k.t.Helper()
	k.expect(c, k.request(c, stun.Allocate, func(b *stun.Builder) {
		b.Transport(stun.UDP)
		b.Uint32(stun.Lifetime, seconds)
		if number%2 == 0 {
			b.Family(stun.AdditionalAddressFamily, stun.IPv6)
		}
	}), 0)
	k.want.made++
	k.expect(c, k.request(c, stun.ChannelBind, func(b *stun.Builder) {
		b.Channel(number)
		b.Address(stun.XORPeerAddress, k.peer.addr)
	}), 0)
	k.exchange(c, number)
}

// lasting fills in the lifetime that a Refresh asks for.
func lasting(seconds uint32) func(*stun.Builder) {
	return func(b *stun.Builder) { b.Uint32(stun.Lifetime, seconds) }
}

// leave gives the allocation up.
func (k *soak) leave(c *caller) {
	k.t.Helper()
	repeats := k.repeats
	if m := k.request(c, stun.Refresh, lasting(0)); m.Code != 437 || k.repeats == repeats { // else the first answer was lost
		k.expect(c, m, 0)
	}
	k.want.deleted++
}

// stay is the last client, whose allocation and channel are there at the end.
func (k *soak) stay(i int) {
	k.t.Helper()
	k.rounds++
	k.arrive(k.client(i), MinChannel, maxLifetime)
}

// behindNAT has neighbours of one address allocate, more of them than may.
func (k *soak) behindNAT() {
	k.t.Helper()
	for i, via := range k.neighbours {
		c := &caller{via: via, at: via.addr, salt: string(appendInt([]byte("neighbour "), i))}
		if i < soakPerSource {
			k.arrive(c, MinChannel, defaultLifetime)
			defer k.leave(c)
			continue
		}
		k.expect(c, k.request(c, stun.Allocate, func(b *stun.Builder) { b.Transport(stun.UDP) }), 486)
		k.want.quota++
	}
}

// flood has strangers send more than they are answered: Bindings, requests without credentials, and
// with a good nonce and a bad signature. A client beside them is answered meanwhile.
func (k *soak) flood() {
	k.t.Helper()
	k.poll(k.strangers.turner, 0) // what they got the last time
	c := &caller{via: k.strangers.turner, at: k.strangers.address(0), salt: "client"}
	k.arrive(c, MinChannel, defaultLifetime)
	guesser := &caller{via: k.strangers.turner, at: k.strangers.address(2 + k.rounds), salt: "guesser", wrong: true}
	k.expect(guesser, k.request(guesser, stun.Refresh, nil), 401)
	binding := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	unsigned := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{1})
	for _, f := range []struct {
		from    netip.AddrPort
		message []byte
		beyond  Event
	}{
		{k.strangers.address(1), binding.Bytes(), EventBindingRate},
		{k.strangers.address(1), unsigned.Bytes(), EventRefusalRate},
		{guesser.at, k.build(guesser, stun.Refresh, nil, stun.TransactionID{2}), EventRefusalRate},
	} {
		before, deadline := k.r.Counters().Event(f.beyond), time.Now().Add(patience)
		for k.r.Counters().Event(f.beyond) == before {
			if time.Now().After(deadline) {
				k.t.Fatalf("a flood of %d bytes each is answered without end", len(f.message))
			}
			for range floodAtOnce {
				k.emit(k.strangers.turner, f.from, f.message, len(f.message))
			}
			k.expect(c, k.request(c, stun.Refresh, nil), 0)
		}
	}
	k.leave(c)
}

// floodAtOnce keeps a flood from being lost before it reaches what it is meant for.
const floodAtOnce = 60

// soakChannels is how many channel numbers are bound: none of those that noise may have hit on.
const soakChannels = 0xf00

// emit sends a train to the relay from an address.
func (k *soak) emit(via *turner, from netip.AddrPort, b []byte, stride int) {
	k.t.Helper()
	if n, err := via.socket.Send([]batch.Train{{Buf: b, Stride: stride, Remote: via.server, Local: from}}); n != 1 || err != nil {
		k.t.Fatal(n, err)
	}
}

// outage takes the network away for a moment, during which somebody sends.
func (k *soak) outage() {
	k.t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		k.t.Fatal(err)
	}
	if err := netlink.LinkSetDown(lo); err != nil {
		k.t.Fatal(err)
	}
	_, _ = k.socket.Send([]batch.Train{{Buf: make([]byte, 100), Stride: 100, Remote: k.server}}) // to nowhere
	if err := netlink.LinkSetUp(lo); err != nil {
		k.t.Fatal(err)
	}
}

// checkEvents compares what the relay counted with what clients did.
func (k *soak) checkEvents() {
	k.t.Helper()
	n := k.r.Counters()
	if got := (ends{n.Event(EventAllocated), n.Event(EventDeleted), n.Event(EventExpired), n.Event(EventReplaced),
		n.Responses(stun.Allocate, 486)}); got != k.want {
		k.t.Errorf("the relay counted %+v, the clients %+v", got, k.want)
	}
}

// bindingAnswered waits until the relay runs, with all its descriptors.
func (k *soak) bindingAnswered() {
	k.t.Helper()
	b := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	k.send(b.Bytes(), len(b.Bytes()), k.server)
	k.recv()
}

// exchange sends a train each way.
func (k *soak) exchange(c *caller, number uint16) {
	k.t.Helper()
	payload := pattern(3*1000, int(number))
	want := wrapped(number, payload, 1000)
	k.emit(c.via, c.at, want, 1004)
	var got []byte
	var from netip.AddrPort
	for len(got) < len(payload) {
		for _, g := range k.peer.recv() {
			got, from = append(got, g.Buf...), g.Remote
		}
	}
	if !bytes.Equal(got, payload) {
		k.t.Fatalf("the peer got %d other bytes than were sent", len(got))
	}
	k.peer.send(payload, 1000, from)
	for got = got[:0]; len(got) < len(want); {
		for _, g := range c.via.recv() {
			if !stun.Is(g.Buf[0]) { // else a second answer to a request that was repeated
				got = append(got, g.Buf...)
			}
		}
	}
	if !bytes.Equal(got, want) {
		k.t.Fatalf("%v got %d other bytes than were sent", c.at, len(got))
	}
}

// garbage sends what is not answered: noise that begins like ChannelData, like STUN and like
// neither.
func (k *soak) garbage(from netip.AddrPort) {
	k.t.Helper()
	noise := make([]byte, 1+k.rng.IntN(200))
	for j := range noise {
		noise[j] = byte(k.rng.Uint32())
	}
	for _, first := range []byte{0x4f, 0x00, 0xff} {
		noise[0] = first
		k.emit(k.turner, from, noise, len(noise))
	}
}

// levels are what a relay that has nobody left holds.
type levels struct {
	descriptors, goroutines int
	heap                    uint64
}

// settle waits until the last client that vanished has expired and as many descriptors are open as
// before the first, and returns what there is then.
func (k *soak) settle(descriptors int) levels {
	k.t.Helper()
	n := k.r.Counters()
	for deadline := time.Now().Add(patience); openDescriptors(k.t) > descriptors || n.ActiveAllocations.Load() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			k.t.Fatalf("%d descriptors are open, %d before the first client; %d allocations are left", openDescriptors(k.t), descriptors,
				n.ActiveAllocations.Load())
		}
	}
	if m := n.BoundChannels.Load(); m != 0 {
		k.t.Errorf("%d channels when everybody has left", m)
	}
	return levels{openDescriptors(k.t), runtime.NumGoroutine(), heapBytes()}
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
