package wireguard

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/wireguard/aead"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// sim is two devices, a network between them and a virtual clock.
type sim struct {
	t        failer
	now      time.Time
	hosts    [2]*host
	inFlight flights
	seq      int
	fate     func(from int, msg []byte) []time.Duration // delays of the copies; none = lost
	types    [5]int                                     // messages sent, by kind
	wakes    int                                        // timeouts served
}

type failer interface{ Fatalf(string, ...any) }

// host is a device with its driver and a minimal data plane.
type host struct {
	sim      *sim
	me       int
	device   *Device
	peer     *Peer
	live     map[uint32]*Keypair
	windows  map[uint32]*Window
	used     map[*Keypair]map[uint64]bool
	act      Activity
	bell     bool
	got      int // data messages accepted
	refused  int // data without a session
	replies  bool
	expired  []ExpiryReason
	sessions int
	scratch  aead.Scratch
}

type flight struct {
	at  time.Time
	seq int
	to  int
	msg []byte
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	if !f[i].at.Equal(f[j].at) {
		return f[i].at.Before(f[j].at)
	}
	return f[i].seq < f[j].seq
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

func entropy(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func testKeyOf(seed byte) PrivateKey {
	k, err := GeneratePrivateKey(entropy(seed))
	if err != nil {
		panic(err)
	}
	return k
}

func newSim(t failer, a, b Policy, psk PresharedKey) *sim {
	s := &sim{t: t, now: epoch}
	s.fate = func(int, []byte) []time.Duration { return []time.Duration{time.Millisecond} }
	keys := [2]PrivateKey{testKeyOf(1), testKeyOf(2)}
	for i, policy := range []Policy{a, b} {
		d := NewDevice(keys[i], policy, entropy(byte(10+i)), s.now)
		p, err := d.AddPeer(keys[1-i].Public(), psk, PeerConfig{ConnectionID: uint32(100 + i)}, s.now)
		if err != nil {
			t.Fatalf("%v", err)
		}
		s.hosts[i] = &host{
			sim: s, me: i, device: d, peer: p, bell: true,
			live: map[uint32]*Keypair{}, windows: map[uint32]*Window{}, used: map[*Keypair]map[uint64]bool{},
		}
	}
	return s
}

func (h *host) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + h.me)}), 51820)
}

// transmit hands a message to the network.
func (h *host) transmit(msg []byte) {
	h.sim.types[Kind(msg)]++
	for _, delay := range h.sim.fate(h.me, msg) {
		h.sim.seq++
		heap.Push(&h.sim.inFlight, flight{at: h.sim.now.Add(delay), seq: h.sim.seq, to: 1 - h.me, msg: append([]byte(nil), msg...)})
	}
}

// settle drains the device until it has nothing to do at once.
func (h *host) settle() {
	var out Output
	for range 100 {
		if !h.device.out.pending() {
			return
		}
		if at, ok := h.device.NextTimeout(); !ok || at.After(h.sim.now) {
			h.sim.t.Fatalf("next timeout %v, %v is later than pending output", at, ok)
		}
		h.device.Drain(&out)
		h.carryOut(&out)
	}
	h.sim.t.Fatalf("host %d never settles", h.me)
}

func (h *host) carryOut(out *Output) {
	for _, w := range out.Withdrawn {
		if h.live[w.LocalIndex] != w.Keypair {
			h.sim.t.Fatalf("withdrawn session %x is not the one published", w.LocalIndex)
		}
		delete(h.live, w.LocalIndex)
		delete(h.windows, w.LocalIndex)
	}
	for _, n := range out.NewSessions {
		h.live[n.Keypair.LocalIndex()] = n.Keypair
		h.windows[n.Keypair.LocalIndex()] = new(Window)
		h.sessions++
		if n.Confirmed {
			h.seal(nil)
		}
	}
	if len(h.live) > maxSessions {
		h.sim.t.Fatalf("%d sessions", len(h.live))
	}
	for _, d := range out.Datagrams {
		h.transmit(d.Bytes)
	}
	for range out.Keepalives {
		h.seal(nil)
	}
	if len(out.Quiet) > 0 {
		h.bell = true
	}
	for _, e := range out.Expired {
		h.expired = append(h.expired, e.Why)
	}
	for _, j := range out.Jobs {
		h.device.HandleJob(j.Run(), h.sim.now)
	}
}

