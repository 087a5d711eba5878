package relay

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/protocol/stun"
)

// own parses addresses and networks of this host.
func own(all ...string) (out []netip.Prefix) {
	for _, text := range all {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a := netip.MustParseAddr(text)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p)
	}
	return out
}

// permit asks for a permission.
func (d *device) permit(peer string) *stun.Message {
	d.h.t.Helper()
	return d.do(stun.CreatePermission, func(w *stun.Builder) {
		w.Address(stun.XORPeerAddress, netip.MustParseAddrPort(peer))
	})
}

// The relay's own listening port is nobody's peer, at whatever address of the host, and whatever
// else is allowed. A permission for it gives nothing, as any does.
func TestTheListeningPortIsNobodysPeer(t *testing.T) {
	everything := func(c *Config) {
		c.Peers = PeerRules{AllowLoopback: true, AllowLinkLocal: true, AllowOwn: true}
		c.LowestPort, c.HighestPort = 3000, 4000 // with the listening port among them
	}
	h := newHarness(t, everything)
	h.s.SetHost(own("fe80::9", "10.9.9.9", "169.254.9.9", "2001:db8:9::9", "127.0.0.1"), 3478)
	d := h.device("192.0.2.1:1000", "a")
	d.allocate(both)
	number := uint16(0x4000)
	bind := func(peer string, code int) {
		t.Helper()
		wants(t, peer, d.bind(number, peer), code)
		number++
	}
	for _, a := range []string{"127.0.0.1", "127.9.9.9", "[::1]", "10.9.9.9", "169.254.9.9", "[fe80::9]", "[2001:db8:9::9]", "203.0.113.1", "[2001:db8:1::1]",
		"[64:ff9b::a09:909]", "[::ffff:10.9.9.9]"} {
		bind(a+":3478", 403)
		wants(t, "permission for "+a, d.permit(a+":3478"), 0)
	}
	for _, p := range []string{"127.0.0.1:3479", "10.9.9.9:22", "169.254.9.9:1", "[fe80::9]:1", "[2001:db8:9::9]:1", "10.9.9.8:3478", "[64:ff9b::a09:909]:1"} {
		bind(p, 0)
		wants(t, "permission for "+p, d.permit(p), 0)
	}
	wants(t, "a permission without a peer", d.do(stun.CreatePermission, nil), 0)
	if a := d.published(); a.Peer(netip.MustParseAddrPort("10.9.9.9:3478")) != nil {
		t.Error("bound")
	}
}

// A channel to an allocation behind an address of this host that is not public carries data while
// the allocation is there, and none to whoever has its port afterwards.
func TestAChannelToOurselvesEndsWithTheOtherAllocation(t *testing.T) {
	h := newHarness(t, nil)
	h.s.SetHost(own("10.9.9.9"), 3478)
	d, e := h.device("192.0.2.1:1", "a"), h.device("192.0.2.2:1", "b")
	d.allocate(both)
	e.allocate()
	port := e.published().Port
	for i, a := range []string{"10.9.9.9", "64:ff9b::a09:909"} {
		number := uint16(0x4000 + i)
		wants(t, a, d.bind(number, netip.AddrPortFrom(netip.MustParseAddr(a), port).String()), 0)
	}
	check := func(what string, want bool) {
		t.Helper()
		for number := uint16(0x4000); number < 0x4002; number++ {
			if far, closed := h.s.Table().Hairpin(d.published().Channel(number)); far != nil || closed != want {
				t.Errorf("%s: channel %#x is closed: %v", what, number, closed)
			}
		}
	}
	check("while the other allocation is there", false)
	e.refresh(0)
	check("when it is gone", true)
}

// An address that comes to be this host's after a channel was bound to it is one of this host from
// then on, and one that leaves is not.
func TestChannelsFollowTheHostsAddresses(t *testing.T) {
	h := newHarness(t, nil)
	h.s.SetHost(own("10.9.9.9"), 3478)
	d := h.device("192.0.2.1:1", "a")
	d.allocate()
	closed := func(number uint16) bool {
		_, closed := h.s.Table().Hairpin(d.published().Channel(number))
		return closed
	}
	wants(t, "another host's SSH", d.bind(0x4000, "10.9.9.8:22"), 0)
	wants(t, "another relay", d.bind(0x4001, "10.9.9.8:3478"), 0)
	wants(t, "our SSH", d.bind(0x4002, "10.9.9.9:22"), 403)
	if closed(0x4000) || closed(0x4001) {
		t.Error("closed from the start")
	}
	h.s.SetHost(own("10.9.9.9", "10.9.9.8"), 3478)
	if !closed(0x4000) || !closed(0x4001) {
		t.Error("not closed when the address is ours")
	}
	wants(t, "a refresh of what leads here now", d.bind(0x4000, "10.9.9.8:22"), 403)
	h.s.SetHost(own("10.9.9.8"), 3478)
	wants(t, "an address that has left", d.bind(0x4002, "10.9.9.9:22"), 0)
	h.s.SetHost(nil, 3478)
	if closed(0x4000) || closed(0x4001) || closed(0x4002) {
		t.Error("closed though no address is ours any more")
	}
}

