package netnstest

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// atOnce is how soon the client has to know that a packet is refused: sooner than any of its
// programs would send it again.
const atOnce = 900 * time.Millisecond

// TestAClosedPortIsReportedAcrossFamilies tries ports where nobody listens.
func TestAClosedPortIsReportedAcrossFamilies(t *testing.T) {
	p := named(server6, server4, everything)
	p.Resources = append(p.Resources, cidr("four", "44.3.0.0/24", everything))
	p.NAT64 = &nat64{}
	l := newLab(t, labMTU, p)
	s := l.client.sniff(l.client.name)
	for _, a := range []string{proxyA4, proxyB6, proxyA6, proxyB4, embed("64:ff9b::", server4)} {
		began := time.Now()
		const noConnection = 7 // curl's exit code
		_, err := l.try(l.client.host, curl(url(a, "/"))...)
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != noConnection || time.Since(began) > atOnce {
			t.Errorf("curl to %s: %v after %v, want that it is refused at once", a, err, time.Since(began))
		}
		if _, err := l.dialFrom("tcp", net.JoinHostPort(a, "80"), nil); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("TCP to a closed port of %s: %v, want ECONNREFUSED", a, err)
		}
		c := l.dialUDP(net.JoinHostPort(a, "7"))
		if err := answered(c, tool); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a datagram to a closed port of %s: %v, want ECONNREFUSED", a, err)
		}
		e := s.next(addr(a))
		want := icmpError{src: addr(a), dst: addr(client4), kind: 3, code: 3}
		if want.src.Is6() {
			want.dst, want.kind, want.code = addr(client6), 1, 4
		}
		want.quoted = quote{unix.IPPROTO_UDP, c.LocalAddr().(*net.UDPAddr).AddrPort(), netip.AddrPortFrom(addr(a), 7)}
		if e != want {
			t.Errorf("the error is  %v\nwant          %v", e, want)
		}
	}
}

// TestWhatIsDeniedIsAnsweredAtOnce tries what policy refuses, with TCP, UDP and by looking at what
// arrives.
func TestWhatIsDeniedIsAnsweredAtOnce(t *testing.T) {
	web := []filter{{"tcp", 80, 80}, {"udp", 7, 7}, {Protocol: "icmp"}}
	p := named(server6, server4, web)
	p.Resources = append(p.Resources, cidr("four", "44.3.0.0/24", web), cidr("six", "2001:db8:3::/64", web))
	p.NAT64 = &nat64{}
	l := newLab(t, labMTU, p)
	l.serveWeb()
	l.echo("7")
	for _, to := range []string{proxyA4, proxyA6, proxyB4, proxyB6, server4, server6, embed("64:ff9b::", server4)} {
		l.must(curl(url(to, "/"), "-o", "/dev/null")...)
		if err := answered(l.dialUDP(net.JoinHostPort(to, "7")), tool); err != nil {
			t.Errorf("permitted UDP to %s: %v", to, err)
		}
		if got := l.client.ping(to, 3, 5*time.Millisecond); got != 3 {
			t.Errorf("%d of 3 permitted pings to %s are answered", got, to)
		}
		l.denied(to, "81", prohibited)
	}
	l.denied("44.4.0.1", "80", prohibited)              // of no resource
	l.denied("64:ff9b::2c04:1", "80", prohibited)       // the same, embedded
	l.denied("100.96.0.99", "80", prohibited)           // a proxy address without a name
	l.denied(other4, "80", prohibited)                  // another client
	l.denied(other6, "80", prohibited)                  //
	l.denied(embed("64:ff9b::", proxyB4), "80", noPath) // a name has an IPv6 address of its own
	for _, own := range []string{gateway4, gateway6} {
		if got := l.client.ping(own, 3, 5*time.Millisecond); got != 3 {
			t.Errorf("%d of 3 pings to the gateway's %s are answered", got, own)
		}
		if _, err := l.dialFrom("tcp", net.JoinHostPort(own, "9"), nil); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("TCP to the gateway itself: %v, want its own refusal", err)
		}
	}
}

// refusal is how a packet is refused: an ICMP type and code, and the error that an application gets,
// of either family.
type refusal struct {
	kind4, code4, kind6, code6 uint8
	errno4, errno6             error
}

var (
	prohibited = refusal{3, 13, 1, 1, unix.EHOSTUNREACH, unix.EACCES}
	noPath     = refusal{3, 0, 1, 3, unix.ENETUNREACH, unix.EHOSTUNREACH}
)

// denied tries to reach an address over TCP and UDP, and checks how that is refused.
func (l *lab) denied(to, port string, r refusal) {
	l.t.Helper()
	s := l.client.sniff(l.client.name)
	at := net.JoinHostPort(to, port)
	want, errno := icmpError{src: addr(to), dst: addr(client4), kind: r.kind4, code: r.code4}, r.errno4
	if want.src.Is6() {
		want.dst, want.kind, want.code, errno = addr(client6), r.kind6, r.code6, r.errno6
	}
	began := time.Now()
	if _, err := l.dialFrom("tcp", at, nil); !errors.Is(err, errno) || time.Since(began) > atOnce {
		l.t.Errorf("TCP to %s: %v after %v, want %v at once", at, err, time.Since(began), errno)
	}
	e := s.next(addr(to))
	want.quoted = e.quoted
	if e != want || e.quoted.proto != unix.IPPROTO_TCP {
		l.t.Errorf("TCP to %s: the error is %v, want %v", at, e, want)
	}
	c := l.dialUDP(at)
	if err := answered(c, atOnce); !errors.Is(err, errno) {
		l.t.Errorf("UDP to %s: %v, want %v at once", at, err, errno)
	}
	e = s.next(addr(to))
	want.quoted = quote{unix.IPPROTO_UDP, c.LocalAddr().(*net.UDPAddr).AddrPort(), netip.MustParseAddrPort(at)}
	if e != want {
		l.t.Errorf("UDP to %s: the error is %v, want %v", at, e, want)
	}
}