// seal sends a data message, an empty one for nil.
func (h *host) seal(payload []byte) bool {
	k := h.peer.Current()
	if k == nil || !h.sim.now.Before(k.SendUntil()) {
		return false
	}
	first, ok := k.Take(1)
	if !ok {
		return false
	}
	if h.used[k] == nil {
		h.used[k] = map[uint64]bool{}
	}
	if h.used[k][first] {
		h.sim.t.Fatalf("counter %d is used twice", first)
	}
	h.used[k][first] = true
	msg := make([]byte, aead.Overhead+len(payload))
	copy(msg[HeaderSize:], payload)
	k.Seal(&h.scratch, [][]byte{msg}, first)
	h.act.Sent = h.sim.now
	if len(payload) > 0 {
		h.act.DataSent = h.sim.now
	}
	h.transmit(msg)
	h.ring(false)
	return true
}

// ring observes if the bell is armed, or must.
func (h *host) ring(must bool) {
	if h.bell || must {
		h.bell = false
		h.peer.Observe(h.act, h.sim.now)
	}
}

// send is the host's application.
func (h *host) send() {
	if !h.seal([]byte("data")) {
		h.refused++
		h.peer.Initiate(WhyData, h.sim.now)
	}
	h.settle()
}

func (h *host) receive(msg []byte) {
	if Kind(msg) != KindData {
		h.device.HandleMessage(msg, h.sim.hosts[1-h.me].addr(), h.sim.now)
		h.settle()
		return
	}
	index := ReceiverIndex(msg)
	k := h.live[index]
	if k == nil {
		return
	}
	counters, ok := []uint64{Counter(msg)}, []bool{false}
	k.Open(&h.scratch, [][]byte{msg}, counters, ok)
	h.windows[index].Accept(counters, ok)
	if !ok[0] {
		return
	}
	fresh := h.act.Confirmed != index
	h.act.Received, h.act.Confirmed = h.sim.now, index
	if len(msg) > aead.Overhead {
		h.act.DataReceived = h.sim.now
		h.got++
	}
	h.ring(fresh)
	h.settle()
	if h.replies && len(msg) > aead.Overhead {
		h.send()
	}
}

// next is the time of the next event.
func (s *sim) next() (at time.Time, ok bool) {
	if len(s.inFlight) > 0 {
		at, ok = s.inFlight[0].at, true
	}
	for _, h := range s.hosts {
		if t, armed := h.device.NextTimeout(); armed && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}

// run lets events happen until the clock shows end.
func (s *sim) run(end time.Time) {
	for spins := 0; ; spins++ {
		at, ok := s.next()
		if !ok || at.After(end) {
			s.now = end
			return
		}
		if at.After(s.now) {
			s.now, spins = at, 0
		}
		if spins > 1000 {
			s.t.Fatalf("the clock stands still at %v", s.now.Sub(epoch))
		}
		for len(s.inFlight) > 0 && !s.inFlight[0].at.After(s.now) {
			f := heap.Pop(&s.inFlight).(flight)
			s.hosts[f.to].receive(f.msg)
		}
		for _, h := range s.hosts {
			if t, armed := h.device.NextTimeout(); armed && !t.After(s.now) {
				s.wakes++
				for _, p := range h.device.Due(s.now) {
					p.Observe(h.act, s.now)
				}
				h.device.HandleTimeout(s.now)
				h.settle()
			}
		}
	}
}

func (s *sim) advance(d time.Duration) { s.run(s.now.Add(d)) }

// shared reports whether what each host would seal with is live at the other.
func (s *sim) shared() error {
	for i, h := range s.hosts {
		k := h.peer.Current()
		if k == nil {
			return fmt.Errorf("host %d has no session", i)
		}
		o := s.hosts[1-i].live[k.RemoteIndex()]
		if o == nil || o.RemoteIndex() != k.LocalIndex() {
			return fmt.Errorf("host %d seals with a session its peer does not have", i)
		}
	}
	return nil
}

func mustShare(t *testing.T, s *sim) {
	t.Helper()
	if err := s.shared(); err != nil {
		t.Fatal(err)
	}
}
