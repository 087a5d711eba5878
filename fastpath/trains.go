package fastpath

import (
	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/fib"
)

// maxTrainBytes is the longest UDP payload of one send: 65,535 bytes less IPv4 and UDP header.
const maxTrainBytes = 65507

// trains builds the trains of one send call, each in a slab of its own: segments are written
// straight to their place in the send buffer. A segment joins only the newest train of its
// path, so order within a path holds by construction.
type trains struct {
	list        []batch.Train
	tails       []tail
	slabs       []bufpool.Slab
	cache       *bufpool.Cache
	maxSegments int
}

// tail is what decides whether a train can take another segment.
type tail struct {
	path     *fib.Path
	segments int
	closed   bool // a shorter segment ended it
}

func newTrains(n, maxSegments int, cache *bufpool.Cache) trains {
	return trains{
		list:        make([]batch.Train, 0, n),
		tails:       make([]tail, 0, n),
		slabs:       make([]bufpool.Slab, 0, n),
		cache:       cache,
		maxSegments: maxSegments,
	}
}

// reserve lends room for as many segments of size bytes as fit at the tail of path's newest
// train, or of a new one, and says how many those are: between 1 and want, or 0 if all trains
// are in use (send them first) or the pool is exhausted. Without a commit the reservation never
// happened.
func (t *trains) reserve(path *fib.Path, ecn uint8, size, want int) (at int, room []byte, fit int) {
	if at = t.newest(path); at >= 0 {
		if room, fit = t.extend(at, ecn, size, want); fit > 0 {
			return at, room, fit
		}
	}
	slab, ok := t.slab(len(t.list))
	if !ok {
		return 0, nil, 0
	}
	data := slab.Data()
	t.list = append(t.list, batch.Train{Buf: data[:0], Stride: size, Remote: path.Remote, Local: path.LocalPort(), ECN: ecn})
	t.tails = append(t.tails, tail{path: path})
	at = len(t.list) - 1
	room, fit = t.extend(at, ecn, size, want)
	return at, room, fit
}

// newest returns the index of path's newest train, or -1.
func (t *trains) newest(path *fib.Path) int {
	for i := len(t.tails) - 1; i >= 0; i-- {
		if t.tails[i].path == path {
			return i
		}
	}
	return -1
}

// extend lends room at the tail of train at for up to want segments of size bytes; none when
// they do not fit its stride.
func (t *trains) extend(at int, ecn uint8, size, want int) ([]byte, int) {
	tr, tail := &t.list[at], &t.tails[at]
	if tail.closed || tr.ECN != ecn || size > tr.Stride {
		return nil, 0
	}
	if size < tr.Stride {
		want = 1 // it ends the train
	}
	fit := min(want, t.maxSegments-tail.segments, (maxTrainBytes-len(tr.Buf))/size)
	if fit <= 0 {
		return nil, 0
	}
	used := len(tr.Buf)
	return tr.Buf[used : used+fit*size], fit
}

// commit makes n segments of bytes bytes in all, written to the room that reserve lent in train
// at, part of the train.
func (t *trains) commit(at, n, bytes int) {
	tr, tail := &t.list[at], &t.tails[at]
	tr.Buf = tr.Buf[:len(tr.Buf)+bytes]
	tail.segments += n
	tail.closed = len(tr.Buf)%tr.Stride != 0
}

// slab lends slab i, taking it from the cache the first time.
func (t *trains) slab(i int) (bufpool.Slab, bool) {
	if i < len(t.slabs) {
		return t.slabs[i], true
	}
	if i == cap(t.slabs) {
		return bufpool.Slab{}, false
	}
	s, ok := t.cache.Take()
	if ok {
		t.slabs = append(t.slabs, s)
	}
	return s, ok
}

// reset forgets all trains; their bytes are dead after it.
func (t *trains) reset() {
	t.list = t.list[:0]
	t.tails = t.tails[:0]
}

// release is reset, and gives every slab back.
func (t *trains) release() {
	t.reset()
	for _, s := range t.slabs {
		t.cache.Give(s)
	}
	t.slabs = t.slabs[:0]
}
