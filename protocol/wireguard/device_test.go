package wireguard

import (
	"errors"
	"testing"
	"time"
)

func TestHandshakeMakesASharedSession(t *testing.T) {
	for name, psk := range map[string]PresharedKey{"without preshared key": {}, "with preshared key": {1, 2, 3}} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, PlainPolicy(), PlainPolicy(), psk)
			a, b := s.hosts[0], s.hosts[1]
			a.send() // refused, starts the handshake
			s.advance(100 * time.Millisecond)
			mustShare(t, s)
			a.send()
			b.send()
			s.advance(100 * time.Millisecond)
			if a.got != 1 || b.got != 1 || s.types[KindInitiation] != 1 || s.types[KindResponse] != 1 {
				t.Errorf("got %d and %d data, kinds %v", a.got, b.got, s.types)
			}
			k := a.peer.Current()
			if k.LocalIndex() != 100<<8|1 || k.RemoteIndex() != 101<<8|1 || !k.Initiator() {
				t.Errorf("indices %x, %x; initiator %v", k.LocalIndex(), k.RemoteIndex(), k.Initiator())
			}
		})
	}
}

func TestDifferentPresharedKeysNeverMakeASession(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{1})
	s.hosts[0].peer.SetPresharedKey(PresharedKey{2})
	s.hosts[0].send()
	s.advance(200 * time.Second)
	if s.hosts[0].sessions != 0 || s.hosts[1].got != 0 {
		t.Error("a session was made")
	}
	if s.hosts[0].device.Dropped(DropForged) == 0 {
		t.Error("no response was counted as forged")
	}
}

func TestStrangersGetNoAnswer(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	s.hosts[1].device.RemovePeer(s.hosts[1].peer.PublicKey(), s.now)
	s.hosts[0].send()
	s.advance(time.Second)
	if s.types[KindResponse] != 0 || s.hosts[1].device.Dropped(DropUnknownPeer) != 1 {
		t.Errorf("responses %d, unknown %d", s.types[KindResponse], s.hosts[1].device.Dropped(DropUnknownPeer))
	}
}

func TestReplayedAndOlderInitiationsAreRefused(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	var recorded [][]byte
	s.fate = func(from int, msg []byte) []time.Duration {
		if Kind(msg) == KindInitiation {
			recorded = append(recorded, append([]byte(nil), msg...))
		}
		return nil
	}
	a, b := s.hosts[0], s.hosts[1]
	a.send()
	s.advance(6 * time.Second)
	if len(recorded) != 2 {
		t.Fatalf("%d initiations, want 2", len(recorded))
	}
	for _, i := range []int{1, 1, 0} { // new, replayed, older
		s.advance(time.Second)
		b.receive(recorded[i])
	}
	if b.sessions != 1 || b.device.Dropped(DropReplayed) != 2 {
		t.Errorf("sessions %d, replays %d", b.sessions, b.device.Dropped(DropReplayed))
	}
}

func TestInitiationsFasterThanTheGapAreDropped(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	a, b := s.hosts[0], s.hosts[1]
	s.fate = func(int, []byte) []time.Duration { return nil }
	for range 10 { // an initiator that does not keep to the paper's five seconds
		a.peer.lastInit, a.peer.attemptSince = time.Time{}, time.Time{}
		s.fate = func(from int, msg []byte) []time.Duration {
			if from == 0 {
				return []time.Duration{0}
			}
			return nil
		}
		a.peer.Initiate(WhyData, s.now)
		a.settle()
		s.advance(5 * time.Millisecond)
	}
	if b.sessions != 3 { // within 50 ms: at 0, 20 and 40 ms
		t.Errorf("%d sessions, want 3", b.sessions)
	}
	if b.device.Dropped(DropFlood) != 7 {
		t.Errorf("%d flood drops, want 7", b.device.Dropped(DropFlood))
	}
}

func TestNinthSessionReplacesTheOldest(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	a := s.hosts[0]
	for i := range 300 { // past the wrap of the session number
		a.peer.Initiate(WhyRekey, s.now)
		a.settle()
		s.advance(5500 * time.Millisecond)
		if want := i + 1; a.sessions != want {
			t.Fatalf("%d sessions made, want %d", a.sessions, want)
		}
		mustShare(t, s)
	}
	if n := a.peer.Sessions(); n != maxSessions {
		t.Errorf("%d sessions live, want %d", n, maxSessions)
	}
}

