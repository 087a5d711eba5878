package relay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/stun"
)

// types lists a message's attributes in order.
func types(b []byte) (list []stun.Attribute) {
	for at := stun.HeaderSize; at < len(b); {
		list = append(list, stun.Attribute(binary.BigEndian.Uint16(b[at:])))
		at += 4 + (int(binary.BigEndian.Uint16(b[at+2:]))+3)&^3
	}
	return list
}

// Every answer has the attributes that clients expect, in their order.
func TestAttributesOfAnswers(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	collect := func(b []byte) []stun.Attribute {
		h.s.HandleMessage(b, d.from, h.now)
		var all []byte
		for {
			h.s.Drain(&h.out)
			for _, x := range h.out.Datagrams {
				all = append(all, x.Bytes...)
			}
			opens := append([]Open(nil), h.out.Opens...)
			if len(opens) == 0 {
				return types(all)
			}
			h.opened(opens[0])
		}
	}
	transport := func(w *stun.Builder) { w.Transport(stun.UDP); both(w) }
	peer := func(w *stun.Builder) {
		w.Address(stun.XORPeerAddress, netip.MustParseAddrPort("198.51.100.1:1"))
		w.Channel(0x4000)
	}
	binding := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{})
	unsigned := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{})
	incomplete := stun.Start(nil, stun.Request, stun.Allocate, stun.TransactionID{})
	const soft, mi = stun.Software, stun.MessageIntegrity
	check := func(what string, b []byte, want ...stun.Attribute) {
		t.Helper()
		got := collect(b)
		if len(got) != len(want) {
			t.Errorf("%s: %#x, want %#x", what, got, want)
			return
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %#x, want %#x", what, got, want)
			}
		}
	}
	check("Binding", binding.Bytes(), stun.XORMappedAddress)
	check("incomplete Allocate", incomplete.Bytes(), stun.ErrorCode)
	check("Refresh without credentials", unsigned.Bytes(), stun.ErrorCode, stun.Realm, stun.Nonce)
	check("Allocate without nonce", d.build(stun.Allocate, transport), soft, stun.ErrorCode, stun.Realm, stun.Nonce, mi)
	n := h.s.nonces.issue(d.from.Remote)
	d.nonce = n[:]
	check("Refresh of nothing", d.build(stun.Refresh, nil), soft, stun.ErrorCode, mi)
	check("Allocate", d.build(stun.Allocate, transport), soft, stun.XORRelayedAddress, stun.XORRelayedAddress,
		stun.XORMappedAddress, stun.Lifetime, mi)
	check("Refresh", d.build(stun.Refresh, nil), soft, stun.Lifetime, mi)
	check("ChannelBind", d.build(stun.ChannelBind, peer), soft, mi)
	check("CreatePermission", d.build(stun.CreatePermission, nil), soft, mi)
}

func TestBinding(t *testing.T) {
	h := newHarness(t, nil)
	for from, want := range map[string]string{
		"192.0.2.1:1000":          "192.0.2.1:1000",
		"[2001:db8::5]:7":         "[2001:db8::5]:7",
		"[::ffff:192.0.2.1]:1000": "192.0.2.1:1000",
	} {
		w := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
		got := h.ask(Tuple{Remote: netip.MustParseAddrPort(from), Local: listening[true]}, w.Bytes())
		if len(got) != 1 || got[0].m.Class != stun.Success || got[0].m.Mapped.String() != want || got[0].m.ID != (stun.TransactionID{1}) {
			t.Errorf("%s: %+v", from, got)
		}
	}
	w := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	w.Channel(1)
	if got := h.ask(Tuple{Remote: netip.MustParseAddrPort("192.0.2.1:1"), Local: listening[true]}, w.Bytes()); len(got) != 1 || got[0].m.Code != 400 {
		t.Errorf("a malformed Binding: %+v", got)
	}
	if n := h.s.Counters().Responses(stun.Binding, 0); n != 3 {
		t.Errorf("%d answers counted", n)
	}
}

