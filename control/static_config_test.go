package control

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/fib"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestRemovingAPeerWithLiveSessions(t *testing.T) {
	n, a, b := pair(t)
	a.talk(t, b, "before")
	p := a.fibPeer(b)
	_, s, _ := p.NextHop(a.nanos())
	from := len(a.history)
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: b.key.Public(), Remove: true}}})
	var order []string
	for _, c := range a.history[from:] {
		switch c := c.(type) {
		case fib.SetRoutes:
			if len(order) == 0 { // a second one, of the whole request, may follow
				order = append(order, "routes")
			}
		case fib.DelPeer:
			order = append(order, "peer")
		case fib.DelSession:
			order = append(order, "session")
		case fib.DropConnection:
			if c.ID != s.Index>>8 {
				t.Errorf("connection %x freed, want %x", c.ID, s.Index>>8)
			}
			order = append(order, "connection")
		}
	}
	if want := []string{"routes", "peer", "session", "connection"}; !equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if a.table.Session(s.Index) != nil || a.table.PeerByAddr(b.inner()) != nil || a.machine.Size() != (Size{}) {
		t.Errorf("something is left: %+v", a.machine.Size())
	}
	a.machine.HandlePacket(p, []byte("late"), n.now)
	a.machine.HandleWish(p, s, fib.WishRekey|fib.WishRoam, n.now)
	if a.carryOut(); a.machine.Losses().Late != 1 {
		t.Errorf("%+v", a.machine.Losses())
	}
	n.run(time.Hour)
	a.configure(DeviceChange{Peers: []PeerChange{b.peer()}})
	a.talk(t, b, "known again")
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestMakeBeforeBreakOnRekey(t *testing.T) {
	n, a, b := pair(t)
	for range 400 {
		a.sendTo(b.inner(), []byte("x"))
		n.run(time.Second)
	}
	for _, h := range []*testNode{a, b} {
		put, current := map[uint32]bool{}, uint32(0)
		for _, c := range h.history {
			switch c := c.(type) {
			case fib.PutSession:
				put[c.Session.Index] = true
			case fib.SetCurrent:
				if current = c.Session.Index; !put[current] {
					t.Errorf("session %x is used before it can be found", current)
				}
			case fib.DelSession:
				if c.Session.Index == current {
					t.Errorf("session %x is withdrawn while in use", current)
				}
			}
		}
		if len(put) != 4 {
			t.Errorf("%d sessions, want 4", len(put))
		}
	}
}

func TestAllowedIPsMoveBetweenPeers(t *testing.T) {
	n := newNetwork(t)
	a := n.add()
	one, two := publicKey(101), publicKey(102)
	shared, inside := prefix("10.9.0.0/16"), prefix("10.9.1.0/24")
	a.configure(DeviceChange{Peers: []PeerChange{
		{PublicKey: one, Allowed: allow(prefix("10.9.8.7/16"), inside)},
		{PublicKey: two, Allowed: allow(shared)},
	}})
	peers := a.machine.Peers()
	if got := peers[0].Allowed; len(got) != 1 || got[0] != inside {
		t.Errorf("first keeps %v", got)
	}
	if got := peers[1].Allowed; len(got) != 1 || got[0] != shared {
		t.Errorf("second has %v", got)
	}
	if a.table.PeerByAddr(netip.MustParseAddr("10.9.1.1")) == a.table.PeerByAddr(netip.MustParseAddr("10.9.2.1")) {
		t.Error("the longer prefix does not win")
	}
	a.configure(DeviceChange{Peers: []PeerChange{
		{PublicKey: one, Allowed: []AllowedChange{{Prefix: shared, Remove: true}}}, // not its own: stays
		{PublicKey: two, ReplaceAllowed: true, Allowed: allow(prefix("::/0"))},
	}})
	if a.table.PeerByAddr(netip.MustParseAddr("10.9.2.1")) != nil || a.table.Routes().Len() != 2 {
		t.Errorf("%d prefixes", a.table.Routes().Len())
	}
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: one, Allowed: []AllowedChange{{Prefix: inside, Remove: true}}}}})
	if len(a.machine.Peers()[0].Allowed) != 0 || a.table.Routes().Len() != 1 {
		t.Error("a prefix was not taken away")
	}
}

