package relay

import "sync/atomic"

// puntSlots bounds the requests of one worker that wait for the machine: at a few microseconds
// each it is behind by a millisecond then, and clients repeat what got lost.
const puntSlots = 512

// puntBytes is the longest STUN message the machine gets. The longest that clients send, an
// Allocate with user name, realm, nonce and integrity, has under 400 bytes.
const puntBytes = 1280

// punted is a STUN message on its way to the machine.
type punted struct {
	from Tuple
	n    int
	data [puntBytes]byte
}

// punts is a bounded ring from one worker to the control goroutine: one pusher, one popper, no
// lock.
type punts struct {
	head  atomic.Uint64 // next slot to push; written by the worker
	_     [56]byte
	tail  atomic.Uint64 // next slot to pop; written by control
	_     [56]byte
	slots [puntSlots]punted
}

// push copies a message into the ring and reports false when it is full or the message too long.
func (r *punts) push(from Tuple, message []byte) bool {
	head := r.head.Load()
	if head-r.tail.Load() == puntSlots || len(message) > puntBytes {
		return false
	}
	p := &r.slots[head%puntSlots]
	p.from = from
	p.n = copy(p.data[:], message)
	r.head.Store(head + 1)
	return true
}

// front lends the oldest message until drop, or reports that there is none.
func (r *punts) front() (from Tuple, message []byte, ok bool) {
	tail := r.tail.Load()
	if tail == r.head.Load() {
		return Tuple{}, nil, false
	}
	p := &r.slots[tail%puntSlots]
	return p.from, p.data[:p.n], true
}

// drop frees the slot of the oldest message.
func (r *punts) drop() { r.tail.Store(r.tail.Load() + 1) }
