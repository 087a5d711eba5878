package bufpool

import (
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// newPool returns a pool that must be whole again when the test ends: every slab given back and
// every cache flushed.
func newPool(t testing.TB, slabs int) *Pool {
	t.Helper()
	p, err := New(slabs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("slabs leaked: %v", err)
		}
	})
	return p
}

func take(t testing.TB, c *Cache) Slab {
	t.Helper()
	s, ok := c.Take()
	if !ok {
		t.Fatal("no slab although the pool has some")
	}
	return s
}

func mustPanic(t *testing.T, why string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("no panic: %s", why)
		}
	}()
	f()
}

func TestSlabHoldsTrainAndSuperpacket(t *testing.T) {
	p := newPool(t, 3)
	c := p.NewCache(4)
	defer c.Flush()
	s := take(t, c)
	defer c.Give(s)
	if len(s.Whole()) != SlabSize || len(s.Data()) != DataSize {
		t.Fatalf("slab of %d bytes with %d of data", len(s.Whole()), len(s.Data()))
	}
	if &s.Whole()[Headroom] != &s.Data()[0] {
		t.Error("data does not begin behind the headroom")
	}
	if cap(s.Data()) != DataSize || cap(s.Whole()) != SlabSize {
		t.Error("a slab can be extended into its neighbour")
	}
	if SlabSize%cacheLine != 0 || Headroom%cacheLine != 0 {
		t.Error("slabs are not aligned to cache lines")
	}
	if DataSize < 12+40+65535 {
		t.Error("an IPv6 superpacket behind a virtio-net header does not fit")
	}
	if (Slab{}).Data() != nil || (Slab{}).Whole() != nil {
		t.Error("no slab has bytes")
	}
}

func TestNewRefusesSizesOutOfRange(t *testing.T) {
	for _, n := range []int{-1, 0, MaxSlabs + 1} {
		if p, err := New(n); err == nil {
			t.Errorf("a pool of %d slabs was made", n)
			_ = p.Close()
		}
	}
}

func TestExhaustionIsCountedAndEnds(t *testing.T) {
	p := newPool(t, 4)
	c := p.NewCache(2)
	var out []Slab
	for range 4 {
		out = append(out, take(t, c))
	}
	for range 3 {
		if s, ok := c.Take(); ok || s != (Slab{}) {
			t.Fatal("a fifth slab of four")
		}
	}
	want := Stats{Slabs: 4, Bytes: 4 * SlabSize, Used: 4, Exhausted: 3}
	if got := p.Stats(); got != want || p.Outstanding() != 4 {
		t.Errorf("stats %+v with %d out, want %+v with 4", got, p.Outstanding(), want)
	}
	for _, s := range out {
		c.Give(s)
	}
	c.Give(take(t, c))
	c.Flush()
}

func TestCacheReusesTheLastSlabFirst(t *testing.T) {
	p := newPool(t, 8)
	c := p.NewCache(4)
	defer c.Flush()
	a, b := take(t, c), take(t, c)
	c.Give(b)
	c.Give(a)
	if got := take(t, c); got != a {
		t.Errorf("took %v, want the last one given, %v", got, a)
	}
	c.Give(a)
}

func TestSpillKeepsTheMostRecentlyUsed(t *testing.T) {
	p := newPool(t, 8)
	c := p.NewCache(4)
	defer c.Flush()
	var all [8]Slab
	for i := range all {
		all[i] = take(t, c)
	}
	for _, s := range all {
		c.Give(s)
	}
	for i := 7; i >= 6; i-- {
		if got := take(t, c); got != all[i] {
			t.Errorf("took %v, want %v", got, all[i])
		}
	}
	c.Give(all[6])
	c.Give(all[7])
}

// Workers that come and go use the slabs of those before them: however often that happens, the
// pool lends no more different slabs than were out at one time, and what lay idle in caches.
func TestNewWorkersUseTheSlabsOfThoseBefore(t *testing.T) {
	const workers, generations = 3, 100
	for _, c := range []struct {
		name  string
		batch func(generation, worker int) int // how many slabs a worker holds
		out   int                              // how many all hold
	}{
		{"all alike", func(int, int) int { return 20 }, workers * 20},
		{"one or the other busy", func(g, w int) int { return 2 + 30*max(0, 1-(g+w)%workers) }, workers*2 + 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t, 1000)
			seen := map[Slab]bool{}
			for g := range generations {
				var caches [workers]*Cache
				var held [workers][]Slab
				for w := range workers {
					caches[w] = p.NewCache(64)
					for range c.batch(g, w) {
						s := take(t, caches[w])
						seen[s] = true
						held[w] = append(held[w], s)
					}
				}
				for w := range workers {
					for _, s := range held[w] {
						caches[w].Give(s)
					}
					caches[w].Flush()
				}
			}
			if used := p.Stats().Used; len(seen) > used || used > c.out+workers*(refill-1) {
				t.Errorf("%d slabs lent, %d used, with %d out at a time", len(seen), used, c.out)
			}
		})
	}
}

// A slab in the ring goes before a fresh one, whichever cache gave it back.
func TestFreshSlabsGoLast(t *testing.T) {
	p := newPool(t, 64)
	c, d := p.NewCache(16), p.NewCache(16)
	defer c.Flush()
	defer d.Flush()
	s := take(t, c)
	if got := p.Stats().Used; got != refill {
		t.Errorf("%d slabs used for one, want %d", got, refill)
	}
	c.Give(s)
	c.Flush()
	for range refill {
		defer d.Give(take(t, d))
	}
	if got := p.Stats().Used; got != refill {
		t.Errorf("%d slabs used although %d were in the ring", got, refill)
	}
	defer d.Give(take(t, d))
	if got := p.Stats().Used; got != 2*refill {
		t.Errorf("%d slabs used, want %d", got, 2*refill)
	}
}

