package netnstest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// bulk is how many bytes a transfer has that shall see full trains and superpackets.
const bulk = 8 << 20

func TestWireguardGoIsAPeerInBothRolesOverBothFamilies(t *testing.T) {
	for _, role := range []string{"ours initiates", "theirs initiates"} {
		for _, outer := range []string{"10.77.1.2", "fd77:1::2"} {
			t.Run(fmt.Sprintf("%s to %s", role, outer), func(t *testing.T) {
				a, b := newHost(t), newHost(t)
				connect(a, b, 1)
				var first, second *tunnel
				if role == "ours initiates" {
					first, second = startOurs(a, 1), startTheirs(b, 2)
				} else {
					first, second = startTheirs(a, 1), startOurs(b, 2)
				}
				psk := pskFile(t)
				second.peer(first, "", "preshared-key", psk)
				first.peer(second, second.at(outer), "preshared-key", psk)
				exchange(t, first, second)
			})
		}
	}
}

// exchange sends pings and streams both ways over both families, beginning at first, and
// compares what the two report about it.
func exchange(t *testing.T, first, second *tunnel) {
	t.Helper()
	began := time.Now().Truncate(time.Second)
	for _, p := range []struct {
		from, to *tunnel
		addr     string
	}{
		{first, second, second.addr4()}, {second, first, first.addr4()},
		{first, second, second.addr6()}, {second, first, first.addr6()},
	} {
		if got := p.from.ping(p.addr, 20, 5*time.Millisecond); got != 20 {
			t.Errorf("%d of 20 pings to %s are answered", got, p.addr)
		}
		send(p.from.host, p.to.host, p.addr, bulk)
	}
	for _, x := range []*tunnel{first, second} {
		if at := x.handshake(); at.Before(began) || at.After(time.Now()) {
			t.Errorf("%s reports a handshake at %v, began at %v", x.name, at, began)
		}
		// Each carried two transfers each way; more than twice that would be no overhead.
		if in, out := x.traffic(); in < 2*bulk || out < 2*bulk || in > 4*bulk || out > 4*bulk {
			t.Errorf("%s reports %d bytes received and %d sent, carried %d each way", x.name, in, out, 2*bulk)
		}
	}
	// What one says it has sent, the other has received, once what is under way has arrived.
	await(t, 5*time.Second, "agreement on the bytes transferred", func() bool {
		in1, out1 := first.traffic()
		in2, out2 := second.traffic()
		return in1 == out2 && in2 == out1
	})
}

func TestTrafficFollowsAPeerToAnotherAddressAndPort(t *testing.T) {
	for _, mover := range []string{"ours moves", "theirs moves"} {
		t.Run(mover, func(t *testing.T) {
			a, b := newHost(t), newHost(t)
			connect(a, b, 1)
			var moves, stays *tunnel
			if mover == "ours moves" {
				moves, stays = startOurs(a, 1), startTheirs(b, 2)
			} else {
				moves, stays = startTheirs(a, 1), startOurs(b, 2)
			}
			stays.peer(moves, "")
			moves.peer(stays, stays.at("10.77.1.2"))
			moves.reaches(stays.addr4(), 5*time.Second)

			moves.set("listen-port", "40001")
			moves.reaches(stays.addr4(), 2*time.Second)
			if got := stays.endpoint(); got != "10.77.1.1:40001" {
				t.Errorf("after another port the endpoint is %s", got)
			}
			a.writeSysctl("ipv4/conf/v1/promote_secondaries", "1") // else the new address goes with the old
			moves.addAddr("v1", "10.77.1.77/24")
			moves.removeAddr("v1", "10.77.1.1/24")
			took := moves.reaches(stays.addr4(), 7*time.Second)
			if got := stays.endpoint(); got != "10.77.1.77:40001" {
				t.Errorf("after another address the endpoint is %s", got)
			}
			t.Logf("resumed %v after the address had gone", took)
			send(stays.host, moves.host, moves.addr4(), bulk)
			send(moves.host, stays.host, stays.addr4(), bulk)
		})
	}
}

