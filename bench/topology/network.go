package topology

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one of the three machines.
type Host int

// The hosts, in the order packets go up.
const (
	Client Host = iota
	Gateway
	Server
	hosts
)

// String is the host's name in messages.
func (h Host) String() string { return [hosts]string{"client", "gateway", "server"}[h] }

// Addr is a pair of addresses of one interface.
type Addr struct{ V4, V6 netip.Prefix }

// The addresses of every network; networks do not see each other.
var (
	ClientOuter  = addr("10.91.0.1/24", "fd91::1/64")
	GatewayOuter = addr("10.91.0.2/24", "fd91::2/64")
	GatewayInner = addr("10.93.0.1/24", "fd93::1/64")
	ClientInner  = addr("10.93.0.2/24", "fd93::2/64")
	// EndpointInner is of no interface: the program that has it reads and writes whole packets.
	EndpointInner = addr("10.93.0.3/24", "fd93::3/64")
	GatewayLAN    = addr("10.92.0.1/24", "fd92::1/64")
	ServerLAN     = addr("10.92.0.2/24", "fd92::2/64")
)

// Config describes a network.
type Config struct {
	// MTU is the MTU of both tunnel interfaces.
	MTU int
	// Outer6 makes the tunnel's datagrams travel over IPv6.
	Outer6 bool
}

// Network is three connected namespaces and the processes in them.
type Network struct {
	cfg      Config
	id       string
	ns       [hosts]netns.NsHandle
	links    [hosts]*netlink.Handle
	keys     [hosts]keyPair // of gateway and client
	endpoint keyPair
	tunnels  [hosts]*Process
	running  []*Process
	// translator is the one of StartTranslator, files what was written for programs inside.
	translator *Process
	files      []string
}

// New builds the network without tunnel. The caller closes it, also after cancelling ctx.
func New(ctx context.Context, cfg Config) (*Network, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	n := &Network{cfg: cfg, id: fmt.Sprintf("%d-%d", os.Getpid(), serial.Add(1))}
	for h := range n.ns {
		n.ns[h] = netns.None()
	}
	if err := n.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build network %s: %w", n.id, err), n.Close())
	}
	return n, nil
}

// Close stops all processes and deletes the namespaces. It is bounded in time and may be called again.
func (n *Network) Close() error {
	for i := len(n.running) - 1; i >= 0; i-- {
		n.running[i].Stop()
	}
	n.running, n.translator = nil, nil
	errs := []error{n.removeFiles()}
	for h := range hosts {
		if n.links[h] != nil {
			n.links[h].Close()
			n.links[h] = nil
		}
		if n.ns[h].IsOpen() {
			errs = append(errs, n.ns[h].Close(), netns.DeleteNamed(n.name(h)))
		}
		if h != Server {
			errs = append(errs, removeSocket(n.Interface(h)))
		}
	}
	return errors.Join(errs...)
}

func (n *Network) build() error {
	for h := range hosts {
		if err := n.makeNamespace(h); err != nil {
			return err
		}
	}
	for h := range n.keys {
		var err error
		if n.keys[h], err = newKeyPair(); err != nil {
			return err
		}
	}
	var err error
	if n.endpoint, err = newKeyPair(); err != nil {
		return err
	}
	if err := n.connect(Client, ClientOuter, Gateway, GatewayOuter); err != nil {
		return err
	}
	if err := n.connect(Gateway, GatewayLAN, Server, ServerLAN); err != nil {
		return err
	}
	for _, via := range []netip.Prefix{GatewayLAN.V4, GatewayLAN.V6} {
		if err := n.links[Server].RouteAdd(&netlink.Route{Gw: via.Addr().AsSlice()}); err != nil {
			return fmt.Errorf("add server's default route: %w", err)
		}
	}
	return nil
}

func (n *Network) name(h Host) string { return prefix + n.id + "-" + h.String() }

// makeNamespace creates the named namespace of h, with loopback up, forwarding on and
// no duplicate address detection.
func (n *Network) makeNamespace(h Host) error {
	err := onThread(func() error {
		ns, err := netns.NewNamed(n.name(h)) // and enters it
		if err != nil {
			return fmt.Errorf("create namespace %s: %w", n.name(h), err)
		}
		n.ns[h] = ns
		for f, v := range map[string]string{
			"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
			// While a link-local address is on trial, a router asks for no neighbour.
			"ipv6/conf/default/dad_transmits": "0",
		} {
			if err := os.WriteFile("/proc/sys/net/"+f, []byte(v), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n.links[h], err = netlink.NewHandleAt(n.ns[h]); err != nil {
		return fmt.Errorf("open netlink in %s: %w", n.name(h), err)
	}
	lo, err := n.links[h].LinkByName("lo")
	if err != nil {
		return err
	}
	return n.links[h].LinkSetUp(lo)
}

// connect joins two hosts by a veth pair; each end is called to-<other>.
func (n *Network) connect(a Host, aAddr Addr, b Host, bAddr Addr) error {
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "to-" + b.String(), MTU: vethMTU},
		PeerName:      "to-" + a.String(),
		PeerNamespace: netlink.NsFd(n.ns[b]),
		PeerMTU:       vethMTU,
	}
	if err := n.links[a].LinkAdd(pair); err != nil {
		return fmt.Errorf("connect %v with %v: %w", a, b, err)
	}
	if err := n.setUp(a, "to-"+b.String(), vethMTU, aAddr); err != nil {
		return err
	}
	return n.setUp(b, "to-"+a.String(), vethMTU, bAddr)
}

// setUp gives an interface its MTU and addresses and turns it on. Addresses are usable at once:
// there is nobody else whom duplicate address detection could find.
func (n *Network) setUp(h Host, name string, mtu int, a Addr) error {
	l, err := n.links[h].LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s on %v: %w", name, h, err)
	}
	if err := n.links[h].LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set MTU of %s on %v: %w", name, h, err)
	}
	for _, p := range []netip.Prefix{a.V4, a.V6} {
		na, err := netlink.ParseAddr(p.String())
		if err != nil {
			return err
		}
		na.Flags = unix.IFA_F_NODAD
		if err := n.links[h].AddrAdd(l, na); err != nil {
			return fmt.Errorf("add %v to %s on %v: %w", p, name, h, err)
		}
	}
	if err := n.links[h].LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up on %v: %w", name, h, err)
	}
	return nil
}

// inside runs f on a thread that is in the namespace of h.
func (n *Network) inside(h Host, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.ns[h]); err != nil {
			return fmt.Errorf("enter %s: %w", n.name(h), err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own choosing of namespace and restores the thread's own
// afterwards. A thread that cannot be restored is broken for all later users: that is a panic.
func onThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open own namespace: %w", err)
	}
	defer own.Close()
	defer func() {
		if err := netns.Set(own); err != nil {
			panic(fmt.Sprintf("topology: cannot return to own namespace: %v", err))
		}
	}()
	return f()
}

func addr(v4, v6 string) Addr {
	return Addr{V4: netip.MustParsePrefix(v4), V6: netip.MustParsePrefix(v6)}
}

// serial tells apart the networks of one process.
var serial atomic.Int64

// prefix starts the name of every namespace of ours.
const prefix = "firelane-bench-"

// vethMTU is Ethernet's.
const vethMTU = 1500
