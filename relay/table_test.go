package relay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/protocol/stun"
)

func tupleAt(i int) Tuple {
	ip := netip.AddrFrom4([4]byte{192, 0, byte(i >> 16), byte(i >> 8)})
	return Tuple{netip.AddrPortFrom(ip, uint16(1024+i%256)), listening[true]}
}

func peerAt(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), uint16(1+i))
}

// allocationAt makes and publishes an allocation.
func allocationAt(table *Table, i int) *Allocation {
	t := tupleAt(i)
	k := keyOfTuple(t.Remote, t.Local)
	a := &Allocation{ID: AllocationID(i), Client: t, Port: uint16(49152 + i%16384), Families: IPv4, key: k, seed: uint64(i)}
	table.publish(a)
	return a
}

// The index is a map, however it grows and whatever is deleted.
func TestIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index[uint16, int]
		model := map[uint16]*int{}
		hash := func(k uint16) uint64 { return uint64(k % 5) } // collides all the time
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			k := rapid.Uint16Range(0, 60).Draw(t, "key")
			if rapid.Bool().Draw(t, "put") {
				v := new(int)
				x.put(hash(k), k, v)
				model[k] = v
			} else {
				x.del(hash(k), k)
				delete(model, k)
			}
			for k := range uint16(61) {
				if x.get(hash(k), k) != model[k] {
					t.Fatalf("key %d: %p, want %p", k, x.get(hash(k), k), model[k])
				}
			}
			if x.live != len(model) {
				t.Fatalf("%d live, want %d", x.live, len(model))
			}
		}
		if p := x.slots.Load(); p != nil && len(*p) > 8*64 {
			t.Fatalf("%d slots", len(*p))
		}
	})
}

// Readers that never lock see an entry that stays all the time, whatever comes and goes beside
// it, and never another key's value.
func TestReadersSeeWhatStays(t *testing.T) {
	table := NewTable(ours4, ours6, 42)
	stays := allocationAt(table, 1_000_000)
	channel := &Channel{Allocation: stays, Peer: peerAt(5), Number: 0x4005}
	stays.bind(channel)
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for i := 0; !stop.Load(); i++ {
				if table.Client(stays.Client.Remote, stays.Client.Local) != stays || stays.Peer(peerAt(5)) != channel || stays.Channel(0x4005) != channel {
					t.Error("lost")
					return
				}
				other := tupleAt(i % 3000)
				if a := table.Client(other.Remote, other.Local); a != nil && a.Client != other {
					t.Errorf("%v instead of %v", a.Client, other)
					return
				}
				runtime.Gosched()
			}
		}()
	}
	rng := rand.New(rand.NewPCG(1, 1))
	live := map[int]*Allocation{}
	for range 20_000 {
		i := rng.IntN(3000)
		if a := live[i]; a != nil {
			table.withdraw(a)
			delete(live, i)
			continue
		}
		live[i] = allocationAt(table, i)
		c := &Channel{Allocation: stays, Peer: peerAt(10 + i), Number: MinChannel + uint16(10+i)}
		stays.bind(c)
		stays.unbind(c)
	}
	stop.Store(true)
	readers.Wait()
}

func TestHairpinTable(t *testing.T) {
	h := newHarness(t, nil)
	d, e := h.device("192.0.2.1:1", "a"), h.device("192.0.2.2:1", "b")
	d.allocate()
	e.allocate()
	atD, atE := netip.AddrPortFrom(ours4, d.published().Port), netip.AddrPortFrom(ours4, e.published().Port)
	d.bind(0x4000, atE.String())
	c := d.published().Channel(0x4000)
	if far, own := h.s.Table().Hairpin(c); far != nil || !own {
		t.Errorf("before the other side agrees: %v %v", far, own)
	}
	e.bind(0x4007, atD.String())
	if far, own := h.s.Table().Hairpin(c); !own || far != e.published().Channel(0x4007) {
		t.Errorf("%v %v", far, own)
	}
	d.bind(0x4001, somePeer)
	if _, own := h.s.Table().Hairpin(d.published().Channel(0x4001)); own {
		t.Error("a stranger is taken for one of us")
	}
	if h.s.Table().Port(e.published().Port) != e.published() {
		t.Error("not found by port")
	}
	e.refresh(0)
	if far, own := h.s.Table().Hairpin(c); far != nil || !own || h.s.Table().Port(atE.Port()) != nil {
		t.Error("an allocation that is gone is found")
	}
}

