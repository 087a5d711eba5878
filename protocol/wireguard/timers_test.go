package wireguard

import (
	"testing"
	"time"
)

// sent records when messages of a kind leave a host.
func record(s *sim, from int, kind MessageKind) *[]time.Duration {
	var at []time.Duration
	before := s.fate
	s.fate = func(f int, msg []byte) []time.Duration {
		if f == from && Kind(msg) == kind {
			at = append(at, s.now.Sub(epoch))
		}
		return before(f, msg)
	}
	return &at
}

// connected is a simulation whose host 0 has initiated the one session, at the start of time.
func connected(t *testing.T, a, b Policy) *sim {
	t.Helper()
	s := newSim(t, a, b, PresharedKey{9})
	s.hosts[0].peer.Initiate(WhyRekey, s.now)
	s.hosts[0].settle()
	s.advance(time.Second)
	mustShare(t, s)
	return s
}

// every calls f once per interval until the clock shows end.
func (s *sim) every(interval, end time.Duration, f func()) {
	for s.now.Before(epoch.Add(end)) {
		f()
		s.advance(interval)
	}
}

func within(t *testing.T, what string, got, from, to time.Duration) {
	t.Helper()
	if got < from || got > to {
		t.Errorf("%s at %v, want %v – %v", what, got, from, to)
	}
}

func TestUnansweredInitiationsAreRepeatedAndGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		policy   Policy
		gap      time.Duration
		min, max int
	}{
		"plain":    {PlainPolicy(), 5 * time.Second, 16, 18},
		"ICE":      {PortalICEPolicy(), 5 * time.Second, 4, 4},
		"ICE-less": {PortalICELessPolicy(), 2 * time.Second, 38, 45},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, c.policy, c.policy, PresharedKey{})
			s.fate = func(int, []byte) []time.Duration { return nil }
			at := record(s, 0, KindInitiation)
			s.hosts[0].peer.Initiate(WhyNominated, s.now)
			s.hosts[0].settle()
			s.advance(500 * time.Second)
			if n := len(*at); n < c.min || n > c.max {
				t.Errorf("%d initiations, want %d – %d", n, c.min, c.max)
			}
			for i := 1; i < len(*at); i++ {
				within(t, "distance", (*at)[i]-(*at)[i-1], c.gap, c.gap+333*time.Millisecond)
			}
			if e := s.hosts[0].expired; len(e) != 1 || e[0] != NoResponse {
				t.Errorf("expired %v, want once for no response", e)
			}
		})
	}
}

func TestInitiatorRekeysAfterTimeOnlyWhileSending(t *testing.T) {
	s := connected(t, PlainPolicy(), PlainPolicy())
	s.hosts[1].replies = true
	a, b := record(s, 0, KindInitiation), record(s, 1, KindInitiation)
	s.every(time.Second, time.Hour, s.hosts[0].send)
	if n := len(*a); n < 28 || n > 30 {
		t.Errorf("initiator sent %d initiations in an hour, want one in 120 – 125 s", n)
	}
	within(t, "first rekey", (*a)[0], 120*time.Second, 125100*time.Millisecond)
	if len(*b) != 0 {
		t.Errorf("responder sent initiations at %v", *b)
	}
	if s.hosts[0].refused+s.hosts[1].refused != 0 {
		t.Error("data was refused in the course of rekeying")
	}
}

func TestInitiatorRekeysOnReceiveInTimeBeforeTheSessionDies(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		at     time.Duration
	}{
		"plain":    {PlainPolicy(), 165 * time.Second},
		"ICE":      {PortalICEPolicy(), 165 * time.Second},
		"ICE-less": {PortalICELessPolicy(), 173 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := connected(t, c.policy, c.policy)
			p, k := s.hosts[0].peer, s.hosts[0].peer.Current()
			early := k.Created().Add(c.at - time.Millisecond)
			p.Observe(Activity{Received: early}, early)
			if p.attempting() {
				t.Fatal("too early")
			}
			p.Observe(Activity{Received: k.Created().Add(c.at)}, k.Created().Add(c.at))
			if !p.attempting() {
				t.Error("no handshake")
			}
		})
	}
}

