package relay

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync/atomic"
)

// minSlots is the size of an index with its first entry: 64 bytes, enough for four channels.
const minSlots = 8

// index is a hash table from keys to pointers for one writer and many readers. Readers take no
// lock: they load the array of slots and probe it linearly, and each slot is an atomic pointer
// to an entry whose key never changes. A deleted entry stays, without a value, until the array
// is rebuilt, so that probing past it goes on. The array is at most half full; growing it makes
// a new one, which costs as much as the entries inserted since the last time.
type index[K comparable, V any] struct {
	slots atomic.Pointer[[]atomic.Pointer[entry[K, V]]]

	// The writer's own.
	live, used int
}

type entry[K comparable, V any] struct {
	key   K
	hash  uint64
	value atomic.Pointer[V]
}

// get returns the value under key, or nil.
func (x *index[K, V]) get(hash uint64, key K) *V {
	if e := x.find(hash, key); e != nil {
		return e.value.Load()
	}
	return nil
}

func (x *index[K, V]) find(hash uint64, key K) *entry[K, V] {
	p := x.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	mask := uint64(len(slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		e := slots[i].Load()
		if e == nil || e.key == key {
			return e
		}
	}
}

// put stores value under key, in place of what was there.
func (x *index[K, V]) put(hash uint64, key K, value *V) {
	e := x.find(hash, key)
	if e == nil {
		e = &entry[K, V]{key: key, hash: hash}
		e.value.Store(value)
		x.insert(e)
		x.live++
		return
	}
	if e.value.Swap(value) == nil {
		x.live++
	}
}

// del removes the value under key, if there is one.
func (x *index[K, V]) del(hash uint64, key K) {
	if e := x.find(hash, key); e != nil && e.value.Swap(nil) != nil {
		x.live--
	}
}

func (x *index[K, V]) insert(e *entry[K, V]) {
	p := x.slots.Load()
	if p == nil || 2*(x.used+1) > len(*p) {
		p = x.rebuilt()
	}
	place(*p, e)
	x.used++
	x.slots.Store(p)
}

// rebuilt returns an array with the live entries and room for at least half as many more.
func (x *index[K, V]) rebuilt() *[]atomic.Pointer[entry[K, V]] {
	size := max(minSlots, 1<<bits.Len(uint(3*(x.live+1)-1)))
	next := make([]atomic.Pointer[entry[K, V]], size)
	x.used = 0
	if p := x.slots.Load(); p != nil {
		for i := range *p {
			if e := (*p)[i].Load(); e != nil && e.value.Load() != nil {
				place(next, e)
				x.used++
			}
		}
	}
	return &next
}

func place[K comparable, V any](slots []atomic.Pointer[entry[K, V]], e *entry[K, V]) {
	mask := uint64(len(slots) - 1)
	i := e.hash & mask
	for slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	slots[i].Store(e)
}

// addrKey is an address and port, IPv4 mapped into IPv6, in a form that compares and hashes fast.
type addrKey struct{ hi, lo, port uint64 }

// tupleKey is a Tuple likewise, in which the port of remote has the zone above it: on two links one
// link-local address may be two clients.
type tupleKey struct{ remote, local addrKey }

func keyOfAddr(a netip.AddrPort) addrKey {
	b := a.Addr().As16()
	return addrKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), uint64(a.Port())}
}

func keyOfTuple(remote, local netip.AddrPort) tupleKey {
	k := tupleKey{keyOfAddr(remote), keyOfAddr(local)}
	if zone := remote.Addr().Zone(); zone != "" {
		k.remote.port |= numberOf(zone) << 16
	}
	return k
}

// numberOf returns a number for a zone in decimal digits, which takes 35 bits and which no other
// has: that of its digits counted from one.
func numberOf(zone string) (n uint64) {
	for i := range len(zone) {
		n = n*11 + uint64(zone[i]-'0'+1)
	}
	return n
}

// hash mixes the key with a secret seed by folded 128-bit multiplications (the construction of
// wyhash): without the seed nobody can choose addresses that collide.
func (k addrKey) hash(seed uint64) uint64 {
	return fold(fold(k.hi^seed, k.lo^mixA)^k.port, seed^mixB)
}

// hash mixes both ends at once, since one product waits for another.
func (k *tupleKey) hash(seed uint64) uint64 {
	remote := fold(k.remote.hi^seed, k.remote.lo^mixA) ^ k.remote.port
	local := fold(k.local.hi^seed, k.local.lo^mixB) ^ k.local.port
	return fold(remote, local)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// mixA and mixB are odd constants with as many ones as zeros.
const (
	mixA = 0xa0761d6478bd642f
	mixB = 0xe7037ed1a0b428db
)
