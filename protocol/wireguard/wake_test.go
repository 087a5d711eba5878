package wireguard

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The queue of deadlines against a look at every peer.
func TestNextTimeoutIsTheEarliestDeadlineOfManyPeers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := NewDevice(PrivateKey{}, PlainPolicy(), entropy(1), epoch) // without a key nothing is initiated
		now, next := epoch, uint32(1)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			key := PublicKey{byte(rapid.IntRange(0, 40).Draw(t, "peer"))}
			every := time.Duration(rapid.IntRange(0, 60).Draw(t, "interval")) * time.Second
			switch p := d.Peer(key); {
			case p == nil:
				if _, err := d.AddPeer(key, PresharedKey{}, PeerConfig{ConnectionID: next, PersistentKeepalive: every}, now); err != nil {
					t.Fatalf("%v", err)
				}
				next++
			case rapid.Bool().Draw(t, "remove"):
				d.RemovePeer(key, now)
			default:
				p.SetPersistentKeepalive(every, now)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			checkDue(t, d, now)
			d.HandleTimeout(now)
			checkDue(t, d, now)
			if at, ok := d.NextTimeout(); ok && !at.After(now) {
				t.Fatalf("still due after HandleTimeout")
			}
		}
	})
}

func checkDue(t *rapid.T, d *Device, now time.Time) {
	var earliest time.Time
	due := 0
	for _, p := range d.inOrder() {
		at := p.deadline()
		earliest = earlier(earliest, at)
		if reached(at, now) {
			due++
		}
	}
	at, ok := d.NextTimeout()
	if ok != !earliest.IsZero() || ok && !at.Equal(earliest) {
		t.Fatalf("next timeout %v, %v; earliest deadline %v", at, ok, earliest)
	}
	got := d.Due(now)
	if len(got) != due {
		t.Fatalf("%d peers are due, want %d", len(got), due)
	}
	for i := 1; i < len(got); i++ {
		if got[i-1].ConnectionID() >= got[i].ConnectionID() {
			t.Fatalf("peers are not in order of connection id")
		}
	}
}

func TestDeviceWithoutAKeyDoesNothing(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	a, b := s.hosts[0], s.hosts[1]
	b.device.SetPrivateKey(PrivateKey{}, s.now)
	a.send()
	s.advance(time.Second)
	if b.device.PublicKey() != (PublicKey{}) || b.device.Dropped(DropNotHandshake) != 1 || b.peer.Initiate(WhyRekey, s.now) {
		t.Error("a device without a key takes part")
	}
	b.device.SetPrivateKey(testKeyOf(2), s.now)
	s.advance(10 * time.Second)
	mustShare(t, s)
	if got := a.peer.LastHandshake(); !got.After(epoch) || got != a.peer.Current().Created() {
		t.Errorf("last handshake %v", got)
	}
}

func TestPeerWithOurOwnNewKeyIsRemoved(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	d := s.hosts[0].device
	d.SetPrivateKey(testKeyOf(2), s.now)
	if d.Len() != 0 || s.hosts[0].peer.Initiate(WhyData, s.now) {
		t.Error("the peer is still there")
	}
}

// Jobs that are out while the key changes belong to nobody.
func TestResultsOfJobsUnderAnOldKeyAreIgnored(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	a, b := s.hosts[0], s.hosts[1]
	a.send()
	b.device.HandleMessage(s.inFlight[0].msg, a.addr(), s.now)
	results := func() (r []JobResult) {
		var out Output
		b.device.Drain(&out)
		for _, j := range out.Jobs {
			r = append(r, j.Run())
		}
		return r
	}
	first := results()
	b.device.HandleMessage(s.inFlight[0].msg, a.addr(), s.now)
	b.device.HandleJob(results()[0], s.now)
	second := results() // an answer
	b.device.SetPrivateKey(testKeyOf(4), s.now)
	b.device.HandleJob(first[0], s.now)
	b.device.HandleJob(second[0], s.now)
	if b.device.Dropped(DropStale) != 2 || b.peer.Sessions() != 0 || b.device.incoming != 0 || b.peer.answering != 0 {
		t.Errorf("stale %d, sessions %d, incoming %d", b.device.Dropped(DropStale), b.peer.Sessions(), b.device.incoming)
	}
}

func TestKeepaliveOnDemandUsesTheSessionOrMakesOne(t *testing.T) {
	s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
	a := s.hosts[0]
	a.peer.SendKeepalive(s.now)
	a.settle()
	s.advance(time.Second)
	mustShare(t, s)
	at := record(s, 0, KindData)
	a.peer.SendKeepalive(s.now)
	a.settle()
	if len(*at) != 1 {
		t.Errorf("%d keepalives, want 1", len(*at))
	}
	s.advance(time.Minute)
	if !a.peer.Quiet() || !a.bell {
		t.Error("the bell is not armed after a minute of silence")
	}
}

// A source that holds a valid cookie is still limited while the device is loaded.
func TestProvenSourceIsLimitedUnderLoad(t *testing.T) {
	s := newSim(t, PlainPolicy(), loadedPolicy(PlainPolicy()), PresharedKey{})
	a, b := s.hosts[0], s.hosts[1]
	a.send()
	s.advance(6 * time.Second)
	mustShare(t, s)
	s.advance(10 * time.Second)
	var last []byte
	s.fate = func(from int, msg []byte) []time.Duration {
		if from == 0 {
			last = append([]byte(nil), msg...)
		}
		return nil
	}
	a.peer.Initiate(WhyRekey, s.now)
	a.settle()
	for range 2 * sourceBurst {
		b.device.HandleMessage(last, a.addr(), s.now)
	}
	if got := b.device.Dropped(DropSource); got != sourceBurst {
		t.Errorf("%d dropped for their source, want %d", got, sourceBurst)
	}
	if got := len(b.device.out.Jobs); got != sourceBurst {
		t.Errorf("%d jobs, want %d", got, sourceBurst)
	}
}
