package wireguard

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/replay"

	"github.com/firelane/firelane/protocol/wireguard/aead"
)

// Limits on the number of messages under one key (WireGuard paper, section 6.1).
const (
	// RekeyAfterMessages is after how many sent messages a new handshake is wanted.
	RekeyAfterMessages = 1 << 60
	// RejectAfterMessages is the first counter that is never accepted.
	RejectAfterMessages = 1<<64 - 1<<13 - 1
)

// takeLimit ends the counters that Take hands out a little before RejectAfterMessages: a refused
// Take may already have advanced the counter, and the room up to 2^64 must be more than all
// workers together can add before they see it. 2^26 is 1024 workers with superpackets of 65,536.
const takeLimit = RejectAfterMessages - 1<<26

// Scratch is what one goroutine needs to seal or open runs of messages without allocating. The
// zero value is ready; one goroutine at a time.
type Scratch = aead.Scratch

// Keypair is what one handshake results in: a key for each direction, and the session indices
// of both ends. Everything but the send counter is immutable; all methods may be called by any
// number of goroutines at once.
type Keypair struct {
	send, receive *aead.Key
	local, remote uint32
	initiator     bool
	created       time.Time
	rekeyAt       time.Time
	sendUntil     time.Time
	expires       time.Time

	_       [64]byte // the counter is written per run: keep its cache line apart
	counter atomic.Uint64
}

// LocalIndex returns the session index that incoming messages carry.
func (k *Keypair) LocalIndex() uint32 { return k.local }

// RemoteIndex returns the session index that outgoing messages carry.
func (k *Keypair) RemoteIndex() uint32 { return k.remote }

// Initiator reports whether our side sent the initiation.
func (k *Keypair) Initiator() bool { return k.initiator }

// Created returns when the handshake was complete on our side.
func (k *Keypair) Created() time.Time { return k.created }

// RekeyAt returns from when on a message sent asks for a new handshake (fib.WishRekey, WhyRekey);
// zero on the responder, whose peer sees to it.
func (k *Keypair) RekeyAt() time.Time { return k.rekeyAt }

// SendUntil returns from when on the key must not seal any more.
func (k *Keypair) SendUntil() time.Time { return k.sendUntil }

// Expires returns from when on the key must not open any more; the machine withdraws it then.
func (k *Keypair) Expires() time.Time { return k.expires }

// Take reserves n counters, first … first+n-1, with one atomic add. It refuses once the key is
// used up. n is the number of packets of a superpacket: 0 < n ≤ 65,536.
func (k *Keypair) Take(n int) (first uint64, ok bool) {
	if k.counter.Load() >= takeLimit {
		return 0, false
	}
	end := k.counter.Add(uint64(n))
	return end - uint64(n), end <= takeLimit
}

// NeedsRekey reports whether so many messages were sent that a new handshake is wanted.
func (k *Keypair) NeedsRekey() bool { return k.counter.Load() >= RekeyAfterMessages }

// Sent returns how many counters were taken.
func (k *Keypair) Sent() uint64 { return min(k.counter.Load(), takeLimit) }

// Seal makes finished data messages of a run, in place: it writes the 16-byte headers with
// counters first, first+1 … as given by Take, and encrypts. Each message holds its plaintext
// from HeaderSize on and ends with 16 bytes of room. msgs are lent for the call.
func (k *Keypair) Seal(s *Scratch, msgs [][]byte, first uint64) {
	for i, m := range msgs {
		binary.LittleEndian.PutUint32(m[0:4], uint32(KindData))
		binary.LittleEndian.PutUint32(m[4:8], k.remote)
		binary.LittleEndian.PutUint64(m[8:16], first+uint64(i))
	}
	k.send.Seal(s, msgs, first)
}

// Open authenticates and decrypts a run in place. The caller has read counters from the headers
// (Counter) and has found this keypair by their index. ok[i] tells whether message i is genuine;
// replays are genuine too, so Window.Accept comes next.
func (k *Keypair) Open(s *Scratch, msgs [][]byte, counters []uint64, ok []bool) {
	k.receive.Open(s, msgs, counters, ok)
}

// Window is the replay window of one session (RFC 6479): it remembers which of the newest 8192
// counters were seen; the last 64 of them may already be forgotten. The zero value is an empty
// window. It is not safe for concurrent use: the caller holds the session's lock, once per run.
type Window struct {
	filter replay.Filter
}

// Accept visits a run in order: fresh[i] must tell on entry whether message i is genuine (the
// result of Open), and tells on return whether it is also neither replayed nor too old. Messages
// that were not genuine leave no trace.
func (w *Window) Accept(counters []uint64, fresh []bool) {
	for i, c := range counters {
		fresh[i] = fresh[i] && w.filter.ValidateCounter(c, RejectAfterMessages)
	}
}
