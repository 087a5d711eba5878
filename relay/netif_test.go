package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

// veth makes a pair of interfaces, the first with the addresses.
func veth(t *testing.T, addrs ...string) (near, far netlink.Link) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth1"}); err != nil {
		t.Fatal(err)
	}
	find := func(name string) netlink.Link {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	near, far = find("eth0"), find("eth1")
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(near, addr); err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

// A host with two addresses whose sockets are bound to all: peers see the one that clients are
// told, though the kernel would choose the other.
func TestPeersSeeTheRelayedAddress(t *testing.T) {
	enterNetns(t)
	near, far := veth(t, "198.51.100.1/24", "198.51.100.2/24")
	told, peer := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddrPort("203.0.113.9:4000")
	const ethIP = 0x0008 // in network order
	wire, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, ethIP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(wire) })
	timeout := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(wire, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	network, err := netlink.ParseIPNet("203.0.113.0/24")
	if err != nil {
		t.Fatal(err)
	}
	index := near.Attrs().Index
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: network}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.NeighAdd(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: peer.Addr().AsSlice(),
		HardwareAddr: far.Attrs().HardwareAddr}); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(s *Settings) { s.Server.Public4, s.Server.Public6 = told, netip.Addr{} })
	c := newTurner(t, relayAt(told, r), "a")
	c.addr = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), c.addr.Port())
	c.allocate()
	c.bind(0x4000, peer)
	c.send(wrapped(0x4000, pattern(100, 1), 100), 104, c.server)
	for packet := make([]byte, 2000); ; {
		n, _, err := unix.Recvfrom(wire, packet, 0)
		if err != nil {
			t.Fatalf("nothing leaves for the peer: %v", err)
		}
		if n < 28 || packet[9] != unix.IPPROTO_UDP || netip.AddrFrom4([4]byte(packet[16:20])) != peer.Addr() {
			continue
		}
		source := netip.AddrFrom4([4]byte(packet[12:16]))
		if port := uint16(packet[20])<<8 | uint16(packet[21]); source != told || port != c.relayed[0].Port() {
			t.Errorf("the client was told %v, the peer sees %v:%d", c.relayed[0], source, port)
		}
		return
	}
}

// A client that fills the send buffer of its port, with datagrams for neighbours that do not
// exist, loses what does not fit, and nobody waits for it.
func TestAFullPortDelaysNobodyElse(t *testing.T) {
	r := newRig(t)
	veth(t, "198.51.100.1/24")
	greedy, good, peer := r.end(false), r.end(false), r.end(false)
	a, b := r.allocate(greedy), r.allocate(good)
	bind(b, 0x4000, peer.addr)
	const channels, turns = 100, 100
	for i := range channels {
		bind(a, uint16(0x4000+i), netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(20 + i)}), 9))
	}
	r.turn()
	fill := func(i, n int) {
		number := uint16(0x4000 + i%channels)
		r.send(greedy, batch.Train{Buf: wrapped(number, pattern(n*1400, 1), 1400), Stride: 1404, Remote: r.listens(greedy)})
	}
	for i := 0; r.w.counts.drops[DropSendFull].Load() == 0; i++ {
		if i == 100*channels {
			t.Fatal("the port's send buffer does not fill")
		}
		fill(i, 30)
		r.turn()
	}
	quickest := time.Hour
	for i := range turns {
		fill(i, 1)
		r.send(good, batch.Train{Buf: wrapped(0x4000, pattern(100, 1), 100), Stride: 104, Remote: r.listens(good)})
		begun, lost := time.Now(), r.w.counts.drops[DropSendFull].Load()
		r.turn()
		if r.w.counts.drops[DropSendFull].Load() > lost {
			quickest = min(quickest, time.Since(begun))
		}
		if got := r.take(peer); len(got) != 1 {
			t.Fatalf("%d trains of the other client", len(got))
		}
	}
	if quickest >= sendPatience {
		t.Errorf("the quickest turn with a full port took %v", quickest)
	}
}