func TestResponderNeverRekeysByAge(t *testing.T) {
	s := connected(t, PlainPolicy(), PlainPolicy())
	at := epoch.Add(179 * time.Second)
	s.hosts[1].peer.Observe(Activity{Sent: at, Received: at}, at)
	if s.hosts[1].peer.attempting() {
		t.Error("the responder has started a handshake")
	}
}

func TestUsedUpKeyIsReplacedByEitherSide(t *testing.T) {
	for i := range 2 {
		s := connected(t, PlainPolicy(), PlainPolicy())
		h := s.hosts[i]
		h.peer.Current().counter.Store(RekeyAfterMessages - 1)
		h.send()
		s.hosts[1-i].send()
		s.advance(20 * time.Second)
		if h.sessions != 2 {
			t.Errorf("host %d: %d sessions, want a second one", i, h.sessions)
		}
	}
}

func TestDataWithoutReplyStartsAHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		after  time.Duration
	}{
		"plain":    {PlainPolicy(), 15 * time.Second},
		"ICE":      {PortalICEPolicy(), 15 * time.Second},
		"ICE-less": {PortalICELessPolicy(), 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := connected(t, c.policy, c.policy)
			s.advance(59 * time.Second) // idle: the bell is armed
			s.fate = func(int, []byte) []time.Duration { return nil }
			at := record(s, 0, KindInitiation)
			s.hosts[0].send()
			s.advance(17 * time.Second)
			if len(*at) == 0 {
				t.Fatal("no initiation")
			}
			within(t, "initiation", (*at)[0]-60*time.Second, c.after, c.after+333*time.Millisecond)
		})
	}
}

// The peer dies in the middle of a two-way flow: stamps are looked at every half keepalive time,
// so the handshake comes up to that much later than the paper has it.
func TestDeadPeerIsNoticedInTheMiddleOfAFlow(t *testing.T) {
	s := connected(t, PlainPolicy(), PlainPolicy())
	s.hosts[1].replies = true
	s.every(100*time.Millisecond, 33*time.Second, s.hosts[0].send)
	s.fate = func(int, []byte) []time.Duration { return nil }
	at := record(s, 0, KindInitiation)
	s.every(100*time.Millisecond, 60*time.Second, s.hosts[0].send)
	if len(*at) == 0 {
		t.Fatal("no initiation")
	}
	within(t, "initiation", (*at)[0]-33*time.Second, 15*time.Second, 21*time.Second)
}

func TestReceiverOfDataSendsAKeepaliveInTime(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		after  time.Duration
	}{
		"plain":    {PlainPolicy(), 10 * time.Second},
		"ICE":      {PortalICEPolicy(), 10 * time.Second},
		"ICE-less": {PortalICELessPolicy(), 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := connected(t, c.policy, c.policy)
			s.advance(59 * time.Second)
			at := record(s, 1, KindData)
			s.hosts[0].send()
			s.advance(50 * time.Second)
			if len(*at) != 1 {
				t.Fatalf("keepalives at %v, want one", *at)
			}
			within(t, "keepalive", (*at)[0]-60*time.Second, c.after, c.after+5*time.Millisecond)
		})
	}
}

// A one-way flow is answered by keepalives often enough that its sender never takes the peer for
// dead, whatever the sender's packets are spaced by.
func TestOneWayFlowIsNotMistakenForADeadPeer(t *testing.T) {
	for _, policy := range []Policy{PlainPolicy(), PortalICEPolicy(), PortalICELessPolicy()} {
		for _, gap := range []time.Duration{70 * time.Millisecond, time.Second, 4 * time.Second, 9 * time.Second, 14 * time.Second} {
			s := connected(t, policy, policy)
			at := record(s, 0, KindInitiation)
			s.every(gap, 115*time.Second, s.hosts[0].send)
			if len(*at) != 0 {
				t.Errorf("keepalive %v, a packet every %v: initiations at %v", policy.KeepaliveTimeout, gap, *at)
			}
		}
	}
}

func TestPersistentKeepaliveRunsWithoutTrafficAndMakesItsSession(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	at := record(s, 0, KindData)
	s.hosts[0].peer.SetPersistentKeepalive(25*time.Second, s.now)
	s.advance(10 * time.Minute)
	mustShare(t, s)
	if n := len(*at); n < 24 || n > 32 {
		t.Errorf("%d keepalives in 10 minutes, want one per 25 s and one per session", n)
	}
	s.hosts[0].peer.SetPersistentKeepalive(0, s.now)
	n := len(*at)
	s.advance(10 * time.Minute)
	if len(*at) != n {
		t.Error("keepalives go on after they were turned off")
	}
}

