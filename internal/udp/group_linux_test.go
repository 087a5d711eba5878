package udp

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

func TestATakenPortIsNoticed(t *testing.T) {
	enterNetns(t)
	g := open(t, 2, both) // its sockets share the port by SO_REUSEPORT
	if _, err := OpenGroup(g.Port(), 2, both); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("opening the port again gives %v, want EADDRINUSE", err)
	}
}

func TestFlowsSpreadOverTheGroup(t *testing.T) {
	enterNetns(t)
	const flows = 64
	g := open(t, 2, both)
	var a4, a6 [2]int
	for range flows {
		s := open(t, 1, both)
		v4, v6 := s.Worker(0)
		sendAll(t, v4, batch.Train{Buf: []byte("x"), Stride: 1, Remote: netip.AddrPortFrom(loop4, g.Port())})
		sendAll(t, v6, batch.Train{Buf: []byte("x"), Stride: 1, Remote: netip.AddrPortFrom(loop6, g.Port())})
	}
	for i := range 2 {
		v4, v6 := g.Worker(i)
		b := newBatch(t, flows)
		if err := v4.Recv(b); err != nil {
			t.Fatal(err)
		}
		a4[i] = len(b.Trains)
		if err := v6.Recv(b); err != nil {
			t.Fatal(err)
		}
		a6[i] = len(b.Trains)
	}
	if a4[0]+a4[1] != flows || a6[0]+a6[1] != flows {
		t.Errorf("%v IPv4 and %v IPv6 datagrams arrived, want %d each", a4, a6, flows)
	}
	if a4[0] == 0 || a4[1] == 0 || a6[0] == 0 || a6[1] == 0 {
		t.Errorf("a socket of the group got no flow: %v and %v", a4, a6)
	}
}

func TestBuffersMarkAndPortAreSet(t *testing.T) {
	enterNetns(t)
	o := both
	o.Mark = 7
	g := open(t, 1, o)
	v4, v6 := g.Worker(0)
	for _, s := range []*Socket{v4, v6} {
		r, w, err := s.Buffers()
		if err != nil || r < 4<<20 || w < 4<<20 {
			t.Errorf("buffers of %d and %d bytes, %v", r, w, err)
		}
		if s.port != g.Port() || s.port == 0 {
			t.Errorf("port %d, the group's is %d", s.port, g.Port())
		}
		checkMark(t, s, 7)
	}
	if err := g.SetMark(0); err != nil {
		t.Fatal(err)
	}
	checkMark(t, v6, 0)
}

func checkMark(t *testing.T, s *Socket, want int) {
	t.Helper()
	got, err := unix.GetsockoptInt(s.Fd(), unix.SOL_SOCKET, unix.SO_MARK)
	if err != nil || got != want {
		t.Errorf("mark %d, %v, want %d", got, err, want)
	}
}

func TestProbeAnswers(t *testing.T) {
	enterNetns(t)
	c := Probe()
	if c.GRO.Answer != Yes || c.GSO.Answer != Yes {
		t.Errorf("GRO %v, GSO %v: this test needs Linux 5.0", c.GRO, c.GSO)
	}
	if want := map[Answer]int{Yes: longTrain, No: shortTrain}[c.Long.Answer]; c.MaxSegments != want {
		t.Errorf("%d segments with the answer %v", c.MaxSegments, c.Long)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil { // loopback is down in there
		t.Fatal(err)
	}
	if c := Probe(); c.Long.Answer != CouldNotAsk || c.Long.Err == nil || c.MaxSegments != shortTrain {
		t.Errorf("without loopback: %v, %d segments, want could not ask and %d", c.Long, c.MaxSegments, shortTrain)
	}
}

// A link whose MTU is below the stride: the kernel refuses the train and fragments its
// datagrams.
func TestARouteMTUBelowTheStrideSplitsTheTrainAndLosesNothing(t *testing.T) {
	enterNetns(t)
	home := netnsOfThread(t)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far", MTU: 1300}, PeerName: "near",
		PeerNamespace: netlink.NsFd(home)}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	up(t, "far", "10.1.0.2/24", "fd01::2/64")
	h := open(t, 1, both)
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	up(t, "near", "10.1.0.1/24", "fd01::1/64")
	g := open(t, 1, both)
	from4, from6 := g.Worker(0)
	to4, to6 := h.Worker(0)
	for _, c := range []struct {
		from, to *Socket
		dst      string
		local    string
	}{{from4, to4, "10.1.0.2", "10.1.0.1"}, {from6, to6, "fd01::2", "fd01::1"}} {
		want := pattern(9*1400+11, 9)
		dst := netip.AddrPortFrom(netip.MustParseAddr(c.dst), h.Port())
		for range 2 {
			sendAll(t, c.from, batch.Train{Buf: bytes.Clone(want), Stride: 1400, Remote: dst,
				Local: netip.AddrPortFrom(netip.MustParseAddr(c.local), g.Port())})
		}
		var got []byte
		for _, tr := range recvBytes(t, c.to, newBatch(t, 64), 2*len(want)) {
			got = append(got, tr.Buf...)
		}
		if !bytes.Equal(got, append(bytes.Clone(want), want...)) {
			t.Errorf("%s: the bytes that arrived differ from those sent", c.dst)
		}
		if st := c.from.Stats(); st.GSORefused != 1 || st.SplitTrains != 2 || st.SourceGone != 0 {
			t.Errorf("%s: stats %+v", c.dst, st)
		}
	}
}

