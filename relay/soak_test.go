package relay

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// soakVariable says how long TestSoak lasts, as in 1h.
const soakVariable = "FIRELANE_SOAK"

// soakClients come and go in each round of TestSoak.
const soakClients = 200

// Clients that come, send, leave or just vanish, among bad credentials and garbage, for as long as
// it takes: descriptors, goroutines, memory, ports and leases are then as they were after the
// first rounds, which have filled what is kept for reuse.
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
	if n := ended.pool.Outstanding(); n != 0 {
		t.Errorf("%d slabs were not given back", n)
	}
	s := ended.server
	if s.ports.free != s.cfg.ports()-len(s.ports.resting) || s.channels != 0 ||
		len(s.leases)+len(s.clients)+len(s.users)+len(s.sources)+len(s.timers) != 0 || len(s.nonces.uses) > soakClients {
		t.Errorf("%d of %d ports free, %d channels, %d leases, %d clients, %d users, %d sources, %d timers, %d nonces are left", s.ports.free,
			s.cfg.ports(), s.channels, len(s.leases), len(s.clients), len(s.users), len(s.sources), len(s.timers), len(s.nonces.uses))
	}
}

// soakFor returns the relay that served clients for some time, ended.
func soakFor(t *testing.T, lasts time.Duration) *Relay {
	enterNetns(t)
	r := start(t, func(s *Settings) {
		s.Server.Limits = DefaultLimits()
		s.Server.Limits.AllocationsPerSource, s.Server.Limits.RefusalsPerSecond = 0, 0
		s.Server.Limits.Nonces = soakClients
	})
	k := &soak{r: r, rng: rand.New(rand.NewPCG(1, 2)), peer: newTurner(t, relayAt(loop4, r), ""),
		crowd: crowd{newTurner(t, relayAt(loop4, r), "")}}
	k.bindingAnswered()
	descriptors := openDescriptors(t)
	for range 3 {
		k.round()
	}
	before, rounds := k.settle(descriptors), 0
	for begun := time.Now(); time.Since(begun) < lasts; rounds++ {
		k.round()
	}
	after := k.settle(descriptors)
	t.Logf("%d rounds of %d clients; before %+v, after %+v", rounds, soakClients, before, after)
	const heapSlack = 2 << 20
	if after.goroutines > before.goroutines || after.heap > before.heap+heapSlack {
		t.Errorf("before %+v, after %+v", before, after)
	}
	return r
}

// soak is a relay under all kinds of clients.
type soak struct {
	crowd
	r      *Relay
	rng    *rand.Rand
	peer   *turner
	rounds int
}

// round has every client allocate, bind and exchange data, and leave.
func (k *soak) round() {
	k.t.Helper()
	k.rounds++
	number := uint16(MinChannel + k.rounds%(MaxChannel-MinChannel+1))
	for i := range soakClients {
		k.ask(i, stun.Allocate, func(b *stun.Builder) {
			b.Transport(stun.UDP)
			if i%2 == 0 {
				b.Family(stun.AdditionalAddressFamily, stun.IPv6)
			}
		})
		k.ask(i, stun.ChannelBind, func(b *stun.Builder) {
			b.Channel(number)
			b.Address(stun.XORPeerAddress, k.peer.addr)
		})
		k.garbage(i)
		k.exchange(i, number)
		if i%3 == 0 { // somebody without credentials, who is refused
			k.stranger(i)
		}
	}
	for i := range soakClients {
		k.ask(i, stun.Refresh, func(b *stun.Builder) { b.Uint32(stun.Lifetime, 0) })
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
func (k *soak) exchange(i int, number uint16) {
	k.t.Helper()
	payload := pattern(3*1000, i)
	want := wrapped(number, payload, 1000)
	trains := []batch.Train{{Buf: want, Stride: 1004, Remote: k.server, Local: k.address(i)}}
	if n, err := k.socket.Send(trains); n != 1 || err != nil {
		k.t.Fatal(n, err)
	}
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
		for _, g := range k.recv() {
			got = append(got, g.Buf...)
		}
	}
	if !bytes.Equal(got, want) {
		k.t.Fatalf("client %d got %d other bytes than were sent", i, len(got))
	}
}

// garbage sends what is not answered: noise that begins like ChannelData, like STUN and like
// neither.
func (k *soak) garbage(i int) {
	noise := make([]byte, 1+k.rng.IntN(200))
	for j := range noise {
		noise[j] = byte(k.rng.Uint32())
	}
	for _, first := range []byte{0x4f, 0x00, 0xff} {
		noise[0] = first
		k.sendAs(i, noise)
	}
}

// stranger asks with a bad signature and waits for the refusal.
func (k *soak) stranger(i int) {
	k.t.Helper()
	b := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{0xff})
	b.Text(stun.Username, []byte("1892160000:nobody"))
	b.Text(stun.Nonce, []byte("6e80ba94-7a4c-4e31-8b6a-0c5a1d6f2b3e"))
	b.Sign([]byte("wrong"))
	k.sendAs(i, b.Bytes())
	var m stun.Message
	if err := m.Parse(k.recv()[0].Buf); err != nil || m.Code != 438 {
		k.t.Fatalf("a stranger is answered %d, %v", m.Code, err)
	}
}

// levels are what a relay that has nobody left holds.
type levels struct {
	descriptors, goroutines int
	heap                    uint64
}

// settle waits until as many descriptors are open as before the first client, and returns what
// there is then.
func (k *soak) settle(descriptors int) levels {
	k.t.Helper()
	for deadline := time.Now().Add(patience); openDescriptors(k.t) > descriptors; runtime.Gosched() {
		if time.Now().After(deadline) {
			k.t.Fatalf("%d descriptors are open, %d before the first client", openDescriptors(k.t), descriptors)
		}
	}
	if n, m := k.r.Counters().ActiveAllocations.Load(), k.r.Counters().BoundChannels.Load(); n != 0 || m != 0 {
		k.t.Errorf("%d allocations and %d channels when everybody has left", n, m)
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
