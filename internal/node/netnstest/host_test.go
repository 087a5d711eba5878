package netnstest

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace.
type host struct {
	t     testing.TB
	ns    netns.NsHandle
	links *netlink.Handle
}

// newHost makes a host that ends with the test.
func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t}
	h.try(onThread(func() (err error) {
		h.ns, err = netns.New()
		return err
	}))
	t.Cleanup(func() { h.ns.Close() })
	var err error
	h.links, err = netlink.NewHandleAt(h.ns)
	h.try(err)
	t.Cleanup(h.links.Close)
	h.setUp("lo")
	return h
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func (h *host) try(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// within runs f in the host's namespace. Sockets and processes made there stay there.
func (h *host) within(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return err
		}
		return f()
	})
}

// run runs a program on the host and returns what it says.
func (h *host) run(args ...string) (string, error) {
	var out []byte
	err := h.within(func() (err error) {
		out, err = exec.CommandContext(h.t.Context(), args[0], args[1:]...).CombinedOutput()
		return err
	})
	return string(out), err
}

func (h *host) must(args ...string) string {
	h.t.Helper()
	out, err := h.run(args...)
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h *host) link(name string) netlink.Link {
	h.t.Helper()
	l, err := h.links.LinkByName(name)
	h.try(err)
	return l
}

func (h *host) setUp(name string) {
	h.t.Helper()
	h.try(h.links.LinkSetUp(h.link(name)))
}

func (h *host) setDown(name string) {
	h.t.Helper()
	h.try(h.links.LinkSetDown(h.link(name)))
}

func address(prefix string) *netlink.Addr {
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		panic(err)
	}
	a.Flags = unix.IFA_F_NODAD
	return a
}

func (h *host) addAddr(name string, prefixes ...string) {
	h.t.Helper()
	for _, p := range prefixes {
		h.try(h.links.AddrAdd(h.link(name), address(p)))
	}
}

func (h *host) removeAddr(name, prefix string) {
	h.t.Helper()
	h.try(h.links.AddrDel(h.link(name), address(prefix)))
}

// connect joins a and b by a cable of interface "v<n>" on both, with outer addresses
// 10.77.n.1 and fd77:n::1 for a, and .2 for b.
func connect(a, b *host, n int) {
	a.t.Helper()
	name := fmt.Sprintf("v%d", n)
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name},
		PeerName:      name,
		PeerNamespace: netlink.NsFd(b.ns),
	}
	a.try(a.links.LinkAdd(cable))
	for i, h := range []*host{a, b} {
		h.addAddr(name, fmt.Sprintf("10.77.%d.%d/24", n, i+1), fmt.Sprintf("fd77:%d::%d/64", n, i+1))
		h.setUp(name)
	}
	await(a.t, 5*time.Second, "carrier", func() bool {
		return a.link(name).Attrs().OperState == netlink.OperUp && b.link(name).Attrs().OperState == netlink.OperUp
	})
	a.awaitAddr(fmt.Sprintf("fd77:%d::1", n))
	b.awaitAddr(fmt.Sprintf("fd77:%d::2", n))
}

// awaitAddr waits until packets to an address of the host arrive: of IPv6 that is a moment after
// it was added and the interface came up.
func (h *host) awaitAddr(a string) {
	h.t.Helper()
	await(h.t, 10*time.Second, "way to "+a, func() bool {
		routes, err := h.links.RouteGet(net.ParseIP(a))
		return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
	})
}

// await waits until ok holds, looking again every few milliseconds.
func await(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("no %s within %v", what, limit)
		}
		<-tick.C
	}
	return time.Since(began)
}

// listenUDP opens a UDP socket on the host; addr is as for net.ListenUDP.
func (h *host) listenUDP(addr string) *net.UDPConn {
	h.t.Helper()
	var c *net.UDPConn
	h.try(h.within(func() error {
		a, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return err
		}
		c, err = net.ListenUDP("udp", a)
		if err != nil {
			return err
		}
		return errors.Join(c.SetReadBuffer(4<<20), c.SetWriteBuffer(4<<20))
	}))
	h.t.Cleanup(func() { c.Close() })
	return c
}

// reaches waits until one ping to an address is answered, and returns how long that took.
func (h *host) reaches(to string, limit time.Duration) time.Duration {
	h.t.Helper()
	return await(h.t, limit, "answer from "+to, func() bool {
		_, err := h.run("ping", "-n", "-q", "-c", "1", "-W", "1", to)
		return err == nil
	})
}
