package fib

import (
	"math/bits"
	"slices"
)

// portSet is a set of ports: a sorted list, or, from 4,096 ports on, when that is smaller, a
// bitmap. (The containers of Chambi et al., "Better bitmap performance with Roaring bitmaps",
// 2016.)
type portSet struct {
	owner  uint32 // number of the endpoint
	n      int
	sorted []uint16
	bitmap *[portWords]uint64
}

const (
	numPorts  = 1 << 16
	portWords = numPorts / 64
	// bitmapFrom is where a list is as large as the bitmap, 8 KiB.
	bitmapFrom = portWords * 64 / 16
	// bitmapUntil is where the bitmap becomes a list again: early enough that it costs no flow
	// more than 32 bytes, late enough that it takes a microsecond: a step of expiry may do it
	// for as many addresses as it ends flows.
	bitmapUntil = bitmapFrom / 16
	// minSorted is the capacity that a list starts with and never goes below.
	minSorted = 2 * inlinePorts
)

func newPortSet(owner uint32, ports []uint16) *portSet {
	s := &portSet{owner: owner, n: len(ports), sorted: append(make([]uint16, 0, minSorted), ports...)}
	slices.Sort(s.sorted)
	return s
}

// add adds a port that is not in the set.
func (s *portSet) add(port uint16) {
	s.n++
	if s.bitmap == nil && s.n == bitmapFrom {
		s.bitmap = new([portWords]uint64)
		for _, p := range s.sorted {
			s.bitmap[p/64] |= 1 << (p % 64)
		}
		s.sorted = nil
	}
	if s.bitmap != nil {
		s.bitmap[port/64] |= 1 << (port % 64)
		return
	}
	i, _ := slices.BinarySearch(s.sorted, port)
	s.sorted = slices.Insert(s.sorted, i, port)
}

// remove takes a port of the set out, and returns how many are left.
func (s *portSet) remove(port uint16) int {
	s.n--
	if s.bitmap == nil {
		i, _ := slices.BinarySearch(s.sorted, port)
		s.sorted = slices.Delete(s.sorted, i, i+1)
		if cap(s.sorted) > max(minSorted, 4*s.n) {
			s.sorted = append(make([]uint16, 0, 2*s.n), s.sorted...)
		}
		return s.n
	}
	s.bitmap[port/64] &^= 1 << (port % 64)
	if s.n == bitmapUntil {
		s.sorted = make([]uint16, 0, bitmapUntil)
		for w, word := range s.bitmap {
			for ; word != 0; word &= word - 1 {
				s.sorted = append(s.sorted, uint16(w*64+bits.TrailingZeros64(word)))
			}
		}
		s.bitmap = nil
	}
	return s.n
}

// nextFree returns the first of port, port+1 … 65535, 1 … port-1 that is not in the set.
func (s *portSet) nextFree(port uint16) (uint16, bool) {
	if p := s.firstFree(int(port)); p < numPorts {
		return uint16(p), true
	}
	p := s.firstFree(1)
	return uint16(p), p < int(port)
}

// firstFree returns the first port from from on that is not in the set, or numPorts.
func (s *portSet) firstFree(from int) int {
	if s.bitmap != nil {
		return s.firstClear(from)
	}
	for i, _ := slices.BinarySearch(s.sorted, uint16(from)); i < len(s.sorted) && int(s.sorted[i]) == from; i++ {
		from++
	}
	return from
}

func (s *portSet) firstClear(from int) int {
	below := uint64(1)<<(from%64) - 1
	for w := from / 64; w < portWords; w++ {
		if free := ^s.bitmap[w] &^ below; free != 0 {
			return w*64 + bits.TrailingZeros64(free)
		}
		below = 0
	}
	return numPorts
}
