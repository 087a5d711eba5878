package relay

import (
	"math"
	"sync/atomic"

	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/protocol/stun"
)

// The sizes of payloads are counted in steps of 100 bytes up to 1500, as Firezone's relay does,
// and one bucket for what is longer.
const (
	sizeStep = 100
	numSizes = 16
)

// sizeCounts are one worker's own, like all workerCounters.
type sizeCounts [numSizes]atomic.Uint64

// count counts the segments of a gather by the size of their payload: all but the last have one.
func (c *sizeCounts) count(g *outgoing) {
	n := g.Len()
	if n == 0 {
		return
	}
	full, last, header := g.Stride, g.Size-(n-1)*g.Stride, 0
	if g.toClient {
		header = stun.ChannelHeader
	}
	c.add(full-header, n-1)
	c.add(last-header, 1)
}

func (c *sizeCounts) add(size, n int) {
	if n > 0 {
		b := &c[sizeBucket(size)]
		b.Store(b.Load() + uint64(n))
	}
}

// sizeBucket returns the bucket of the sizes from just above one bound up to the next.
func sizeBucket(size int) int {
	return min(max(size-1, 0)/sizeStep, numSizes-1)
}

// sizeMetric shows the sizes as a histogram.
func sizeMetric(t *Traffic) observe.Metric {
	m := observe.Metric{Name: "relay_packet_size_bytes", Help: "The sizes of payloads handed to the kernel, both directions together.", Kind: observe.Histogram,
		More:  []observe.Pair{{Name: "relay_datapath", Value: "userspace"}},
		Value: t.SizeSum}
	for i, n := range t.Sizes {
		bound := float64((i + 1) * sizeStep)
		if i == numSizes-1 {
			bound = math.Inf(1)
		}
		m.Buckets = append(m.Buckets, observe.Bucket{Bound: bound, Count: n})
	}
	return m
}
