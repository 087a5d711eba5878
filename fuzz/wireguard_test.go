package fuzz

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/blake2s"

	"github.com/firelane/firelane/protocol/wireguard"
	"github.com/firelane/firelane/protocol/wireguard/aead"
)

var (
	wgStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wgFrom  = netip.MustParseAddrPort("192.0.2.1:51820")
)

// wgPair is two devices that know each other; the first has an initiation under way.
type wgPair struct {
	devices    [2]*wireguard.Device
	peers      [2]*wireguard.Peer
	initiation []byte // from the first to the second
	response   []byte // its answer, made by a twin of the second
}

func newWGPair(t testing.TB, loaded bool) *wgPair {
	policy := wireguard.PlainPolicy()
	if loaded {
		policy.HandshakeBudget = 0
	}
	keys := [2]wireguard.PrivateKey{{8}, {16}}
	device := func(i int) (*wireguard.Device, *wireguard.Peer) {
		d := wireguard.NewDevice(keys[i], policy, rand.NewChaCha8([32]byte{byte(i)}), wgStart)
		p, err := d.AddPeer(keys[1-i].Public(), wireguard.PresharedKey{3}, wireguard.PeerConfig{ConnectionID: uint32(i + 1)}, wgStart)
		if err != nil {
			t.Fatal(err)
		}
		return d, p
	}
	w := new(wgPair)
	for i := range 2 {
		w.devices[i], w.peers[i] = device(i)
	}
	w.peers[0].Initiate(wireguard.WhyData, wgStart)
	w.initiation = w.settle(t, 0, wgStart).Datagrams[0].Bytes
	policy.HandshakeBudget = 1
	twin, _ := device(1)
	twin.HandleMessage(w.initiation, wgFrom, wgStart)
	w.response = wgSettle(t, twin, wgStart).Datagrams[0].Bytes
	return w
}

func (w *wgPair) settle(t testing.TB, i int, now time.Time) wireguard.Output {
	return wgSettle(t, w.devices[i], now)
}

// wgSettle runs jobs inline until there are none, and returns everything else that was put out.
func wgSettle(t testing.TB, d *wireguard.Device, now time.Time) (all wireguard.Output) {
	var out wireguard.Output
	for range 10 {
		d.Drain(&out)
		all.NewSessions = append(all.NewSessions, out.NewSessions...)
		all.Withdrawn = append(all.Withdrawn, out.Withdrawn...)
		all.Datagrams = append(all.Datagrams, out.Datagrams...)
		if len(out.Jobs) == 0 {
			return all
		}
		for _, j := range out.Jobs {
			d.HandleJob(j.Run(), now)
		}
	}
	t.Fatal("jobs never end")
	return all
}

// wgFixMac1 makes mac1 valid, as anybody can who knows the public key.
func wgFixMac1(msg []byte, receiver wireguard.PublicKey) {
	key := blake2s.Sum256(append([]byte("mac1----"), receiver[:]...))
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic(err)
	}
	at := len(msg) - 32
	h.Write(msg[:at])
	h.Sum(msg[:at])
}

// Whatever a stranger sends as a handshake message, with a valid first MAC or not, to a device
// under load or not: no panic, one small answer at most, no session but from the genuine
// messages' own authenticated fields, no state that grows, and no deadline that stands still.
func FuzzHandshakeMessage(f *testing.F) {
	w := newWGPair(f, false)
	for _, mac1 := range []bool{false, true} {
		for _, loaded := range []bool{false, true} {
			f.Add(w.initiation, mac1, loaded)
			f.Add(w.response, mac1, loaded)
			f.Add(append([]byte{3, 0, 0, 0, 1, 1}, make([]byte, 58)...), mac1, loaded)
			f.Add(append([]byte{4, 0, 0, 0, 1, 1}, make([]byte, 26)...), mac1, loaded)
			f.Add([]byte(nil), mac1, loaded)
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte, mac1, loaded bool) {
		w := newWGPair(t, loaded)
		now := wgStart
		for i, d := range w.devices {
			kind := wireguard.Kind(msg)
			if mac1 && (kind == wireguard.KindInitiation || kind == wireguard.KindResponse) {
				msg = bytes.Clone(msg)
				wgFixMac1(msg, d.PublicKey())
			}
			for range 12 {
				now = now.Add(50 * time.Millisecond)
				d.HandleMessage(msg, wgFrom, now)
				out := w.settle(t, i, now)
				if len(out.Datagrams) > 1 || len(out.Datagrams) == 1 && len(out.Datagrams[0].Bytes) > len(msg) {
					t.Fatalf("%d datagrams in answer to one of %d bytes", len(out.Datagrams), len(msg))
				}
				for range out.NewSessions {
					genuine := i == 1 && kind == wireguard.KindInitiation && bytes.Equal(msg[8:116], w.initiation[8:116]) ||
						i == 0 && kind == wireguard.KindResponse && bytes.Equal(msg[8:60], w.response[8:60])
					if !genuine || loaded {
						t.Fatalf("a session from a forged message, kind %d", kind)
					}
				}
			}
			if n := w.peers[i].Sessions(); n > 1 || d.Len() != 1 {
				t.Fatalf("%d sessions, %d peers after one message", n, d.Len())
			}
			if at, ok := d.NextTimeout(); ok && at.Before(wgStart) {
				t.Fatalf("next timeout %v lies before the start", at)
			}
			d.HandleTimeout(now)
		}
	})
}

// Kind must agree with the table of types and lengths, and a message it calls data must be safe
// to parse and to open; without the key it is never genuine.
func FuzzDataDemux(f *testing.F) {
	f.Add(make([]byte, 148))
	f.Add(append([]byte{4}, make([]byte, 31)...))
	f.Add(append([]byte{4}, make([]byte, 1311)...))
	f.Add(append([]byte{2}, make([]byte, 91)...))
	f.Add([]byte{4, 0, 0})
	key, err := aead.New(&[32]byte{0x5a})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want := wireguard.KindInvalid
		if len(b) >= 4 {
			kind, n := binary.LittleEndian.Uint32(b), len(b)
			if kind == 1 && n == 148 || kind == 2 && n == 92 || kind == 3 && n == 64 || kind == 4 && n >= 32 {
				want = wireguard.MessageKind(kind)
			}
		}
		got := wireguard.Kind(b)
		if got != want {
			t.Fatalf("kind %d, want %d", got, want)
		}
		if got != wireguard.KindData {
			return
		}
		if wireguard.ReceiverIndex(b) != binary.LittleEndian.Uint32(b[4:]) || wireguard.Counter(b) != binary.LittleEndian.Uint64(b[8:]) {
			t.Fatal("index or counter misread")
		}
		ok, fresh := []bool{true}, []bool{true}
		counters := []uint64{wireguard.Counter(b)}
		key.Open(new(aead.Scratch), [][]byte{bytes.Clone(b)}, counters, ok)
		if ok[0] {
			t.Fatal("bytes without the key are genuine")
		}
		new(wireguard.Window).Accept(counters, fresh)
		if fresh[0] != (counters[0] < wireguard.RejectAfterMessages) {
			t.Fatalf("counter %d in an empty window: %v", counters[0], fresh[0])
		}
	})
}
