package wireguard

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/protocol/wireguard/aead"
)

func pair(t testing.TB) (a, b *Keypair) {
	keys := [2]*aead.Key{}
	for i := range keys {
		k, err := aead.New(&[32]byte{byte(i + 1)})
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	a = &Keypair{send: keys[0], receive: keys[1], local: 0x01020304, remote: 0x05060708}
	b = &Keypair{send: keys[1], receive: keys[0], local: 0x05060708, remote: 0x01020304}
	return a, b
}

func TestSealedMessagesHaveTheirHeaderAndOpen(t *testing.T) {
	a, b := pair(t)
	msg := make([]byte, aead.Overhead+5)
	copy(msg[HeaderSize:], "hello")
	var s aead.Scratch
	a.Seal(&s, [][]byte{msg}, 0x1122334455667788)
	want := []byte{4, 0, 0, 0, 8, 7, 6, 5, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}
	if !bytes.Equal(msg[:HeaderSize], want) {
		t.Errorf("header %x, want %x", msg[:HeaderSize], want)
	}
	if Kind(msg) != KindData || ReceiverIndex(msg) != b.LocalIndex() || Counter(msg) != 0x1122334455667788 {
		t.Error("the header does not parse back")
	}
	ok := []bool{false}
	b.Open(&s, [][]byte{msg}, []uint64{Counter(msg)}, ok)
	if !ok[0] || string(msg[HeaderSize:HeaderSize+5]) != "hello" {
		t.Error("the message does not open")
	}
}

func TestTakenCountersAreDistinctAcrossWorkers(t *testing.T) {
	a, _ := pair(t)
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				n := 1 + (w+i)%7
				first, ok := a.Take(n)
				mu.Lock()
				for c := first; c < first+uint64(n); c++ {
					if seen[c] || !ok {
						t.Errorf("counter %d, ok %v", c, ok)
					}
					seen[c] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if uint64(len(seen)) != a.Sent() {
		t.Errorf("%d counters, %d taken", len(seen), a.Sent())
	}
}

func TestUsedUpKeypairRefusesForEver(t *testing.T) {
	a, _ := pair(t)
	a.counter.Store(RekeyAfterMessages - 1)
	if a.NeedsRekey() {
		t.Error("rekey wanted too early")
	}
	a.counter.Store(takeLimit - 64)
	if first, ok := a.Take(64); !ok || first+64 > RejectAfterMessages || !a.NeedsRekey() {
		t.Errorf("the last run: %d, %v", first, ok)
	}
	for range 10_000 { // far more than fit between the limit and 2^64
		if _, ok := a.Take(1024); ok {
			t.Fatal("counters beyond the limit were handed out")
		}
	}
	a.counter.Store(takeLimit - 1)
	if _, ok := a.Take(2); ok {
		t.Error("a run across the limit was handed out")
	}
}

// The window against a set of everything seen: it must refuse what was accepted before, and may
// refuse what is old, but nothing else.
func TestWindowRefusesReplaysAndTheOld(t *testing.T) {
	const certain = 8192 - 64
	rapid.Check(t, func(t *rapid.T) {
		var w Window
		seen, top := map[uint64]bool{}, uint64(0)
		base := rapid.SampledFrom([]uint64{0, 1 << 20, RejectAfterMessages - 20000}).Draw(t, "base")
		for range rapid.IntRange(1, 60).Draw(t, "runs") {
			n := rapid.IntRange(1, 8).Draw(t, "run")
			counters, fresh, genuine := make([]uint64, n), make([]bool, n), make([]bool, n)
			for i := range counters {
				counters[i] = base + uint64(rapid.IntRange(0, 20500).Draw(t, "counter"))
				genuine[i] = rapid.IntRange(0, 4).Draw(t, "genuine") > 0
			}
			copy(fresh, genuine)
			w.Accept(counters, fresh)
			for i, c := range counters {
				recent := c+certain > top
				must := genuine[i] && !seen[c] && recent && c < RejectAfterMessages
				mustNot := !genuine[i] || seen[c] || c >= RejectAfterMessages || c+8192 < top
				if must && !fresh[i] || mustNot && fresh[i] {
					t.Fatalf("counter %d (top %d): fresh = %v", c, top, fresh[i])
				}
				if fresh[i] {
					seen[c], top = true, max(top, c)
				}
			}
		}
	})
}

func TestDataPlaneAllocatesNothing(t *testing.T) {
	a, b := pair(t)
	var s aead.Scratch
	var w Window
	msgs, counters, ok := make([][]byte, 64), make([]uint64, 64), make([]bool, 64)
	for i := range msgs {
		msgs[i] = make([]byte, 1280+aead.Overhead)
	}
	if n := testing.AllocsPerRun(100, func() {
		first, _ := a.Take(len(msgs))
		a.Seal(&s, msgs, first)
		for i, m := range msgs {
			if Kind(m) != KindData {
				t.Fatal("not data")
			}
			counters[i] = Counter(m)
		}
		b.Open(&s, msgs, counters, ok)
		w.Accept(counters, ok)
		w.Accept(counters, ok)
	}); n != 0 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}

func TestKindNeedsTypeZeroesAndLength(t *testing.T) {
	message := func(kind byte, size int) []byte {
		b := make([]byte, size)
		b[0] = kind
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want MessageKind
	}{
		"initiation":              {message(1, 148), KindInitiation},
		"initiation, short":       {message(1, 147), KindInvalid},
		"initiation, long":        {message(1, 149), KindInvalid},
		"response":                {message(2, 92), KindResponse},
		"response, long":          {message(2, 93), KindInvalid},
		"cookie reply":            {message(3, 64), KindCookie},
		"cookie reply, short":     {message(3, 63), KindInvalid},
		"keepalive":               {message(4, 32), KindData},
		"full packet":             {message(4, 1312), KindData},
		"data without a tag":      {message(4, 31), KindInvalid},
		"type 0":                  {message(0, 148), KindInvalid},
		"type 5":                  {message(5, 148), KindInvalid},
		"second byte set":         {[]byte{4, 1, 0, 0, 31: 0}, KindInvalid},
		"fourth byte set":         {[]byte{4, 0, 0, 1, 31: 0}, KindInvalid},
		"nothing":                 {nil, KindInvalid},
		"three bytes":             {[]byte{4, 0, 0}, KindInvalid},
		"STUN of 148 bytes, type": {append([]byte{0, 1, 0, 128, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 140)...), KindInvalid},
	} {
		if got := Kind(c.b); got != c.want {
			t.Errorf("%s: kind %d, want %d", name, got, c.want)
		}
	}
}

func TestTimestampsStrictlyIncreaseWhateverTheClockDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var last timestamp
		now := epoch
		for range 50 {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "step")))
			next := stampAt(now, last)
			if !next.after(last) {
				t.Fatalf("%x after %x", next, last)
			}
			last = next
		}
	})
}

func TestTimestampIsTAI64N(t *testing.T) {
	got := stampAt(time.Unix(1_600_000_000, 500_000_000), timestamp{})
	want := timestamp{0x40, 0, 0, 0, 0x5f, 0x5e, 0x10, 0x0a, 0x1d, 0, 0, 0}
	if got != want {
		t.Errorf("%x, want %x", got, want)
	}
}
