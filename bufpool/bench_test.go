package bufpool

import (
	"fmt"
	"sync"
	"testing"

	"github.com/valyala/bytebufferpool"
)

// A turn is what a worker does: take the slabs of a batch, touch each, give them all back.
const benchBatch = 16

// One operation is a turn; the pools are what one would use instead.
func BenchmarkTurn(b *testing.B) {
	for _, goroutines := range []int{1, 2, 4, 8} {
		for _, rival := range []struct {
			name   string
			worker func(b *testing.B) func() func()
		}{
			{"bufpool", benchPool(2 * benchBatch)},
			{"bufpool-small-cache", benchPool(benchBatch / 2)}, // every turn goes to the ring
			{"mutex", benchMutex},
			{"sync.Pool", benchSyncPool},
			{"bytebufferpool", benchByteBufferPool},
		} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", rival.name, goroutines), func(b *testing.B) {
				b.ReportAllocs()
				worker := rival.worker(b)
				turns := make([]func(), goroutines)
				for i := range turns {
					turns[i] = worker()
					turns[i]() // the first turn fills caches and faults pages
				}
				b.ResetTimer()
				var wg sync.WaitGroup
				for _, turn := range turns {
					wg.Go(func() {
						for range (b.N + goroutines - 1) / goroutines {
							turn()
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

func benchPool(cache int) func(b *testing.B) func() func() {
	return func(b *testing.B) func() func() {
		p := newPool(b, 1024)
		var caches []*Cache
		b.Cleanup(func() {
			for _, c := range caches {
				c.Flush()
			}
		})
		for at := Headroom; at < len(p.arena); at += 4096 {
			p.arena[at] = 1 // page faults are not the pool's doing
		}
		return func() func() {
			c := p.NewCache(cache)
			caches = append(caches, c)
			var held [benchBatch]Slab
			return func() {
				for i := range held {
					s, ok := c.Take()
					for !ok { // a producer lost its core
						s, ok = c.Take()
					}
					held[i] = s
					s.Data()[0]++
				}
				for _, s := range held {
					c.Give(s)
				}
			}
		}
	}
}

func benchMutex(*testing.B) func() func() {
	var mu sync.Mutex
	var free [][]byte
	for range 1024 {
		free = append(free, make([]byte, SlabSize))
	}
	return func() func() {
		var held [benchBatch][]byte
		return func() {
			for i := range held {
				mu.Lock()
				held[i] = free[len(free)-1]
				free = free[:len(free)-1]
				mu.Unlock()
				held[i][0]++
			}
			for _, s := range held {
				mu.Lock()
				free = append(free, s)
				mu.Unlock()
			}
		}
	}
}

func benchSyncPool(*testing.B) func() func() {
	pool := sync.Pool{New: func() any { return new([SlabSize]byte) }}
	return func() func() {
		var held [benchBatch]*[SlabSize]byte
		return func() {
			for i := range held {
				held[i] = pool.Get().(*[SlabSize]byte)
				held[i][0]++
			}
			for _, s := range held {
				pool.Put(s)
			}
		}
	}
}

func benchByteBufferPool(*testing.B) func() func() {
	var pool bytebufferpool.Pool
	return func() func() {
		var held [benchBatch]*bytebufferpool.ByteBuffer
		return func() {
			for i := range held {
				held[i] = pool.Get()
				if cap(held[i].B) < SlabSize {
					held[i].B = make([]byte, SlabSize)
				}
				held[i].B = held[i].B[:SlabSize]
				held[i].B[0]++
			}
			for _, s := range held {
				pool.Put(s)
			}
		}
	}
}
