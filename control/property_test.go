package control

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// hubModel is a hub that is configured at random, its peers, and what its configuration should be.
type hubModel struct {
	t      *rapid.T
	net    *network
	hub    *testNode
	others []*testNode
	known  map[wireguard.PublicKey]bool
	routes map[netip.Prefix]wireguard.PublicKey
	// every session that the hub ever published
	sessions []*fib.Session
	looked   int
}

func newHubModel(t *rapid.T) *hubModel {
	n := newNetwork(t)
	m := &hubModel{
		t: t, net: n, hub: n.add(),
		known: map[wireguard.PublicKey]bool{}, routes: map[netip.Prefix]wireguard.PublicKey{},
	}
	for range 3 {
		o := n.add()
		o.configure(DeviceChange{Peers: []PeerChange{m.hub.peer()}})
		m.others = append(m.others, o)
	}
	return m
}

func (m *hubModel) other() *testNode { return rapid.SampledFrom(m.others).Draw(m.t, "other") }

// assign gives a node a prefix of the hub, making it a peer.
func (m *hubModel) assign(*rapid.T) {
	o := m.other()
	p := rapid.SampledFrom([]netip.Prefix{
		prefix("10.5.0.0/16"), prefix("10.5.1.0/24"), prefix("fd00::/64"), netip.PrefixFrom(o.inner(), 32),
	}).Draw(m.t, "prefix")
	c := o.peer()
	c.Allowed = allow(p)
	c.ReplaceAllowed = rapid.Bool().Draw(m.t, "replace")
	if c.ReplaceAllowed {
		m.forget(c.PublicKey)
	}
	m.known[c.PublicKey], m.routes[p] = true, c.PublicKey
	m.hub.configure(DeviceChange{Peers: []PeerChange{c}})
}

func (m *hubModel) forget(key wireguard.PublicKey) {
	for p, k := range m.routes {
		if k == key {
			delete(m.routes, p)
		}
	}
}

func (m *hubModel) remove(*rapid.T) {
	key := m.other().key.Public()
	m.forget(key)
	delete(m.known, key)
	m.hub.configure(DeviceChange{Peers: []PeerChange{{PublicKey: key, Remove: true}}})
}

func (m *hubModel) replaceAll(*rapid.T) {
	clear(m.known)
	clear(m.routes)
	m.hub.configure(DeviceChange{ReplacePeers: true})
}

func (m *hubModel) talk(*rapid.T) {
	o := m.other()
	for range rapid.IntRange(1, 2*keptPerPeer).Draw(m.t, "packets") {
		if rapid.Bool().Draw(m.t, "to the hub") {
			o.sendTo(m.hub.inner(), []byte("up"))
		} else {
			m.hub.sendTo(o.inner(), []byte("down"))
		}
	}
}

func (m *hubModel) weather(*rapid.T) {
	m.net.loss = rapid.SampledFrom([]float64{0, 0.05, 0.5, 1}).Draw(m.t, "loss")
	m.net.dup = rapid.SampledFrom([]float64{0, 0.3}).Draw(m.t, "dup")
	m.net.reorder = time.Duration(rapid.SampledFrom([]int{0, 50, 3000}).Draw(m.t, "reorder ms")) * time.Millisecond
}

func (m *hubModel) pass(*rapid.T) {
	m.net.run(time.Duration(rapid.SampledFrom([]int{1, 30, 1000, 11000, 125000, 200000}).Draw(m.t, "ms")) * time.Millisecond)
}

func (m *hubModel) flap(*rapid.T) {
	m.hub.machine.HandleLink(false, testMTU, m.net.now)
	m.hub.carryOut()
	m.net.run(time.Duration(rapid.IntRange(0, 20000).Draw(m.t, "ms")) * time.Millisecond)
	m.hub.machine.HandleLink(true, testMTU, m.net.now)
	m.hub.carryOut()
}

// check compares the hub with the model.
func (m *hubModel) check(*rapid.T) {
	h := m.hub
	if got := h.table.Routes().Len(); got != len(m.routes) {
		m.t.Fatalf("%d routes, want %d", got, len(m.routes))
	}
	allowed := 0
	live := map[wireguard.PublicKey]bool{}
	kept := 0
	for _, p := range h.machine.Peers() {
		live[p.PublicKey] = true
		for _, q := range p.Allowed {
			if m.routes[q] != p.PublicKey || h.machine.byFib[h.table.Routes().Owner(q)] != h.machine.peers[p.PublicKey] {
				m.t.Fatalf("%v is another peer's", q)
			}
			allowed++
		}
		kept += len(h.machine.peers[p.PublicKey].kept)
	}
	if allowed != len(m.routes) || len(live) != len(m.known) {
		m.t.Fatalf("%d allowed IPs of %d peers, want %d of %d", allowed, len(live), len(m.routes), len(m.known))
	}
	if kept != h.machine.Size().Kept || kept > keptPerPeer*len(live) {
		m.t.Fatalf("%d packets kept, counted as %d", kept, h.machine.Size().Kept)
	}
	for ; m.looked < len(h.history); m.looked++ {
		if put, ok := h.history[m.looked].(fib.PutSession); ok {
			m.sessions = append(m.sessions, put.Session)
		}
	}
	for _, s := range m.sessions {
		if p := h.machine.byFib[s.Peer]; h.table.Session(s.Index) == s && (p == nil || p.sessions[s.Index] != s) {
			m.t.Fatalf("session %x is found, but its peer is gone or does not know it", s.Index)
		}
	}
	for _, p := range h.machine.peers {
		if _, s, v := p.fib.NextHop(h.nanos()); v == fib.Pass && p.sessions[s.Index] != s {
			m.t.Fatalf("session %x is sent under, but was withdrawn", s.Index)
		}
	}
}

// converge shows that after 100 good seconds everybody who is configured gets through.
func (m *hubModel) converge() {
	m.net.loss, m.net.dup, m.net.reorder = 0, 0, 0
	for _, o := range m.others {
		c := o.peer()
		m.hub.configure(DeviceChange{Peers: []PeerChange{c}})
	}
	for range 100 {
		for _, o := range m.others {
			o.sendTo(m.hub.inner(), []byte("up"))
			m.hub.sendTo(o.inner(), []byte("down"))
		}
		m.net.run(time.Second)
	}
	for _, o := range m.others {
		up, down := len(m.hub.got), len(o.got)
		o.sendTo(m.hub.inner(), []byte("up"))
		m.hub.sendTo(o.inner(), []byte("down"))
		m.net.run(100 * time.Millisecond)
		if len(m.hub.got) != up+1 || len(o.got) != down+1 {
			m.t.Fatalf("node %v: %d packets up, %d down, want 1 and 1", o.addrs[0], len(m.hub.got)-up, len(o.got)-down)
		}
	}
}

func TestPropertyTheHubFollowsItsConfiguration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newHubModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"assign": m.assign, "remove": m.remove, "replace all": m.replaceAll, "talk": m.talk,
			"weather": m.weather, "pass": m.pass, "flap": m.flap, "": m.check,
		})
		m.converge()
	})
}
