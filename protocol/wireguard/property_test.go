package wireguard

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// weather is how bad a network is.
type weather struct {
	loss, dup int // percent
	spread    time.Duration
}

func (w weather) fate(rng *rand.Rand) func(int, []byte) []time.Duration {
	return func(int, []byte) (delays []time.Duration) {
		delay := func() time.Duration { return time.Millisecond + time.Duration(rng.Int64N(int64(w.spread)+1)) }
		if rng.IntN(100) >= w.loss {
			delays = append(delays, delay())
		}
		if rng.IntN(100) < w.dup {
			delays = append(delays, delay())
		}
		return delays
	}
}

// Whatever a network that loses, repeats, delays and reorders has done to two peers: once it
// works again they come to share sessions and data flows both ways. Meanwhile counters are never
// used twice, sessions stay within their bound, output is never overdue (the simulation checks
// these) and handshakes are bounded.
func TestPeersConvergeAfterAnyWeather(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]Policy{PlainPolicy(), PortalICEPolicy(), PortalICELessPolicy()}).Draw(t, "policy")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		s := newSim(t, policy, policy, PresharedKey{7})
		s.hosts[1].replies = rapid.Bool().Draw(t, "replies")
		client := s.hosts[0]
		client.peer.Initiate(WhyNominated, s.now)
		client.settle()
		for range rapid.IntRange(1, 6).Draw(t, "phases") {
			w := weather{
				loss: rapid.SampledFrom([]int{0, 5, 30, 80, 100}).Draw(t, "loss"), dup: rapid.IntRange(0, 50).Draw(t, "dup"),
				spread: time.Duration(rapid.SampledFrom([]int{0, 50, 3000, 20000}).Draw(t, "spread ms")) * time.Millisecond,
			}
			s.fate = w.fate(rng)
			gap := time.Duration(rapid.IntRange(200, 60000).Draw(t, "gap ms")) * time.Millisecond
			who := rapid.IntRange(0, 3).Draw(t, "who sends")
			end := s.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second)
			for s.now.Before(end) {
				for i, h := range s.hosts {
					if who&(1<<i) != 0 {
						h.send()
					}
				}
				s.advance(gap)
			}
		}
		s.fate = weather{}.fate(rng)
		s.advance(21 * time.Second) // what is under way arrives
		for range 40 {
			if client.peer.Current() == nil { // what control does about an expired connection
				client.peer.Initiate(WhyNominated, s.now)
				client.settle()
			}
			client.send()
			s.hosts[1].send()
			s.advance(time.Second)
		}
		if err := s.shared(); err != nil {
			t.Fatalf("%v", err)
		}
		before := [2]int{client.got, s.hosts[1].got}
		client.send()
		s.hosts[1].send()
		s.advance(time.Second)
		if client.got == before[0] || s.hosts[1].got == before[1] {
			t.Fatalf("data does not flow both ways")
		}
		most := int(s.now.Sub(epoch)/policy.RekeyTimeout+1) * 2
		if s.types[KindInitiation] > most {
			t.Fatalf("%d initiations in %v, more than %d", s.types[KindInitiation], s.now.Sub(epoch), most)
		}
	})
}

// A day of traffic over a network that loses every twentieth packet costs about as many
// handshakes as it has rekey times, for every spacing of packets.
func TestADayHasNoTimerStorm(t *testing.T) {
	for _, gap := range []time.Duration{3 * time.Second, 11 * time.Second, 100 * time.Second, 1000 * time.Second} {
		s := newSim(t, PlainPolicy(), PlainPolicy(), PresharedKey{})
		s.fate = weather{loss: 5, dup: 5, spread: 100 * time.Millisecond}.fate(rand.New(rand.NewPCG(1, 2)))
		s.hosts[1].replies = true
		s.every(gap, 24*time.Hour, s.hosts[0].send)
		perHour := float64(s.types[KindInitiation]) / 24
		if perHour > 2*3600/120 {
			t.Errorf("a packet every %v: %.1f initiations per hour", gap, perHour)
		}
		if most := 24 * 3600; s.wakes > most {
			t.Errorf("a packet every %v: %d timeouts in a day, more than %d", gap, s.wakes, most)
		}
		t.Logf("a packet every %v: %.1f initiations per hour, %d timeouts, %d refused of %d", gap, perHour, s.wakes,
			s.hosts[0].refused, int(24*time.Hour/gap))
	}
}
