package netnstest

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// The addresses of a lab. Those of the tunnel are of the address plan; the others must count as the
// Internet's, also inside the well-known NAT64 prefix.
const (
	client4, client6   = "100.64.0.2", "fd00:2021:1111::2"
	gateway4, gateway6 = "100.64.0.1", "fd00:2021:1111::1"
	near4, near6       = "44.1.0.2", "2001:db8:1::2"
	far4, far6         = "44.2.0.2", "2001:db8:2::2"
	server4, server6   = "44.3.0.2", "2001:db8:3::2"

	// other4 and other6 are tunnel addresses of a second client, which is never connected.
	other4, other6 = "100.64.0.3", "fd00:2021:1111::3"
)

// labMTU is the MTU of both tunnels where a test asks for none: clients of the network have it.
const labMTU = 1280

// lab is a gateway with policies between a client, which is wireguard-go, and a server behind two
// routers; the gateway masquerades:
//
//	client ═ gateway ─ near ─ far ─ server
//
// Its hosts end with the test, and the gateway must not have complained until then.
type lab struct {
	t                 *testing.T
	client, gateway   *tunnel
	near, far, server *host

	path     string // of the policy file
	policies int    // how often they were loaded
	iperfs   int    // how many iperf3 ran
}

// newLab makes a lab whose gateway holds the client to a policy.
func newLab(t *testing.T, mtu int, p policy) *lab {
	t.Helper()
	l := &lab{t: t, path: filepath.Join(t.TempDir(), "policy.json")}
	t.Cleanup(l.noComplaint)
	client, gateway := newHost(t), newHost(t)
	l.near, l.far, l.server = newHost(t), newHost(t), newHost(t)
	connect(client, gateway, 1)
	wire(gateway, l.near, 1)
	wire(l.near, l.far, 2)
	wire(l.far, l.server, 3)
	l.route(gateway)
	l.client = startTheirs(client, 2)
	l.write(p)
	l.gateway = startOurs(gateway, 1, "--policy", l.path)
	l.tunnel(l.gateway, mtu, gateway4+"/11", gateway6+"/107")
	l.tunnel(l.client, mtu, client4+"/32", client6+"/128")
	l.gateway.set("peer", l.client.pub, "allowed-ips", client4+"/32,"+client6+"/128")
	l.client.set("peer", l.gateway.pub, "allowed-ips", "0.0.0.0/0,::/0", "endpoint", l.gateway.at("10.77.1.2"))
	for _, to := range []string{"0.0.0.0/0", "::/0"} {
		l.client.must("ip", "route", "add", to, "dev", l.client.name)
	}
	l.loaded()
	l.client.reaches(gateway4, 5*time.Second)
	return l
}

// wire joins two hosts by a cable "r<n>" with addresses 44.n.0.1 and 2001:db8:n::1, and .2.
func wire(a, b *host, n int) {
	a.t.Helper()
	name := fmt.Sprintf("r%d", n)
	for _, h := range []*host{a, b} { // a router asks for its neighbours only once its link-local address is sure
		h.writeSysctl("ipv6/conf/default/accept_dad", "0")
	}
	a.try(a.links.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(b.ns),
	}))
	for i, h := range []*host{a, b} {
		h.addAddr(name, fmt.Sprintf("44.%d.0.%d/24", n, i+1), fmt.Sprintf("2001:db8:%d::%d/64", n, i+1))
		h.setUp(name)
	}
	for i, h := range []*host{a, b} {
		h.awaitAddr(fmt.Sprintf("2001:db8:%d::%d", n, i+1))
	}
}