func TestPersistentKeepaliveOutlivesAnUnreachablePeer(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	s.fate = func(int, []byte) []time.Duration { return nil }
	s.hosts[0].peer.SetPersistentKeepalive(25*time.Second, s.now)
	s.advance(time.Hour)
	if n := s.types[KindInitiation]; n < 400 || n > 720 {
		t.Errorf("%d initiations in an hour, want about one per 5 s with pauses", n)
	}
	s.fate = func(int, []byte) []time.Duration { return []time.Duration{time.Millisecond} }
	s.advance(time.Minute)
	mustShare(t, s)
}

func TestSessionsDieAndIdleDevicesSleep(t *testing.T) {
	for name, policy := range map[string]Policy{"plain": PlainPolicy(), "ICE": PortalICEPolicy(), "ICE-less": PortalICELessPolicy()} {
		t.Run(name, func(t *testing.T) {
			s := connected(t, policy, policy)
			s.hosts[0].send()
			s.hosts[1].send()
			s.advance(178 * time.Second)
			if len(s.hosts[0].live) != 1 {
				t.Fatal("the session died before its time")
			}
			s.advance(2 * time.Second)
			if len(s.hosts[0].live)+len(s.hosts[1].live) != 0 {
				t.Error("the session outlives RejectAfterTime")
			}
			s.advance(time.Hour)
			if s.wakes > 2*12 {
				t.Errorf("%d timeouts for one exchange", s.wakes)
			}
			for i, h := range s.hosts {
				if at, armed := h.device.NextTimeout(); armed {
					t.Errorf("idle host %d waits for %v", i, at.Sub(epoch))
				}
				if lost := len(h.expired) > 0; lost != policy.ExpireWithoutSession {
					t.Errorf("host %d: expired %v", i, h.expired)
				}
			}
		})
	}
}

func TestInitiatorStopsSealingBeforeTheSessionDies(t *testing.T) {
	s := connected(t, PortalICEPolicy(), PortalICEPolicy())
	a, b := s.hosts[0].peer.Current(), s.hosts[1].peer.Current()
	if d := a.SendUntil().Sub(a.Created()); d != 170*time.Second {
		t.Errorf("initiator seals for %v, want 170 s", d)
	}
	if d := b.SendUntil().Sub(b.Created()); d != 180*time.Second {
		t.Errorf("responder seals for %v, want 180 s", d)
	}
}

func TestWhoMayInitiateInPortalMode(t *testing.T) {
	s := newSim(t, PortalICEPolicy(), PortalICEPolicy(), PresharedKey{})
	p := s.hosts[0].peer
	if p.Initiate(WhyData, s.now) {
		t.Error("data has started a handshake")
	}
	if !p.Initiate(WhyNominated, s.now) {
		t.Error("a nomination has not")
	}
	s.hosts[0].settle()
	s.advance(10 * time.Second)
	mustShare(t, s)
	if p.Initiate(WhyNominated, s.now) {
		t.Error("a second nomination within 20 s has")
	}
	s.advance(10 * time.Second)
	if !p.Initiate(WhyNominated, s.now) {
		t.Error("a nomination after 20 s has not")
	}
}

func TestInitiationsAreNeverCloserThanTheRekeyTimeout(t *testing.T) {
	s := connected(t, PlainPolicy(), PlainPolicy())
	at := record(s, 0, KindInitiation)
	if !s.hosts[0].peer.Initiate(WhyRekey, s.now) {
		t.Fatal("refused instead of put off")
	}
	s.hosts[0].settle()
	s.advance(10 * time.Second)
	if len(*at) != 1 {
		t.Fatalf("initiations at %v", *at)
	}
	within(t, "second initiation", (*at)[0], 5*time.Second, 5*time.Second)
}

func TestDividedScalesEveryDuration(t *testing.T) {
	p := PortalICEPolicy().Divided(10)
	if p.RekeyAfterTime != 12*time.Second || p.JitterMax != 33300*time.Microsecond || p.NominationDebounce != 2*time.Second {
		t.Errorf("%+v", p)
	}
}
