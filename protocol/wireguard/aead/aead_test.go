package aead

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"pgregory.net/rapid"
)

var testKey = [KeySize]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}

func newKey(t testing.TB) *Key {
	k, err := New(&testKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// run makes n messages of size plaintext bytes with counters from first on.
func run(n, size int, first uint64) (msgs [][]byte, counters []uint64) {
	for i := range n {
		m := make([]byte, size+Overhead)
		for j := range size {
			m[HeaderSize+j] = byte(i + j)
		}
		msgs, counters = append(msgs, m), append(counters, first+uint64(i))
	}
	return msgs, counters
}

// A run must be what the RFC 8439 construction gives with WireGuard's nonce and no additional
// data, message by message.
func TestSealIsChaCha20Poly1305WithCounterNonce(t *testing.T) {
	stock, err := chacha20poly1305.New(testKey[:])
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 9).Draw(t, "messages")
		size := rapid.IntRange(0, 1500).Draw(t, "size")
		first := rapid.Uint64().Draw(t, "first")
		msgs, counters := run(n, size, first)
		plain, _ := run(n, size, first)
		k.Seal(new(Scratch), msgs, first)
		for i, m := range msgs {
			nonce := binary.LittleEndian.AppendUint64(make([]byte, 4), first+uint64(i))
			want := stock.Seal(nil, nonce, plain[i][HeaderSize:HeaderSize+size], nil)
			if !bytes.Equal(m[HeaderSize:], want) {
				t.Fatalf("message %d differs from the stock cipher", i)
			}
		}
		ok := make([]bool, n)
		k.Open(new(Scratch), msgs, counters, ok)
		for i, m := range msgs {
			if !ok[i] || !bytes.Equal(m[:HeaderSize+size], plain[i][:HeaderSize+size]) {
				t.Fatalf("message %d did not come back", i)
			}
		}
	})
}

func TestOpenRefusesWhatIsNotGenuine(t *testing.T) {
	k, s := newKey(t), new(Scratch)
	msgs, counters := run(5, 64, 7)
	k.Seal(s, msgs, 7)
	msgs[0][HeaderSize] ^= 1        // ciphertext changed
	msgs[1][len(msgs[1])-1] ^= 0x80 // tag changed
	counters[2]++                   // another nonce
	msgs[3] = msgs[3][:Overhead-1]  // too short for a tag
	ok := []bool{true, true, true, true, false}
	k.Open(s, msgs, counters, ok)
	for i, want := range []bool{false, false, false, false, true} {
		if ok[i] != want {
			t.Errorf("message %d: genuine = %v, want %v", i, ok[i], want)
		}
	}
}

func TestRunsAllocateNothing(t *testing.T) {
	k, s := newKey(t), new(Scratch)
	msgs, counters := run(64, 1280, 0)
	short, _ := run(1, 0, 0)
	msgs = append(msgs, short[0], []byte{4})
	counters, ok := append(counters, 64, 65), make([]bool, 66)
	if n := testing.AllocsPerRun(100, func() {
		k.Seal(s, msgs[:65], 0)
		k.Open(s, msgs, counters, ok) // the last is too short
		k.Open(s, msgs, counters, ok) // and now all are forged
	}); n != 0 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("packets=%d", n), func(b *testing.B) {
			k, s := newKey(b), new(Scratch)
			msgs, _ := run(n, 1280, 0)
			b.SetBytes(int64(n * 1280))
			b.ReportAllocs()
			counter := uint64(0)
			for b.Loop() {
				k.Seal(s, msgs, counter)
				counter += uint64(n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/packet")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("packets=%d", n), func(b *testing.B) {
			k, s := newKey(b), new(Scratch)
			sealed, counters := run(n, 1280, 0)
			k.Seal(s, sealed, 0)
			msgs, _ := run(n, 1280, 0)
			ok := make([]bool, n)
			b.SetBytes(int64(n * 1280))
			b.ReportAllocs()
			for b.Loop() {
				for i := range msgs {
					copy(msgs[i], sealed[i]) // 7 ns per packet, part of the figure
				}
				k.Open(s, msgs, counters, ok)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/packet")
			if !ok[n-1] {
				b.Fatal("not genuine")
			}
		})
	}
}
