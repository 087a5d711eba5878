package fib

import "slices"

// Chunks have 512 elements: of the largest, a flow, that is 32 KiB, which is allocated and zeroed
// in a few microseconds. The first chunk begins with minChunk and doubles.
const (
	chunkBits = 9
	chunkLen  = 1 << chunkBits
	minChunk  = 8
)

// chunked is an array that grows and shrinks at its end without ever moving more than one chunk,
// and whose memory follows its length. Elements hold no pointers, so that the collector does not
// look into them. Pointers to elements are valid until the next push or pop.
type chunked[T any] struct {
	dir [][]T
	n   int
}

func (c *chunked[T]) at(i uint32) *T { return &c.dir[i>>chunkBits][i&(chunkLen-1)] }

// push adds a zero element.
func (c *chunked[T]) push() {
	switch last := len(c.dir) - 1; {
	case last < 0:
		c.dir = [][]T{make([]T, minChunk)}
	case c.n < last<<chunkBits+len(c.dir[last]):
	case last == 0 && len(c.dir[0]) < chunkLen:
		grown := make([]T, 2*len(c.dir[0]))
		copy(grown, c.dir[0])
		c.dir[0] = grown
	default:
		c.dir = append(c.dir, make([]T, chunkLen))
	}
	c.n++
}

// pop takes the last element away. A chunk goes when the one before it is half empty too.
func (c *chunked[T]) pop() {
	c.n--
	var zero T
	*c.at(uint32(c.n)) = zero
	switch last := len(c.dir) - 1; {
	case last == 0:
		if first := c.dir[0]; len(first) > minChunk && c.n < len(first)/4 {
			c.dir[0] = slices.Clone(first[:len(first)/2])
		}
	case c.n <= last<<chunkBits-chunkLen/2:
		c.dir[last] = nil
		c.dir = c.dir[:last]
		if cap(c.dir) > 4*last+4 {
			c.dir = slices.Clip(slices.Clone(c.dir))
		}
	}
}
