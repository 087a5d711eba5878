package wireguard

import (
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// loadedPolicy demands a cookie for every message.
func loadedPolicy(p Policy) Policy {
	p.HandshakeBudget = 0
	return p
}

func TestLoadedDeviceDemandsACookieAndThenAnswers(t *testing.T) {
	for name, policy := range map[string]Policy{"plain": PlainPolicy(), "ICE": PortalICEPolicy()} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, policy, loadedPolicy(policy), PresharedKey{})
			s.hosts[0].peer.Initiate(WhyNominated, s.now)
			s.hosts[0].settle()
			s.advance(time.Second)
			if s.types[KindCookie] != 1 || s.hosts[0].sessions != 0 || s.hosts[1].sessions != 0 {
				t.Fatalf("kinds %v", s.types)
			}
			s.advance(5 * time.Second) // the retransmission carries mac2
			mustShare(t, s)
			if s.hosts[1].device.Dropped(DropLoad) != 1 {
				t.Errorf("%d messages were sent a cookie, want 1", s.hosts[1].device.Dropped(DropLoad))
			}
		})
	}
}

// A response is a handshake message too: an initiator under load asks for its mac2.
func TestLoadedInitiatorDemandsACookieOfTheResponder(t *testing.T) {
	s := newSim(t, loadedPolicy(PlainPolicy()), PlainPolicy(), PresharedKey{})
	s.hosts[0].send()
	s.advance(time.Second)
	if s.hosts[0].sessions != 0 || s.types[KindCookie] != 1 {
		t.Fatalf("kinds %v", s.types)
	}
	s.advance(5 * time.Second)
	mustShare(t, s)
}

func TestBudgetIsPerSecondOverAllPeers(t *testing.T) {
	l := loadMeter{budget: 100, jobs: 32}
	for i := range 250 {
		if got, want := l.loaded(0, epoch.Add(time.Duration(i)*time.Millisecond)), i >= 100; got != want {
			t.Fatalf("message %d: loaded = %v", i, got)
		}
	}
	if l.loaded(0, epoch.Add(time.Second)) {
		t.Error("still loaded in the next second")
	}
	if !l.loaded(32, epoch.Add(time.Second)) || !l.loaded(0, epoch.Add(1999*time.Millisecond)) {
		t.Error("waiting jobs do not count as load for a second")
	}
	if l.loaded(0, epoch.Add(2*time.Second)) {
		t.Error("load by jobs lasts")
	}
}

func TestCookieIsBoundToItsSourceAndItsTime(t *testing.T) {
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	for name, c := range map[string]struct {
		port bool
		to   string
		wait time.Duration
		same bool
	}{
		"same source":                 {true, "192.0.2.1:1", 119 * time.Second, true},
		"mapped form of it":           {true, "[::ffff:192.0.2.1]:1", 0, true},
		"other port, bound":           {true, "192.0.2.1:2", 0, false},
		"other port, not bound":       {false, "192.0.2.1:2", 0, true},
		"other address":               {false, "192.0.2.2:1", 0, false},
		"same source, secret expired": {true, "192.0.2.1:1", 120 * time.Second, false},
	} {
		m, rng := cookieMaker{bindsPort: c.port}, entropy(1)
		one := m.cookieFor(rng, at("192.0.2.1:1"), epoch)
		two := m.cookieFor(rng, at(c.to), epoch.Add(c.wait))
		if (one == two) != c.same {
			t.Errorf("%s: same cookie = %v", name, one == two)
		}
	}
}

