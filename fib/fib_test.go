package fib

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/wireguard"
	"pgregory.net/rapid"
)

var never = Lifetime{RejectAt: Never, SendUntil: Never, RekeyOnSendAt: Never, RekeyOnReceiveAt: Never}

// keysOf runs handshakes inline and returns n keypairs of the responder, whose connection id is
// conn: session numbers count up.
func keysOf(t testing.TB, conn uint32, n int) (keys []*wireguard.Keypair) {
	t.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	private := [2]wireguard.PrivateKey{{8}, {16}}
	from := netip.MustParseAddrPort("192.0.2.1:1")
	var devices [2]*wireguard.Device
	var peers [2]*wireguard.Peer
	for i := range devices {
		devices[i] = wireguard.NewDevice(private[i], wireguard.PlainPolicy(), rand.NewChaCha8([32]byte{byte(i)}), now)
		peer, err := devices[i].AddPeer(private[1-i].Public(), wireguard.PresharedKey{}, wireguard.PeerConfig{ConnectionID: conn}, now)
		if err != nil {
			t.Fatal(err)
		}
		peers[i] = peer
	}
	var out wireguard.Output
	for round := 0; len(keys) < n; round++ {
		if round > 100*n {
			t.Fatal("the handshakes never end")
		}
		now = now.Add(6 * time.Second)
		peers[0].Initiate(wireguard.WhyRekey, now)
		for i := range 6 {
			d := devices[i%2]
			d.Drain(&out)
			if i%2 == 1 {
				for _, s := range out.NewSessions {
					keys = append(keys, s.Keypair)
				}
			}
			jobs := append([]wireguard.Job(nil), out.Jobs...)
			for _, m := range out.Datagrams {
				devices[1-i%2].HandleMessage(m.Bytes, from, now)
			}
			for _, j := range jobs {
				d.HandleJob(j.Run(), now)
			}
		}
	}
	return keys[:n]
}

func TestConnectionIDsStayUniqueThroughGrowth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable(1280)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		taken := map[uint32]bool{}
		for range rapid.IntRange(1, 2000).Draw(t, "steps") {
			if len(taken) > 0 && rng.IntN(3) == 0 {
				for id := range taken {
					table.Apply([]Change{DropConnection{ID: id}})
					delete(taken, id)
					break
				}
				continue
			}
			id, ok := table.TakeConnectionID(rng.Uint32)
			if !ok || taken[id] || id > 0xffffff {
				t.Fatalf("id %x, %v, taken before: %v", id, ok, taken[id])
			}
			taken[id] = true
		}
		slots := map[uint32]bool{}
		n := uint32(len(table.connections.Load().slots))
		for id := range taken {
			if slots[id%n] {
				t.Fatalf("two ids share slot %d of %d", id%n, n)
			}
			slots[id%n] = true
		}
	})
}

func TestPeersAreBounded(t *testing.T) {
	table := NewTable(1280)
	var one uint32
	for i := range maxConnections {
		id, ok := table.TakeConnectionID(rand.Uint32)
		if !ok {
			t.Fatalf("refused after %d", i)
		}
		one = id
	}
	if _, ok := table.TakeConnectionID(rand.Uint32); ok {
		t.Error("one peer too many")
	}
	table.FreeConnectionID(one)
	if _, ok := table.TakeConnectionID(rand.Uint32); !ok {
		t.Error("no room after one peer went")
	}
}

func TestFreeingWhatWasNotTakenPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewTable(1280).FreeConnectionID(7)
}

// A session is found under its own 32 bits and no other; the ninth session of a peer takes the
// place of the first.
func TestSessionIsFoundByItsWholeIndex(t *testing.T) {
	table := NewTable(1280)
	conn, _ := table.TakeConnectionID(rand.Uint32)
	p := NewPeer(1, RoamNever, 2)
	var all []*Session
	for _, k := range keysOf(t, conn, SessionsPerPeer+2) {
		s := NewSession(p, k, false, never)
		table.Apply([]Change{PutSession{s}})
		all = append(all, s)
	}
	live := map[uint32]*Session{}
	for _, s := range all {
		live[s.Index%SessionsPerPeer] = s
	}
	for _, s := range all {
		want := s
		if live[s.Index%SessionsPerPeer] != s {
			want = nil
		}
		if got := table.Session(s.Index); got != want {
			t.Errorf("index %08x leads to %p, want %p", s.Index, got, want)
		}
	}
	last := all[len(all)-1]
	for bit := range 32 {
		if got := table.Session(last.Index ^ 1<<bit); got == last {
			t.Errorf("found under an index with bit %d changed", bit)
		}
	}
	table.Apply([]Change{DelSession{last}, DelSession{all[0]}, DropConnection{ID: conn}, DelSession{last}})
	if table.Session(last.Index) != nil {
		t.Error("found after it was withdrawn")
	}
}