// An allocation has a port in its own families and at the address that ports are bound to. The same
// number elsewhere on this host is another program's, or will be.
func TestAChannelToOurselvesNeedsAnAllocationThere(t *testing.T) {
	for _, c := range []struct {
		name     string
		bind4    string
		families func(*stun.Builder)
		want     map[string]int
	}{
		{"of IPv4", "", nil, map[string]int{"10.9.9.9": 0, "10.9.9.8": 0, "[64:ff9b::a09:909]": 0, "[2001:db8:9::9]": 403, "203.0.113.1": 0, "[2001:db8:1::1]": 403}},
		{"of IPv6", "", only6, map[string]int{"10.9.9.9": 403, "[64:ff9b::a09:909]": 403, "[2001:db8:9::9]": 0, "203.0.113.1": 403, "[2001:db8:1::1]": 0}},
		{"of both", "", both, map[string]int{"10.9.9.9": 0, "[64:ff9b::a09:909]": 0, "[2001:db8:9::9]": 0, "203.0.113.1": 0, "[2001:db8:1::1]": 0}},
		{"at one address", "10.9.9.9", both, map[string]int{"10.9.9.9": 0, "10.9.9.8": 403, "[64:ff9b::a09:908]": 403, "[2001:db8:9::9]": 0, "203.0.113.1": 0}},
	} {
		h := newHarness(t, func(cfg *Config) {
			if c.bind4 != "" {
				cfg.Bind4 = netip.MustParseAddr(c.bind4)
			}
		})
		h.s.SetHost(own("10.9.9.9", "10.9.9.8", "2001:db8:9::9"), 3478)
		d, e := h.device("192.0.2.1:1", "a"), h.device("192.0.2.2:1", "b")
		d.allocate(both)
		e.allocate(func(w *stun.Builder) {
			if c.families != nil {
				c.families(w)
			}
		})
		number := uint16(0x4000)
		for a, code := range c.want {
			peer := fmt.Sprintf("%s:%d", a, e.published().Port)
			wants(t, "to "+a+" of an allocation "+c.name, d.bind(number, peer), code)
			number++
		}
	}
}

// A channel to an address of this host does not carry on to another program when the port comes to
// be that of an allocation in the other family.
func TestAChannelToOurselvesEndsInTheOtherFamily(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.LowestPort, c.HighestPort = 50000, 50001 })
	h.s.SetHost(own("10.9.9.9"), 3478)
	d, e := h.device("192.0.2.1:1", "a"), h.device("192.0.2.2:1", "b")
	d.allocate()
	e.allocate()
	port := e.published().Port
	wants(t, "an allocation of IPv4", d.bind(0x4000, fmt.Sprintf("10.9.9.9:%d", port)), 0)
	e.refresh(0)
	e.allocate(only6)
	if e.published().Port != port {
		t.Fatal("the port is another")
	}
	if _, closed := h.s.Table().Hairpin(d.published().Channel(0x4000)); !closed {
		t.Error("not closed")
	}
}

// Networks whose packets end at this host are this host, every address of them.
func TestNetworksOfThisHostAreOwn(t *testing.T) {
	h := newHarness(t, nil)
	h.s.SetHost(own("198.18.0.7/24", "198.18.0.9", "2001:db8:7::/128", "2001:db8:7::7", "2001:db8:8::/48"), 3478)
	d := h.device("192.0.2.1:1", "a")
	d.allocate(both)
	number := uint16(0x4000)
	for peer, code := range map[string]int{
		"198.18.0.0:53": 403, "198.18.0.9:53": 403, "198.18.0.10:53": 403, "198.18.0.255:3478": 403, "[64:ff9b::c612:5]:53": 403,
		"198.18.1.0:53": 0, "198.17.255.255:53": 0, "[2001:db8:7::]:5353": 403, "[2001:db8:7::]:3478": 403, "[2001:db8:7::7]:5353": 403,
		"[2001:db8:7::8]:5353": 0, "[2001:db8:8:ffff::1]:1": 403, "[2001:db8:9::]:1": 0,
	} {
		wants(t, peer, d.bind(number, peer), code)
		number++
	}
}

// What the operator denies is denied at this host's addresses, too, but for the public ones, at
// which the clients of one relay meet.
func TestDeniedNetworksHoldForThisHost(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.Peers = PeerRules{DenyPrivate: true, Deny: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")}}
	})
	h.s.SetHost(own("10.9.9.9", "198.51.100.9", "192.0.2.99"), 3478)
	d, e := h.device("192.0.2.1:1", "a"), h.device("192.0.2.2:1", "b")
	d.allocate()
	e.allocate()
	number := uint16(0x4000)
	for a, code := range map[string]int{"10.9.9.9": 403, "198.51.100.9": 403, "192.0.2.99": 0, "203.0.113.1": 0} {
		wants(t, a, d.bind(number, fmt.Sprintf("%s:%d", a, e.published().Port)), code)
		number++
	}
}
