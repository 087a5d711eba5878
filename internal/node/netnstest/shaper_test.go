package netnstest

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// disturb says what a shaper does to datagrams: chances per mille, tried in this order.
type disturb struct {
	lose, reorder, double, replay, truncate, garble int
}

// shaper is a relay of UDP datagrams on a host between two, which it stands for towards the
// other one. Each direction has its own generator, so that a run can be repeated.
type shaper struct {
	rules atomic.Pointer[disturb]
	wg    sync.WaitGroup

	// What was done, both ways.
	passed, lost, reordered, doubled, replayed, truncated, garbled atomic.Int64
}

// newShaper relays between near, who writes to it first at the returned address, and far.
func newShaper(h *host, nearAddr, farAddr string, far netip.AddrPort) (s *shaper, at string) {
	h.t.Helper()
	s = &shaper{}
	s.rules.Store(&disturb{})
	near, out := h.listenUDP(net.JoinHostPort(nearAddr, "0")), h.listenUDP(net.JoinHostPort(farAddr, "0"))
	var nearPeer, farPeer atomic.Pointer[netip.AddrPort]
	farPeer.Store(&far)
	s.wg.Go(func() { s.relay(near, out, &nearPeer, &farPeer, 1) })
	s.wg.Go(func() { s.relay(out, near, new(atomic.Pointer[netip.AddrPort]), &nearPeer, 2) })
	h.t.Cleanup(func() {
		near.Close()
		out.Close()
		s.wg.Wait()
	})
	return s, near.LocalAddr().String()
}

const (
	// heldFor is how many datagrams overtake one that is reordered, and heldLimit for how long
	// at most it waits for them.
	heldFor   = 3
	heldLimit = 5 * time.Millisecond
	// replayDepth is how old, in datagrams, a replayed one can be.
	replayDepth = 512
)

// relay carries datagrams one way and notes in from who wrote.
func (s *shaper) relay(in, out *net.UDPConn, from, to *atomic.Pointer[netip.AddrPort], seed uint64) {
	rng := rand.New(rand.NewPCG(seed, seed))
	var held []byte
	overtaken := 0
	var past [][]byte
	buf := make([]byte, 65536)
	send := func(b []byte) {
		if peer := to.Load(); peer != nil {
			_, _ = out.WriteToUDPAddrPort(b, *peer) // a refusal is one more loss
		}
	}
	release := func() {
		if held != nil {
			send(held)
			held = nil
		}
	}
	for {
		deadline := time.Time{}
		if held != nil {
			deadline = time.Now().Add(heldLimit)
		}
		_ = in.SetReadDeadline(deadline)
		n, peer, err := in.ReadFromUDPAddrPort(buf)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			release()
			continue
		}
		if err != nil {
			return
		}
		from.Store(&peer)
		b, d := buf[:n], s.rules.Load()
		hit := func(perMille int) bool { return rng.IntN(1000) < perMille }
		s.passed.Add(1)
		if d.replay > 0 {
			if len(past) == replayDepth {
				past = past[1:]
			}
			past = append(past, append([]byte(nil), b...))
		}
		switch {
		case hit(d.lose):
			s.lost.Add(1)
			continue
		case held == nil && hit(d.reorder):
			s.reordered.Add(1)
			held, overtaken = append([]byte(nil), b...), 0
			continue
		case hit(d.double):
			s.doubled.Add(1)
			send(b)
		case hit(d.replay):
			s.replayed.Add(1)
			send(past[rng.IntN(len(past))])
		case hit(d.truncate):
			s.truncated.Add(1)
			send(b[:rng.IntN(n)])
		case hit(d.garble):
			s.garbled.Add(1)
			c := append([]byte(nil), b...)
			binary.BigEndian.PutUint32(c[rng.IntN(n-3):], rng.Uint32())
			send(c)
		}
		send(b)
		if held != nil {
			if overtaken++; overtaken == heldFor {
				release()
			}
		}
	}
}
