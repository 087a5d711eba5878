package fib

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// refSip is SipHash-c-d as its authors describe it, over bytes.
func refSip(c, d int, k0, k1 uint64, b []byte) uint64 {
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0], v[1], v[2], v[3] = sipRound(v[0], v[1], v[2], v[3])
		}
	}
	for at := 0; at <= len(b); at += 8 {
		var m uint64
		for i := range 8 {
			if at+i < len(b) {
				m |= uint64(b[at+i]) << (8 * i)
			} else if i == 7 {
				m |= uint64(len(b)) << 56
			}
		}
		v[3] ^= m
		rounds(c)
		v[0] ^= m
	}
	v[2] ^= 0xff
	rounds(d)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

func TestHashIsSipHash(t *testing.T) {
	const k0, k1 = 0x0706050403020100, 0x0f0e0d0c0b0a0908
	message := make([]byte, 20)
	for i := range message {
		message[i] = byte(i)
	}
	// The example of the paper, appendix A: it vouches for the reference and the round.
	if got := refSip(2, 4, k0, k1, message[:15]); got != 0xa129ca6149be45e5 {
		t.Fatalf("SipHash-2-4 %x", got)
	}
	got := hashKey{k0, k1}.hash(flowAddr{0x0706050403020100, 0x0f0e0d0c0b0a0908}, 0x13121110)
	if want := refSip(1, 3, k0, k1, message); got != uint32(want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// An index against a map, with hashes that collide a lot; its size follows what is in it.
func TestIndexFindsWhatIsInIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		spread := rapid.SampledFrom([]uint32{1, 16, 1 << 10, 1 << 31}).Draw(t, "spread")
		var x index
		x.init()
		hashes := []uint32{0}
		for phase := range rapid.IntRange(1, 6).Draw(t, "phases") {
			for range rapid.IntRange(0, 1500).Draw(t, "changes") {
				if n := len(hashes) - 1; n > 0 && (phase%2 == 1) == (rng.IntN(10) != 0) {
					id := uint32(1 + rng.IntN(n))
					x.remove(id)
					if last := uint32(n); last != id {
						x.renumber(last, id)
						hashes[id] = hashes[last]
					}
					x.links.pop()
					hashes = hashes[:n]
					continue
				}
				x.links.push()
				hashes = append(hashes, rng.Uint32N(spread)*0x9e3779b1)
				x.insert(uint32(len(hashes)-1), hashes[len(hashes)-1])
			}
			n := len(hashes) - 1
			if b := x.heads.n; x.n != n || b < bucketsPerRecord*n || b > max(minBuckets, 2*bucketsPerRecord*n) || int(x.mask) < b-1 || int(x.mask)>>1 >= b {
				t.Fatalf("%d records of %d in %d buckets, mask %x", x.n, n, b, x.mask)
			}
			in := 0
			for b := range uint32(x.heads.n) {
				for id := *x.heads.at(b); id != 0; id = x.next(id) {
					in++
				}
			}
			for id := 1; id <= n; id++ {
				at := x.first(hashes[id])
				for at != 0 && at != uint32(id) {
					at = x.next(at)
				}
				if at == 0 {
					t.Fatalf("record %d of hash %x is not found", id, hashes[id])
				}
			}
			if in != n {
				t.Fatalf("%d records in chains, want %d", in, n)
			}
		}
	})
}

func TestChunkedMemoryFollowsItsLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c chunked[uint64]
		var model []uint64
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for phase := range rapid.IntRange(1, 8).Draw(t, "phases") {
			for range rapid.IntRange(0, 6000).Draw(t, "changes") {
				if len(model) > 0 && phase%2 == 1 {
					c.pop()
					model = model[:len(model)-1]
					continue
				}
				c.push()
				if *c.at(uint32(len(model))) != 0 {
					t.Fatalf("element %d is not zero", len(model))
				}
				model = append(model, rng.Uint64())
				*c.at(uint32(len(model) - 1)) = model[len(model)-1]
			}
			room := 0
			for _, chunk := range c.dir {
				room += len(chunk)
			}
			if c.n != len(model) || room > max(minChunk, 4*len(model), len(model)+3*chunkLen/2+1) || cap(c.dir) > 4*len(c.dir)+4 {
				t.Fatalf("room for %d in %d of %d chunks, %d elements, want %d", room, len(c.dir), cap(c.dir), c.n, len(model))
			}
			for i, want := range model {
				if *c.at(uint32(i)) != want {
					t.Fatalf("element %d is %x, want %x", i, *c.at(uint32(i)), want)
				}
			}
		}
	})
}

// Sets of ports of every size against an array of bits, through all their forms and back.
func TestPortsInUseAreKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		addr, to := tupleOf(udp, 0, realA)
		var e endpoints
		e.init()
		var key hashKey
		var used [numPorts]bool
		n := 0
		// dense makes long runs of used ports, so that the search has something to do.
		dense := rapid.Bool().Draw(t, "dense")
		for phase := range rapid.IntRange(1, 6).Draw(t, "phases") {
			filling := phase%2 == 0
			for range rapid.SampledFrom([]int{10, 17, 18, 19, 100, 4095, 9000, 70000}).Draw(t, "changes") {
				port := uint16(rng.Uint32())
				if dense {
					port = uint16(rng.Uint32N(1 << (1 + rng.Uint32N(16))))
				}
				switch {
				case filling && n < numPorts-100:
					want := int(port)
					for want < numPorts && used[want] {
						want++
					}
					if want == numPorts {
						want = 1
						for used[want] {
							want++
						}
					}
					got, ok := e.nextFree(addr, to|77, port, key)
					if !ok || int(got) != want {
						t.Fatalf("from %d the next free port is %d, %v, want %d", port, got, ok, want)
					}
					e.add(addr, to|uint32(got), key)
					used[got] = true
					n++
				case !filling && used[port]:
					e.remove(addr, to|uint32(port), key)
					used[port] = false
					n--
				}
			}
			total := 0
			for id := 1; id < e.all.n; id++ {
				p := e.all.at(uint32(id))
				if p.set == 0 {
					total += int(p.n)
				} else {
					s := e.sets[p.set-1]
					total += s.n
					if cap(s.sorted) > max(minSorted, 4*s.n) {
						t.Fatalf("room for %d ports, %d in use", cap(s.sorted), s.n)
					}
				}
			}
			if total != n || (e.all.n == 1) != (n == 0) {
				t.Fatalf("%d ports in use, want %d", total, n)
			}
		}
	})
}
