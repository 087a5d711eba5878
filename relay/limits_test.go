package relay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/stun"
)

func TestPortsRunOut(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.LowestPort, c.HighestPort = 60000, 60002 })
	var devices []*device
	seen := map[uint16]bool{}
	for i := range 3 {
		d := h.device(fmt.Sprintf("192.0.2.1:%d", 1000+i), fmt.Sprint(i))
		wants(t, "a free port", d.allocate(), 0)
		seen[d.published().Port] = true
		devices = append(devices, d)
	}
	if !seen[60000] || !seen[60001] || !seen[60002] {
		t.Errorf("ports %v", seen)
	}
	last := h.device("192.0.2.1:2000", "last")
	wants(t, "no port", last.allocate(), 508)
	moved := h.device("192.0.2.1:2001", "0")
	wants(t, "no port, though the user's own would do", moved.allocate(), 508)
	devices[0].refresh(0)
	wants(t, "a port given back", last.allocate(), 0)
}

// Every port of the range is handed out once, the last ones too.
func TestEveryPortIsHandedOut(t *testing.T) {
	const n = 500
	p := newPorts(rand.New(rand.NewPCG(1, 2)), 65535-n+1, n)
	inOrder := 0
	var last uint16
	for i := range n {
		port, ok := p.take(0)
		if !ok || port < 65535-n+1 {
			t.Fatalf("port %d: %d %v", i, port, ok)
		}
		if port == last+1 {
			inOrder++
		}
		last = port
	}
	if port, ok := p.take(0); ok {
		t.Errorf("port %d was handed out twice", port)
	}
	if inOrder > n/10 {
		t.Errorf("%d ports of %d follow the one before", inOrder, n)
	}
	p.release(65535)
	if port, ok := p.take(0); !ok || port != 65535 {
		t.Errorf("after a release: %d %v", port, ok)
	}
}

// A port that could not be bound rests for a minute.
func TestFailedPortsRest(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.LowestPort, c.HighestPort = 60000, 60001 })
	d := h.device("192.0.2.1:1000", "a")
	h.failing = 2
	wants(t, "both ports are taken by others", d.allocate(), 508)
	wants(t, "none is left", d.allocate(), 508)
	if n := h.s.Counters().Event(EventOpenFailed); n != 2 {
		t.Errorf("%d tries", n)
	}
	h.advance(59 * time.Second)
	wants(t, "a second early", d.allocate(), 508)
	h.advance(time.Second)
	wants(t, "a minute later", d.allocate(), 0)
}

// A host without descriptors costs a request its answer but not its port, and no other is tried.
func TestPortsAreFreeAgainWhenTheHostIsExhausted(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.LowestPort, c.HighestPort = 60000, 60001 })
	d := h.device("192.0.2.1:1000", "a")
	h.exhausted = 5
	for range 5 {
		wants(t, "without descriptors", d.allocate(), 508)
	}
	if n := h.s.Counters().Event(EventOpenFailed); n != 5 || h.exhausted != 0 {
		t.Errorf("%d tries for five requests", n)
	}
	if h.s.ports.free != 2 || len(h.s.leases)+len(h.s.clients)+len(h.s.users)+len(h.s.sources) != 0 {
		t.Errorf("%d ports free, %d leases", h.s.ports.free, len(h.s.leases))
	}
	wants(t, "with descriptors", d.allocate(), 0)
	h.hold = true
	e := h.device("192.0.2.1:1001", "b")
	e.refresh()
	e.allocate()
	moved := h.device("192.0.2.1:1002", "c")
	moved.name, moved.key = e.name, e.key
	wants(t, "a user who moves, with no port left", moved.allocate(), 508)
	h.exhausted = 1
	h.release()
	if h.s.ports.free != 1 || len(h.s.leases) != 1 {
		t.Errorf("%d ports free, %d leases", h.s.ports.free, len(h.s.leases))
	}
}

func TestAllocationLimits(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.Allocations, c.Limits.AllocationsPerSource = 3, 2 })
	wants(t, "one", h.device("192.0.2.1:1", "a").allocate(), 0)
	wants(t, "two", h.device("192.0.2.1:2", "b").allocate(), 0)
	wants(t, "three of one address", h.device("192.0.2.1:3", "c").allocate(), 486)
	wants(t, "one that replaces another", h.device("192.0.2.1:4", "b").allocate(), 0)
	six := h.device("[2001:db8::1]:1", "d")
	wants(t, "another source", six.allocate(), 0)
	wants(t, "more than all", h.device("[2001:db8:9::1]:1", "e").allocate(), 508)
	h.advance(600 * time.Second)
	wants(t, "one network", h.device("[2001:db8::1]:1", "d").allocate(), 0)
	wants(t, "the same network", h.device("[2001:db8::ffff:1]:1", "e").allocate(), 0)
	wants(t, "too much of it", h.device("[2001:db8::2]:1", "f").allocate(), 486)
}

