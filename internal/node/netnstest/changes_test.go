package netnstest

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheMTUChangesWhileTrafficFlows(t *testing.T) {
	ta, tb := pair(t)
	var transfers atomic.Int64
	stop := background(func() {
		if _, err := trySend(ta.host, tb.host, tb.addr4(), bulk); err != nil {
			t.Errorf("a transfer while the MTU changes: %v", err)
		}
		transfers.Add(1)
	})
	for i := range 12 {
		mtu := []int{1280, 1420}[i%2]
		for _, x := range []*tunnel{ta, tb} {
			x.try(x.links.LinkSetMTU(x.link(x.name), mtu))
		}
		at := transfers.Load()
		await(t, 30*time.Second, "transfer at another MTU", func() bool { return transfers.Load() > at })
	}
	stop()
	// A message is padded, but never beyond the MTU: the largest packet still passes.
	if out, err := ta.run("ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1392", tb.addr4()); err != nil {
		t.Errorf("a packet of the full MTU: %s", out)
	}
}

func TestTheLinkGoesDownAndUp(t *testing.T) {
	ta, tb := pair(t)
	steady(t, 3, func() {
		stop := background(func() { ta.run("ping", "-n", "-q", "-c", "5", "-i", "0.002", "-W", "1", tb.addr4()) })
		ta.setDown(ta.name)
		await(t, 5*time.Second, "free port", func() bool { return !ta.bound() })
		ta.setUp(ta.name)
		await(t, 5*time.Second, "bound port", ta.bound)
		stop()
		ta.reaches(tb.addr4(), 8*time.Second) // 5 s between two initiations, whatever happened
	}, ta, tb)
}

// TestPacketMemoryIsKeptOverAChangeOfPort counts what packets take, under loads that differ in
// nothing but how often the port changes meanwhile.
func TestPacketMemoryIsKeptOverAChangeOfPort(t *testing.T) {
	used := map[int]int{}
	for _, moves := range []int{2, 40} {
		t.Run(fmt.Sprintf("%d changes", moves), func(t *testing.T) {
			ta, tb := pair(t, "--queues", "1") // which of several is busy is the kernel's choice
			for range moves {
				ta.port++
				ta.set("listen-port", strconv.Itoa(ta.port))
				if got := ta.ping(tb.addr4(), 3, 2*time.Millisecond); got != 3 {
					t.Errorf("%d of 3 pings are answered", got)
				}
			}
			used[moves] = ta.stop()["firelane_pool_slabs_used"]
		})
	}
	t.Logf("slabs used by number of changes: %v", used)
	if used[2] == 0 || used[40] > 2*used[2] {
		t.Errorf("40 changes of port used %d slabs, 2 used %d", used[40], used[2])
	}
}

// bound reports whether a socket has the tunnel's port on its host.
func (x *tunnel) bound() bool {
	x.t.Helper()
	var table []byte
	x.try(x.within(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/udp")
		return err
	}))
	return strings.Contains(string(table), fmt.Sprintf(":%04X 00000000:0000", x.port))
}

func TestThePortChangesUnderTraffic(t *testing.T) {
	ta, tb := pair(t)
	f := openFlows(ta.host, tb.host, tb.addr4(), 4, true)
	stop := background(func() {
		for i := range f.out {
			f.write(i, 1000)
		}
		f.pace(int(f.sent[0].Load()))
	})
	move := func() {
		ta.port++
		ta.set("listen-port", strconv.Itoa(ta.port))
		at := f.received.Load()
		await(t, 2*time.Second, "traffic from the new port", func() bool {
			return f.received.Load() > at+100 && tb.endpoint() == ta.at("10.77.1.1")
		})
	}
	steady(t, 20, move, ta, tb)
	stop()
	f.close()
	if _, _, doubles := f.totals(); doubles != 0 {
		t.Errorf("%d packets twice", doubles)
	}
}

func TestAnEndpointIsOutOfReachForAWhile(t *testing.T) {
	ta, tb := pair(t)
	steady(t, 2, func() {
		ta.setDown("v1")
		if got := ta.ping(tb.addr4(), 50, 2*time.Millisecond); got != 0 {
			t.Errorf("%d pings are answered without a cable", got)
		}
		ta.setUp("v1")
		t.Logf("resumed after %v", ta.reaches(tb.addr4(), 7*time.Second))
	}, ta, tb)
}

// TestGarbageOnThePortIsDroppedAndCounted writes all sorts of nonsense to the UDP port, over both
// families, while a real peer talks.
func TestGarbageOnThePortIsDroppedAndCounted(t *testing.T) {
	ta, tb := pair(t)
	stranger := ta.listenUDP("[::]:0")
	to := []string{tb.at("10.77.1.2"), tb.at("fd77:1::2")}
	sent := 0
	steady(t, 3, func() {
		for _, at := range to {
			addr, err := net.ResolveUDPAddr("udp", at)
			ta.try(err)
			for _, size := range []int{0, 1, 3, 4, 15, 16, 31, 32, 33, 64, 91, 92, 93, 147, 148, 149, 1420, 1452, 9000, 65000} {
				for kind := range uint32(8) {
					for range 4 {
						b := make([]byte, size)
						rand.Read(b)
						if size >= 4 {
							binary.LittleEndian.PutUint32(b, kind)
						}
						if _, err := stranger.WriteToUDP(b, addr); err == nil {
							sent++
						}
					}
				}
			}
		}
		if got := ta.ping(tb.addr4(), 20, 2*time.Millisecond); got != 20 {
			t.Errorf("%d of 20 pings are answered beside garbage", got)
		}
		send(ta.host, tb.host, tb.addr4(), bulk)
	}, tb)
	counters := tb.stop()
	counted := 0
	for _, why := range []string{"DropUnknown", "DropNoSession", "DropMac1", "DropNoHandshake", "RecvMalformed"} {
		counted += counters[why]
	}
	if counted < sent*99/100 {
		t.Errorf("%d of %d datagrams of garbage are counted: %v", counted, sent, counters)
	}
	t.Logf("%d datagrams of garbage; counted %v", sent, counters)
}