// An address of IPv4 is the same however the kernel writes it.
func TestMappedAddressesAreIPv4(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	d.allocate()
	mapped := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	if h.s.Table().Client(mapped(d.from.Remote), mapped(d.from.Local)) != d.published() {
		t.Error("not found")
	}
	d.from.Remote = mapped(d.from.Remote)
	got := h.ask(d.from, d.build(0x004, nil))
	if len(got) != 1 || got[0].m.Code != 0 || !got[0].to.Remote.Addr().Is4() {
		t.Errorf("%+v", got)
	}
}

// A link-local client is answered on its link, and is another one than its namesake on another link.
func TestLinkLocalClientsHaveALink(t *testing.T) {
	h := newHarness(t, nil)
	var seen []*Allocation
	for i, addr := range []string{"[fe80::1%2]:1000", "[fe80::1%12]:1000", "[fe80::1]:1000"} {
		d := h.device(addr, fmt.Sprint(i))
		binding := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
		if got := h.ask(d.from, binding.Bytes()); len(got) != 1 || got[0].to != d.from || got[0].m.Mapped.Addr() != d.from.Remote.Addr().WithZone("") {
			t.Errorf("%s: Binding %+v", addr, got)
		}
		wants(t, addr, d.allocate(), 0)
		a := d.published()
		if a == nil || a.Client != d.from || slices.Contains(seen, a) {
			t.Fatalf("%s: %+v", addr, a)
		}
		seen = append(seen, a)
	}
	if n := testing.AllocsPerRun(100, func() { h.s.Table().Client(seen[0].Client.Remote, seen[0].Client.Local) }); n != 0 {
		t.Errorf("%v allocations for a zone", n)
	}
}

func TestBandwidth(t *testing.T) {
	const rate = 1_000_000
	h := newHarness(t, func(c *Config) { c.Limits.BytesPerSecond = rate })
	d := h.device("192.0.2.1:1000", "a")
	d.allocate()
	a := d.published()
	take := func(n int, now int64) (taken int) {
		for a.Take(n, now) {
			taken += n
		}
		return taken
	}
	if n := take(1000, 5e9); n != rate/2 {
		t.Errorf("%d bytes at once, want half a second's worth", n)
	}
	if n := take(1000, 5.1e9); n != rate/10 {
		t.Errorf("%d bytes after a tenth of a second", n)
	}
	if n := take(1000, 60e9); n != rate/2 {
		t.Errorf("%d bytes after a minute", n)
	}
	if a.Take(rate/2+1, 120e9) || !a.Take(rate/2, 120e9) {
		t.Error("more than a full bucket was taken")
	}
	if !a.Take(rate/2, 1e9) {
		t.Error("a clock that jumped back blocks the allocation")
	}
	slow := newHarness(t, func(c *Config) { c.Limits.BytesPerSecond = 100 })
	e := slow.device("192.0.2.1:1000", "a")
	e.allocate()
	if !e.published().Take(65507, 1e9) || e.published().Take(10_000, 100e9) || !e.published().Take(65507, 1000e9) {
		t.Error("a slow allocation carries no train, or too many")
	}
	var all atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for range 1000 {
				if a.Take(1000, 200e9) {
					all.Add(1000)
				}
			}
		}()
	}
	workers.Wait()
	if all.Load() != rate/2 {
		t.Errorf("four workers took %d bytes", all.Load())
	}
	free := &Allocation{}
	for range 10 {
		if !free.Take(1<<30, 0) {
			t.Error("an allocation without a limit is limited")
		}
	}
}