// Longest prefix match against a list that is searched from end to end, and With and Without
// leave what they started from alone.
func TestRoutesFindTheLongestPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := func(name string) netip.Addr {
			b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 128, 255}), 4, 4).Draw(t, name)
			if rapid.Bool().Draw(t, name+" v6") {
				return netip.AddrFrom16([16]byte{0: 0xfd, 1: b[0], 14: b[2], 15: b[3]})
			}
			return netip.AddrFrom4([4]byte(b))
		}
		routes, model := NewRoutes(), map[netip.Prefix]*Peer{}
		before, beforeLen := routes, 0
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			a := addr("prefix")
			p := netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
			if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				before, beforeLen, routes = routes, routes.Len(), routes.Without(p)
				delete(model, p.Masked())
			} else {
				peer := NewPeer(0, RoamNever, 1)
				before, beforeLen, routes = routes, routes.Len(), routes.With(p, peer)
				model[p.Masked()] = peer
			}
			if routes.Len() != len(model) || before.Len() != beforeLen || routes.Owner(p) != model[p.Masked()] {
				t.Fatalf("%d prefixes, want %d", routes.Len(), len(model))
			}
		}
		for range 20 {
			a := addr("address")
			var want *Peer
			longest := -1
			for p, peer := range model {
				if p.Contains(a) && p.Bits() > longest {
					want, longest = peer, p.Bits()
				}
			}
			if got := routes.Peer(a); got != want {
				t.Fatalf("%v leads to %p, want %p", a, got, want)
			}
		}
	})
}

func TestNextHopPrefersTheNewestConfirmedSession(t *testing.T) {
	const now = 1000
	table := NewTable(1280)
	conn, _ := table.TakeConnectionID(rand.Uint32)
	p := NewPeer(1, RoamNever, 2)
	keys := keysOf(t, conn, 3)
	old := NewSession(p, keys[0], true, Lifetime{RejectAt: now + 10, SendUntil: now + 5, RekeyOnSendAt: Never, RekeyOnReceiveAt: Never})
	next := NewSession(p, keys[1], false, never)
	path := &Path{Remote: netip.MustParseAddrPort("192.0.2.1:1")}
	want := func(why string, at int64, s *Session, v Verdict) {
		t.Helper()
		gotPath, got, verdict := p.NextHop(at)
		if got != s || verdict != v || (v == Pass) != (gotPath == path) {
			t.Errorf("%s: session %p and %v, want %p and %v", why, got, verdict, s, v)
		}
	}
	want("nothing is published", now, nil, DropNoSession)
	table.Apply([]Change{PutSession{old}, SetCurrent{old}})
	want("there is no path", now, nil, DropNoPath)
	table.Apply([]Change{SetPath{p, path}, PutSession{next}, SetNext{next}})
	want("the next session is not confirmed", now, old, Pass)
	want("the current session is past its time", now+5, nil, DropNoSession)
	next.Touch(0, 0, 32, now)
	want("the next session is confirmed", now, next, Pass)
	table.Apply([]Change{SetCurrent{next}, DelSession{old}})
	want("the next session became the current one", now, next, Pass)
	if p.next.Load() != nil || !next.Confirmed() || !old.Expired(now+10) || old.Expired(now+9) {
		t.Error("states are wrong")
	}
	table.Apply([]Change{DelPeer{p}})
	want("the peer is withdrawn", now, nil, DropNoSession)
}

