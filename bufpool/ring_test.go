package bufpool

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func TestRingBehavesLikeAQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRing(rapid.IntRange(1, 40).Draw(t, "capacity"))
		room := len(r.cells)
		var model []uint32
		next := uint32(0)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n := rapid.IntRange(0, room-len(model)).Draw(t, "n")
				values := make([]uint32, n)
				for i := range values {
					values[i] = next
					next++
				}
				r.put(values)
				model = append(model, values...)
			},
			"offer more than fits": func(t *rapid.T) {
				values := make([]uint32, room+1)
				for i := range values {
					values[i] = next + uint32(i)
				}
				n := r.offer(values)
				if n != room-len(model) {
					t.Fatalf("offer took %d values with room for %d", n, room-len(model))
				}
				next += uint32(n)
				model = append(model, values[:n]...)
			},
			"take": func(t *rapid.T) {
				into := make([]uint32, rapid.IntRange(0, room+1).Draw(t, "n"))
				n := r.take(into)
				if want := min(len(into), len(model)); n != want {
					t.Fatalf("took %d values, want %d", n, want)
				}
				if !slices.Equal(into[:n], model[:n]) {
					t.Fatalf("took %v, want %v", into[:n], model[:n])
				}
				model = model[n:]
			},
		})
	})
}

// Every value goes in once and comes out once, and the values of one producer reach each
// consumer in order, with runs of different lengths on both sides of a ring that is always full
// or empty.
func TestRingLosesAndDoublesNothingBetweenManyGoroutines(t *testing.T) {
	const producers, consumers, each = 4, 4, 20_000
	r := newRing(16)
	seen := make([]atomic.Uint32, producers*each)
	var left atomic.Int64
	left.Store(producers * each)
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := 0; i < each; {
				run := make([]uint32, min(1+(i+p)%7, each-i))
				for k := range run {
					run[k] = uint32(p*each + i + k)
				}
				i += len(run)
				r.put(run)
			}
		})
	}
	for c := range consumers {
		wg.Go(func() {
			into := make([]uint32, 1+c*2)
			var last [producers]int
			for left.Load() > 0 {
				n := r.take(into)
				if n == 0 {
					runtime.Gosched()
				}
				for _, v := range into[:n] {
					seen[v].Add(1)
					p := int(v) / each
					if int(v)%each+1 <= last[p] {
						t.Errorf("value %d of producer %d came after %d", int(v)%each, p, last[p]-1)
					}
					last[p] = int(v)%each + 1
				}
				left.Add(-int64(n))
			}
		})
	}
	wg.Wait()
	for v := range seen {
		if n := seen[v].Load(); n != 1 {
			t.Fatalf("value %d came out %d times", v, n)
		}
	}
}

// A producer that lost its core between claiming and publishing hides the values behind its own.
// take must give up on it within bounds, lose nothing, and go on when it comes back.
func TestTakeGivesUpOnAStalledProducer(t *testing.T) {
	r := newRing(4)
	r.tail.Store(1) // position 0 is claimed, not published
	r.put([]uint32{8, 9})
	into := make([]uint32, 4)
	if n := r.take(into); n != 0 {
		t.Fatalf("took %v past an unpublished value", into[:n])
	}
	r.cells[0].value = 7
	r.cells[0].seq.Store(1)
	if n := r.take(into); !slices.Equal(into[:n], []uint32{7, 8, 9}) {
		t.Fatalf("took %v, want 7, 8, 9", into[:n])
	}
}
