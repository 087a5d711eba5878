package relay

import (
	"context"
	"testing"

	"github.com/firelane/firelane/protocol/stun"
)

// A retired relay refuses who is new, serves who is there, and is empty once they have left.
func TestARetiredRelayTakesNobodyNew(t *testing.T) {
	enterNetns(t)
	r := start(t, nil)
	if !r.WaitEmpty(t.Context()) {
		t.Error("a relay without allocations is not empty")
	}
	c, peer := newTurner(t, relayAt(loop4, r), "a"), newTurner(t, relayAt(loop4, r), "")
	c.allocate()
	r.Retire()
	r.Retire()
	soon(t, "refused", func() bool {
		b := newTurner(t, relayAt(loop4, r), "b")
		m := b.ask(stun.Allocate, func(w *stun.Builder) { w.Transport(stun.UDP) })
		if m.Class == stun.Success {
			b.ask(stun.Refresh, func(w *stun.Builder) { w.Uint32(stun.Lifetime, 0) })
		}
		return m.Code == 508
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r.WaitEmpty(ctx) {
		t.Error("empty with an allocation")
	}
	c.bind(0x4000, peer.addr)
	exchange(t, c, peer, 0x4000)
	if m := c.ask(stun.Refresh, func(w *stun.Builder) { w.Uint32(stun.Lifetime, 0) }); m.Class != stun.Success {
		t.Errorf("refresh: %d", m.Code)
	}
	if !r.WaitEmpty(t.Context()) {
		t.Error("not empty")
	}
}
