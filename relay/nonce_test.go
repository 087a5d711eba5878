package relay

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/firelane/firelane/protocol/stun"
)

// A nonce is good for 10,000 requests, is the same in every refusal until then, and another one
// follows. A request with a bad signature uses it too.
func TestNonceBudget(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "first", d.refresh(), 437)
	first := string(d.nonce)
	key := d.key
	d.key = [16]byte{}
	if got := h.ask(d.from, d.build(stun.Refresh, nil)); len(got) != 1 || got[0].m.Code != 401 || string(got[0].m.Nonce) != first {
		t.Errorf("a bad signature: %+v", got)
	}
	d.key = key
	for i := 2; i < nonceUses; i++ {
		if got := h.ask(d.from, d.build(stun.Refresh, nil)); len(got) != 1 || got[0].m.Code != 437 {
			t.Fatalf("request %d: %+v", i+1, got)
		}
	}
	got := h.ask(d.from, d.build(stun.Refresh, nil))
	if len(got) != 1 || got[0].m.Code != 438 || string(got[0].m.Nonce) == first || !isUUID(got[0].m.Nonce) {
		t.Fatalf("request %d: %+v", nonceUses+1, got)
	}
	d.nonce = append([]byte(nil), got[0].m.Nonce...)
	if got := h.ask(d.from, d.build(stun.Refresh, nil)); len(got) != 1 || got[0].m.Code != 437 {
		t.Errorf("with the new nonce: %+v", got)
	}
}

// A nonce that is used up is known for what it is until the next one is, too, and no other is.
func TestASpentNonceIsKnown(t *testing.T) {
	n := newNonces([32]byte{1}, 3)
	client, other := netip.AddrPortFrom(ours4, 1), netip.AddrPortFrom(ours4, 2)
	var past []nonce
	for range 3 {
		text := n.issue(client)
		for range nonceUses {
			if got := n.use(client, text[:]); got != nonceGood {
				t.Fatalf("state %d after %d nonces", got, len(past))
			}
		}
		past = append(past, text)
	}
	for i, want := range []nonceState{nonceUnknown, nonceUnknown, nonceSpent} {
		if got := n.use(client, past[i][:]); got != want {
			t.Errorf("nonce %d: state %d, want %d", i, got, want)
		}
	}
	if got := n.use(other, past[2][:]); got != nonceUnknown {
		t.Errorf("another client's: state %d", got)
	}
}

// A client behind a busy NAT whose neighbours use up what the limit leaves to all of them is told
// its next nonce when one is used up. A nonce that was never its own gets it nothing.
func TestNeighboursDoNotKeepAClientFromItsNextNonce(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits = DefaultLimits() })
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "allocate", d.allocate(), 0)
	spent := string(d.nonce)
	for uses := 1; uses < nonceUses; uses++ {
		if got := h.ask(d.from, d.build(stun.Refresh, nil)); len(got) != 1 || got[0].m.Code != 0 {
			t.Fatalf("request %d: %+v", uses+1, got)
		}
	}
	neighbour := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{1})
	for range 2 * burstSeconds * DefaultLimits().RefusalsPerSecond {
		h.ask(Tuple{netip.AddrPortFrom(d.from.Remote.Addr(), 7), d.from.Local}, neighbour.Bytes())
	}
	d.nonce = []byte("00000000-0000-4000-8000-000000000000")
	if got := h.ask(d.from, d.build(stun.Refresh, nil)); len(got) != 0 {
		t.Errorf("an invented nonce is answered: %+v", got)
	}
	d.nonce = []byte(spent)
	wants(t, "with a nonce that is used up, and then with the next", d.refresh(), 0)
	if string(d.nonce) == spent {
		t.Error("the nonce is not another")
	}
}

func TestUUIDs(t *testing.T) {
	good := "6e80ba94-7a4c-4e31-8b6a-0c5a1d6f2b3e"
	for text, want := range map[string]bool{
		good:                               true,
		strings.ToUpper(good):              true,
		good[1:]:                           false,
		good + "0":                         false,
		strings.ReplaceAll(good, "-", "0"): false,
		strings.ReplaceAll(good, "6", "g"): false,
		strings.ReplaceAll(good, "6", "/"): false,
		strings.ReplaceAll(good, "6", ":"): false,
	} {
		if isUUID([]byte(text)) != want {
			t.Errorf("%s: want %v", text, want)
		}
	}
	for i := range 256 {
		if n := uuid([16]byte{0: byte(i), 6: byte(i), 8: byte(i), 15: byte(i)}); !isUUID(n[:]) || n[14] != '4' || !strings.Contains("89ab", string(n[19])) {
			t.Errorf("%s is not a random UUID", n)
		}
	}
}

// The table of uses forgets who has been silent for longest, and keeps nothing for addresses that
// never sent their nonce back.
func TestNoncesAreBounded(t *testing.T) {
	n := newNonces([32]byte{1}, 3)
	at := func(port int) netip.AddrPort { return netip.AddrPortFrom(ours4, uint16(port)) }
	use := func(port int) bool {
		text := n.issue(at(port))
		return n.use(at(port), text[:]) == nonceGood
	}
	for port := range 1000 {
		n.issue(at(port))
		if n.use(at(port), []byte("00000000-0000-4000-8000-000000000000")) != nonceUnknown {
			t.Fatal("an invented nonce is good")
		}
	}
	if len(n.uses) != 0 {
		t.Errorf("%d counts for nobody", len(n.uses))
	}
	for _, port := range []int{1, 2, 3, 1, 4} {
		if !use(port) {
			t.Errorf("the nonce of %d is refused", port)
		}
	}
	_, two := n.uses[at(2)]
	if len(n.uses) != 3 || n.recent.Len() != 3 || two {
		t.Errorf("%d counts, of the one silent for longest: %v", len(n.uses), two)
	}
}
