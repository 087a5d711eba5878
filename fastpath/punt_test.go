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
