package netnstest

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// pair is two of ours, started with args, that know each other over one cable, and have talked.
func pair(t *testing.T, args ...string) (ta, tb *tunnel) {
	t.Helper()
	a, b := newHost(t), newHost(t)
	connect(a, b, 1)
	ta, tb = startOurs(a, 1, args...), startOurs(b, 2, args...)
	ta.peer(tb, tb.at("10.77.1.2"))
	tb.peer(ta, ta.at("10.77.1.1"))
	ta.reaches(tb.addr4(), 5*time.Second)
	return ta, tb
}

// shapedPair is two of ours with a shaper between them.
func shapedPair(t *testing.T) (ta, tb *tunnel, s *shaper) {
	t.Helper()
	a, m, b := newHost(t), newHost(t), newHost(t)
	connect(m, a, 1)
	connect(m, b, 2)
	ta, tb = startOurs(a, 1), startOurs(b, 2)
	s, at := newShaper(m, "10.77.1.1", "10.77.2.1", netip.MustParseAddrPort(tb.at("10.77.2.2")))
	ta.peer(tb, at)
	tb.peer(ta, "")
	ta.reaches(tb.addr4(), 5*time.Second)
	return ta, tb, s
}

// growthLimit is how much a program's resident memory may grow under a load it has carried
// before: what the collector may lag behind, far less than a leak of one load's packets.
const growthLimit = 24 << 20

// steady runs a load once to warm up and then again, and fails if a tunnel grew meanwhile.
func steady(t *testing.T, again int, load func(), tunnels ...*tunnel) {
	t.Helper()
	load()
	memory, descriptors := make([]int, len(tunnels)), make([]int, len(tunnels))
	for i, x := range tunnels {
		memory[i], descriptors[i] = x.memory()
	}
	for range again {
		load()
	}
	for i, x := range tunnels {
		var m, d int
		// The program closes its end of a configuration connection a moment after wg has.
		await(t, 2*time.Second, x.name+" with as few descriptors as before", func() bool {
			m, d = x.memory()
			return d <= descriptors[i]
		})
		t.Logf("%s: %d MiB and %d descriptors, then %d MiB and %d", x.name, memory[i]>>20, descriptors[i], m>>20, d)
		if m > memory[i]+growthLimit {
			t.Errorf("%s grew from %d to %d bytes", x.name, memory[i], m)
		}
	}
}

func TestTransfersSurviveLossAndReordering(t *testing.T) {
	ta, tb, s := shapedPair(t)
	s.rules.Store(&disturb{lose: 50, reorder: 50, double: 20, replay: 10, truncate: 10, garble: 10})
	steady(t, 2, func() {
		there := send(ta.host, tb.host, tb.addr4(), 4<<20)
		back := send(tb.host, ta.host, ta.addr6(), 4<<20)
		t.Logf("4 MiB there in %v (%d segments again), back in %v (%d)", there.took, there.resent, back.took, back.resent)
	}, ta, tb)
	for what, n := range map[string]*atomic.Int64{"lost": &s.lost, "reordered": &s.reordered, "doubled": &s.doubled, "replayed": &s.replayed, "truncated": &s.truncated, "garbled": &s.garbled} {
		if n.Load() == 0 {
			t.Errorf("no datagram was %s", what)
		}
	}
	counters := tb.stop()
	if counters["DropReplay"] == 0 || counters["DropForged"] == 0 {
		t.Errorf("counted %v, want replays and forgeries among them", counters)
	}
	t.Logf("of %d datagrams %d lost, %d reordered; counted %v", s.passed.Load(), s.lost.Load(), s.reordered.Load(), counters)
}

func TestNoPacketIsDeliveredTwice(t *testing.T) {
	ta, tb, s := shapedPair(t)
	s.rules.Store(&disturb{double: 200, replay: 200, reorder: 50})
	f := openFlows(ta.host, tb.host, tb.addr4(), 8, false)
	sent := load(f)
	await(t, 10*time.Second, "end of the traffic", f.idle())
	f.close()
	got, _, doubles := f.totals()
	if doubles != 0 {
		t.Errorf("%d packets came out twice", doubles)
	}
	if got < sent*9/10 {
		t.Errorf("%d of %d packets arrived, too few to say anything", got, sent)
	}
	again := int(s.doubled.Load() + s.replayed.Load())
	counters := tb.stop()
	if n := counters["DropReplay"]; n < again*8/10 {
		t.Errorf("%d replays counted of about %d", n, again)
	}
	t.Logf("%d of %d packets arrived; %d datagrams twice or again, counted %v", got, sent, again, counters)
}

