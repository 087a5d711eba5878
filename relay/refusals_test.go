package relay

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/stun"
)

// named returns a device with a user name and a password of its own.
func named(h *harness, addr, name, password string) *device {
	d := h.device(addr, "")
	d.name, d.realm = name, DefaultRealm
	d.key = stun.LongTermKey([]byte(name), []byte(DefaultRealm), []byte(password))
	return d
}

// Who tries passwords, with a nonce as it should be, gets as many tries as the limit says: beyond
// it the right one is as silent as the others. A client of the same source that has an allocation
// does not notice, and neither do other sources.
func TestPasswordsCannotBeTriedWithoutEnd(t *testing.T) {
	credentials, err := Users("", map[string]string{"alice": "correct horse", "bob": "battery staple"})
	if err != nil {
		t.Fatal(err)
	}
	const rate = 10
	h := newHarness(t, func(c *Config) { c.Credentials, c.ManyPerUser, c.Limits.RefusalsPerSecond = credentials, true, rate })
	client := named(h, "192.0.2.1:1000", "bob", "battery staple")
	wants(t, "a client before", client.allocate(), 0)
	guesser := func(from string, word string) (answered bool, code int) {
		d := named(h, from, "alice", word)
		n := h.s.nonces.issue(d.from.Remote)
		d.nonce = n[:]
		got := h.ask(d.from, d.build(stun.Refresh, nil))
		if len(got) == 0 {
			return false, 0
		}
		return true, got[0].m.Code
	}
	tries := func(n int) (answers int) {
		for i := range n {
			// Ever new ports: an address has as many as it likes.
			if answered, _ := guesser(fmt.Sprintf("192.0.2.1:%d", 2000+i), fmt.Sprint(i)); answered {
				answers++
			}
		}
		return answers
	}
	if n := tries(1000); n != rate*burstSeconds {
		t.Errorf("%d of 1000 wrong passwords are answered", n)
	}
	if answered, code := guesser("192.0.2.1:7", "correct horse"); answered {
		t.Errorf("the right password is told from others: %d", code)
	}
	if n := h.s.Counters().Event(EventRefusalRate); n != 1000-rate*burstSeconds+1 {
		t.Errorf("%d silent ones counted", n)
	}
	wants(t, "a client beside them", client.refresh(), 0)
	client.name, client.key = "alice", stun.LongTermKey([]byte("alice"), []byte(DefaultRealm), []byte("correct horse"))
	if got := h.ask(client.from, client.build(stun.Refresh, nil)); len(got) != 0 {
		t.Errorf("who has an allocation may try for another user: %+v", got)
	}
	if _, code := guesser("192.0.2.2:7", "correct horse"); code != 437 {
		t.Errorf("another source: %d", code)
	}
	h.now = h.now.Add(time.Second)
	if n := tries(1000); n != rate {
		t.Errorf("%d answers a second later", n)
	}
}

// Passwords that the portal hands out cannot be guessed, so that a source with many wrong ones, such
// as those of clients whose time is over, is only answered less often: right ones go on.
func TestWrongCredentialsOfThePortalSilenceNobody(t *testing.T) {
	const rate = 10
	h := newHarness(t, func(c *Config) { c.Limits.RefusalsPerSecond = rate })
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "a nonce", d.refresh(), 437)
	key, answers := d.key, 0
	d.key = [16]byte{}
	for range 100 {
		answers += len(h.ask(d.from, d.build(stun.Refresh, nil)))
	}
	if answers != rate*burstSeconds {
		t.Errorf("%d of 100 bad signatures are answered", answers)
	}
	d.key = key
	wants(t, "the right one", d.allocate(), 0)
}

// What does not prove that somebody is there to receive the answer is answered with little more than
// it has itself, whatever attributes it has: with headers of IPv4 and UDP at most two and a quarter
// times its length, which is what the least of all, without any, needs for realm and nonce.
func TestForgedRequestsAreNotAmplified(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Software = string(bytes.Repeat([]byte{'s'}, maxSoftware)) })
	from := Tuple{netip.MustParseAddrPort("192.0.2.1:1000"), listening[true]}
	const headers, percent = 20 + 8, 225
	methods := []stun.Method{stun.Binding, stun.Allocate, stun.Refresh, stun.ChannelBind, stun.CreatePermission, 0x006}
	for _, method := range methods {
		for bits := range 1 << 6 {
			w := stun.Start(nil, stun.Request, method, stun.TransactionID{1})
			for i, add := range []func(){
				func() { w.Transport(stun.UDP) },
				func() {
					w.Channel(MinChannel)
					w.Address(stun.XORPeerAddress, netip.MustParseAddrPort("198.51.100.1:1"))
				},
				func() { w.Text(stun.Username, []byte("1:")) },
				func() { w.Text(stun.Nonce, []byte("6e80ba94-7a4c-4e31-8b6a-0c5a1d6f2b3e")) },
				func() { w.Channel(1) }, // malformed
				func() { w.Sign(make([]byte, 16)) },
			} {
				if bits>>i&1 != 0 {
					add()
				}
			}
			request := w.Bytes()
			h.s.HandleMessage(request, from, h.now)
			h.s.Drain(&h.out)
			for _, d := range h.out.Datagrams {
				if got := 100 * (len(d.Bytes) + headers) / (len(request) + headers); got > percent {
					t.Errorf("method %d, attributes %06b: %d bytes are answered with %d, %d%%", method, bits, len(request), len(d.Bytes), got)
				}
			}
			if len(h.out.Datagrams) != 1 {
				t.Errorf("method %d, attributes %06b: %d answers", method, bits, len(h.out.Datagrams))
			}
		}
	}
	name := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{1})
	name.Text(stun.Username, []byte("1:"))
	got := h.ask(from, name.Bytes())
	if len(got) != 1 || got[0].m.Code != 401 || got[0].m.Has&(stun.HasMessageIntegrity|stun.HasSoftware) != 0 || len(got[0].m.Reason) != 0 {
		t.Errorf("a name without a signature: %+v", got)
	}
}