// Zones are interface indexes, each kernel's own.
func TestLinkLocalAddressesCarryTheirZone(t *testing.T) {
	enterNetns(t)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near", MTU: 1500}, PeerName: "far"}
	home := netnsOfThread(t)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	veth.PeerNamespace = netlink.NsFd(home)
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	nearZone := up(t, "near", "fe80::1/64")
	_, from := open(t, 1, both).Worker(0)
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	farZone := up(t, "far", "fe80::2/64")
	g := open(t, 1, both)
	_, to := g.Worker(0)
	src, dst := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	out := batch.Train{Buf: pattern(3000, 1), Stride: 1000, Remote: netip.AddrPortFrom(dst.WithZone(nearZone), g.Port()),
		Local: netip.AddrPortFrom(src.WithZone(nearZone), from.port)}
	sendUntilHeard(t, from, to, out)
	in := recvBytes(t, to, newBatch(t, 4), 3000)[0]
	if want := netip.AddrPortFrom(src.WithZone(farZone), from.port); in.Remote != want {
		t.Errorf("from %v, want %v", in.Remote, want)
	}
	if want := netip.AddrPortFrom(dst.WithZone(farZone), g.Port()); in.Local != want {
		t.Errorf("to %v, want %v", in.Local, want)
	}
	sendUntilHeard(t, to, from, batch.Train{Buf: pattern(100, 1), Stride: 100, Remote: in.Remote, Local: in.Local})
	back := recvBytes(t, from, newBatch(t, 4), 100)[0]
	if back.Remote != out.Remote || back.Local != out.Local || from.Stats().SourceGone+to.Stats().SourceGone != 0 {
		t.Errorf("the answer came from %v to %v, want %v and %v", back.Remote, back.Local, out.Remote, out.Local)
	}
	sa := to.in.names[0]
	if n := testing.AllocsPerRun(100, func() { getAddr(&sa, unix.SizeofSockaddrInet6, &to.in.zones) }); n != 0 {
		t.Errorf("%v allocations for a known zone, want 0", n)
	}
}

// sendUntilHeard repeats a train until it arrives: an end of a veth pair drops everything until
// the kernel has noticed, some time after the other end came up, that there is a carrier.
func sendUntilHeard(t *testing.T, from, to *Socket, train batch.Train) {
	t.Helper()
	for range 200 {
		sendAll(t, from, train)
		fds := []unix.PollFd{{Fd: int32(to.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 20); n == 1 {
			return
		}
	}
	t.Fatal("nothing arrived in four seconds")
}

func TestALimitIsRaisedButNeverLowered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rmem_max")
	for _, c := range []struct {
		now  string
		want string
	}{{"1000\n", "2000"}, {"3000\n", "3000\n"}, {"many\n", "many\n"}} {
		if err := os.WriteFile(path, []byte(c.now), 0o644); err != nil {
			t.Fatal(err)
		}
		raiseLimit(path, 2000)
		if got, err := os.ReadFile(path); string(got) != c.want || err != nil {
			t.Errorf("%q became %q, %v, want %q", c.now, got, err, c.want)
		}
	}
}

func netnsOfThread(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// up sets an end of a veth pair up and returns its index as a zone.
func up(t *testing.T, name string, prefixes ...string) (zone string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetMTU(link, 1300); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(link.Attrs().Index)
}