func TestReplacePeersAndUpdateOnly(t *testing.T) {
	n := newNetwork(t)
	a := n.add()
	one, two := publicKey(101), publicKey(102)
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: one, Allowed: allow(prefix("10.9.0.0/16"))}, {PublicKey: two, UpdateOnly: true}}})
	if a.machine.Size().Peers != 1 {
		t.Fatalf("%+v", a.machine.Size())
	}
	a.configure(DeviceChange{ReplacePeers: true, Peers: []PeerChange{{PublicKey: two}, {PublicKey: one, Remove: true}}})
	if p := a.machine.Peers(); len(p) != 1 || p[0].PublicKey != two || a.table.Routes().Len() != 0 {
		t.Errorf("%+v", p)
	}
}

func TestNobodyIsAPeerOfItself(t *testing.T) {
	n := newNetwork(t)
	a := n.add()
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: a.key.Public()}}})
	if a.machine.Size().Peers != 0 {
		t.Error("our own key was taken")
	}
	other := testKey(50)
	a.configure(DeviceChange{Peers: []PeerChange{{PublicKey: other.Public(), Allowed: allow(prefix("10.0.0.0/8"))}}})
	a.configure(DeviceChange{PrivateKey: &other})
	if a.machine.Size().Peers != 0 || a.table.Routes().Len() != 0 || a.machine.PrivateKey() != other {
		t.Error("a peer remains that is ourselves")
	}
}

func TestANewPrivateKeyEndsSessionsAndSendsWhatWaits(t *testing.T) {
	n, a, b := pair(t)
	a.talk(t, b, "old")
	other := testKey(51)
	b.configure(DeviceChange{Peers: []PeerChange{
		{PublicKey: a.key.Public(), Remove: true},
		{PublicKey: other.Public(), Endpoint: a.addrs[0], Allowed: allow(netip.PrefixFrom(a.inner(), 32))},
	}})
	n.run(time.Minute)
	before := a.machine.Size().Sessions
	none := new(DeviceChange)
	none.PrivateKey = new(a.key)
	clear(none.PrivateKey[:])
	a.configure(*none)
	if after := a.machine.Size().Sessions; before != 1 || after != 0 {
		t.Errorf("%d sessions, then %d", before, after)
	}
	a.sendTo(b.inner(), []byte("without a key"))
	if l := a.machine.Losses(); l.KeptExpired != 1 || a.machine.Size().Kept != 0 {
		t.Errorf("%+v", l)
	}
	a.configure(DeviceChange{PrivateKey: &other})
	a.talk(t, b, "new")
}

func TestLimitsAreErrorsOfTheRequest(t *testing.T) {
	n := newNetwork(t)
	a := n.add()
	if a.machine.most != fib.MaxPrefixes {
		t.Errorf("%d prefixes allowed", a.machine.most)
	}
	a.machine.most = 1000
	many := make([]AllowedChange, a.machine.most+1)
	for i := range many {
		many[i].Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	err := a.machine.Configure(DeviceChange{Peers: []PeerChange{{PublicKey: publicKey(101), Allowed: many}}}, n.now)
	if !errors.Is(err, ErrConfig) || a.table.Routes().Len() != 0 {
		t.Errorf("%v, %d prefixes before the output is carried out", err, a.table.Routes().Len())
	}
	if a.carryOut(); a.table.Routes().Len() != a.machine.most {
		t.Errorf("%d prefixes stay, want %d", a.table.Routes().Len(), a.machine.most)
	}
	a.configure(DeviceChange{ReplacePeers: true})
	all := make([]PeerChange, fib.MaxPeers+1)
	for i := range all {
		all[i].PublicKey = [32]byte{byte(i), byte(i >> 8), byte(i >> 16), 9}
	}
	err = a.machine.Configure(DeviceChange{Peers: all}, n.now)
	if a.carryOut(); !errors.Is(err, ErrConfig) || a.machine.Size().Peers != fib.MaxPeers {
		t.Errorf("%v, %d peers", err, a.machine.Size().Peers)
	}
	// All of them make room for as many others in one request, before ids are free again.
	for i := range all {
		all[i].PublicKey[4] = 1
	}
	err = a.machine.Configure(DeviceChange{ReplacePeers: true, Peers: all[1:]}, n.now)
	if a.carryOut(); err != nil || a.machine.Size().Peers != fib.MaxPeers {
		t.Errorf("replacing all: %v, %d peers", err, a.machine.Size().Peers)
	}
	err = a.machine.Configure(DeviceChange{Peers: []PeerChange{{PublicKey: all[0].PublicKey, Allowed: []AllowedChange{{}}}}}, n.now)
	if !errors.Is(err, ErrConfig) {
		t.Errorf("a prefix that is none: %v", err)
	}
}
