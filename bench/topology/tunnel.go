package topology

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Command is a program with the habits of wireguard-go: called as Argv… -f IFNAME it makes the
// tunnel interface, listens on the UAPI socket of that name and stays in the foreground.
type Command struct {
	// Name is what reports call it.
	Name string
	// Argv is the program and what comes before -f IFNAME.
	Argv []string
}

// StartTunnel starts cmd as the tunnel of h, which is Gateway or Client, and configures it.
// A tunnel that runs there already is stopped first.
func (n *Network) StartTunnel(ctx context.Context, h Host, cmd Command) error {
	n.StopTunnel(h)
	p, err := n.Start(h, Spec{
		Argv: append(append([]string{}, cmd.Argv...), "-f", n.Interface(h)),
		Env:  []string{"LOG_LEVEL=error"},
	})
	if err != nil {
		return err
	}
	n.tunnels[h] = p
	if err := n.configure(ctx, h, p); err != nil {
		n.StopTunnel(h)
		return fmt.Errorf("start %s on %v: %w%s", cmd.Name, h, err, p.logged())
	}
	return nil
}

// StopTunnel stops the tunnel of h, if there is one, and waits for its end.
func (n *Network) StopTunnel(h Host) {
	if p := n.tunnels[h]; p != nil {
		p.Stop()
		n.tunnels[h] = nil
	}
}

// Tunnel is the process that serves the tunnel of h, nil when there is none.
func (n *Network) Tunnel(h Host) *Process { return n.tunnels[h] }

// Interface is the name of the tunnel interface of h. It is unique on the whole machine: UAPI
// sockets are named by interface and namespaces share that directory.
func (n *Network) Interface(h Host) string {
	return "fl" + h.String()[:1] + strings.Replace(n.id, "-", "x", 1)
}

// Await pings an address from the client until an answer comes through the tunnel.
func (n *Network) Await(ctx context.Context, to netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, tunnelUpTime)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		if _, last = n.Run(ctx, Client, nil, "ping", "-n", "-q", "-c", "1", "-W", "1", to.String()); last == nil {
			return nil
		}
	}
	return fmt.Errorf("no answer of %v through the tunnel within %v: %w", to, tunnelUpTime, last)
}

func (n *Network) configure(ctx context.Context, h Host, p *Process) error {
	if err := awaitSocket(ctx, n.Interface(h), p); err != nil {
		return err
	}
	if _, err := n.Run(ctx, h, strings.NewReader(n.wgConfig(h)), "wg", "setconf", n.Interface(h), "/dev/stdin"); err != nil {
		return err
	}
	inner := GatewayInner
	if h == Client {
		inner = ClientInner
	}
	if err := n.setUp(h, n.Interface(h), n.cfg.MTU, inner); err != nil || h == Gateway {
		return err
	}
	l, err := n.links[h].LinkByName(n.Interface(h))
	if err != nil {
		return err
	}
	return n.routeTo(h, l, behindGateway...)
}

// behindGateway are the networks that the client reaches through the tunnel: the server's, and
// those that a gateway or translator makes the server's of.
var behindGateway = []netip.Prefix{
	ServerLAN.V4.Masked(), ServerLAN.V6.Masked(), Proxies.V4.Masked(), Proxies.V6.Masked(), translatePrefix,
}

// wgConfig is the configuration of h for wg(8) setconf.
func (n *Network) wgConfig(h Host) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "[Interface]\nPrivateKey = %s\nListenPort = %d\n", n.keys[h].private, port(h))
	peer := func(public string, at netip.AddrPort, allowed ...netip.Prefix) {
		fmt.Fprintf(&b, "[Peer]\nPublicKey = %s\nEndpoint = %v\n", public, at)
		for _, p := range allowed {
			fmt.Fprintf(&b, "AllowedIPs = %v\n", p)
		}
	}
	if h == Client {
		peer(n.keys[Gateway].public, n.at(GatewayOuter, port(Gateway)),
			slices.Concat(behindGateway, []netip.Prefix{GatewayInner.V4.Masked(), GatewayInner.V6.Masked()})...)
		return b.String()
	}
	peer(n.keys[Client].public, n.at(ClientOuter, port(Client)), host(ClientInner.V4), host(ClientInner.V6))
	peer(n.endpoint.public, n.at(ClientOuter, endpointPort), host(EndpointInner.V4), host(EndpointInner.V6))
	return b.String()
}

// host is the prefix of p's address alone.
func host(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Addr().BitLen()) }

func port(h Host) uint16 { return 51820 + uint16(h) }

// awaitSocket waits until the process answers on its UAPI socket.
func awaitSocket(ctx context.Context, ifname string, p *Process) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		c, err := net.Dial("unix", socketPath(ifname))
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended at once: %v", p.err)
		case <-ctx.Done():
			return fmt.Errorf("no UAPI socket within %v: %w", startTime, err)
		case <-time.After(pollEvery):
		}
	}
}

func socketPath(ifname string) string { return filepath.Join(socketDir, ifname+".sock") }

func removeSocket(ifname string) error {
	if err := os.Remove(socketPath(ifname)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// keyPair is an X25519 key pair in the base64 of wg(8).
type keyPair struct{ private, public string }

func newKeyPair() (keyPair, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make a key: %w", err)
	}
	return keyPair{
		private: base64.StdEncoding.EncodeToString(k.Bytes()),
		public:  base64.StdEncoding.EncodeToString(k.PublicKey().Bytes()),
	}, nil
}

const (
	// socketDir is where wg(8) looks for UAPI sockets.
	socketDir = "/var/run/wireguard"
	// startTime is ample for a process to make an interface and listen.
	startTime = 10 * time.Second
	// tunnelUpTime allows for two lost handshakes, which are repeated after 5 s.
	tunnelUpTime = 15 * time.Second
	// pollEvery is how often a condition is looked at.
	pollEvery = 10 * time.Millisecond
)
