package fastpath

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
)

// carrier is a pair with live flows, and what it takes to send batches of them.
type carrier struct {
	p     *pair
	flows []flow
	next  int
	spent []time.Duration // per batch
}

// newCarrier returns a pair whose client has n live flows, to two names of proxies' family that
// stand for real and the address after it; without a real address there is no policy, and the same packets pass as they are.
func newCarrier(b testing.TB, n int, proxies [2]netip.Addr, real netip.Addr) *carrier {
	c := &carrier{p: newPair(b, 1)}
	peer := c.p[gateway].ends[0].peer
	if real.IsValid() {
		peer.Flows().SetBudget(fib.NewFlowBudget(1<<20, 1<<20, [16]byte{1}))
		policy := testPolicy(netip.Addr{}, netip.Addr{}, func(s *fib.PolicySpec) {
			s.Names = nil
			for i, proxy := range proxies {
				real := [2]netip.Addr{real, real.Next()}[i]
				s.Names = append(s.Names, fib.Name{Proxy: proxy, Real: real, Lists: [][]fib.Filter{{{Protocol: 6, First: 443, Last: 443}}}})
			}
		})
		c.p[gateway].table.Apply([]fib.Change{fib.SetPolicy{Peer: peer, Policy: policy}})
	}
	for i := range n {
		f := flow{v6: proxies[0].Is6(), dst: proxies[i%2], sport: uint16(i / 2), payload: fill(1220, uint32(i))}
		c.flows = append(c.flows, f)
		if real.IsValid() {
			if _, _, v := peer.Flows().Outgoing(6, 4000+f.sport, f.dst, [2]netip.Addr{real, real.Next()}[i%2], 0, start); v != fib.Pass {
				b.Fatal(v)
			}
		}
	}
	return c
}

// carry takes one batch of 64 packets, in runs of one flow, through decap, and notes how long that took.
func (c *carrier) carry(run int) {
	var msgs [][]byte
	for range benchBatch / run {
		f := c.flows[c.next]
		c.next = (c.next + 7919) % len(c.flows) // neighbours are no neighbours in memory
		for _, f := range chain(f, run, len(f.payload)) {
			msgs = append(msgs, c.p.message(gateway, 0, f.build()))
		}
	}
	s := c.p[gateway]
	var trains []batch.Train
	for from := 0; from < len(msgs); from += 32 {
		trains = append(trains, s.arrive(0, len(msgs[0]), msgs[from:from+32]...))
	}
	s.in.Trains = append(s.in.Trains[:0], trains...)
	begin := time.Now()
	s.decap.Batch(s.in, start)
	c.spent = append(c.spent, time.Since(begin))
	s.in.Reset()
}

const benchBatch = 64

// BenchmarkPolicyCost compares the path from client to resource, cipher included, without a policy,
// with filter and NAT, and with filter and NAT64: the same packets of 1,280 bytes in batches of 64,
// in turns. It reports medians: nanoseconds a packet without a policy, how many more it takes with,
// and both over the first as a ratio.
func BenchmarkPolicyCost(b *testing.B) {
	v4 := [2]netip.Addr{proxy4, otherProxy}
	v6 := [2]netip.Addr{proxy6, proxy6.Next()}
	for _, flows := range []int{1000, 100_000} {
		for _, run := range []int{1, 32} {
			b.Run(fmt.Sprintf("flows=%d/run=%d", flows, run), func(b *testing.B) {
				plain4, plain6 := newCarrier(b, flows, v4, netip.Addr{}), newCarrier(b, flows, v6, netip.Addr{})
				nat, nat64 := newCarrier(b, flows, v4, server4), newCarrier(b, flows, v6, server4)
				for b.Loop() {
					plain4.carry(run)
					nat.carry(run)
					plain6.carry(run)
					nat64.carry(run)
				}
				for _, c := range []*carrier{nat, nat64} {
					if lost := droppedBy(c.p); len(lost) != 0 {
						b.Fatalf("lost packets: %v", lost)
					}
				}
				b.ReportMetric(plain4.median(), "plain-ns/packet")
				b.ReportMetric(nat.median()-plain4.median(), "nat-adds-ns/packet")
				b.ReportMetric(nat.median()/plain4.median(), "nat/plain")
				b.ReportMetric(nat64.median()-plain6.median(), "nat64-adds-ns/packet")
				b.ReportMetric(nat64.median()/plain6.median(), "nat64/plain")
			})
		}
	}
}

// median returns the median time of a packet in nanoseconds.
func (c *carrier) median() float64 {
	slices.Sort(c.spent)
	return float64(c.spent[len(c.spent)/2]) / benchBatch
}
