package tun

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestOpeningAnInterfaceThatCannotBe(t *testing.T) {
	enterNetns(t)
	newDevice(t, "fire0", all)
	if _, err := Create("fire0", all); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "fire0") {
		t.Errorf("an interface in use gives %v, want EBUSY", err)
	}
	for _, name := range []string{"", "..", "sixteen-letters-", "a/b", "a b"} {
		if _, err := Create(name, all); !errors.Is(err, unix.EINVAL) {
			t.Errorf("name %q gives %v, want EINVAL", name, err)
		}
	}
	if _, err := Create("fire1", Options{Queues: 257}); err == nil {
		t.Error("257 queues give no error")
	}
	if _, err := FromFD(0, all); err == nil {
		t.Error("a descriptor that is no tunnel gives no error")
	}
}

func TestWithoutTheCapabilityTheErrorNamesIt(t *testing.T) {
	enterNetns(t)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &caps[0]); err != nil { // of this thread, which ends with the test
		t.Fatal(err)
	}
	if _, err := Create("fire0", all); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("without the capability: %v", err)
	}
}

func TestWithoutTheDriverTheErrorSaysHowToGetIt(t *testing.T) {
	enterNetns(t)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Create("fire0", all); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "modprobe") {
		t.Errorf("without /dev/net/tun: %v", err)
	}
}

func TestAPersistentInterfaceIsAttachedTo(t *testing.T) {
	enterNetns(t)
	d, err := Create("fire%d", Options{Queues: 2, Persist: true, MTU: 1380})
	if err != nil {
		t.Fatal(err)
	}
	if d.Name() != "fire0" || d.Queues() != 2 {
		t.Errorf("%q with %d queues", d.Name(), d.Queues())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Create("fire0", all); !errors.Is(err, unix.EBUSY) {
		t.Errorf("without Attach: %v, want EBUSY", err)
	}
	o := all
	o.Attach = true
	d = newDevice(t, "fire0", o)
	if mtu, err := d.MTU(); mtu != 1380 || err != nil {
		t.Errorf("MTU %d, %v, want 1380", mtu, err)
	}
}

func TestADescriptorFromOutside(t *testing.T) {
	enterNetns(t)
	for _, vnet := range []int{0, unix.IFF_VNET_HDR} {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		req, err := unix.NewIfreq("out%d")
		if err != nil {
			t.Fatal(err)
		}
		req.SetUint16(uint16(unix.IFF_TUN | unix.IFF_NO_PI | vnet))
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, 12); err != nil { // another program's choice
			t.Fatal(err)
		}
		d, err := FromFD(fd, all)
		if err != nil {
			t.Fatal(err)
		}
		if want := vnet != 0; d.Caps().VnetHdr != want || d.Caps().TSO != want || d.Queues() != 1 {
			t.Errorf("flags %#x: caps %+v, %d queues", vnet, d.Caps(), d.Queues())
		}
		up(t, d, "10.7.0.1/24")
		sendUDP(t, dstUDP, pattern(700), 0)
		p := readUDP(t, d.Queue(0), newBatch(t, 4))
		if len(p.Buf) != 728 {
			t.Errorf("flags %#x: %d bytes read, want 728", vnet, len(p.Buf))
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFlowsSpreadOverTheQueues(t *testing.T) {
	enterNetns(t)
	const flows = 64
	o := all
	o.Queues = 2
	d := newDevice(t, "fire0", o)
	up(t, d, "10.7.0.1/24")
	var conns []net.Conn
	for range flows {
		c, err := net.Dial("udp", "10.7.0.2:9")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, c)
	}
	for _, c := range conns {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	b := newBatch(t, 2*flows)
	for i := range 2 {
		readUDP(t, d.Queue(i), b) // fails if no flow came to the queue
	}
}

func TestEventsTellStateAndChanges(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", Options{MTU: 1400})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events, err := d.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("fire0")
	if err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1400})
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1400, Up: true})
	if err := d.SetMTU(1280); err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1280, Up: true})
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Removed {
			break
		}
	}
	if _, open := <-events; open {
		t.Error("an event after the removal")
	}
}

// newNetns makes a network namespace and returns a handle of it, without entering it.
func newNetns(t *testing.T) netns.NsHandle {
	t.Helper()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	made, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	if err := errors.Join(netns.Set(before), before.Close()); err != nil {
		t.Fatal(err)
	}
	return made
}

func TestEventsFollowTheInterfaceToAnotherNamespace(t *testing.T) {
	enterNetns(t)
	elsewhere := newNetns(t)
	there, err := netlink.NewHandleAt(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	// Take the index that the interface has here, so that it gets another one there.
	if err := there.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "first0"}, PeerName: "first1"}); err != nil {
		t.Fatal(err)
	}
	d := newDevice(t, "fire0", Options{MTU: 1400})
	events, err := d.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("fire0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1400, Up: true})
	if err := netlink.LinkSetNsFd(link, int(elsewhere)); err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1400}) // a move sets it down
	moved, err := there.LinkByName("fire0")
	if err != nil {
		t.Fatal(err)
	}
	if moved.Attrs().Index == d.Index() {
		t.Fatalf("the interface kept index %d, so the test shows less than it should", d.Index())
	}
	if err := there.LinkSetUp(moved); err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1400, Up: true})
	if err := d.SetMTU(1300); err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1300, Up: true})
	if mtu, err := d.MTU(); mtu != 1300 || err != nil {
		t.Errorf("the MTU is %d, %v, want 1300", mtu, err)
	}
	if err := there.LinkDel(moved); err != nil {
		t.Fatal(err)
	}
	await(t, events, Event{MTU: 1300, Removed: true})
	if _, open := <-events; open {
		t.Error("an event after the removal")
	}
	if _, err := d.MTU(); !errors.Is(err, errRemoved) {
		t.Errorf("the MTU of a removed interface: %v, want %v", err, errRemoved)
	}
}

func TestRenamedInterfaceKeepsItsMTU(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", Options{MTU: 1400})
	link, err := netlink.LinkByName("fire0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetName(link, "water0"); err != nil {
		t.Fatal(err)
	}
	if mtu, err := d.MTU(); mtu != 1400 || err != nil {
		t.Errorf("the MTU is %d, %v, want 1400", mtu, err)
	}
}

func TestCloseEndsTheEvents(t *testing.T) {
	enterNetns(t)
	d, err := Create("fire0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := d.Events(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range events {
	}
}

// await receives events until want comes, for at most two seconds.
func await(t *testing.T, events <-chan Event, want Event) {
	t.Helper()
	deadline := time.After(2 * time.Second)
	for {
		select {
		case e, open := <-events:
			if e == want {
				return
			}
			if !open {
				t.Fatalf("events ended before %+v", want)
			}
		case <-deadline:
			t.Fatalf("no event %+v", want)
		}
	}
}

func TestEventsEndWithTheContext(t *testing.T) {
	enterNetns(t)
	d := newDevice(t, "fire0", Options{})
	ctx, cancel := context.WithCancel(context.Background())
	events, err := d.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	<-events
	cancel()
	if _, open := <-events; open {
		t.Error("an event after the end")
	}
}
