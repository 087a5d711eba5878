package fastpath

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// fakeSocket seals messages afresh at every Recv, from templates of what they are about.
type fakeSocket struct {
	keys      func() *wireguard.Keypair // of the far side
	templates [][]byte                  // inner packets; nil is a forgery
	signal    []byte
	remote    int
	scratch   wireguard.Scratch
	one       [1][]byte
	refuse    error
	full      bool
	waits     int
	sent      int
}

func (f *fakeSocket) Recv(b *batch.Batch) error {
	slabs := b.Slabs()
	if len(slabs) == 0 {
		return errors.New("no slab")
	}
	n := min(len(slabs), len(f.templates))
	for i, inner := range f.templates[:n] {
		m := slabs[i].Data()[:wireguard.HeaderSize+len(inner)+wireguard.TagSize]
		copy(m[wireguard.HeaderSize:], inner)
		f.one[0] = m
		k := f.keys()
		first, _ := k.Take(1)
		k.Seal(&f.scratch, f.one[:], first)
		if inner == nil && i%2 == 1 {
			m[20] ^= 1
		}
		if f.signal != nil && i == 0 {
			m = m[:copy(slabs[i].Data(), f.signal)]
		}
		b.Trains = append(b.Trains, batch.Train{Buf: m, Stride: len(m), Remote: outer(client, f.remote), Local: outer(gateway, 0)})
	}
	return nil
}

func (f *fakeSocket) Send(trains []batch.Train) (int, error) {
	if f.refuse != nil {
		return 0, f.refuse
	}
	if f.full {
		return 0, nil
	}
	f.sent += len(trains)
	return len(trains), nil
}

func (f *fakeSocket) WaitWritable(time.Duration) bool {
	f.waits++
	return false
}

// fakeQueue delivers the same packets at every Read.
type fakeQueue struct {
	packets []batch.Packet
	refuse  error
	full    bool
	written int
}

func (q *fakeQueue) Read(b *batch.SuperBatch) error {
	for _, p := range q.packets {
		slab, ok := b.Next()
		if !ok {
			return nil
		}
		buf := slab.Data()[:copy(slab.Data(), p.Buf)]
		b.Packets = append(b.Packets, batch.Packet{Buf: buf, Offload: p.Offload})
	}
	return nil
}

func (q *fakeQueue) Write(supers []batch.Super) (int, error) {
	if q.refuse != nil || q.full {
		return 0, q.refuse
	}
	q.written += len(supers)
	return len(supers), nil
}

// fakePoller says that everything is ready, always.
type fakePoller struct {
	ready uint64
	err   error
	waits atomic.Int64
	slept time.Duration
	// onSleep is called when the worker sleeps.
	onSleep func()
}

func (p *fakePoller) Wait(time.Duration) (uint64, error) {
	p.waits.Add(1)
	return p.ready, p.err
}
func (p *fakePoller) Sleep(d time.Duration) bool {
	p.slept += d
	if p.onSleep != nil {
		p.onSleep()
	}
	return false
}

// rig is a worker on fakes, on the gateway's side.
type rig struct {
	*Worker
	socket *fakeSocket
	queue  *fakeQueue
	poller *fakePoller
	bells  atomic.Int64
}

// mixedInner are inner packets of every shape, keepalives and forgeries (nil) between them.
func mixedInner(from, link int) (all [][]byte) {
	for _, f := range []flow{{}, {v6: true}, {udp: true}, {udp: true, v6: true}, {proto: 47}, {fragment: 0x2000, udp: true}, {badSum: true}} {
		f.from, f.link = from, link
		for _, g := range chain(f, 4, 200) {
			all = append(all, g.build())
		}
		all = append(all, nil, nil, fill(50, 1))
	}
	foreign := flow{from: from, link: 99, payload: fill(20, 1)}
	return append(all, foreign.build())
}

// mixedRead are packets and superpackets of every shape from the tunnel.
func mixedRead(link int) (all []batch.Packet) {
	for _, f := range []flow{{}, {v6: true}, {udp: true}, {udp: true, v6: true}} {
		f.from, f.link, f.payload = gateway, link, fill(5000, 2)
		all = append(all, f.asRead(500), f.asRead(1240), f.asRead(0))
	}
	foreign := flow{from: gateway, link: 99, payload: fill(20, 1)}
	return append(all, batch.Packet{Buf: fill(40, 1)}, foreign.asRead(0))
}