// The configuration is checked once.
func TestConfigThatIsNone(t *testing.T) {
	credentials, err := SharedSecret("s")
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Public4: ours4, Public6: ours6, Credentials: credentials}
	for name, change := range map[string]func(*Config){
		"no address":            func(c *Config) { c.Public4, c.Public6 = netip.Addr{}, netip.Addr{} },
		"IPv6 for IPv4":         func(c *Config) { c.Public4 = ours6 },
		"IPv4 for IPv6":         func(c *Config) { c.Public6 = ours4 },
		"a zone":                func(c *Config) { c.Public6 = netip.MustParseAddr("fe80::1%eth0") },
		"ports the wrong way":   func(c *Config) { c.LowestPort, c.HighestPort = 2, 1 },
		"no credentials":        func(c *Config) { c.Credentials = Credentials{} },
		"a long software name":  func(c *Config) { c.Software = string(make([]byte, maxSoftware+1)) },
		"a highest port only":   func(c *Config) { c.HighestPort = 1000 },
		"an IPv4-mapped public": func(c *Config) { c.Public6 = netip.MustParseAddr("::ffff:1.2.3.4") },
	} {
		c := good
		change(&c)
		if _, err := NewServer(c, beginning); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := NewServer(good, beginning); err != nil {
		t.Error(err)
	}
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Garbage and requests without credentials from ever new addresses leave nothing behind.
func TestFloodsKeepMemoryFlat(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits = DefaultLimits() })
	rng := rand.New(rand.NewPCG(1, 2))
	d := h.device("192.0.2.1:1000", "a")
	d.allocate()
	flood := func(n int) {
		junk := make([]byte, 128)
		for i := range n {
			ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			from := Tuple{netip.AddrPortFrom(ip, uint16(1+rng.IntN(65535))), listening[true]}
			f := device{h: h, from: from, name: fmt.Sprintf("1892160000:%d", i), realm: PortalRealm, key: [16]byte{byte(i)}}
			var b []byte
			switch i % 4 {
			case 0:
				for j := range junk {
					junk[j] = byte(rng.Uint32())
				}
				junk[0] &= 3
				b = junk
			case 1:
				b = f.build(stun.Allocate, func(w *stun.Builder) { w.Transport(stun.UDP) })
			case 2:
				f.nonce = []byte("6e80ba94-7a4c-4e31-8b6a-0c5a1d6f2b3e")
				b = f.build(stun.Allocate, func(w *stun.Builder) { w.Transport(stun.UDP) })
			case 3: // with the right nonce, from ever new ports, and a bad signature
				nonce := h.s.nonces.issue(from.Remote)
				f.nonce = nonce[:]
				b = f.build(stun.Refresh, nil)
			}
			h.s.HandleMessage(b, from, h.now)
			h.s.Drain(&h.out)
		}
	}
	h.s.nonces.limit = 2000
	flood(20_000)
	before := heapBytes()
	flood(60_000)
	const slack = 256 << 10
	if after := heapBytes(); after > before+slack {
		t.Errorf("the flood left %d bytes", after-before)
	}
	if len(h.s.leases) != 1 || len(h.s.nonces.uses) != 2000 || d.published() == nil {
		t.Errorf("%d allocations, %d nonces", len(h.s.leases), len(h.s.nonces.uses))
	}
	wants(t, "after the flood", d.refresh(), 0)
	if n := h.s.Counters().Responses(stun.Allocate, 0); n != 1 {
		t.Errorf("%d allocations granted", n)
	}
}

// An allocation with four channels costs less than 4 KiB, without its sockets.
func TestMemoryOfAllocations(t *testing.T) {
	const n, budget = 2000, 4 << 10
	h := newHarness(t, nil)
	before := heapBytes()
	for i := range n {
		d := h.device(fmt.Sprintf("192.0.2.%d:%d", 1+i%250, 1000+i), fmt.Sprint(i))
		d.allocate(both)
		for c := range uint16(4) {
			d.bind(0x4000+c, netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), 1+c).String())
		}
	}
	h.bound, h.answers = nil, nil
	if used := int64(heapBytes()-before) / n; used > budget {
		t.Errorf("%d bytes for each allocation, want at most %d", used, budget)
	} else {
		t.Logf("%d bytes for each allocation", used)
	}
	if n := len(h.s.leases); n != 2000 {
		t.Errorf("%d allocations", n)
	}
	runtime.KeepAlive(h)
}

func TestFigures(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	d.allocate()
	got := map[Figure]bool{}
	names := map[string]bool{}
	for _, f := range h.s.Counters().Figures() {
		got[f] = true
		names[f.Name] = true
	}
	for _, want := range []Figure{
		{Name: "relay.active_allocations", Value: 1},
		{Name: "relay.responses", MessageType: "allocate", ResponseClass: "success", Value: 1},
		{Name: "relay.responses", MessageType: "allocate", ResponseClass: "error", ErrorCode: "401", Value: 1},
	} {
		if !got[want] {
			t.Errorf("no %+v in %v", want, got)
		}
	}
	if len(names) != int(events)+3 || names[""] {
		t.Errorf("names %v", names)
	}
	h.s.Counters().responded(0x123, 400)
	if n := h.s.Counters().Responses(0x077, 400); n != 1 {
		t.Errorf("%d answers to other methods", n)
	}
}