// TestTheInternetHasNoPrivateNetworks has an Internet resource.
func TestTheInternetHasNoPrivateNetworks(t *testing.T) {
	l := newLab(t, labMTU, policy{Resources: []resource{{ID: "all", Type: "internet"}}, NAT64: &nat64{}})
	w := l.serveWeb()
	for _, to := range []string{server4, server6, embed("64:ff9b::", server4)} {
		w.exchange(to)
	}
	for _, to := range []string{
		"10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "fd12::1",
		embed("64:ff9b::", "10.1.2.3"), embed("64:ff9b::", "192.168.1.1"),
	} {
		l.denied(to, "80", noPath)
	}
	for _, to := range []string{other4, other6, proxyA4, proxyA6} { // a device, and names there are not
		l.denied(to, "80", prohibited)
	}
}

// TestAForeignSourceIsProhibited gives the client addresses that are not its own: one more of the
// tunnel's, that of another client, and one of elsewhere.
func TestAForeignSourceIsProhibited(t *testing.T) {
	l := newLab(t, labMTU, policy{Resources: []resource{cidr("four", "44.3.0.0/24", everything), cidr("six", "2001:db8:3::/64", everything)}})
	l.echo("7")
	s := l.client.sniff(l.client.name)
	for _, c := range []struct{ from, to string }{
		{"100.64.0.99", server4}, {other4, server4}, {"44.9.0.1", server4}, {"100.64.0.98", gateway4},
		{"fd00:2021:1111::99", server6}, {other6, server6},
	} {
		from, to := netip.AddrPortFrom(addr(c.from), 4000), netip.AddrPortFrom(addr(c.to), 7)
		l.client.addAddr(l.client.name, netip.PrefixFrom(from.Addr(), from.Addr().BitLen()).String())
		await(t, 5*time.Second, "address of the client's", func() bool { // of IPv6 it is one a moment later
			out, _ := l.try(l.client.host, "ip", "route", "get", c.from)
			return strings.HasPrefix(out, "local ")
		})
		conn, err := l.dialFrom("udp", to.String(), net.UDPAddrFromAddrPort(from))
		l.client.try(err)
		errno, want := unix.EHOSTUNREACH, icmpError{src: to.Addr(), dst: from.Addr(), kind: 3, code: 13}
		if to.Addr().Is6() {
			errno, want.kind, want.code = unix.EACCES, 1, 1
		}
		want.quoted = quote{unix.IPPROTO_UDP, from, to}
		if err := answered(conn.(*net.UDPConn), tool); !errors.Is(err, errno) {
			t.Errorf("from %v to %v: %v, want %v", from, to, err, errno)
		}
		conn.Close()
		if e := s.next(to.Addr()); e != want {
			t.Errorf("from %v to %v: the error is %v, want %v", from, to, e, want)
		}
	}
	if err := answered(l.udpFrom(server4, 4000), tool); err != nil {
		t.Errorf("from the client's own address: %v", err)
	}
}

// TestTracerouteSeesEveryHop traces the path to the server with UDP and with ICMP. Routers towards a
// name have no address of their own for the client; those behind the NAT64 prefix have.
func TestTracerouteSeesEveryHop(t *testing.T) {
	p := named(server6, server4, everything)
	p.Resources = append(p.Resources, cidr("four", "44.3.0.0/24", everything), cidr("six", "2001:db8:3::/64", everything))
	prefixed := embed("64:ff9b::", server4)
	names := map[string][]string{
		proxyA4:  {proxyA4, proxyA4, proxyA4, proxyA4},
		proxyB6:  {proxyB6, proxyB6, proxyB6, proxyB6},
		prefixed: {prefixed, embed("64:ff9b::", near4), embed("64:ff9b::", far4), prefixed},
	}
	t.Run("stateless", func(t *testing.T) {
		p.NAT64 = &nat64{Stateless: true}
		newLab(t, labMTU, p).trace(names)
	})
	t.Run("stateful", func(t *testing.T) {
		p.NAT64 = &nat64{}
		l := newLab(t, labMTU, p)
		l.trace(names)
		l.trace(map[string][]string{
			server4: {gateway4, near4, far4, server4},
			server6: {gateway6, near6, far6, server6},
		})
	})
}

// trace compares the paths to addresses, traced with UDP and with ICMP, with what they should be.
func (l *lab) trace(paths map[string][]string) {
	l.t.Helper()
	for to, want := range paths {
		for _, method := range []string{"-U", "-I"} {
			// A probe may be lost, to neighbour discovery if to nothing else: a path is what some
			// trace within a while sees whole.
			for began := time.Now(); ; {
				out := l.must("traceroute", "-n", method, "-q", "1", "-w", "2", "-m", "8", to)
				got := hops(out)
				if slices.Equal(got, want) {
					break
				}
				if time.Since(began) > traceTime {
					l.t.Errorf("traceroute %s to %s: %v, want %v\n%s", method, to, got, want, out)
					break
				}
			}
		}
	}
}

// traceTime is enough for a few traces.
const traceTime = 10 * time.Second

var hop = regexp.MustCompile(`(?m)^ *\d+  (\S+)`)

// hops returns the addresses that traceroute prints, and "*" for a hop that does not answer.
func hops(out string) (all []string) {
	for _, m := range hop.FindAllStringSubmatch(out, -1) {
		all = append(all, m[1])
	}
	return all
}
