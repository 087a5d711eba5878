package fastpath

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// Tests of what RFCs demand of a NAT as a whole, which the tables in docs/conformance name.

// combinations are a name of either family that stands for a server of either.
var combinations = []struct {
	name        string
	proxy, real netip.Addr
}{
	{"4to4", proxy4, server4}, {"4to6", proxy4, server6}, {"6to6", proxy6, server6}, {"6to4", proxy6, server4},
}

// outside returns the client's address where packets of a resource of a's family go.
func outside(a netip.Addr) netip.Addr {
	if a.Is6() {
		return inner6(client, 0)
	}
	return inner4(client, 0)
}

// What comes to a client without a flow, and is not granted, is dropped without an answer: RFC 4787,
// section 5; RFC 5382, REQ-4 a; RFC 6146, section 3.5.1.
func TestWhatBelongsToNoFlowIsDroppedSilently(t *testing.T) {
	syn := returning(server4, outside(server4), false, nil)
	syn.flags = packet.FlagSYN
	syn6 := returning(server6, outside(server6), false, nil)
	syn6.flags = packet.FlagSYN
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"a SYN", syn.build()},
		{"a SYN over IPv6", syn6.build()},
		{"a datagram", returning(server4, outside(server4), true, fill(9, 1)).build()},
		{"an echo request", echo(server4, outside(server4), true, 5)},
		{"an echo reply over IPv6", echo(server6, outside(server6), false, 5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, busy := range []bool{false, true} {
				p := policed(t, testPolicy(server4, server6, nil))
				if busy { // with a flow of another port, so that there is a table
					p.reach(t, flow{udp: true, dst: otherProxy, sport: 99, payload: fill(9, 1)})
				}
				if seen := p.answer(t, batch.Packet{Buf: bytes.Clone(c.b)}); len(seen) != 0 {
					t.Fatalf("busy %v: the client sees %x", busy, seen)
				}
				onlyDrop(t, p[gateway].encap.Counters(), fib.DropNotGranted, 1)
				if punted, ok := p[gateway].refused(); ok {
					t.Errorf("busy %v: it is to be answered: %+v", busy, punted)
				}
			}
		})
	}
}

// Errors about TCP and echo come back too, from any router, and no error ends the flow it is about:
// RFC 4787, REQ-12; RFC 5382, REQ-9 and REQ-10; RFC 5508, REQ-4 and REQ-6.
func TestErrorsReachTheClientAndEndNoFlow(t *testing.T) {
	for _, kind := range []string{"TCP", "echo"} {
		t.Run(kind, func(t *testing.T) {
			for _, c := range combinations {
				t.Run(c.name, func(t *testing.T) {
					original := flow{v6: c.proxy.Is6(), dst: c.proxy, payload: fill(300, 1)}.build()
					answer := returning(c.real, outside(c.real), false, fill(30, 2)).build()
					if kind == "echo" {
						original = echo(outside(c.proxy), c.proxy, true, 77)
						answer = echo(c.real, outside(c.real), false, 77)
					}
					checkErrorsPass(t, c.proxy, c.real, original, answer)
				})
			}
		})
	}
}

// checkErrorsPass sends original out, errors about it back, and then the answer to it.
func checkErrorsPass(t *testing.T, proxy, real netip.Addr, original, answer []byte) {
	t.Helper()
	p := policed(t, testPolicy(real, real, nil))
	out := p.reachRaw(t, p.message(gateway, 0, original))
	if len(out) != 1 {
		t.Fatalf("%d packets went out: %v", len(out), droppedBy(p))
	}
	// Destination unreachable: host unreachable, and no route.
	router, kind, code, wantKind, wantCode := router4, byte(3), byte(1), byte(3), byte(1)
	if real.Is6() {
		router, kind, code = router6, 1, 0
	}
	if proxy.Is6() {
		wantKind, wantCode = 1, 0
	}
	for range 3 {
		seen := p.answer(t, batch.Packet{Buf: icmpError(router, outside(real), kind, code, 0, out[0][:60])})
		if len(seen) != 1 {
			t.Fatalf("%d errors reached the client: %v", len(seen), droppedBy(p))
		}
		checkError(t, seen[0], proxy, outside(proxy), wantKind, wantCode, 0, original)
	}
	if seen := p.answer(t, batch.Packet{Buf: answer}); len(seen) != 1 {
		t.Errorf("after the error, %d answers reach the client: %v", len(seen), droppedBy(p))
	}
}

// An error about a flow that the NAT has forgotten is dropped: RFC 5508, REQ-4.
func TestErrorsAboutForgottenFlowsAreDropped(t *testing.T) {
	for _, c := range combinations {
		t.Run(c.name, func(t *testing.T) {
			p := policed(t, testPolicy(c.real, c.real, nil))
			out := p.reach(t, flow{v6: c.proxy.Is6(), udp: true, dst: c.proxy, payload: fill(9, 1)})
			flows := p[gateway].ends[0].peer.Flows()
			for more := true; more; {
				var removed int
				if removed, more = flows.Expire(start+61e9, 100); removed == 0 && more {
					t.Fatal("expiry makes no progress")
				}
			}
			kind, code := byte(3), byte(3)
			if c.real.Is6() {
				kind, code = 1, 4
			}
			if seen := p.answer(t, batch.Packet{Buf: icmpError(c.real, outside(c.real), kind, code, 0, out[0])}); len(seen) != 0 {
				t.Errorf("the client sees %x", seen)
			}
			onlyDrop(t, p[gateway].encap.Counters(), fib.DropExpiredFlow, 1)
		})
	}
}

// Errors about what is refused have a rate: RFC 5508, REQ-10 f; RFC 1812, section 4.3.2.8.
func TestAnswersToAClientAreLimited(t *testing.T) {
	p := policed(t, testPolicy(server4, server4, nil))
	peer := p[gateway].ends[0].peer
	allowed := 0
	for peer.MayAnswer(start) {
		if allowed++; allowed > 1_000_000 {
			t.Fatal("there is no limit")
		}
	}
	p.reach(t, flow{dst: granted4, dport: 1, payload: fill(9, 1)})
	if _, ok := p[gateway].refused(); ok {
		t.Error("offered to control past the allowance")
	}
	onlyDrop(t, p[gateway].decap.Counters(), fib.ReplyProhibited, 1)
	if n := p[gateway].decap.Counters().Figure(Unanswered); n != 1 {
		t.Errorf("%d counted as unanswered, want 1", n)
	}
	for second, want := range []int{50, 50} {
		now, n := start+int64(second+1)*1e9, 0
		for peer.MayAnswer(now) {
			n++
		}
		if n != want {
			t.Errorf("%d answers in a second after a burst of %d, want %d", n, allowed, want)
		}
	}
}