// TestARestartedPeerIsFound kills one end. The other, which alone has something to send, must
// notice the silence and start anew within WireGuard's timers: 10 s keepalive and 5 s rekey
// timeout, and up to 5 s more because stamps are looked at every 5 s.
func TestARestartedPeerIsFound(t *testing.T) {
	for _, killed := range []string{"theirs is killed", "ours is killed"} {
		t.Run(killed, func(t *testing.T) {
			a, b := newHost(t), newHost(t)
			connect(a, b, 1)
			alive, program := firelaneWG, wireguardGo
			if killed == "ours is killed" {
				alive, program = program, alive
			}
			stays, dies := start(a, 1, alive), start(b, 2, program)
			stays.peer(dies, dies.at("10.77.1.2"))
			dies.peer(stays, stays.at("10.77.1.1"))
			stays.reaches(dies.addr4(), 5*time.Second)
			dies.kill()
			dies.launch(program)
			dies.peer(stays, "")
			took := stays.reaches(dies.addr4(), 25*time.Second)
			t.Logf("resumed after %v", took)
			send(stays.host, dies.host, dies.addr4(), bulk)
			send(dies.host, stays.host, stays.addr4(), bulk)
		})
	}
}

// TestTrafficGoesOnWhereTrainsDoNotFit makes the route narrower than a sealed packet, for which
// the kernel refuses segmentation: datagrams then go one by one, as fragments.
func TestTrafficGoesOnWhereTrainsDoNotFit(t *testing.T) {
	ta, tb := pair(t)
	send(ta.host, tb.host, tb.addr4(), bulk)
	narrow := &netlink.Route{
		LinkIndex: ta.link("v1").Attrs().Index, Dst: address("10.77.1.2/32").IPNet,
		Scope: unix.RT_SCOPE_LINK, MTU: 1200,
	}
	ta.try(ta.links.RouteAdd(narrow))
	there := send(ta.host, tb.host, tb.addr4(), bulk)
	segments := bulk / there.segment
	t.Logf("%d segments of %d bytes, %d sent again", segments, there.segment, there.resent)
	if there.resent > segments/50 {
		t.Errorf("TCP sent %d of %d segments again", there.resent, segments)
	}
	if got := ta.ping(tb.addr4(), 100, 2*time.Millisecond); got != 100 {
		t.Errorf("%d of 100 pings are answered", got)
	}
	if counters := ta.stop(); counters["GSORefused"] == 0 || counters["SplitTrains"] == 0 {
		t.Errorf("the kernel refused no train: counted %v", counters)
	}
}

func TestAShortTunnelQueueOnlyCostsSpeed(t *testing.T) {
	ta, tb := pair(t)
	for _, x := range []*tunnel{ta, tb} {
		x.try(x.links.LinkSetTxQLen(x.link(x.name), 1))
	}
	there := send(ta.host, tb.host, tb.addr4(), bulk)
	f := openFlows(ta.host, tb.host, tb.addr4(), 64, false)
	burst := 0
	for range 100 {
		for i := range f.out {
			f.write(i, 1200)
			burst++
		}
	}
	await(t, 10*time.Second, "end of the burst", f.idle())
	f.close()
	got, _, doubles := f.totals()
	t.Logf("with room for one packet: %v (%d segments again); %d of %d packets of a burst", there.took, there.resent, got, burst)
	if doubles != 0 || got == 0 || got == burst {
		t.Errorf("%d of %d packets of a burst arrived, %d twice; want some lost and none twice", got, burst, doubles)
	}
	for _, x := range []*tunnel{ta, tb} {
		x.try(x.links.LinkSetTxQLen(x.link(x.name), 500))
	}
	send(ta.host, tb.host, tb.addr4(), bulk)
}