// TestPeersFollowEachOtherToAnotherFamily has firelane at both ends: wireguard-go, when it has
// used IPv4, sends its next IPv6 datagram but one to an address whose second half is zero.
func TestPeersFollowEachOtherToAnotherFamily(t *testing.T) {
	a, b := newHost(t), newHost(t)
	connect(a, b, 1)
	moves, stays := startOurs(a, 1), startOurs(b, 2)
	stays.peer(moves, "")
	moves.peer(stays, stays.at("10.77.1.2"))
	moves.reaches(stays.addr4(), 5*time.Second)
	for range 5 {
		for _, to := range []string{"fd77:1::2", "10.77.1.2"} {
			moves.set("peer", stays.pub, "endpoint", stays.at(to))
			if got := moves.ping(stays.addr4(), 5, 5*time.Millisecond); got != 5 {
				t.Errorf("%d of 5 pings are answered after the move to %s", got, to)
			}
			if got := moves.endpoint(); got != stays.at(to) {
				t.Errorf("the one that moved to %s is back at %s", stays.at(to), got)
			}
			if got, want := stays.endpoint(), moves.at(strings.TrimSuffix(to, "2")+"1"); got != want {
				t.Errorf("the other one follows to %s, want %s", got, want)
			}
		}
	}
}

func TestPersistentKeepalivesFlowWithoutTraffic(t *testing.T) {
	a, b := newHost(t), newHost(t)
	connect(a, b, 1)
	ours, theirs := startOurs(a, 1), startTheirs(b, 2)
	theirs.peer(ours, "")
	ours.peer(theirs, theirs.at("10.77.1.2"), "persistent-keepalive", "1")
	keepalives := func(to *tunnel) {
		t.Helper()
		await(t, 5*time.Second, "handshake", func() bool { return to.handshake().Unix() > 0 })
		before, _ := to.traffic()
		took := await(t, 10*time.Second, "three keepalives", func() bool {
			now, _ := to.traffic()
			return now >= before+3*32
		})
		if took < 1900*time.Millisecond {
			t.Errorf("three keepalives within %v, want one a second", took)
		}
	}
	keepalives(theirs)
	ours.set("peer", theirs.pub, "persistent-keepalive", "off")
	theirs.set("peer", ours.pub, "persistent-keepalive", "1")
	keepalives(ours)
}

// TestThreeInARowForward lets two peers talk through a third of the other kind, which has both.
func TestThreeInARowForward(t *testing.T) {
	for _, hub := range []string{"theirs between ours", "ours between theirs"} {
		t.Run(hub, func(t *testing.T) {
			a, m, b := newHost(t), newHost(t), newHost(t)
			connect(m, a, 1)
			connect(m, b, 2)
			outer, inner := firelaneWG, wireguardGo
			if hub == "ours between theirs" {
				outer, inner = inner, outer
			}
			ta, tm, tb := start(a, 1, outer), start(m, 2, inner), start(b, 3, outer)
			m.writeSysctl("ipv4/ip_forward", "1")
			m.writeSysctl("ipv6/conf/all/forwarding", "1")
			tm.peer(ta, ta.at("10.77.1.2"))
			second := map[string]string{"tb": tb.at("10.77.2.2"), "tm": tm.at("10.77.2.1")}
			if tm.ours { // both families at once are too much for wireguard-go: see above
				second = map[string]string{"tb": tb.at("fd77:2::2"), "tm": tm.at("fd77:2::1")}
			}
			tm.peer(tb, second["tb"])
			for end, at := range map[*tunnel]string{ta: tm.at("10.77.1.1"), tb: second["tm"]} {
				end.peer(tm, at)
				end.set("peer", tm.pub, "allowed-ips", "10.99.0.0/24,fd99::/64")
			}
			for _, addr := range []string{tb.addr4(), tb.addr6()} {
				ta.reaches(addr, 5*time.Second)
				if got := ta.ping(addr, 20, 5*time.Millisecond); got != 20 {
					t.Errorf("%d of 20 pings to %s are answered", got, addr)
				}
				send(a, b, addr, bulk)
			}
			send(b, a, ta.addr4(), bulk)
			send(b, a, ta.addr6(), bulk)
		})
	}
}