func TestSourcesHaveTheirOwnBucketsAndTheTableIsBounded(t *testing.T) {
	var l sourceLimiter
	one, two := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	other := netip.MustParseAddr("2001:db8:0:1::1")
	for i := range sourceBurst {
		if from := []netip.Addr{one, two}[i%2]; !l.allow(from, epoch) {
			t.Fatalf("initiation %d was refused", i)
		}
	}
	if l.allow(one, epoch) || l.allow(two, epoch) {
		t.Error("the /64 has spent its burst")
	}
	if !l.allow(other, epoch) {
		t.Error("another /64 pays for it")
	}
	if !l.allow(one, epoch.Add(time.Second/sourceRate)) || l.allow(one, epoch.Add(time.Second/sourceRate)) {
		t.Error("the bucket does not fill at its rate")
	}
	now := epoch.Add(time.Hour)
	for i := range 3 * maxSources {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if got := l.allow(a, now); got != (i < maxSources) {
			t.Fatalf("source %d: %v", i, got)
		}
	}
	if len(l.buckets) != maxSources {
		t.Errorf("%d entries, want %d", len(l.buckets), maxSources)
	}
	if !l.allow(one, now.Add(fillTime)) || len(l.buckets) != 1 {
		t.Errorf("full buckets are not forgotten: %d entries", len(l.buckets))
	}
}

func TestCookieRepliesThatAnswerNothingAreIgnored(t *testing.T) {
	s := newSim(t, PlainPolicy(), loadedPolicy(PlainPolicy()), PresharedKey{})
	a := s.hosts[0]
	var reply []byte
	s.fate = func(from int, msg []byte) []time.Duration {
		if from == 1 {
			reply = append([]byte(nil), msg...)
			return nil
		}
		return []time.Duration{0}
	}
	a.send()
	s.advance(time.Second)
	if Kind(reply) != KindCookie {
		t.Fatal("no cookie reply")
	}
	for name, at := range map[string]int{"index": 5, "nonce": 20, "cookie": 40, "tag": 63} {
		forged := append([]byte(nil), reply...)
		forged[at] ^= 1
		a.receive(forged)
		if !a.peer.jar.since.IsZero() {
			t.Errorf("%s changed: accepted", name)
		}
	}
	a.receive(reply)
	if a.peer.jar.since.IsZero() {
		t.Error("the genuine one is not accepted")
	}
	s.advance(5 * time.Second) // another initiation: the reply is about the one before
	a.peer.jar.since = time.Time{}
	a.receive(reply)
	if !a.peer.jar.since.IsZero() {
		t.Error("a reply to an older message is accepted")
	}
}

// Both halves against wireguard-go's cookie code.
func TestCookiesInteroperate(t *testing.T) {
	s := newSim(t, PlainPolicy(), loadedPolicy(PlainPolicy()), PresharedKey{})
	a, b := s.hosts[0], s.hosts[1]
	var checker device.CookieChecker
	checker.Init(device.NoisePublicKey(b.device.PublicKey()))
	var sent []byte
	s.fate = func(from int, msg []byte) []time.Duration {
		sent = append([]byte(nil), msg...)
		return nil
	}
	source := []byte("source")
	a.send()
	if !checker.CheckMAC1(sent) || checker.CheckMAC2(sent, source) {
		t.Fatal("mac1 must be valid, mac2 not yet")
	}
	theirs, err := checker.CreateReply(sent, 100<<8|1, source)
	if err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, CookieSize)
	reply[0] = byte(theirs.Type)
	reply[4], reply[5] = byte(theirs.Receiver), byte(theirs.Receiver>>8)
	copy(reply[8:], theirs.Nonce[:])
	copy(reply[32:], theirs.Cookie[:])
	a.receive(reply)
	s.advance(6 * time.Second)
	if !checker.CheckMAC1(sent) || !checker.CheckMAC2(sent, source) {
		t.Error("mac2 is not valid after the cookie")
	}

	var generator device.CookieGenerator
	generator.Init(device.NoisePublicKey(b.device.PublicKey()))
	msg := make([]byte, InitiationSize)
	msg[0] = byte(KindInitiation)
	generator.AddMacs(msg)
	b.device.HandleMessage(msg, a.addr(), s.now)
	b.settle()
	consumed := device.MessageCookieReply{Type: 3, Nonce: [24]byte(sent[8:32]), Cookie: [32]byte(sent[32:64])}
	if Kind(sent) != KindCookie || !generator.ConsumeReply(&consumed) {
		t.Fatal("our cookie reply is not accepted")
	}
	generator.AddMacs(msg)
	cookie := b.device.cookies.cookieFor(b.device.rng, a.addr(), s.now)
	if !checkMac2(&cookie, msg) {
		t.Error("their mac2 is not accepted")
	}
}
