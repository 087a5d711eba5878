package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

const somePeer, otherPeer, peer6 = "198.51.100.1:1", "198.51.100.1:2", "[2001:db8::9]:1"

func TestChannelBind(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "without an allocation", d.bind(0x4000, somePeer), 437)
	wants(t, "allocate", d.allocate(), 0)
	for _, c := range []struct {
		name   string
		number uint16
		peer   string
		code   int
	}{
		{"the first number", 0x4000, somePeer, 0},
		{"the same again", 0x4000, somePeer, 0},
		{"its number to another peer", 0x4000, otherPeer, 400},
		{"its peer to another number", 0x4001, somePeer, 400},
		{"the last number", 0x4fff, otherPeer, 0},
		{"a pair crosswise", 0x4fff, somePeer, 400},
		{"a peer of the other family", 0x4002, peer6, 443},
	} {
		wants(t, c.name, d.bind(c.number, c.peer), c.code)
	}
	a := d.published()
	if c := a.Channel(0x4000); c == nil || c.Peer.String() != somePeer || c != a.Peer(c.Peer) || c.Allocation != a {
		t.Errorf("channel %+v", c)
	}
	if a.Channel(0x4001) != nil || a.Channel(0x3fff) != nil || a.Channel(0x5000) != nil || a.Channel(0) != nil || a.Channel(0xffff) != nil {
		t.Error("a channel that nobody bound")
	}
	six := h.device("192.0.2.1:1001", "b")
	wants(t, "IPv6 only", six.allocate(only6), 0)
	wants(t, "IPv6 peer", six.bind(0x4000, peer6), 0)
	wants(t, "IPv4 peer", six.bind(0x4001, somePeer), 443)
	if n := h.s.Counters().BoundChannels.Load(); n != 3 {
		t.Errorf("%d channels counted", n)
	}
}

// A channel carries data for 600 s, then nothing for 300 s in which neither end can be paired
// anew, and then it is gone.
func TestChannelLifetime(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	d.allocate()
	keep := func(s time.Duration) {
		for ; s > 0; s -= 100 * time.Second {
			h.advance(min(s, 100*time.Second))
			wants(t, "refresh", d.refresh(3600), 0)
		}
	}
	bound := func() bool {
		a := d.published()
		byNumber, byPeer := a.Channel(0x4000), a.Peer(netip.MustParseAddrPort(somePeer))
		if byNumber != byPeer {
			t.Fatal("the two directions disagree")
		}
		return byNumber != nil
	}
	wants(t, "bind", d.bind(0x4000, somePeer), 0)
	keep(599 * time.Second)
	wants(t, "refreshed in the last second", d.bind(0x4000, somePeer), 0)
	keep(599 * time.Second)
	if !bound() {
		t.Error("unbound a second early")
	}
	keep(time.Second)
	if bound() {
		t.Error("bound after its lifetime")
	}
	wants(t, "number in its grace", d.bind(0x4000, otherPeer), 400)
	wants(t, "peer in its grace", d.bind(0x4001, somePeer), 400)
	keep(299 * time.Second)
	wants(t, "number at the end of its grace", d.bind(0x4000, otherPeer), 400)
	wants(t, "peer at the end of its grace", d.bind(0x4001, somePeer), 400)
	wants(t, "the same pair in its grace", d.bind(0x4000, somePeer), 0)
	if !bound() {
		t.Error("not revived")
	}
	keep(900 * time.Second)
	wants(t, "number after its grace", d.bind(0x4000, otherPeer), 0)
	wants(t, "peer after its grace", d.bind(0x4001, somePeer), 0)
}

