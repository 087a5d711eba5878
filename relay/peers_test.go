package relay

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/protocol/stun"
)

// addrs parses addresses.
func addrs(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
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
// else is allowed; neither by a channel nor by a permission.
func TestTheListeningPortIsNobodysPeer(t *testing.T) {
	everything := func(c *Config) {
		c.Peers = PeerRules{AllowLoopback: true, AllowLinkLocal: true, AllowOwn: true}
		c.LowestPort, c.HighestPort = 3000, 4000 // with the listening port among them
	}
	h := newHarness(t, everything)
	h.s.SetHost(addrs("fe80::9", "10.9.9.9", "169.254.9.9", "2001:db8:9::9", "127.0.0.1"), 3478)
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
		want := 403
		if a[1:] == "64:ff9b::a09:909]" {
			want = 0 // where a translator might be, or not: a permission gives nothing
		}
		wants(t, "permission for "+a, d.permit(a+":3478"), want)
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
	h.s.SetHost(addrs("10.9.9.9"), 3478)
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
	h.s.SetHost(addrs("10.9.9.9"), 3478)
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
	h.s.SetHost(addrs("10.9.9.9", "10.9.9.8"), 3478)
	if !closed(0x4000) || !closed(0x4001) {
		t.Error("not closed when the address is ours")
	}
	wants(t, "a refresh of what leads here now", d.bind(0x4000, "10.9.9.8:22"), 403)
	h.s.SetHost(addrs("10.9.9.8"), 3478)
	wants(t, "an address that has left", d.bind(0x4002, "10.9.9.9:22"), 0)
	h.s.SetHost(nil, 3478)
	if closed(0x4000) || closed(0x4001) || closed(0x4002) {
		t.Error("closed though no address is ours any more")
	}
}
