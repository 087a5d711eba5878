package fastpath

import (
	"testing"

	"github.com/firelane/firelane/fib"
)

// A wish that finds the ring full is told again with the next packets, and then no more.
func TestWishesAreToldAgainAfterAFullRing(t *testing.T) {
	p := newPair(t, 0)
	p.link(t, linkOptions{roaming: fib.RoamFollow, life: func(l *fib.Lifetime) { l.RekeyOnReceiveAt = start }})
	g := p[gateway]
	e := g.ends[0]
	s := fib.NewSession(e.peer, e.session.Keys, false, fib.Lifetime{RejectAt: fib.Never, SendUntil: fib.Never, RekeyOnSendAt: fib.Never, RekeyOnReceiveAt: start})
	g.table.Apply([]fib.Change{fib.PutSession{Session: s}, fib.SetNext{Session: s}})
	for g.inner.Push(&Punted{}, nil) {
	}
	send := func() {
		tr := g.each(0, p.message(gateway, 0, up(10).build()))
		tr[0].Remote = outer(client, 77)
		g.receive(tr...)
	}
	send()
	if g.decap.punts.rang {
		t.Error("the bell rings although nothing was pushed")
	}
	var got Punted
	for g.inner.Pop(&got) {
		if got.Wish != 0 {
			t.Errorf("a wish in a full ring: %05b", got.Wish)
		}
	}
	send()
	if !g.inner.Pop(&got) || got.Wish != fib.WishConfirmed|fib.WishRekey|fib.WishTimers|fib.WishRoam ||
		got.Peer != e.peer || got.Session != s || got.Remote != outer(client, 77) {
		t.Errorf("told %+v", got)
	}
	send()
	if g.inner.Pop(&got) {
		t.Errorf("told twice: %05b", got.Wish)
	}
}

func TestSessionIsWishedOnceForSuperpackets(t *testing.T) {
	p := newPair(t, 1)
	g := p[gateway]
	g.table.Apply([]fib.Change{fib.DelSession{Session: g.ends[0].session}})
	for g.inner.Push(&Punted{}, nil) {
	}
	var got Punted
	g.transmit(down(300).asRead(100))
	for g.inner.Pop(&got) {
	}
	g.transmit(down(300).asRead(100), down(300).asRead(100))
	if !g.inner.Pop(&got) || got.Kind != PuntWish || got.Wish != fib.WishSession || g.inner.Pop(&got) {
		t.Errorf("told %+v", got)
	}
}

// Paced at packets that come quickly, the worker looks at intervals; a pause in the traffic, slow
// traffic and the off switch make it wait for the kernel.
func TestPacer(t *testing.T) {
	warm := func(longest int64) (*pacer, int64) {
		p, now := &pacer{longest: longest}, start
		for range briskRuns + 1 {
			now += briskGap / 2
			p.woken(now)
		}
		return p, now
	}
	p, now := warm(200_000)
	if got := p.rest(10, false, now, now+1000); got < shortestSleep || got > 200_000 {
		t.Errorf("brisk traffic sleeps %d ns", got)
	}
	if got := p.rest(10, true, now, now+1000); got != 0 {
		t.Errorf("sleeps %d ns although more is waiting", got)
	}
	for range 100 {
		if got := p.rest(fewPackets-1, false, now, now); got > 200_000 {
			t.Fatalf("sleeps %d ns, beyond the longest", got)
		}
	}
	long := p.rest(fewPackets-1, false, now, now)
	for range 100 {
		p.rest(manyPackets+1, false, now, now)
	}
	if got := p.rest(fewPackets, false, now, now); got >= long || got < shortestSleep {
		t.Errorf("many packets sleep %d ns, few %d", got, long)
	}
	rests := 0
	for p.rest(0, false, now, now) > 0 {
		if rests++; rests > patience {
			t.Fatal("sleeps for ever without packets")
		}
	}
	for name, p := range map[string]*pacer{"off": func() *pacer { p, _ := warm(0); return p }(), "fresh": {longest: 200_000}} {
		if got := p.rest(10, false, now, now); got != 0 {
			t.Errorf("%s: sleeps %d ns", name, got)
		}
	}
	p, now = warm(200_000)
	p.woken(now + briskGap)
	if got := p.rest(10, false, now, now); got != 0 {
		t.Errorf("slow traffic sleeps %d ns", got)
	}
}