func newRig(p *pair, lane, link int) *rig {
	g := p[gateway]
	keys := p[client].ends[link].session.Keys
	r := &rig{
		socket: &fakeSocket{keys: func() *wireguard.Keypair { return keys }, templates: mixedInner(client, link), signal: initiation(), remote: link},
		queue:  &fakeQueue{packets: mixedRead(link)},
		poller: &fakePoller{ready: 1<<TagSocket4 | 1<<TagQueue},
	}
	var now atomic.Int64
	now.Store(start)
	r.Worker = NewWorker(Config{
		Table: g.table, Lane: lane, Cache: g.pool.NewCache(160), Socket4: r.socket, Queue: r.queue, Poller: r.poller,
		Clock: func() int64 { return now.Add(10_000) }, Bell: func() { r.bells.Add(1) },
		Signals: NewPunts(512), Inner: NewPunts(256), Segments: testSegments, Offloads: Offloads{TSO: true, USO: true},
		Pause: 50 * time.Microsecond,
	})
	return r
}

func TestDecapAllocatesNothing(t *testing.T) {
	p := newPair(t, 1)
	r := newRig(p, 0, 0)
	defer r.release()
	if n := testing.AllocsPerRun(100, func() {
		r.in.SetCap(manyTrains)
		r.in.Reset()
		if err := r.socket.Recv(r.in); err != nil {
			t.Fatal(err)
		}
		r.decap.Batch(r.in, start)
	}); n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
	if c := r.decap.Counters(); c.Figure(Supers) == 0 || c.Verdict(fib.DropForged) == 0 || c.Verdict(fib.DropForeignSource) == 0 {
		t.Error("the batch does not mix every shape")
	}
}

func TestEncapAllocatesNothing(t *testing.T) {
	p := newPair(t, 1)
	r := newRig(p, 0, 0)
	defer r.release()
	if n := testing.AllocsPerRun(100, func() {
		r.read.SetCap(manySupers)
		r.read.Reset()
		if err := r.queue.Read(r.read); err != nil {
			t.Fatal(err)
		}
		r.encap.Batch(r.read, start)
	}); n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
	if c := r.encap.Counters(); c.Figure(Segments) == 0 || c.Verdict(fib.DropNotAClient) == 0 {
		t.Error("the batch does not mix every shape")
	}
}

// A whole turn of the worker, both directions, with rings that fill up on the way.
func TestTurnAllocatesNothing(t *testing.T) {
	p := newPair(t, 1)
	r := newRig(p, 0, 0)
	defer r.release()
	now := start
	if n := testing.AllocsPerRun(100, func() {
		now += 100_000
		r.turn(r.poller.ready, now)
	}); n != 0 {
		t.Errorf("%v allocations per turn, want 0", n)
	}
	if r.queue.written == 0 || r.socket.sent == 0 || r.bells.Load() == 0 {
		t.Errorf("%d packets written, %d trains sent, %d bells", r.queue.written, r.socket.sent, r.bells.Load())
	}
}

// What the kernel does not take is dropped and counted, each packet once.
func TestWorkerCountsWhatTheKernelRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		want fib.Verdict
		set  func(r *rig)
		out  bool // towards clients
	}{
		{"a full tunnel queue", fib.DropTunnelFull, func(r *rig) { r.queue.full = true }, false},
		{"a tunnel that is gone", fib.DropTunnelRefused, func(r *rig) { r.queue.refuse = errors.New("down") }, false},
		{"a send buffer that stays full", fib.DropSendFull, func(r *rig) { r.socket.full = true }, true},
		{"a destination that is refused", fib.DropSendRefused, func(r *rig) { r.socket.refuse = errors.New("unreachable") }, true},
		{"a family that the host lacks", fib.DropSendRefused, func(r *rig) { r.c.Socket4 = nil }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(newPair(t, 1), 0, 0)
			defer r.release()
			c.set(r)
			if c.out {
				r.transmit(start)
				if got, want := r.counts.Verdict(c.want), r.encap.Counters().Figure(Segments); got != want || got == 0 {
					t.Errorf("%d dropped, want %d", got, want)
				}
				if full := c.want == fib.DropSendFull; full != (r.socket.waits > 0) {
					t.Errorf("waited %d times", r.socket.waits)
				}
			} else {
				r.receive(r.c.Socket4, start)
				if got, want := r.counts.Verdict(c.want), r.decap.Counters().Figure(Supers); got != want || got == 0 {
					t.Errorf("%d dropped, want %d", got, want)
				}
			}
		})
	}
}

func TestWorkerWithoutSlabsWaitsCountsAndGoesOn(t *testing.T) {
	p := newPair(t, 1)
	r := newRig(p, 0, 0)
	defer r.release()
	other := p[gateway].pool.NewCache(testSlabs)
	n := 0
	var held [testSlabs]struct{ give func() }
	for s, ok := other.Take(); ok; s, ok = other.Take() {
		held[n].give = func() { other.Give(s) }
		n++
	}
	// Everything stays ready: without a sleep each time it would spin.
	const stalls = 5
	r.poller.onSleep = func() {
		if r.counts.Figure(Stalls) == stalls {
			r.Stop()
		}
	}
	if err := r.busy(r.poller.ready); err != nil {
		t.Fatal(err)
	}
	if r.counts.Figure(Stalls) != stalls || r.poller.slept != stalls*stallPause || r.poller.waits.Load() != stalls || r.queue.written != 0 {
		t.Errorf("%d stalls, slept %v, %d looks, %d written", r.counts.Figure(Stalls), r.poller.slept, r.poller.waits.Load(), r.queue.written)
	}
	for i := range n {
		held[i].give()
	}
	other.Flush()
	if r.turn(r.poller.ready, start); r.queue.written == 0 {
		t.Error("traffic does not resume")
	}
}