// route makes routers of those in the middle, and has the gateway masquerade.
func (l *lab) route(gateway *host) {
	l.t.Helper()
	for _, r := range []*host{gateway, l.near, l.far} {
		r.writeSysctl("ipv4/ip_forward", "1")
		r.writeSysctl("ipv6/conf/all/forwarding", "1")
	}
	for _, h := range []*host{gateway, l.near, l.far, l.server} { // every probe is to be answered
		h.writeSysctl("ipv4/icmp_ratelimit", "0")
		h.writeSysctl("ipv6/icmp/ratelimit", "0")
	}
	for _, r := range []struct {
		at      *host
		to, via string
	}{
		{gateway, "44.0.0.0/8", near4}, {gateway, "2001:db8::/32", near6},
		{l.near, "44.3.0.0/24", far4}, {l.near, "2001:db8:3::/64", far6},
		{l.far, "44.1.0.0/24", "44.2.0.1"}, {l.far, "2001:db8:1::/64", "2001:db8:2::1"},
		{l.server, "default", "44.3.0.1"}, {l.server, "default", "2001:db8:3::1"},
	} {
		r.at.must("ip", "route", "add", r.to, "via", r.via)
	}
	gateway.must("nft", "add table inet nat; add chain inet nat post { type nat hook postrouting priority srcnat; }; "+
		`add rule inet nat post oifname "r1" masquerade`)
}

// tunnel gives an interface the addresses and the MTU that it has in a lab.
func (l *lab) tunnel(x *tunnel, mtu int, addrs ...string) {
	l.t.Helper()
	x.removeAddr(x.name, x.addr4()+"/24")
	x.removeAddr(x.name, x.addr6()+"/64")
	x.addAddr(x.name, addrs...)
	x.try(x.links.LinkSetMTU(x.link(x.name), mtu))
}

// narrow gives the link between the routers an MTU.
func (l *lab) narrow(mtu int) {
	l.t.Helper()
	for _, h := range []*host{l.near, l.far} {
		h.try(h.links.LinkSetMTU(h.link("r2"), mtu))
	}
}

// tool bounds a program that a test runs on a host: it fails sooner if all is well.
const tool = 30 * time.Second

// try runs a program for a limited time and returns what it says.
func (l *lab) try(h *host, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), tool)
	defer cancel()
	var out []byte
	err := h.within(func() (err error) {
		out, err = exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		return err
	})
	return string(out), err
}

// must runs a program for a limited time on the client, and fails the test if it fails.
func (l *lab) must(args ...string) string {
	l.t.Helper()
	out, err := l.try(l.client.host, args...)
	if err != nil {
		l.t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// serve starts a program on the server that runs until the test ends.
func (l *lab) serve(args ...string) {
	l.t.Helper()
	c := exec.Command(args[0], args[1:]...)
	l.server.try(l.server.within(c.Start))
	l.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
}

// write writes the policy file, with the client's key.
func (l *lab) write(p policy) {
	l.t.Helper()
	l.client.try(os.WriteFile(l.path, p.file(l.client.pub), 0o600))
}

// reload has the gateway load another policy, and waits until it has.
func (l *lab) reload(p policy) {
	l.t.Helper()
	l.write(p)
	l.client.try(l.gateway.cmd.Process.Signal(syscall.SIGHUP))
	l.loaded()
}

// loaded waits until the gateway has loaded the policies once more.
func (l *lab) loaded() {
	l.t.Helper()
	l.policies++
	await(l.t, 5*time.Second, "loaded policies", func() bool {
		return bytes.Count(l.log(), []byte(`msg="policies loaded"`)) == l.policies
	})
}

// log returns what the gateway has logged.
func (l *lab) log() []byte {
	l.t.Helper()
	b, err := os.ReadFile(l.gateway.log)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// noComplaint fails the test if the gateway has logged a warning; errors are found when it stops.
// Of a test that has failed it shows what all programs have logged.
func (l *lab) noComplaint() {
	if l.gateway != nil && bytes.Contains(l.log(), []byte("level=WARN")) {
		l.t.Errorf("the gateway warns:\n%s", l.log())
	}
	if !l.t.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(l.path)), "*", "stderr"))
	for _, path := range logs {
		b, err := os.ReadFile(path)
		l.t.Logf("%s (%v):\n%s", path, err, b)
	}
}

// addr parses an address that is known to be one.
func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// url returns the URL of a path of the server's, by any of its addresses.
func url(address, path string) string {
	return "http://" + netip.AddrPortFrom(addr(address), 80).String() + path
}
