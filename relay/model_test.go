package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firelane/firelane/protocol/stun"
)

// model is what a relay is, without its machinery: a list of allocations with expiry dates, each
// with a list of channels.
type model struct {
	h       *harness
	ports   int
	devices []*device
	held    map[*device]*modelLease
}

type modelLease struct {
	families Families
	until    time.Time
	channels map[uint16]modelChannel
}

type modelChannel struct {
	peer  netip.AddrPort
	until time.Time
}

// Six sockets of three users, four numbers, six peers and five ports are enough for every kind of
// conflict.
var (
	modelSockets = []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "198.51.100.7:9"}
	modelPeers   = []string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1", "[2001:db8::9]:1", "[2001:db8::9]:2", "127.0.0.1:1"}
	modelNumbers = []uint16{0x4000, 0x4001, 0x4040, 0x4fff}
	modelUsers   = 3
	modelPorts   = 5
)

func newModel(t failer) *model {
	h := newHarness(t, func(c *Config) {
		c.LowestPort, c.HighestPort = 50000, 50000+uint16(modelPorts)-1
	})
	m := &model{h: h, ports: modelPorts, held: map[*device]*modelLease{}}
	for _, s := range modelSockets {
		for u := range modelUsers {
			m.devices = append(m.devices, h.device(s, fmt.Sprint(u)))
		}
	}
	return m
}

// at returns the live lease of a device's socket, whoever's it is.
func (m *model) at(d *device) (*device, *modelLease) {
	for e, l := range m.held {
		if e.from == d.from {
			return e, l
		}
	}
	return nil, nil
}

func (m *model) advance(d time.Duration) {
	m.h.advance(d)
	for e, l := range m.held {
		if !l.until.After(m.h.now) {
			delete(m.held, e)
		}
		for n, c := range l.channels {
			if !c.until.Add(300 * time.Second).After(m.h.now) {
				delete(l.channels, n)
			}
		}
	}
}

func (m *model) allocate(d *device, want Families, seconds uint32) int {
	if _, l := m.at(d); l != nil {
		return 437
	}
	if len(m.held) == m.ports {
		return 508
	}
	for e := range m.held {
		if e.name == d.name {
			delete(m.held, e)
		}
	}
	m.held[d] = &modelLease{families: want, until: m.h.now.Add(time.Duration(seconds) * time.Second), channels: map[uint16]modelChannel{}}
	return 0
}

func (m *model) refresh(d *device, seconds uint32) int {
	e, l := m.at(d)
	if l == nil {
		return 437
	}
	l.until = m.h.now.Add(time.Duration(seconds) * time.Second)
	if seconds == 0 {
		delete(m.held, e)
	}
	return 0
}

func (m *model) bind(d *device, number uint16, peer netip.AddrPort) int {
	_, l := m.at(d)
	switch {
	case l == nil:
		return 437
	case l.families&familyOf(peer) == 0:
		return 443
	case peer.Addr().IsLoopback():
		return 403
	}
	for n, c := range l.channels {
		if (n == number) != (c.peer == peer) {
			return 400
		}
	}
	l.channels[number] = modelChannel{peer, m.h.now.Add(600 * time.Second)}
	return 0
}

// check compares what workers see with the model.
func (m *model) check(t *rapid.T) {
	table := m.h.s.Table()
	ports, channels := 0, 0
	for _, d := range m.devices {
		_, l := m.at(d)
		a := table.Client(d.from.Remote, d.from.Local)
		if (a != nil) != (l != nil) {
			t.Fatalf("%v: allocation %v, model %v", d.from.Remote, a, l)
		}
		if a == nil {
			continue
		}
		if a.Families != l.families || table.Port(a.Port) != a || m.h.bound[a.Port] != a.ID || a.Client != d.from {
			t.Fatalf("%v: allocation %+v, model %+v", d.from.Remote, a, l)
		}
		for _, n := range modelNumbers {
			c, want := a.Channel(n), l.channels[n]
			if !want.until.After(m.h.now) {
				want.peer = netip.AddrPort{}
			}
			if (c != nil) != want.peer.IsValid() || c != nil && c.Peer != want.peer {
				t.Fatalf("%v channel %#x: %+v, model %+v", d.from.Remote, n, c, want)
			}
			if c != nil && a.Peer(c.Peer) != c {
				t.Fatalf("%v channel %#x is not found by its peer", d.from.Remote, n)
			}
		}
		for _, p := range modelPeers {
			if c := a.Peer(netip.MustParseAddrPort(p)); c != nil && a.Channel(c.Number) != c {
				t.Fatalf("%v peer %s is not found by its number", d.from.Remote, p)
			}
		}
	}
	for _, l := range m.held {
		ports++
		channels += len(l.channels)
	}
	if len(m.h.bound) != ports || len(m.h.s.leases) != ports || m.h.s.channels != channels || m.h.s.Counters().ActiveAllocations.Load() != int64(ports) {
		t.Fatalf("%d ports bound, %d leases, %d channels; the model has %d and %d", len(m.h.bound), len(m.h.s.leases), m.h.s.channels, ports, channels)
	}
	if free := modelPorts - ports; m.h.s.ports.free != free {
		t.Fatalf("%d ports free, want %d", m.h.s.ports.free, free)
	}
}

// A relay is its model, whatever valid requests come in whatever order and at whatever times.
func TestServerIsItsModel(t *testing.T) {
	families := []struct {
		attributes func(*stun.Builder)
		want       Families
	}{{nil, IPv4}, {both, IPv4 | IPv6}, {only6, IPv6}}
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		device := func() *device { return rapid.SampledFrom(m.devices).Draw(t, "device") }
		lifetimes := rapid.SampledFrom([]uint32{0, 1, 299, 600, 900, 3600})
		expect := func(what string, got *stun.Message, code int) {
			if got == nil || got.Code != code || (got.Class == stun.Success) != (code == 0) {
				t.Fatalf("%s: %+v, the model says %d", what, got, code)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				d, f, s := device(), rapid.SampledFrom(families).Draw(t, "families"), lifetimes.Draw(t, "lifetime")
				got := d.do(stun.Allocate, func(w *stun.Builder) {
					w.Transport(stun.UDP)
					w.Uint32(stun.Lifetime, s)
					if f.attributes != nil {
						f.attributes(w)
					}
				})
				expect("allocate", got, m.allocate(d, f.want, s))
				m.advance(0) // an allocation for 0 s ends with the next timeout
			},
			"refresh": func(t *rapid.T) {
				d, s := device(), lifetimes.Draw(t, "lifetime")
				expect("refresh", d.refresh(s), m.refresh(d, s))
			},
			"bind": func(t *rapid.T) {
				d, n, p := device(), rapid.SampledFrom(modelNumbers).Draw(t, "number"), rapid.SampledFrom(modelPeers).Draw(t, "peer")
				expect("bind", d.bind(n, p), m.bind(d, n, netip.MustParseAddrPort(p)))
			},
			"permission": func(t *rapid.T) { expect("permission", device().do(stun.CreatePermission, nil), 0) },
			"time": func(t *rapid.T) {
				m.advance(time.Duration(rapid.SampledFrom([]int{0, 1, 60, 299, 300, 301, 599, 600, 1000}).Draw(t, "seconds")) * time.Second)
			},
			"garbage": func(t *rapid.T) {
				d := device()
				if got := m.h.ask(d.from, rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "bytes")); len(got) > 1 {
					t.Fatalf("%d answers", len(got))
				}
			},
			"": m.check,
		})
	})
}