func TestRunEndsWithItsPoller(t *testing.T) {
	r := newRig(newPair(t, 1), 0, 0)
	r.poller.err = errors.New("closed")
	if err := r.Run(); !errors.Is(err, r.poller.err) {
		t.Errorf("run ends with %v", err)
	}
}

// Control publishes and withdraws paths, sessions, routes and peers while two workers carry the
// same clients. Nothing is torn, and the pool is whole afterwards (the harness closes it).
func TestControlChangesWhileWorkersRun(t *testing.T) {
	p := newPair(t, 2)
	g := p[gateway]
	rigs := []*rig{newRig(p, 0, 0), newRig(p, 1, 1), newRig(p, 2, 1)}
	churn := newChurn(t, p, 1)
	for _, r := range rigs[1:] {
		r.socket.keys = churn.far.Load
	}
	var wg sync.WaitGroup
	for _, r := range rigs {
		wg.Go(func() {
			if err := r.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	var p0 Punted
	for round := range 60 {
		churn.step(round)
		var was [3]int64
		for i, r := range rigs {
			was[i] = r.poller.waits.Load()
		}
		for i, r := range rigs { // two looks later a whole turn has seen the change
			for deadline := time.Now().Add(10 * time.Second); r.poller.waits.Load() < was[i]+2; runtime.Gosched() {
				for r.c.Signals.Pop(&p0) || r.c.Inner.Pop(&p0) {
				}
				if time.Now().After(deadline) {
					t.Fatal("a worker stands still")
				}
			}
		}
	}
	for _, r := range rigs {
		r.Stop()
	}
	wg.Wait()
	var s Snapshot
	for _, r := range rigs {
		r.AddTo(&s)
	}
	if s.Figures[Supers] == 0 || s.Verdicts[fib.DropNoSession] == 0 {
		t.Errorf("%d supers, %d without a session", s.Figures[Supers], s.Verdicts[fib.DropNoSession])
	}
	if received, sent := g.ends[0].peer.Traffic(); received == 0 || sent == 0 {
		t.Errorf("received %d, sent %d", received, sent)
	}
}

// churn is a peer that control changes all the time.
type churn struct {
	g     *side
	e     *end
	link  int
	keys  [][2]*wireguard.Keypair
	far   atomic.Pointer[wireguard.Keypair]
	live  *fib.Session
	bound *fib.Routes
}

func newChurn(t *testing.T, p *pair, link int) *churn {
	c := &churn{g: p[gateway], e: p[gateway].ends[link], link: link, bound: p[gateway].table.Routes()}
	for range 6 {
		c.keys = append(c.keys, handshake(t, p[client].ends[link].conn, c.e.conn))
	}
	c.live = c.e.session
	c.far.Store(p[client].ends[link].session.Keys)
	return c
}

func (c *churn) step(round int) {
	life := fib.Lifetime{RejectAt: fib.Never, SendUntil: fib.Never, RekeyOnSendAt: 0, RekeyOnReceiveAt: 0}
	k := c.keys[round%len(c.keys)]
	switch round % 5 {
	case 0: // a new session replaces the old one
		s := fib.NewSession(c.e.peer, k[1], false, life)
		c.g.table.Apply([]fib.Change{fib.DelSession{Session: c.live}, fib.PutSession{Session: s}, fib.SetNext{Session: s}, fib.SetCurrent{Session: s}})
		c.live = s
		c.far.Store(k[0])
	case 1:
		c.g.table.Apply([]fib.Change{fib.SetPath{Peer: c.e.peer, Path: &fib.Path{Remote: outer(client, round)}}, fib.SetMTU{Bytes: 1280 + round}})
	case 2:
		c.g.table.Apply([]fib.Change{fib.SetRoutes{Routes: fib.NewRoutes()}})
		c.e.peer.Rest()
	case 3:
		c.g.table.Apply([]fib.Change{fib.SetRoutes{Routes: c.bound}, fib.DelSession{Session: c.live}, fib.DelPeer{Peer: c.e.peer}})
		c.e.peer.Unwanted()
	case 4: // many other peers come and go: the table of connections grows
		var ids []uint32
		for range 80 {
			if id, ok := c.g.table.TakeConnectionID(rand.Uint32); ok {
				ids = append(ids, id)
			}
		}
		for _, id := range ids[:40] {
			c.g.table.Apply([]fib.Change{fib.DropConnection{ID: id}})
		}
	}
}
