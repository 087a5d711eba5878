package fib

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchFlows returns a table of n flows over 50 addresses.
func benchFlows(n int) *Flows {
	f, _ := newFlows(4_000_000, 4_000_000)
	for i := range n {
		f.Outgoing(udp, uint16(i/50), nthAddr(i%50), nthAddr(i%50), 0, start)
	}
	return f
}

// Look-ups of random flows, each of which has had a packet since: the lists move too.
func BenchmarkFlowLookup(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		f := benchFlows(n)
		rng := rand.New(rand.NewPCG(1, 2))
		order := make([]int32, 1<<16)
		for i := range order {
			order[i] = rng.Int32N(int32(n))
		}
		for _, step := range []int64{0, 1} {
			name := map[int64]string{0: "same batch", 1: "later"}[step]
			b.Run(fmt.Sprintf("outgoing/%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				now, at := start, 0
				for b.Loop() {
					i := int(order[at&0xffff])
					at++
					now += step
					f.Outgoing(udp, uint16(i/50), nthAddr(i%50), realA, 0, now)
				}
			})
			b.Run(fmt.Sprintf("incoming/%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				now, at := start, 0
				for b.Loop() {
					i := int(order[at&0xffff])
					at++
					now += step
					f.Incoming(udp, uint16(i/50), nthAddr(i%50), 0, now)
				}
			})
		}
		b.Run(fmt.Sprintf("miss/%d", n), func(b *testing.B) {
			at := 0
			for b.Loop() {
				i := int(order[at&0xffff])
				at++
				f.Incoming(tcp, uint16(i/50), nthAddr(i%50), 0, start)
			}
		})
	}
	b.Run("miss/no table", func(b *testing.B) {
		f := new(Flows)
		for b.Loop() {
			f.Incoming(tcp, 1, realA, 0, start)
		}
	})
}

// One operation is one flow: begun, or ended.
func BenchmarkFlowTurnover(b *testing.B) {
	const n = 100_000
	b.Run("create", func(b *testing.B) {
		f, _ := newFlows(4_000_000, 4_000_000)
		i := 0
		for b.Loop() {
			if i++; i == 1_000_000 {
				f.Reset(0)
				i = 0
			}
			f.Outgoing(udp, uint16(i/50), nthAddr(i%50), nthAddr(i%50), 0, start)
		}
	})
	b.Run("create and evict", func(b *testing.B) {
		f, _ := newFlows(4_000_000, n)
		i := 0
		for b.Loop() {
			i++
			f.Outgoing(udp, uint16(i/50), nthAddr(i%50), nthAddr(i%50), 0, start+int64(i))
		}
	})
	b.Run("expire", func(b *testing.B) {
		now, left := start, 0
		f, _ := newFlows(4_000_000, 4_000_000)
		for b.Loop() {
			if left == 0 {
				b.StopTimer()
				for i := range n {
					f.Outgoing(udp, uint16(i/50), nthAddr(i%50), nthAddr(i%50), 0, now)
				}
				left, now = n, now+100*second
				b.StartTimer()
			}
			f.Expire(now, 1)
			left--
		}
	})
	b.Run("expire nothing", func(b *testing.B) {
		f := benchFlows(n)
		for b.Loop() {
			f.Expire(start, ExpireStep)
		}
	})
	b.Run("no free port", func(b *testing.B) {
		f, _ := newFlows(4_000_000, 4_000_000)
		for p := range numPorts {
			f.Outgoing(udp, uint16(p), proxyA, realA, 0, start)
		}
		for b.Loop() {
			f.Outgoing(udp, 1, proxyB, realA, 0, start)
		}
	})
}

func BenchmarkFlowHash(b *testing.B) {
	key := hashKey{1, 2}
	a, tuple := tupleOf(udp, 5, realA)
	for b.Loop() {
		tuple += key.hash(a, tuple)
	}
}