// Those who share a bucket read the clock at different times: who lags behind gets no new bucket.
func TestALaggingClockRefillsNoBucket(t *testing.T) {
	const rate, seconds = 512, 10
	l, source := NewLimiter(rate, 1), netip.MustParseAddr("198.51.100.1")
	allowed := 0
	for now := int64(1e9); now < (1+seconds)*1e9; now += 100_000 {
		for _, lag := range []int64{0, 50_000, 20_000_000} {
			if l.Allow(source, now-lag) {
				allowed++
			}
		}
	}
	if most := rate * (seconds + burstSeconds); allowed > most || allowed < most-rate {
		t.Errorf("%d answers, want %d", allowed, most)
	}
	b := new(bucket)
	b.set(1000, 1)
	if !b.take(1000, 10e9) || b.take(1, 9_990_000_000) || b.take(1, 9e9) || !b.take(1000, 8_999_999_999) {
		t.Error("only a clock that is more than a second behind has jumped back")
	}
}

// The data path and the answers to Binding requests allocate nothing.
func TestLookUpsAllocateNothing(t *testing.T) {
	table := NewTable(ours4, ours6, 42)
	a := allocationAt(table, 7)
	c := &Channel{Allocation: a, Peer: peerAt(1), Number: 0x4001}
	a.bind(c)
	h := newHarness(t, nil)
	bindings, buf := h.s.Bindings(), make([]byte, 0, maxBindingAnswer)
	request := []byte("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl")
	found := 0
	if n := testing.AllocsPerRun(100, func() {
		if table.Client(a.Client.Remote, a.Client.Local) == a && a.Channel(0x4001) == c && a.Peer(c.Peer) == c && a.Take(1, 1) {
			found++
		}
		table.Hairpin(c)
		if _, v := bindings.Answer(buf, request, Tuple{Remote: c.Peer}, 1); v == Answered {
			found++
		}
	}); n != 0 || found != 202 {
		t.Errorf("%v allocations, %d found", n, found)
	}
}

// A refusal costs no memory: neither the nonce nor the signature does.
func TestRefusalsAllocateNothing(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	b := d.build(0x004, nil)
	if n := testing.AllocsPerRun(100, func() {
		h.s.HandleMessage(b, d.from, h.now)
		h.s.Drain(&h.out)
	}); n != 0 {
		t.Errorf("%v allocations for a refusal", n)
	}
}

func BenchmarkClient(b *testing.B) {
	table := NewTable(ours4, ours6, 42)
	all := make([]Tuple, 10_000)
	for i := range all {
		all[i] = allocationAt(table, i).Client
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i++; i == len(all) {
			i = 0
		}
		if table.Client(all[i].Remote, all[i].Local) == nil {
			b.Fatal("lost")
		}
	}
}

func BenchmarkChannels(b *testing.B) {
	table := NewTable(ours4, ours6, 42)
	a := allocationAt(table, 1)
	for i := range 8 {
		a.bind(&Channel{Allocation: a, Peer: peerAt(i), Number: MinChannel + uint16(i)})
	}
	b.Run("number", func(b *testing.B) {
		for b.Loop() {
			if a.Channel(0x4003) == nil {
				b.Fatal("lost")
			}
		}
	})
	b.Run("peer", func(b *testing.B) {
		p := peerAt(3)
		for b.Loop() {
			if a.Peer(p) == nil {
				b.Fatal("lost")
			}
		}
	})
}

func BenchmarkRefresh(b *testing.B) {
	h := newHarness(b, func(c *Config) { c.Limits = Limits{} })
	d := h.device("192.0.2.1:1000", "a")
	d.allocate()
	requests := make([][]byte, nonceUses-100)
	for i := range requests {
		requests[i] = d.build(0x004, nil)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(requests) {
			h.s.nonces.uses = nil
			h.s.nonces = newNonces(h.s.nonces.secret, 10)
			i = 0
		}
		h.s.HandleMessage(requests[i], d.from, h.now)
		h.s.Drain(&h.out)
		i++
	}
}

func BenchmarkBinding(b *testing.B) {
	h := newHarness(b, nil)
	request, buf := []byte("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"), make([]byte, 0, maxBindingAnswer)
	b.ReportAllocs()
	for b.Loop() {
		if _, v := h.s.Bindings().Answer(buf, request, Tuple{Remote: peerAt(1)}, 1); v != Answered {
			b.Fatal("no answer")
		}
	}
}
