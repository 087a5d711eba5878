package netnstest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wideMTU is the MTU of tunnels that leave something to discover: IPv6 hosts know no path MTU below
// 1280.
const wideMTU = 1420

// TestThePathMTUIsDiscoveredThroughTheNAT has a link on the way that is smaller than the tunnel.
func TestThePathMTUIsDiscoveredThroughTheNAT(t *testing.T) {
	const server4B = "44.3.0.3" // of the same server
	prefixA, prefixB := embed("64:ff9b::", server4), embed("64:ff9b::", server4B)
	behind := func(mtu int) func(*lab) { return func(l *lab) { l.narrow(mtu) } }
	for _, c := range []struct {
		name    string
		narrow  func(*lab)
		real    string
		a, b    string // what the client calls it
		from    string // who tells the client
		learned int
		whole   int // the largest packet whose answer comes whole, for fragments do not pass the NAT
	}{
		{"IPv4 to an IPv6 server behind 1280", behind(1280), server6, proxyA4, proxyB4, proxyB4, 1260, 1260},
		{"IPv6 to an IPv4 server behind 1000", behind(1000), server4, proxyA6, proxyB6, proxyB6, 1280, 1020},
		{"IPv4 to an IPv4 server behind 1000", behind(1000), server4, proxyA4, proxyB4, proxyB4, 1000, 1000},
		{"IPv6 to an IPv6 server behind 1280", behind(1280), server6, proxyA6, proxyB6, proxyB6, 1280, 1280},
		{"the prefix to a server behind 1000", behind(1000), server4, prefixA, prefixB, embed("64:ff9b::", near4), 1280, 1020},
		{"the prefix, stateless, to a server behind 1000", behind(1000), server4, prefixA, prefixB, embed("64:ff9b::", near4), 1280, 1020},
		{"IPv4 to an IPv6 server, 1280 at the gateway", (*lab).narrowGateway, server6, proxyA4, proxyB4, proxyB4, 1260, 1260},
		{"IPv6 to an IPv4 server, 1280 at the gateway", (*lab).narrowGateway, server4, proxyA6, proxyB6, proxyB6, 1300, 1300},
		{"IPv4 to an IPv4 server, 1280 at the gateway", (*lab).narrowGateway, server4, proxyA4, proxyB4, proxyB4, 1280, 1280},
		{"the prefix, 1280 at the gateway", (*lab).narrowGateway, server4, prefixA, prefixB, prefixB, 1300, 1300},
		{"the prefix, stateless, 1280 at the gateway", (*lab).narrowGateway, server4, prefixA, prefixB, prefixB, 1300, 1300},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := named(c.real, c.real, everything)
			p.Resources = append(p.Resources, cidr("four", "44.3.0.0/24", everything))
			p.NAT64 = &nat64{Stateless: strings.Contains(c.name, "stateless")}
			l := newLab(t, wideMTU, p)
			l.server.addAddr("r3", server4B+"/24")
			c.narrow(l)
			w := l.serveWeb()
			s := l.client.sniff(l.client.name)
			l.tooBigPing(c.b, c.learned)
			e, want := s.next(addr(c.b)), icmpError{src: addr(c.from), dst: addr(client4), kind: 3, code: 4, mtu: uint32(c.learned)}
			if want.src.Is6() {
				want.dst, want.kind, want.code = addr(client6), 2, 0
			}
			want.quoted = e.quoted
			if e != want {
				t.Errorf("the error is %v, want %v", e, want)
			}
			l.knows(c.b, c.learned)
			l.must("ping", "-n", "-c", "1", "-w", "5", "-M", "do", "-s", fmt.Sprint(c.whole-echoHeaders(c.b)), c.b)
			w.exchange(c.a)
			l.knows(c.a, c.learned)
			if out := l.must("tracepath", "-n", "-m", "8", c.b); !strings.Contains(out, fmt.Sprintf("pmtu %d", c.learned)) {
				t.Errorf("tracepath does not find %d:\n%s", c.learned, out)
			}
		})
	}
}

// narrowGateway gives the link behind the gateway an MTU.
func (l *lab) narrowGateway() {
	l.t.Helper()
	for _, h := range []*host{l.gateway.host, l.near} {
		h.try(h.links.LinkSetMTU(h.link("r1"), 1280))
	}
}

// tooBigPing sends an echo request as big as the tunnel, and checks what ping says about it.
func (l *lab) tooBigPing(to string, mtu int) {
	l.t.Helper()
	says := fmt.Sprintf("Frag needed and DF set (mtu = %d)", mtu)
	if addr(to).Is6() {
		says = fmt.Sprintf("Packet too big: mtu=%d", mtu)
	}
	out, err := l.try(l.client.host, "ping", "-n", "-c", "1", "-w", "5", "-M", "do", "-s", fmt.Sprint(wideMTU-echoHeaders(to)), to)
	if err == nil || !strings.Contains(out, says) {
		l.t.Errorf("ping says (%v), want %q\n%s", err, says, out)
	}
}

// echoHeaders is by how much an echo request to an address is longer than its data.
func echoHeaders(to string) int {
	if addr(to).Is6() {
		return 40 + 8
	}
	return 20 + 8
}

// knows checks the path MTU that the client's kernel has learned.
func (l *lab) knows(to string, mtu int) {
	l.t.Helper()
	if out := l.must("ip", "route", "get", to); !strings.Contains(out, fmt.Sprintf("mtu %d", mtu)) {
		l.t.Errorf("the path MTU to %s is not %d: %s", to, mtu, out)
	}
}

// TestAServerIsToldWhatOutgrowsTheTunnel has an IPv4 server send a datagram that fits the tunnel
// only until it is translated.
func TestAServerIsToldWhatOutgrowsTheTunnel(t *testing.T) {
	l := newLab(t, wideMTU, named(server4, server4, everything))
	c := l.server.listenUDP(":7")
	raw, err := c.SyscallConn()
	l.client.try(err)
	l.client.try(errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	}), err))
	asks := l.dialUDP(net.JoinHostPort(proxyA6, "7"))
	_, err = asks.Write([]byte("hello"))
	l.client.try(err)
	b := make([]byte, wideMTU)
	c.SetReadDeadline(time.Now().Add(tool))
	_, from, err := c.ReadFromUDPAddrPort(b)
	l.client.try(err)
	const ipUDP = 28
	// The first is under way before the server can know.
	if _, err := c.WriteToUDPAddrPort(b[:wideMTU-ipUDP], from); err != nil {
		t.Errorf("an answer as big as the tunnel: %v", err)
	}
	await(t, 5*time.Second, "path MTU at the server", func() bool {
		out, _ := l.try(l.server, "ip", "route", "get", from.Addr().Unmap().String())
		return strings.Contains(out, fmt.Sprintf("mtu %d", wideMTU-20))
	})
	if _, err := c.WriteToUDPAddrPort(b[:wideMTU-ipUDP], from); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("the answer again: %v, want EMSGSIZE", err)
	}
	if _, err := c.WriteToUDPAddrPort(b[:wideMTU-20-ipUDP], from); err != nil {
		t.Errorf("an answer that fits: %v", err)
	}
	asks.SetReadDeadline(time.Now().Add(tool))
	if n, err := asks.Read(b); n != wideMTU-20-ipUDP || err != nil {
		t.Errorf("the client reads %d bytes, %v; want the answer that fits alone", n, err)
	}
}