func TestRemovedPeerAndNewKeyWithdrawSessionsAndIgnoreLateJobs(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	a, b := s.hosts[0], s.hosts[1]
	a.send()
	s.advance(time.Second)
	mustShare(t, s)
	a.device.SetPrivateKey(testKeyOf(3), s.now)
	a.settle()
	b.peer.Initiate(WhyRekey, s.now.Add(5*time.Second))
	var out Output
	b.device.Drain(&out)
	if len(out.Jobs) != 1 {
		t.Fatalf("%d jobs", len(out.Jobs))
	}
	b.device.RemovePeer(b.peer.PublicKey(), s.now)
	b.device.HandleJob(out.Jobs[0].Run(), s.now)
	b.settle()
	if len(a.live) != 0 || len(b.live) != 0 || b.device.Dropped(DropStale) != 1 {
		t.Errorf("live %d and %d, stale %d", len(a.live), len(b.live), b.device.Dropped(DropStale))
	}
	if _, armed := b.device.NextTimeout(); armed {
		t.Error("a device without peers waits for something")
	}
}

func TestAddPeerRefusesWhatItCannotTellApart(t *testing.T) {
	d := NewDevice(testKeyOf(1), PlainPolicy(), entropy(1), epoch)
	other := testKeyOf(2)
	if _, err := d.AddPeer(other.Public(), PresharedKey{}, PeerConfig{ConnectionID: 1}, epoch); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		pub PublicKey
		id  uint32
	}{
		"our own key":           {d.PublicKey(), 2},
		"a key twice":           {other.Public(), 2},
		"a connection id twice": {PublicKey{1}, 1},
		"connection id zero":    {PublicKey{1}, 0},
		"25-bit connection id":  {PublicKey{1}, 1 << 24},
	} {
		if _, err := d.AddPeer(c.pub, PresharedKey{}, PeerConfig{ConnectionID: c.id}, epoch); !errors.Is(err, ErrPeer) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestPublicKeyOfLowOrderFailsQuietly(t *testing.T) {
	d := NewDevice(testKeyOf(1), PlainPolicy(), entropy(1), epoch)
	p, err := d.AddPeer(PublicKey{}, PresharedKey{}, PeerConfig{ConnectionID: 1}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	p.Initiate(WhyData, epoch)
	var out Output
	d.Drain(&out)
	d.HandleJob(out.Jobs[0].Run(), epoch)
	d.Drain(&out)
	if len(out.Datagrams) != 0 {
		t.Error("an initiation was sent to the point of low order")
	}
}

// The peer's initiations arrive and our responses are lost: the sessions that nobody uses must
// not push out the one that works.
func TestUnconfirmedSessionsDoNotReplaceTheCurrentOne(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	a, b := s.hosts[0], s.hosts[1]
	a.send()
	s.advance(time.Second)
	mustShare(t, s)
	works := b.peer.Current()
	s.fate = func(from int, msg []byte) []time.Duration {
		if from == 1 {
			return nil
		}
		return []time.Duration{time.Millisecond}
	}
	s.advance(5 * time.Second)
	a.peer.Initiate(WhyNoReply, s.now)
	a.settle()
	s.advance(80 * time.Second)
	if b.sessions < 10 {
		t.Fatalf("only %d sessions were made", b.sessions)
	}
	if b.live[works.LocalIndex()] != works || b.peer.Current() != works {
		t.Error("the session in use was replaced")
	}
}

func TestResponseGoesWhereThePolicySays(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		source bool
	}{"plain": {PlainPolicy(), true}, "portal": {PortalICEPolicy(), false}} {
		s := newSim(t, c.policy, c.policy, PresharedKey{})
		a, b := s.hosts[0], s.hosts[1]
		a.peer.Initiate(WhyNominated, s.now)
		a.settle()
		b.device.HandleMessage(s.inFlight[0].msg, a.addr(), s.now)
		var out Output
		for range 3 { // read, answer, send
			b.device.Drain(&out)
			for _, j := range out.Jobs {
				b.device.HandleJob(j.Run(), s.now)
			}
		}
		if len(out.Datagrams) != 1 || len(out.NewSessions) != 1 {
			t.Fatalf("%s: %d datagrams, %d sessions", name, len(out.Datagrams), len(out.NewSessions))
		}
		if d := out.Datagrams[0]; d.Peer != b.peer || (d.To == a.addr()) != c.source || d.To.IsValid() != c.source {
			t.Errorf("%s: response to %v", name, d.To)
		}
		if e := out.NewSessions[0]; e.Endpoint != a.addr() || e.Confirmed {
			t.Errorf("%s: endpoint %v, confirmed %v", name, e.Endpoint, e.Confirmed)
		}
	}
}

// What strangers cause is bounded: whoever never returns results gets no more jobs.
func TestJobsCausedByMessagesAreBounded(t *testing.T) {
	policy := PlainPolicy()
	policy.HandshakeBudget, policy.LoadJobs = 1<<20, 1<<20
	s := newSim(t, PlainPolicy(), policy, PresharedKey{})
	s.hosts[0].send()
	msg := s.inFlight[0].msg
	d := s.hosts[1].device
	for range 3 * maxIncomingJobs {
		d.HandleMessage(msg, s.hosts[0].addr(), s.now)
	}
	if len(d.out.Jobs) != maxIncomingJobs || d.Dropped(DropBusy) != 2*maxIncomingJobs {
		t.Errorf("%d jobs, %d refused", len(d.out.Jobs), d.Dropped(DropBusy))
	}
	var out Output
	d.Drain(&out)
	for _, j := range out.Jobs { // all claim to come from one peer
		d.HandleJob(j.Run(), s.now)
	}
	if len(d.out.Jobs) != maxAnswering {
		t.Errorf("%d examined at a time in one peer's name, want %d", len(d.out.Jobs), maxAnswering)
	}
	s.hosts[1].settle()
	if s.hosts[1].sessions != 1 || d.incoming != 0 {
		t.Errorf("%d sessions, %d jobs unaccounted for", s.hosts[1].sessions, d.incoming)
	}
}

func TestEveryDropHasAName(t *testing.T) {
	seen := map[string]bool{}
	for _, why := range Drops() {
		if name := why.String(); len(name) < 5 || seen[name] {
			t.Errorf("drop %d is called %q", why, name)
		} else {
			seen[name] = true
		}
	}
}

// Both sides start at the same instant: both handshakes may complete, and both sides must end
// with sessions the other one has.
func TestSimultaneousInitiationsConverge(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	s.hosts[0].send()
	s.hosts[1].send()
	s.advance(100 * time.Millisecond)
	mustShare(t, s)
	s.hosts[0].send()
	s.hosts[1].send()
	s.advance(20 * time.Second)
	if s.hosts[0].got != 1 || s.hosts[1].got != 1 {
		t.Errorf("got %d and %d", s.hosts[0].got, s.hosts[1].got)
	}
	if s.types[KindInitiation] != 2 {
		t.Errorf("%d initiations, want 2", s.types[KindInitiation])
	}
}

func BenchmarkJobs(b *testing.B) {
	s := newSim(b, PlainPolicy(), PlainPolicy(), PresharedKey{})
	alice, bob := s.hosts[0], s.hosts[1]
	alice.send()
	s.advance(time.Second)
	alice.device.policy.RekeyTimeout = 0
	job := func(d *Device) Job {
		var out Output
		d.Drain(&out)
		return out.Jobs[0]
	}
	alice.peer.Initiate(WhyRekey, s.now)
	write := *job(alice.device).(*writeInitiation)
	b.Run("write initiation", func(b *testing.B) {
		for b.Loop() {
			j := write
			j.Run()
		}
	})
	j := write
	alice.device.HandleJob(j.Run(), s.now)
	var out Output
	alice.device.Drain(&out)
	bob.device.HandleMessage(out.Datagrams[0].Bytes, alice.addr(), s.now)
	read := job(bob.device)
	b.Run("read initiation", func(b *testing.B) {
		for b.Loop() {
			read.Run()
		}
	})
	bob.device.HandleJob(read.Run(), s.now)
	answer := *job(bob.device).(*answerInitiation)
	b.Run("answer initiation", func(b *testing.B) {
		for b.Loop() {
			j := answer
			j.Run()
		}
	})
	last := answer
	bob.device.HandleJob(last.Run(), s.now)
	bob.device.Drain(&out)
	alice.device.HandleMessage(out.Datagrams[0].Bytes, bob.addr(), s.now)
	response := *job(alice.device).(*readResponse)
	b.Run("read response", func(b *testing.B) {
		for b.Loop() {
			j := response
			j.Run()
		}
	})
}
