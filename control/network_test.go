package control

import (
	"bytes"
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
	"github.com/firelane/firelane/protocol/wireguard/aead"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const testMTU = 1420

// failer is what tests and property tests have in common.
type failer interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// network is nodes, the datagrams between them, and a virtual clock.
type network struct {
	t      failer
	now    time.Time
	rng    *rand.Rand
	nodes  []*testNode
	flying flights
	seq    int
	// loss and dup are shares of datagrams; reorder is by how much a datagram may be late.
	loss, dup float64
	reorder   time.Duration
	sent      [5]int // datagrams by wireguard.Kind
	wakes     int
}

func newNetwork(t failer) *network {
	return &network{t: t, now: epoch.Add(time.Second), rng: rand.New(rand.NewPCG(1, 2))}
}

type flight struct {
	at       time.Time
	seq      int
	from, to netip.AddrPort
	b        []byte
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	return f[i].at.Before(f[j].at) || f[i].at.Equal(f[j].at) && f[i].seq < f[j].seq
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// testNode is a machine, its table, and as much of the packet loops as the machine can tell from
// real ones.
type testNode struct {
	net     *network
	key     wireguard.PrivateKey
	addrs   []netip.AddrPort // the first is what it sends from unless told
	machine *Static
	table   *fib.Table
	out     Output
	scratch aead.Scratch
	got     [][]byte // inner packets, padding included
	history []fib.Change
	last    []Datagram // of the newest output that had any
}

func testKey(seed byte) wireguard.PrivateKey {
	k, err := wireguard.GeneratePrivateKey(rand.NewChaCha8([32]byte{seed, 1}))
	if err != nil {
		panic(err)
	}
	return k
}

func publicKey(seed byte) wireguard.PublicKey {
	k := testKey(seed)
	return k.Public()
}

// add makes a node with its link up and a key; its first address is 192.0.2.i:51820.
func (n *network) add() *testNode {
	i := byte(len(n.nodes) + 1)
	h := &testNode{
		net: n, key: testKey(i), table: fib.NewTable(testMTU),
		addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 51820)},
	}
	h.machine = NewStatic(StaticConfig{
		Table: h.table, Lanes: 2, Policy: wireguard.PlainPolicy(),
		Entropy: rand.NewChaCha8([32]byte{i, 2}), Seed: [32]byte{i, 3}, Epoch: epoch,
	}, n.now)
	n.nodes = append(n.nodes, h)
	h.machine.HandleLink(true, testMTU, n.now)
	h.configure(DeviceChange{PrivateKey: &h.key})
	return h
}

func (h *testNode) configure(c DeviceChange) {
	h.net.t.Helper()
	if err := h.machine.Configure(c, h.net.now); err != nil {
		h.net.t.Fatalf("configure: %v", err)
	}
	h.carryOut()
}

// inner is the tunnel address of node h.
func (h *testNode) inner() netip.Addr {
	outer := h.addrs[0].Addr().As4()
	return netip.AddrFrom4([4]byte{10, 0, 0, outer[3]})
}

// peer says how h appears in another's configuration.
func (h *testNode) peer() PeerChange {
	return PeerChange{PublicKey: h.key.Public(), Endpoint: h.addrs[0], Allowed: allow(netip.PrefixFrom(h.inner(), 32))}
}

func allow(prefixes ...netip.Prefix) (all []AllowedChange) {
	for _, p := range prefixes {
		all = append(all, AllowedChange{Prefix: p})
	}
	return all
}

// pair returns two nodes that are each other's peers.
func pair(t failer) (*network, *testNode, *testNode) {
	n := newNetwork(t)
	a, b := n.add(), n.add()
	a.configure(DeviceChange{Peers: []PeerChange{b.peer()}})
	b.configure(DeviceChange{Peers: []PeerChange{a.peer()}})
	return n, a, b
}

func (h *testNode) nanos() int64 { return h.net.now.Sub(epoch).Nanoseconds() }

// carryOut does what the machine wants until it wants nothing; jobs run inline.
func (h *testNode) carryOut() {
	for {
		h.machine.Drain(&h.out)
		o := h.out
		h.history = append(h.history, o.Changes...)
		h.table.Apply(o.Changes)
		if len(o.Datagrams) > 0 {
			h.last = append([]Datagram(nil), o.Datagrams...)
		}
		for _, d := range o.Datagrams {
			h.net.send(h.from(d.Local), d.Remote, d.Bytes)
		}
		if len(o.Jobs) == 0 {
			return
		}
		for _, j := range append([]wireguard.Job(nil), o.Jobs...) {
			h.machine.HandleJob(j.Run(), h.net.now)
		}
	}
}

// from returns the address a datagram leaves from: an address that is gone is left to chance, as
// by the sockets.
func (h *testNode) from(local netip.AddrPort) netip.AddrPort {
	for _, a := range h.addrs {
		if a.Addr() == local.Addr() {
			return a
		}
	}
	return h.addrs[0]
}

