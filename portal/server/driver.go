package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/protocol/signal"
)

// driver owns the machine. Its lock is held from an input until the deliveries it causes are with
// their channels, so that what a device is told is in the machine's order.
type driver struct {
	log    *slog.Logger
	writes *writes

	mu      sync.Mutex
	machine *portal.Portal
	out     portal.Output
	conns   map[portal.ConnID]*session
	// last is the time that the machine was told, read when the process had run for as long as
	// read says (its monotonic part).
	last  time.Time
	read  time.Time
	timer *time.Timer
	// wakeAt is what timer is set to; zero for nothing.
	wakeAt time.Time
	closed bool
	// changed is closed and replaced when a write has had its result.
	changed chan struct{}
}

func newDriver(m *portal.Portal, log *slog.Logger, store portal.Store) *driver {
	d := &driver{log: log, machine: m, conns: map[portal.ConnID]*session{}, changed: make(chan struct{})}
	d.writes = newWrites(store, d.stored)
	d.timer = time.AfterFunc(time.Hour, d.timeout)
	d.do(func(*portal.Portal, time.Time) {}) // what New has put out
	return d
}

// do gives the machine an input and carries out what it wants.
func (d *driver) do(input func(m *portal.Portal, now time.Time)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	input(d.machine, d.now())
	d.turn()
}

// now is the time, which never goes back; the lock is held. It is that of the wall clock, since
// expiries are seconds of Unix time. While that is behind what the machine has been told already,
// because the clock has been set back, time goes on from there: deadlines must come.
func (d *driver) now() time.Time {
	read := time.Now()
	if !d.read.IsZero() {
		d.last = d.last.Add(read.Sub(d.read))
	}
	d.read = read
	if wall := read.Round(0); wall.After(d.last) {
		d.last = wall
	}
	return d.last
}

// turn carries out the machine's output; the lock is held.
func (d *driver) turn() {
	d.machine.Drain(&d.out)
	for i := range d.out.Deliveries {
		d.deliver(&d.out.Deliveries[i])
	}
	for _, w := range d.out.Writes {
		d.writes.start(w)
	}
	d.out = portal.Output{}
	at, _, ok := d.machine.NextTimeout()
	switch {
	case !ok:
		d.timer.Stop()
		d.wakeAt = time.Time{}
	case !at.Equal(d.wakeAt):
		d.timer.Reset(max(at.Sub(d.last), 0))
		d.wakeAt = at
	}
}

func (d *driver) deliver(o *portal.Delivery) {
	s := d.conns[o.Conn]
	if s == nil {
		return // it is gone, and the machine is about to hear of it
	}
	if o.Message != nil {
		err := s.link.Send(o.Message)
		if err != nil && !errors.Is(err, signal.ErrNotJoined) && !errors.Is(err, channel.ErrEnded) && !errors.Is(err, channel.ErrSlow) {
			d.log.Error("message for a device cannot be written", "event", o.Message.Event(), "device", s.connect.Device.ID, "error", err)
			s.link.Cut(err)
		}
	}
	switch o.End {
	case portal.Leave:
		s.link.Leave()
	case portal.Restart:
		s.link.End(websocket.StatusServiceRestart)
	case portal.Away:
		s.link.End(websocket.StatusGoingAway)
	case portal.Cut:
		s.link.Cut(channel.ErrEnded)
	case portal.Stay:
	}
}

func (d *driver) timeout() {
	d.do(func(m *portal.Portal, now time.Time) {
		d.wakeAt = time.Time{}
		m.HandleTimeout(now)
	})
}

// stored takes the result of a write.
func (d *driver) stored(id uint64, what string, err error) {
	if err != nil {
		d.log.Error("store refuses a write", "write", what, "error", err)
	}
	d.do(func(m *portal.Portal, now time.Time) { m.HandleStored(id, err, now) })
	d.mu.Lock()
	close(d.changed)
	d.changed = make(chan struct{})
	d.mu.Unlock()
}