func TestWhatIsIgnored(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"ChannelData":         []byte("\x40\x00\x00\x01x"),
		"WireGuard":           {1, 0, 0, 0, 9, 9, 9, 9},
		"a header cut short":  make([]byte, 19),
		"an RFC 3489 Binding": append([]byte{0, 1, 0, 0}, make([]byte, 16)...),
	} {
		if got := h.ask(d.from, b); len(got) != 0 {
			t.Errorf("%s: answered with %+v", name, got)
		}
	}
	for _, c := range []stun.Class{stun.Indication, stun.Success, stun.Failure} {
		w := stun.Start(nil, c, stun.Allocate, stun.TransactionID{})
		if got := h.ask(d.from, w.Bytes()); len(got) != 0 {
			t.Errorf("class %d: answered with %+v", c, got)
		}
	}
	zero := d.from
	zero.Remote = netip.AddrPortFrom(zero.Remote.Addr(), 0)
	for _, method := range []stun.Method{stun.Binding, stun.Allocate} {
		w := stun.Start(nil, stun.Request, method, stun.TransactionID{})
		if got := h.ask(zero, w.Bytes()); len(got) != 0 {
			t.Errorf("from port 0: answered with %+v", got)
		}
	}
	if n := h.s.Counters().Event(EventPortZero); n != 2 {
		t.Errorf("%d datagrams from port 0 counted", n)
	}
}