// A wish is reported once, and again after it was not heard, or was answered.
func TestWishesAreReportedOnce(t *testing.T) {
	conn := uint32(5)
	p := NewPeer(1, RoamFollow, 2)
	s := NewSession(p, keysOf(t, conn, 1)[0], false, Lifetime{RejectAt: Never, SendUntil: Never, RekeyOnSendAt: 100, RekeyOnReceiveAt: 100})
	path := &Path{Remote: netip.MustParseAddrPort("192.0.2.1:1")}
	p.path.Store(path)
	elsewhere := netip.MustParseAddrPort("192.0.2.9:9")
	expect := func(why string, got, want Wish) {
		t.Helper()
		if got != want {
			t.Errorf("%s: wish %05b, want %05b", why, got, want)
		}
	}
	expect("a keepalive confirms", s.Touch(0, 0, 32, 50), WishConfirmed)
	s.Unheard(WishConfirmed)
	expect("unheard", s.Touch(0, 0, 32, 50), WishConfirmed)
	expect("heard", s.Touch(0, 0, 32, 50), 0)
	expect("data wakes the timers", s.Touch(0, 1, 100, 50), WishTimers)
	expect("awake", s.Sent(0, 100, 50), 0)
	p.Rest()
	expect("after a rest", s.Sent(0, 100, 50), WishTimers)
	s.Unheard(WishTimers)
	expect("unheard", s.Touch(0, 1, 100, 50), WishTimers)
	expect("old enough to rekey", s.Sent(0, 100, 100), WishRekey)
	expect("asked already", s.Touch(0, 1, 100, 100), 0)
	s.Unheard(WishRekey)
	expect("unheard", s.Touch(0, 1, 100, 100), WishRekey)
	expect("no session", p.Want(), WishSession)
	expect("wanted already", p.Want(), 0)
	p.Unwanted()
	expect("given up", p.Want(), WishSession)
	p.Unheard(WishSession)
	expect("unheard", p.Want(), WishSession)
	expect("from the path", p.ArrivedFrom(path.Remote, path.Local), 0)
	expect("from elsewhere", p.ArrivedFrom(elsewhere, path.Local), WishRoam)
	expect("reported for this path", p.ArrivedFrom(elsewhere, path.Local), 0)
	p.Unheard(WishRoam)
	expect("unheard", p.ArrivedFrom(elsewhere, path.Local), WishRoam)
	p.path.Store(&Path{Remote: path.Remote})
	expect("for a new path", p.ArrivedFrom(elsewhere, path.Local), WishRoam)
	p.Roaming = RoamNever
	expect("a peer that does not roam", p.ArrivedFrom(elsewhere, path.Local), 0)
}

func TestStampsLagByAtMostTheirGrain(t *testing.T) {
	p := NewPeer(1, RoamNever, 2)
	s := NewSession(p, keysOf(t, 5, 1)[0], true, never)
	const t0 = 10 * StampGrain
	s.Touch(0, 1, 100, t0)
	s.Sent(0, 100, t0)
	s.Touch(0, 0, 32, t0+StampGrain-1)
	if a := p.Activity(); a != (Activity{t0, t0, t0, t0}) {
		t.Errorf("stamps %+v", a)
	}
	s.Touch(0, 0, 32, t0+StampGrain)
	if a := p.Activity(); a.Received != t0+StampGrain || a.DataReceived != t0 {
		t.Errorf("a keepalive leaves %+v", a)
	}
	p.SentKeepalive(32, t0+1)
	p.SentByControl(132, t0+2)
	if a := p.Activity(); a.Sent != t0+2 || a.DataSent != t0+2 {
		t.Errorf("control leaves %+v", a)
	}
}

func TestTrafficSumsOverLanes(t *testing.T) {
	p := NewPeer(1, RoamNever, 4)
	s := NewSession(p, keysOf(t, 5, 1)[0], true, never)
	for lane := range 3 {
		s.Touch(lane, 1, 100+lane, 1)
		s.Sent(lane, 1000+lane, 1)
	}
	p.Handshook(148, 92)
	p.SentKeepalive(32, 1)
	if received, sent := p.Traffic(); received != 303+148 || sent != 3003+92+32 {
		t.Errorf("received %d, sent %d", received, sent)
	}
}

func TestAcceptKeepsForgeriesOutOfTheWindow(t *testing.T) {
	s := NewSession(NewPeer(1, RoamNever, 1), keysOf(t, 5, 1)[0], true, never)
	fresh := []bool{true, false, true, true}
	s.Accept([]uint64{0, 1, 0, 2}, fresh)
	if !fresh[0] || fresh[1] || fresh[2] || !fresh[3] {
		t.Errorf("fresh %v", fresh)
	}
	again := []bool{true}
	if s.Accept([]uint64{1}, again); !again[0] {
		t.Error("a forgery left its counter in the window")
	}
}
