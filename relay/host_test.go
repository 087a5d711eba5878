package relay

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/stun"
)

// A program on a port of all addresses of the host is out of reach also where the kernel answers at
// other addresses than those of interfaces: as a router of an IPv6 network, and in networks that are
// routed to the host itself. What is added later counts within a moment.
func TestPeersDoNotLieBehindAnycastAndLocalRoutes(t *testing.T) {
	enterNetns(t)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	near, _ := veth(t, "198.51.100.7/24")
	a, err := netlink.ParseAddr("2001:db8:7::7/64")
	if err != nil {
		t.Fatal(err)
	}
	a.Flags = unix.IFA_F_NODAD
	if err := netlink.AddrAdd(near, a); err != nil {
		t.Fatal(err)
	}
	const port = 5353
	for _, v6 := range []bool{false, true} {
		s, err := udp.OpenPort(v6, port, udp.Options{}, udp.Probe(), udp.NewScratch())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	r := start(t, nil)
	c := newTurner(t, relayAt(loop4, r), "a")
	c.allocate()
	number := uint16(MinChannel)
	bind := func(peer netip.Addr, port uint16) int {
		number++
		return c.ask(stun.ChannelBind, func(b *stun.Builder) {
			b.Channel(number)
			b.Address(stun.XORPeerAddress, netip.AddrPortFrom(peer, port))
		}).Code
	}
	for _, text := range []string{"2001:db8:7::7", "2001:db8:7::", "198.51.100.7", "198.51.100.0", "198.51.100.255"} {
		peer := netip.MustParseAddr(text)
		for _, p := range []uint16{port, r.Port()} {
			if code := bind(peer, p); code != 403 {
				t.Errorf("a channel to port %d at %s: %d", p, text, code)
			}
		}
	}
	if code := bind(netip.MustParseAddr("198.51.100.8"), port); code != 0 {
		t.Errorf("a channel to a neighbour: %d", code)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"198.18.0.0/24", "2001:db8:18::/64"} {
		network, err := netlink.ParseIPNet(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: network, Type: unix.RTN_LOCAL,
			Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}); err != nil {
			t.Fatal(err)
		}
		there, _ := netip.AddrFromSlice(network.IP)
		there = there.Next()
		awaitAddr(t, there)
		for deadline := time.Now().Add(patience); bind(there, port) != 403; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("a channel to %v is bound though the network is this host", there)
			}
		}
	}
}

// seeHost finds the addresses of interfaces once, and in local also what has none.
func TestSeeHost(t *testing.T) {
	enterNetns(t)
	h, err := seeHost()
	if err != nil {
		t.Fatal(err)
	}
	if want := []netip.Addr{loop4, public4, loop6, public6}; !slices.Equal(h.addrs, want) {
		t.Errorf("addresses %v, want %v", h.addrs, want)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.PrefixFrom(public4, 32), netip.PrefixFrom(loop6, 128),
		netip.PrefixFrom(public6, 128)}; !slices.Equal(h.local, want) {
		t.Errorf("local are %v, want %v", h.local, want)
	}
	if other, err := seeHost(); err != nil || !h.equal(other) || h.equal(new(host)) {
		t.Errorf("the same host is %+v, %v", other, err)
	}
}

func TestNetworksOfTwo(t *testing.T) {
	for text, want := range map[string]bool{"192.0.2.1/24": true, "192.0.2.1/30": true, "192.0.2.1/31": false, "192.0.2.1/32": false,
		"2001:db8::1/64": true, "2001:db8::1/126": true, "2001:db8::1/127": false, "2001:db8::1/128": false} {
		if got := hasRouters(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// What prefixes contain, they contain once they are disjoint, and nothing else.
func TestDisjointContainsWhatAllContain(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		if b := rapid.SliceOfN(rapid.ByteRange(0, 3), 4, 4).Draw(t, "bytes"); rapid.Bool().Draw(t, "IPv4") {
			return netip.AddrFrom4([4]byte(b))
		} else {
			return netip.AddrFrom16([16]byte{0: 0x20, 1: b[0], 14: b[1], 15: b[2]})
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := addr.Draw(t, "address")
			return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		}), 0, 12).Draw(t, "prefixes")
		out := disjoint(slices.Clone(all))
		for range 20 {
			a := addr.Draw(t, "probe")
			want := slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
			if got := localTo(out, a); got != want {
				t.Fatalf("%v in %v: %v", a, out, got)
			}
		}
	})
}

// withoutIPv6 makes the thread of the test one of a kernel without IPv6: a filter fails the system
// call for such a socket as that kernel does. The thread ends with the test.
func withoutIPv6(t *testing.T) {
	t.Helper()
	const number, family = 0, 16 // offsets in seccomp_data: nr, the low half of args[0]
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(is uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: is, Jf: skip}
	}
	end := func(with uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: with} }
	filter := []unix.SockFilter{load(number), unless(unix.SYS_SOCKET, 3), load(family), unless(unix.AF_INET6, 1),
		end(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)), end(unix.SECCOMP_RET_ALLOW)}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		t.Fatal(err)
	}
}

// A relay that is told to serve IPv6 on a host without it does not start, and one that is not does.
func TestAHostWithoutIPv6(t *testing.T) {
	enterNetns(t)
	withoutIPv6(t)
	credentials, err := SharedSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{"both": {Public4: public4, Public6: public6}, "IPv6": {Public6: public6}, "IPv4": {Public4: public4}} {
		c.Credentials = credentials
		r, err := Listen(Settings{Server: c, Workers: 1})
		if err == nil {
			if err := r.close(); err != nil {
				t.Error(err)
			}
		}
		if missing := errors.Is(err, unix.EAFNOSUPPORT); missing != c.Public6.IsValid() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
