package fib

// index finds records by the hash of their key. It is a linear hash table (Litwin, "Linear
// hashing: a new tool for file and table addressing", 1980): it grows and shrinks by one bucket at
// a time, so no insertion pays for a rehash of the rest, and memory follows what is in it.
//
// Records are numbered from 1 by whoever owns them; their keys are compared by the owner too.
// Every record number up to the highest has a link, whether the record is in the index or not.
type index struct {
	heads chunked[uint32] // of each bucket: the first record, or 0
	links chunked[link]   // of each record
	n     int             // records in the index
	mask  uint32          // the smallest 2^k-1 that covers all buckets
}

type link struct{ next, hash uint32 }

const (
	// minBuckets is where an index begins.
	minBuckets = 8
	// bucketsPerRecord is kept from below, so that a chain has 0.5 records on average and a
	// miss mostly ends at the bucket; twice of it is kept from above.
	bucketsPerRecord = 2
	// stepsPerChange is how many buckets one insertion or removal adds or takes at most: twice
	// bucketsPerRecord keeps up with removals, which are the worse case.
	stepsPerChange = 2 * bucketsPerRecord
)

func (x *index) init() {
	for range minBuckets {
		x.heads.push()
	}
	x.mask = minBuckets - 1
	x.links.push() // number 0 is nobody
}

func (x *index) bucket(hash uint32) *uint32 {
	b := hash & x.mask
	if b >= uint32(x.heads.n) {
		b &= x.mask >> 1
	}
	return x.heads.at(b)
}

// first returns the first record that may have the hash; next the one after id; 0 ends the chain.
func (x *index) first(hash uint32) uint32 { return *x.bucket(hash) }
func (x *index) next(id uint32) uint32    { return x.links.at(id).next }

func (x *index) insert(id, hash uint32) {
	head := x.bucket(hash)
	*x.links.at(id) = link{*head, hash}
	*head = id
	x.n++
	for range stepsPerChange {
		if x.heads.n >= bucketsPerRecord*x.n {
			return
		}
		x.split()
	}
}

func (x *index) remove(id uint32) {
	l := x.links.at(id)
	*x.pointerTo(id, l.hash) = l.next
	*l = link{}
	x.n--
	for range stepsPerChange {
		if x.heads.n <= max(minBuckets, 2*bucketsPerRecord*x.n) {
			return
		}
		x.merge()
	}
}

// renumber makes the record from be known as to, which is not in the index.
func (x *index) renumber(from, to uint32) {
	l := x.links.at(from)
	*x.pointerTo(from, l.hash) = to
	*x.links.at(to) = *l
	*l = link{}
}

// pointerTo returns what leads to id: its bucket, or the link before it.
func (x *index) pointerTo(id, hash uint32) *uint32 {
	p := x.bucket(hash)
	for *p != id {
		p = &x.links.at(*p).next
	}
	return p
}

// split adds a bucket and moves there what belongs there, from the one bucket where it was.
func (x *index) split() {
	added := uint32(x.heads.n)
	if added > x.mask {
		x.mask = x.mask<<1 | 1
	}
	x.heads.push()
	stay, move := x.heads.at(added&(x.mask>>1)), x.heads.at(added)
	for id := *stay; id != 0; {
		l := x.links.at(id)
		next := l.next
		if l.hash&x.mask == added {
			*stay, l.next = next, 0
			*move, move = id, &l.next
		} else {
			stay = &l.next
		}
		id = next
	}
}

// merge takes the last bucket away; what was there goes where it was before the bucket existed.
func (x *index) merge() {
	last := uint32(x.heads.n - 1)
	chain := *x.heads.at(last)
	x.heads.pop()
	if last == (x.mask+1)>>1 {
		x.mask >>= 1
	}
	if chain == 0 {
		return
	}
	p := x.bucket(last)
	for *p != 0 {
		p = &x.links.at(*p).next
	}
	*p = chain
}