func TestPeerRules(t *testing.T) {
	denied := []string{"127.0.0.1:1", "[::1]:1", "169.254.169.254:80", "[fe80::1]:1", "224.0.0.1:1", "[ff02::1]:1", "0.0.0.0:1",
		"[::]:1", "255.255.255.255:1", "0.1.2.3:1", "240.0.0.1:1", "[::ffff:10.0.0.1]:1", "[::ffff:127.0.0.1]:1", "[::7f00:1]:1",
		"[64:ff9b::7f00:1]:1", "198.51.100.1:0", "203.0.113.1:3478", "203.0.113.1:22", "[2001:db8:1::1]:3478", "10.9.9.9:22", "192.0.2.66:1",
		"203.0.113.1:50000", "[2001:db8:1::1]:65535", "10.9.9.9:50000", "[fec0::1]:1", "[feff::1]:1",
		// Addresses of IPv4 in other clothes: this host's, its listening port, loopback, a denied network.
		"[64:ff9b::cb00:7101]:3478", "[64:ff9b::cb00:7101]:22", "[64:ff9b::a09:909]:22", "[64:ff9b::c000:242]:1",
		"[::ffff:0:7f00:1]:1", "[::ffff:0:cb00:7101]:3478", "[2002:7f00:1::1]:1", "[2002:cb00:7101::1]:3478", "[2002:a9fe:a9fe::1]:80",
		"[64:ff9b:1::7f00:1]:1", "[64:ff9b:1:7f00:0:100::]:1", "[64:ff9b:1:7f:0:1::]:1", "[64:ff9b:1:0:7f:0:100:0]:1", "[64:ff9b:1::]:1",
		"[64:ff9b:1:cb00:71:100::]:3478"}
	allowed := []string{"198.51.100.1:1", "[2001:db8::9]:1", "10.0.0.1:1", "192.168.1.1:1", "100.64.0.1:1", "[fd00::1]:1",
		"[64:ff9b::a00:1]:1", "[64:ff9b:1::a00:1]:1", "[2002:c633:6401::1]:1", "[::ffff:0:c633:6401]:1"}
	private := []string{"10.0.0.1:1", "172.16.0.1:1", "192.168.1.1:1", "100.64.0.1:1", "[fd00::1]:1", "[64:ff9b::a00:1]:1", "[2002:a00:1::1]:1"}
	change := func(c *Config) {
		c.Peers.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")}
	}
	h := newHarness(t, change)
	h.s.SetHost(own("10.9.9.9"), 3478)
	d := h.device("192.0.2.1:1000", "a")
	d.allocate(both)
	number := uint16(0x4000)
	check := func(d *device, peers []string, code int) {
		t.Helper()
		for _, p := range peers {
			wants(t, p, d.bind(number, p), code)
			number++
		}
	}
	check(d, denied, 403)
	check(d, allowed, 0)
	other := h.device("192.0.2.2:1000", "b")
	other.allocate(both)
	pair := []string{"203.0.113.1", "[2001:db8:1::1]", "10.9.9.9", "[64:ff9b::a09:909]"}
	for i := range pair {
		pair[i] += fmt.Sprintf(":%d", other.published().Port)
	}
	check(d, pair, 0)
	other.refresh(0)
	wants(t, "an allocation that was", d.bind(number-1, pair[len(pair)-1]), 403)
	if n := h.s.Counters().Event(EventDeniedPeer); n != uint64(len(denied))+1 {
		t.Errorf("%d denials counted", n)
	}
	h = newHarness(t, func(c *Config) { c.Peers = PeerRules{AllowLoopback: true, AllowLinkLocal: true, DenyPrivate: true} })
	d = h.device("192.0.2.1:1000", "a")
	d.allocate(both)
	check(d, private, 403)
	check(d, []string{"127.0.0.1:1", "[::1]:1", "169.254.1.1:1", "[fe80::1]:1", "8.8.8.8:1"}, 0)
}

func TestChannelLimits(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.ChannelsPerAllocation, c.Limits.Channels = 3, 4 })
	d, e := h.device("192.0.2.1:1000", "a"), h.device("192.0.2.1:1001", "b")
	d.allocate()
	e.allocate()
	peer := func(i int) string {
		return netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(i+1)).String()
	}
	for i := range 3 {
		wants(t, "within", d.bind(0x4000+uint16(i), peer(i)), 0)
	}
	wants(t, "beyond that of the allocation", d.bind(0x4003, peer(3)), 508)
	wants(t, "a refresh at the limit", d.bind(0x4002, peer(2)), 0)
	wants(t, "the last of all", e.bind(0x4000, peer(0)), 0)
	wants(t, "beyond that of all", e.bind(0x4001, peer(1)), 508)
	d.refresh(0)
	wants(t, "when there is room again", e.bind(0x4001, peer(1)), 0)
}

// A few who take all the channels they can get leave as many for whoever comes next.
func TestAFewCannotTakeAllChannels(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.Channels = 64 * 256 })
	greedy := func(i int) (n int) {
		d := h.device(fmt.Sprintf("192.0.2.1:%d", 1000+i), fmt.Sprint(i))
		d.allocate()
		for d.bind(MinChannel+uint16(n), netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(n+1)).String()).Code == 0 {
			n++
		}
		return n
	}
	last := 0
	for i := range 65 {
		last = greedy(i)
	}
	if left := h.s.cfg.Limits.Channels - h.s.channels; last < 64 || left < h.s.cfg.Limits.Channels/4 {
		t.Errorf("the last of 65 gets %d channels, and %d are left", last, left)
	}
	for i := 65; h.s.channels < h.s.cfg.Limits.Channels; i++ {
		if last = greedy(i); last < leastChannels && h.s.channels < h.s.cfg.Limits.Channels {
			t.Fatalf("client %d gets %d channels", i, last)
		}
	}
	if n := greedy(5000); n != 0 {
		t.Errorf("%d channels beyond the limit", n)
	}
}

// An allocation holds every number there is.
func TestAllChannelNumbers(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	d.allocate()
	peer := func(n uint16) string { return netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), n).String() }
	for n := uint16(MinChannel); n <= MaxChannel; n++ {
		wants(t, peer(n), d.bind(n, peer(n)), 0)
	}
	a := d.published()
	for n := uint16(MinChannel); n <= MaxChannel; n++ {
		if c := a.Channel(n); c == nil || c.Peer.String() != peer(n) || a.Peer(c.Peer) != c {
			t.Fatalf("channel %#x: %+v", n, c)
		}
	}
	h.advance(time.Hour)
	if h.s.channels != 0 || len(h.s.timers) != 0 || h.s.Counters().BoundChannels.Load() != 0 {
		t.Error("something is left")
	}
}
