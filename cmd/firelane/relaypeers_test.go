package main

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/firelane/firelane/protocol/stun"
	"github.com/firelane/firelane/relay"
)

// Clients reach this host's ports behind a relay by --allow-own-peers only, and the relay's own
// listening port not even then.
func TestPeersOnTheRelaysHost(t *testing.T) {
	setUpRelayHost(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	other, err := netlink.ParseAddr("192.0.2.77/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrReplace(lo, other); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.AddrDel(lo, other) })
	users := file(t, "user:password")
	for _, run := range []struct {
		flags []string
		want  map[string]int
	}{
		{nil, map[string]int{"192.0.2.77:22": 403, "192.0.2.77:3478": 403, "127.0.0.1:3478": 403, "127.0.0.1:22": 0}},
		{[]string{"--allow-own-peers"}, map[string]int{"192.0.2.77:22": 0, "192.0.2.77:3478": 403, "127.0.0.1:3478": 403, "192.0.2.1:22": 403}},
	} {
		r := relayWith(t, nil, append(run.flags, "--users-file", users)...)
		c := newTURNClient(t, "user", "password", relay.DefaultRealm)
		if code := c.allocate(); code != 0 {
			t.Fatalf("allocate: %d", code)
		}
		number := uint16(channelNumber)
		for peer, want := range run.want {
			m := c.ask(stun.ChannelBind, func(b *stun.Builder) {
				b.Channel(number)
				b.Address(stun.XORPeerAddress, netip.MustParseAddrPort(peer))
			})
			if m.Code != want {
				t.Errorf("%v: a channel to %s: %d, want %d", run.flags, peer, m.Code, want)
			}
			number++
		}
		c.release()
		r.signal(syscall.SIGTERM)
		r.ends(endsWithin, "")
	}
}