// A ring that is stuck on one slab neither hides fresh ones nor is waited for while there are some.
func TestAStuckRingLeavesTheFreshSlabs(t *testing.T) {
	p := newPool(t, 8)
	p.fresh.Store(1)
	p.ring.tail.Store(1) // a producer has claimed the place of slab 0, and lost its core
	c := p.NewCache(16)
	defer c.Flush()
	for range 7 {
		defer c.Give(take(t, c))
	}
	if _, ok := c.Take(); ok {
		t.Error("took the slab that is on its way")
	}
	p.ring.cells[0].value = 0
	p.ring.cells[0].seq.Store(1)
	c.Give(take(t, c))
}

func TestBrokenOwnershipPanics(t *testing.T) {
	p, other := newPool(t, 4), newPool(t, 4)
	c, d := p.NewCache(2), p.NewCache(2)
	foreign := other.NewCache(2)
	s := take(t, c)
	mustPanic(t, "slab of another pool", func() { foreign.Give(s) })
	mustPanic(t, "no slab at all", func() { c.Give(Slab{}) })
	d.Give(s)
	mustPanic(t, "given twice to the same cache", func() { d.Give(s) })
	mustPanic(t, "given twice to another cache", func() { c.Give(s) })
	c.Flush()
	d.Flush()
}

func TestCloseRefusesWhileSlabsAreOutOrCached(t *testing.T) {
	p := newPool(t, 4)
	c := p.NewCache(4)
	s := take(t, c) // and one more in the cache
	err := p.Close()
	if err == nil || !strings.Contains(err.Error(), "1 of 4 slabs are still out and 1 in caches") {
		t.Fatalf("close with a slab out: %v", err)
	}
	s.Data()[0] = 1 // still mapped
	c.Give(s)
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "0 of 4 slabs are still out and 2 in caches") {
		t.Fatalf("close with slabs in a cache: %v", err)
	}
	if got := p.Stats().Used; got != 2 {
		t.Errorf("closing in vain left %d slabs used, want 2", got)
	}
	c.Flush()
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.Take(); ok {
		t.Error("a closed pool lends a slab")
	}
}

// Against a model: any order of takes, gives and flushes over several caches keeps every slab in
// one place, and Outstanding right.
func TestPoolKeepsEverySlabInOnePlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slabs := rapid.IntRange(1, 20).Draw(t, "slabs")
		p, err := New(slabs)
		if err != nil {
			t.Fatal(err)
		}
		caches := make([]*Cache, rapid.IntRange(1, 4).Draw(t, "caches"))
		for i := range caches {
			caches[i] = p.NewCache(rapid.IntRange(0, 9).Draw(t, "size"))
		}
		pick := func(t *rapid.T) *Cache { return rapid.SampledFrom(caches).Draw(t, "cache") }
		held := map[Slab]bool{}
		var order []Slab
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				s, ok := pick(t).Take()
				if ok && held[s] {
					t.Fatalf("slab %d lent twice", s.index)
				}
				if ok {
					held[s] = true
					order = append(order, s)
				} else if len(order) == 0 && len(caches) == 1 {
					t.Fatal("nothing to take although nothing is out")
				}
			},
			"give": func(t *rapid.T) {
				if len(order) == 0 {
					return
				}
				i := rapid.IntRange(0, len(order)-1).Draw(t, "which")
				pick(t).Give(order[i])
				delete(held, order[i])
				order = append(order[:i], order[i+1:]...)
			},
			"flush": func(t *rapid.T) { pick(t).Flush() },
			"": func(t *rapid.T) {
				if p.Outstanding() != len(order) {
					t.Fatalf("%d slabs out, want %d", p.Outstanding(), len(order))
				}
			},
		})
		for _, s := range order {
			caches[0].Give(s)
		}
		for _, c := range caches {
			c.Flush()
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Workers write their mark into every slab they hold and hand some to a neighbour, with fewer
// slabs than they would like: a slab with two owners would show a foreign mark.
func TestSlabHasOneOwnerAmongManyGoroutines(t *testing.T) {
	const workers, rounds = 8, 4_000
	p := newPool(t, 48)
	pass := make(chan Slab, 4)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			c := p.NewCache(8)
			defer c.Flush()
			var held []Slab
			for i := range rounds {
				mark := uint64(w+1)<<32 | uint64(i)
				for range 1 + i%9 {
					if s, ok := c.Take(); ok {
						binary.LittleEndian.PutUint64(s.Data(), mark)
						held = append(held, s)
					}
				}
				for _, s := range held {
					if got := binary.LittleEndian.Uint64(s.Data()); got != mark {
						t.Errorf("worker %d found mark %x in its slab, want %x", w, got, mark)
					}
					select {
					case pass <- s:
					default:
						c.Give(s)
					}
				}
				held = held[:0]
				select {
				case s := <-pass:
					c.Give(s)
				default:
				}
			}
		})
	}
	wg.Wait()
	c := p.NewCache(2)
	for len(pass) > 0 {
		c.Give(<-pass)
	}
	c.Flush()
	if n := p.Outstanding(); n != 0 {
		t.Errorf("%d slabs out after all workers ended", n)
	}
}

func TestTakeAndGiveAllocateNothing(t *testing.T) {
	p := newPool(t, 64)
	c := p.NewCache(8)
	defer c.Flush()
	var held [24]Slab
	if n := testing.AllocsPerRun(100, func() {
		for i := range held {
			held[i], _ = c.Take()
			held[i].Data()[0]++
		}
		for _, s := range held {
			c.Give(s)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