// settled waits until the writes that a policy file has caused are on the disk.
func (d *driver) settled(ctx context.Context) bool {
	for {
		d.mu.Lock()
		ok, changed := d.machine.Settled(), d.changed
		d.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// live calls f with every joined channel, under the lock.
func (d *driver) live(f func(*session)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.conns {
		f(s)
	}
}

// tokens returns the tokens of all joined channels and of all authorizations, by account.
func (d *driver) tokens() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	add := func(account, token string) {
		if all[account] == nil {
			all[account] = map[string]bool{}
		}
		all[account][token] = true
	}
	d.live(func(c *session) { add(c.account, c.connect.TokenID) })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.machine.EachToken(add)
	return all
}

// stats returns the machine's counters.
func (d *driver) stats() portal.Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.machine.Stats()
}

// close lets no further input in and waits for the writes that are under way.
func (d *driver) close() {
	d.mu.Lock()
	d.closed = true
	d.timer.Stop()
	d.mu.Unlock()
	d.writes.close()
}

// writes carries out the machine's writes on goroutines of their own, so that those that wait at the
// same time share a commit.
type writes struct {
	store  portal.Store
	result func(id uint64, what string, err error)

	mu      sync.Mutex
	waiting []portal.Write // bounded by the machine
	running int
	idle    sync.WaitGroup
}

// maxWriting is how many writes wait for a commit at a time: as many as the store puts into one.
const maxWriting = 256

func newWrites(s portal.Store, result func(uint64, string, error)) *writes {
	return &writes{store: s, result: result}
}

func (w *writes) start(one portal.Write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running >= maxWriting {
		w.waiting = append(w.waiting, one)
		return
	}
	w.running++
	w.idle.Go(func() { w.run(one) })
}

func (w *writes) run(one portal.Write) {
	for more := true; more; one, more = w.next() {
		w.result(one.ID, one.String(), one.Do(context.Background(), w.store))
	}
}

func (w *writes) next() (one portal.Write, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.running--
		return one, false
	}
	one = w.waiting[0]
	w.waiting = w.waiting[1:]
	return one, true
}

func (w *writes) close() { w.idle.Wait() }

// session is one device's channel, as channel.Handler.
type session struct {
	id     portal.ConnID
	driver *driver
	// connect is written before the join only; Stamp during it.
	connect portal.Connect
	// account is the token's.
	account string
	confirm func(*session, *channel.Link)
	// leave gives its address's share back.
	leave func()
	// unknown says that the machine has heard of device and owner by this channel only; it is the
	// reading goroutine's.
	unknown bool

	// Under the driver's lock.
	link   *channel.Link
	joined time.Time
}

// Join takes what a relay's credentials are made from, and refuses devices that are too old.
func (s *session) Join(_ *channel.Link, j signal.Join) string {
	s.driver.mu.Lock()
	defer s.driver.mu.Unlock()
	s.connect.Stamp = j.StampSecret
	return s.connect.Refusal()
}

// Joined tells the machine. Whether the token is still good, and a device that the machine did not
// know is what it was, is asked once more afterwards: before, nobody who changes them could have
// found this channel.
func (s *session) Joined(l *channel.Link) {
	s.driver.do(func(m *portal.Portal, now time.Time) {
		s.link, s.joined = l, now
		s.driver.conns[s.id] = s
		s.unknown = s.connect.Role != signal.RoleRelay && !m.Knows(&s.connect)
		m.HandleConnect(s.id, s.connect, now)
	})
	s.confirm(s, l)
}

// Message tells the machine, which may have an answer.
func (s *session) Message(_ *channel.Link, msg signal.Message) (reply signal.Reply, answer bool) {
	s.driver.do(func(m *portal.Portal, now time.Time) { reply, answer = m.HandleMessage(s.id, msg, now) })
	return reply, answer
}

// Closed tells the machine, if it knows the channel.
func (s *session) Closed(*channel.Link, error) {
	defer s.leave()
	s.driver.do(func(m *portal.Portal, now time.Time) {
		if s.driver.conns[s.id] == s {
			delete(s.driver.conns, s.id)
			m.HandleDisconnect(s.id, now)
		}
	})
}
