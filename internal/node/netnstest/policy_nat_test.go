package netnstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAServerOfOneFamilyIsReachedByTheOther has names whose servers have an address of one family
// only, each reached by a proxy address of the other, and of its own for comparison.
func TestAServerOfOneFamilyIsReachedByTheOther(t *testing.T) {
	l := newLab(t, labMTU, named(server6, server4, everything))
	l.useAll(proxyA4, proxyB6, proxyA6, proxyB4)
	if c := l.gateway.stop(); c["Created"] == 0 || c["DropUntranslatable"] != 0 || c["DropNotGranted"] != 0 {
		t.Errorf("counted %v, want flows and none of their packets dropped", c)
	}
}

// useAll runs every tool against the server, by each of its addresses as the client knows them.
func (l *lab) useAll(addresses ...string) {
	l.t.Helper()
	w := l.serveWeb()
	l.serveDNS()
	for _, a := range addresses {
		began := time.Now()
		if got := l.client.ping(a, 20, 5*time.Millisecond); got != 20 {
			l.t.Errorf("%d of 20 pings to %s are answered", got, a)
		}
		w.exchange(a)
		l.dig(a)
		l.iperf(a, "-n", fmt.Sprint(iperfBytes))
		l.iperf(a, "-n", fmt.Sprint(iperfBytes), "-R")
		l.iperf(a, "-u", "-b", "20M", "-n", "1M", "-l", "1200")
		l.iperf(a, "-u", "-b", "20M", "-n", "1M", "-l", "1200", "-R")
		l.t.Logf("all of %s in %v", a, time.Since(began))
	}
}

func TestIPv4ServersAreReachedByTheNAT64Prefix(t *testing.T) {
	for _, n := range []nat64{
		{},
		{Stateless: true},
		{Prefix: "2001:db8:64::/96"},
		{Prefix: "2001:db8:64::/96", Stateless: true},
	} {
		t.Run(fmt.Sprintf("%+v", n), func(t *testing.T) {
			l := newLab(t, labMTU, policy{Resources: []resource{cidr("net", "44.3.0.0/24", everything)}, NAT64: &n})
			prefix := "64:ff9b::"
			if n.Prefix != "" {
				prefix = "2001:db8:64::"
			}
			to := embed(prefix, server4)
			w := l.serveWeb()
			l.serveDNS()
			if got := l.client.ping(to, 20, 5*time.Millisecond); got != 20 {
				t.Errorf("%d of 20 pings to %s are answered", got, to)
			}
			w.exchange(to)
			l.dig(to)
			if !n.Stateless { // else all that comes from an IPv4 address is translated
				w.exchange(server4)
			}
			for _, own := range []string{gateway4, gateway6} { // whose errors are nobody's to translate
				if err := answered(l.dialUDP(net.JoinHostPort(own, "7")), tool); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("a datagram to a closed port of the gateway's %s: %v, want ECONNREFUSED", own, err)
				}
			}
			if c := l.gateway.stop(); (c["Created"] == 0) != n.Stateless || c["DropUntranslatable"] != 0 {
				t.Errorf("counted %v, want flows only where state is kept", c)
			}
		})
	}
}

// embed writes an IPv4 address behind a prefix of 96 bits.
func embed(prefix, a string) string {
	p, v4 := addr(prefix).As16(), addr(a).As4()
	copy(p[12:], v4[:])
	return netip.AddrFrom16(p).String()
}

// TestTwoNamesOfOneServerShareALocalPort sends to both from one port, which only the NAT can tell
// apart on the server.
func TestTwoNamesOfOneServerShareALocalPort(t *testing.T) {
	for _, c := range []struct{ real, a, b string }{
		{server4, proxyA4, proxyB4},
		{server6, proxyA4, proxyB4},
		{server4, proxyA6, proxyB6},
	} {
		t.Run(c.a+" for "+c.real, func(t *testing.T) {
			l := newLab(t, labMTU, named(c.real, c.real, everything))
			w := l.serveWeb()
			bodies := []io.ReadCloser{l.get(c.a, 40000), l.get(c.b, 40000)} // both have begun now
			var both sync.WaitGroup
			for i, body := range bodies {
				both.Go(func() {
					if b, err := io.ReadAll(body); err != nil || !bytes.Equal(b, w.body) {
						t.Errorf("transfer %d: %d bytes (%v), want the %d there are", i, len(b), err, len(w.body))
					}
				})
			}
			both.Wait()
			l.echo("7")
			for _, e := range []struct {
				socket *net.UDPConn
				proxy  string
			}{
				{l.udpFrom(c.a, 40001), c.a}, {l.udpFrom(c.b, 40001), c.b},
			} {
				if err := answered(e.socket, tool); err != nil {
					t.Errorf("UDP to %s: %v", e.proxy, err)
				}
			}
		})
	}
}

// get begins to get the body of the lab's web server, from a local port.
func (l *lab) get(address string, port int) io.ReadCloser {
	l.t.Helper()
	c := http.Client{Timeout: tool, Transport: &http.Transport{
		DialContext: func(_ context.Context, network, to string) (net.Conn, error) {
			return l.dialFrom(network, to, &net.TCPAddr{Port: port})
		},
	}}
	l.t.Cleanup(c.CloseIdleConnections)
	r, err := c.Get(url(address, "/"))
	l.client.try(err)
	l.t.Cleanup(func() { r.Body.Close() })
	return r.Body
}

// udpFrom opens a socket of the client from a local port to the echo service of an address.
func (l *lab) udpFrom(address string, port int) *net.UDPConn {
	l.t.Helper()
	c, err := l.dialFrom("udp", net.JoinHostPort(address, "7"), &net.UDPAddr{Port: port})
	l.client.try(err)
	l.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}