func (n *network) send(from, to netip.AddrPort, b []byte) {
	n.sent[wireguard.Kind(b)]++
	copies := 1
	if n.rng.Float64() < n.loss {
		copies = 0
	} else if n.rng.Float64() < n.dup {
		copies = 2
	}
	for range copies {
		at := n.now.Add(10 * time.Millisecond)
		if n.reorder > 0 {
			at = at.Add(time.Duration(n.rng.Int64N(int64(n.reorder))))
		}
		n.seq++
		heap.Push(&n.flying, flight{at: at, seq: n.seq, from: from, to: to, b: bytes.Clone(b)})
	}
}

// run lets d pass: datagrams arrive and timers fire when they are due.
func (n *network) run(d time.Duration) {
	n.t.Helper()
	end := n.now.Add(d)
	for idle := 0; ; {
		at := end
		if len(n.flying) > 0 && n.flying[0].at.Before(at) {
			at = n.flying[0].at
		}
		for _, h := range n.nodes {
			if t, ok := h.machine.NextTimeout(); ok && t.Before(at) {
				at = t
			}
		}
		if at.After(n.now) {
			n.now, idle = at, 0
		} else if idle++; idle > 10000 {
			n.t.Fatalf("time does not pass")
		}
		n.due()
		if !n.now.Before(end) {
			return
		}
	}
}

func (n *network) due() {
	for len(n.flying) > 0 && !n.flying[0].at.After(n.now) {
		f := heap.Pop(&n.flying).(flight)
		for _, h := range n.nodes {
			for _, a := range h.addrs {
				if a == f.to {
					h.receive(f)
				}
			}
		}
	}
	for _, h := range n.nodes {
		if t, ok := h.machine.NextTimeout(); ok && !t.After(n.now) {
			n.wakes++
			h.machine.HandleTimeout(n.now)
			h.carryOut()
		}
	}
}

// receive is the decap loop.
func (h *testNode) receive(f flight) {
	from := Datagram{Local: f.to, Remote: f.from, Bytes: f.b}
	if wireguard.Kind(f.b) != wireguard.KindData {
		h.machine.HandleDatagram(from, h.net.now)
		h.carryOut()
		return
	}
	s := h.table.Session(wireguard.ReceiverIndex(f.b))
	if s == nil || s.Expired(h.nanos()) {
		return
	}
	counters, ok := []uint64{wireguard.Counter(f.b)}, []bool{false}
	s.Keys.Open(&h.scratch, [][]byte{f.b}, counters, ok)
	if !ok[0] {
		h.net.t.Fatalf("a message of session %x does not open", s.Index)
	}
	if s.Accept(counters, ok); !ok[0] {
		return
	}
	packets := 0
	if inner := f.b[wireguard.HeaderSize : len(f.b)-wireguard.TagSize]; len(inner) > 0 {
		packets = 1
		h.got = append(h.got, inner)
	}
	h.wish(s.Peer, s, s.Touch(0, packets, len(f.b), h.nanos())|s.Peer.ArrivedFrom(f.from, from.Local.Addr()))
}

func (h *testNode) wish(p *fib.Peer, s *fib.Session, w fib.Wish) {
	if w != 0 {
		h.machine.HandleWish(p, s, w, h.net.now)
		h.carryOut()
	}
}

// sendTo is the encap loop: one packet to a tunnel address. It reports whether a peer took it.
func (h *testNode) sendTo(dst netip.Addr, b []byte) bool {
	p := h.table.PeerByAddr(dst)
	if p == nil {
		return false
	}
	path, s, v := p.NextHop(h.nanos())
	switch v {
	case fib.Pass:
	case fib.DropNoSession:
		h.machine.HandlePacket(p, b, h.net.now)
		h.carryOut()
		return true
	default:
		return false
	}
	first, ok := s.Keys.Take(1)
	if !ok {
		return false
	}
	msg := make([]byte, wireguard.DataMinSize+len(b))
	copy(msg[wireguard.HeaderSize:], b)
	s.Keys.Seal(&h.scratch, [][]byte{msg}, first)
	h.net.send(h.from(path.LocalPort()), path.Remote, msg)
	h.wish(p, s, s.Sent(0, len(msg), h.nanos()))
	return true
}

// talk sends a packet and waits for it to arrive.
func (h *testNode) talk(t *testing.T, to *testNode, text string) {
	t.Helper()
	before := len(to.got)
	h.sendTo(to.inner(), []byte(text))
	h.net.run(time.Second)
	if len(to.got) != before+1 || !bytes.HasPrefix(to.got[before], []byte(text)) {
		t.Fatalf("%q did not arrive: got %q", text, to.got[before:])
	}
}

func (h *testNode) state(t failer, of *testNode) PeerState {
	t.Helper()
	for _, p := range h.machine.Peers() {
		if p.PublicKey == of.key.Public() {
			return p
		}
	}
	t.Fatalf("no such peer")
	return PeerState{}
}

func (h *testNode) fibPeer(of *testNode) *fib.Peer { return h.table.PeerByAddr(of.inner()) }