// Before any credentials are looked at, a request must be whole; the answer is not signed.
func TestIncompleteRequests(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	peer := netip.MustParseAddrPort("198.51.100.1:1")
	for name, b := range map[string][]byte{
		"Allocate without a transport": d.build(stun.Allocate, nil),
		"ChannelBind without a peer":   d.build(stun.ChannelBind, func(w *stun.Builder) { w.Channel(0x4000) }),
		"ChannelBind without a number": d.build(stun.ChannelBind, func(w *stun.Builder) { w.Address(stun.XORPeerAddress, peer) }),
		"ChannelBind of number 0x5000": d.build(stun.ChannelBind, func(w *stun.Builder) { w.Address(stun.XORPeerAddress, peer); w.Channel(0x5000) }),
		"a method of TCP":              d.build(0x00a, nil),
		"a Send request":               d.build(0x006, nil),
	} {
		got := h.ask(d.from, b)
		if len(got) != 1 || got[0].m.Code != 400 || got[0].m.Has&(stun.HasMessageIntegrity|stun.HasNonce) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestFamilies(t *testing.T) {
	none := func(*stun.Builder) {}
	requested := func(f stun.Family) func(*stun.Builder) {
		return func(w *stun.Builder) { w.Family(stun.RequestedAddressFamily, f) }
	}
	additional := func(f stun.Family) func(*stun.Builder) {
		return func(w *stun.Builder) { w.Family(stun.AdditionalAddressFamily, f) }
	}
	two := func(w *stun.Builder) { requested(stun.IPv4)(w); both(w) }
	for _, c := range []struct {
		name       string
		have       Families
		attributes func(*stun.Builder)
		want       Families
		code       int
	}{
		{"both attributes", IPv4 | IPv6, two, 0, 400},
		{"additional IPv4", IPv4 | IPv6, additional(stun.IPv4), 0, 400},
		{"dual stack, additional IPv6", IPv4 | IPv6, additional(stun.IPv6), IPv4 | IPv6, 0},
		{"IPv4 only, additional IPv6", IPv4, additional(stun.IPv6), IPv4, 0},
		{"IPv6 only, additional IPv6", IPv6, additional(stun.IPv6), IPv6, 0},
		{"dual stack, nothing", IPv4 | IPv6, none, IPv4, 0},
		{"dual stack, IPv4", IPv4 | IPv6, requested(stun.IPv4), IPv4, 0},
		{"dual stack, IPv6", IPv4 | IPv6, requested(stun.IPv6), IPv6, 0},
		{"IPv4 only, IPv6", IPv4, requested(stun.IPv6), 0, 440},
		{"IPv6 only, nothing", IPv6, none, 0, 440},
		{"IPv6 only, IPv4", IPv6, requested(stun.IPv4), 0, 440},
	} {
		h := newHarness(t, func(cfg *Config) {
			if c.have&IPv4 == 0 {
				cfg.Public4 = netip.Addr{}
			}
			if c.have&IPv6 == 0 {
				cfg.Public6 = netip.Addr{}
			}
		})
		d := h.device("192.0.2.1:1000", "a")
		m := d.allocate(c.attributes)
		wants(t, c.name, m, c.code)
		if c.code != 0 {
			continue
		}
		var got Families
		port := d.published().Port
		if m.Has&stun.HasRelayed4 != 0 && m.Relayed[0] == netip.AddrPortFrom(ours4, port) {
			got |= IPv4
		}
		if m.Has&stun.HasRelayed6 != 0 && m.Relayed[1] == netip.AddrPortFrom(ours6, port) {
			got |= IPv6
		}
		if got != c.want || d.published().Families != c.want || m.Mapped != d.from.Remote || m.Lifetime != 600 {
			t.Errorf("%s: relayed %v, lifetime %d", c.name, m.Relayed, m.Lifetime)
		}
	}
}

func TestTransportOtherThanUDP(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "TCP", d.do(stun.Allocate, func(w *stun.Builder) { w.Transport(6) }), 400)
}

func TestLifetimes(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	asks := func(s uint32) func(*stun.Builder) { return func(w *stun.Builder) { w.Uint32(stun.Lifetime, s) } }
	if m := d.allocate(asks(5000)); m.Lifetime != 3600 {
		t.Errorf("5000 s asked, %d granted", m.Lifetime)
	}
	if m := d.refresh(20); m.Lifetime != 20 {
		t.Errorf("20 s asked, %d granted", m.Lifetime)
	}
	h.advance(19 * time.Second)
	if d.published() == nil {
		t.Error("gone a second early")
	}
	h.advance(time.Second)
	if d.published() != nil || len(h.closes) != 1 || h.s.Counters().Event(EventExpired) != 1 {
		t.Errorf("not gone in time; closes %v", h.closes)
	}
	wants(t, "refresh of an expired allocation", d.refresh(), 437)
	wants(t, "a new one", d.allocate(), 0)
	if m := d.refresh(); m.Lifetime != 600 {
		t.Errorf("nothing asked, %d granted", m.Lifetime)
	}
	if m := d.refresh(0); m.Code != 0 || m.Lifetime != 0 || d.published() != nil || len(h.bound) != 0 {
		t.Errorf("deleted: %+v", m)
	}
	wants(t, "refresh of a deleted allocation", d.refresh(0), 437)
	wants(t, "channel on a deleted allocation", d.bind(0x4000, "198.51.100.1:1"), 437)
	if m := d.allocate(asks(0)); m.Lifetime != 0 || d.published() == nil {
		t.Errorf("0 s asked, %d granted", m.Lifetime)
	}
	h.advance(0)
	if d.published() != nil {
		t.Error("an allocation for 0 s stays")
	}
	if n := h.s.Counters().ActiveAllocations.Load(); n != 0 {
		t.Errorf("%d allocations active", n)
	}
}

// An Allocate that is repeated to the bit has the same answer; another one has 437.
func TestSecondAllocate(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	first := d.allocate()
	again := h.ask(d.from, d.resign(first.ID))
	if len(again) != 1 || again[0].m.Relayed != first.Relayed || again[0].m.ID != first.ID || len(h.bound) != 1 {
		t.Errorf("repeated: %+v", again)
	}
	wants(t, "another Allocate", d.allocate(), 437)
	neighbour := h.device("192.0.2.1:1000", "b")
	neighbour.nonce = d.nonce
	if got := h.ask(d.from, neighbour.resign(first.ID)); len(got) != 1 || got[0].m.Code != 437 {
		t.Errorf("repeated by another user: %+v", got)
	}
}

// resign builds an Allocate with a given transaction id.
func (d *device) resign(id stun.TransactionID) []byte {
	w := stun.Start(nil, stun.Request, stun.Allocate, id)
	w.Transport(stun.UDP)
	w.Text(stun.Username, []byte(d.name))
	w.Text(stun.Nonce, d.nonce)
	w.Sign(d.key[:])
	return w.Bytes()
}

// A user who comes from another address has moved: the old allocation is closed before the new
// one is opened.
func TestOneAllocationPerUser(t *testing.T) {
	h := newHarness(t, nil)
	old, moved, other := h.device("192.0.2.1:1000", "a"), h.device("198.51.100.9:2000", "a"), h.device("192.0.2.1:1001", "b")
	wants(t, "first", old.allocate(both), 0)
	wants(t, "another user", other.allocate(), 0)
	wants(t, "channel", old.bind(0x4000, "198.51.100.1:1"), 0)
	gone := old.published()
	wants(t, "moved", moved.allocate(), 0)
	if old.published() != nil || moved.published() == nil || other.published() == nil {
		t.Error("the wrong allocation is gone")
	}
	if len(h.closes) != 1 || h.closes[0].ID != gone.ID || h.s.Counters().Event(EventReplaced) != 1 || h.s.Counters().BoundChannels.Load() != 0 {
		t.Errorf("closes %v", h.closes)
	}
	many := newHarness(t, func(c *Config) { c.ManyPerUser = true })
	a, b := many.device("192.0.2.1:1000", "a"), many.device("198.51.100.9:2000", "a")
	wants(t, "first of many", a.allocate(), 0)
	wants(t, "second of many", b.allocate(), 0)
	if a.published() == nil || b.published() == nil {
		t.Error("where a user may have many, one is gone")
	}
}

// A clock that jumps forward expires what is due, in order; one that jumps back stands still.
func TestClockJumps(t *testing.T) {
	h := newHarness(t, nil)
	d, e := h.device("192.0.2.1:1000", "a"), h.device("192.0.2.1:1001", "b")
	d.allocate()
	e.allocate(func(w *stun.Builder) { w.Uint32(stun.Lifetime, 3600) })
	e.bind(0x4000, "198.51.100.1:1")
	h.now = h.now.Add(-time.Hour)
	wants(t, "after a jump back", d.refresh(), 0)
	if at, _, ok := h.s.NextTimeout(); !ok || at.Before(beginning) {
		t.Errorf("next timeout %v", at)
	}
	h.now = beginning.Add(20 * time.Minute)
	h.s.HandleTimeout(h.now)
	h.settle()
	if d.published() != nil || e.published() == nil || e.published().Channel(0x4000) != nil || h.s.channels != 0 {
		t.Error("a jump of 20 minutes: the wrong things expired")
	}
	h.now = h.now.AddDate(0, 1, 0)
	h.s.HandleTimeout(h.now)
	h.settle()
	if len(h.bound) != 0 || len(h.s.timers) != 0 || len(h.s.leases) != 0 || len(h.s.sources) != 0 || len(h.s.users) != 0 {
		t.Error("a jump of a month: something is left")
	}
}

func TestDrainOwnsItsBytes(t *testing.T) {
	h := newHarness(t, nil)
	w := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	var first, second Output
	h.s.HandleMessage(w.Bytes(), h.device("192.0.2.1:1", "a").from, h.now)
	if _, why, ok := h.s.NextTimeout(); !ok || why != "output pending" {
		t.Errorf("output pending, but %q", why)
	}
	h.s.Drain(&first)
	before := string(first.Datagrams[0].Bytes)
	for range 100 {
		h.s.HandleMessage(w.Bytes(), h.device("192.0.2.2:2", "a").from, h.now)
	}
	h.s.Drain(&second)
	if string(first.Datagrams[0].Bytes) != before || len(second.Datagrams) != 100 {
		t.Error("bytes of an output changed before the next drain into it")
	}
	for range maxPendingDatagrams + 1 {
		h.s.send(Tuple{}, h.s.out.bytes)
	}
	if n := h.s.Counters().Event(EventOutputFull); n != 1 {
		t.Errorf("%d dropped", n)
	}
}
