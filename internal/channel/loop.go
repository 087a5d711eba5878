package channel

import (
	"errors"
	"sync"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

// loop drives a Conn's session. It is the only one to touch it.
type loop struct {
	conn    *Conn
	session *signal.Session
	params  signal.Params
	out     signal.SessionOutput
	current *attempt
	// pending are frames that the writer has not taken: heartbeats, a join, one message.
	pending [][]byte
	events  chan event
	frames  chan event
	wg      sync.WaitGroup
	timer   *time.Timer
}

func newLoop(c *Conn) *loop {
	return &loop{
		conn: c, params: c.config.Params, events: make(chan event), frames: make(chan event), timer: time.NewTimer(0),
		session: signal.NewSession(signal.SessionConfig{
			Role: c.config.Role, Dialect: c.config.Dialect, Join: c.config.Join, MaxPartition: c.config.MaxPartition, Seed: c.config.Seed,
		}, time.Now()),
	}
}

func (l *loop) run() {
	defer l.timer.Stop()
	for {
		l.session.Drain(&l.out)
		l.obey()
		if l.out.Over {
			break
		}
		l.wait()
	}
	l.drop(false)
	l.wg.Wait()
	l.finish()
}

// wait takes one input.
func (l *loop) wait() {
	at, _, _ := l.session.NextTimeout()
	l.timer.Reset(time.Until(at))
	frames := l.frames
	if l.conn.inboxFull() {
		frames = nil
	}
	var write chan []byte
	var next []byte
	if len(l.pending) > 0 && l.current != nil {
		write, next = l.current.write, l.pending[0]
	}
	select {
	case e := <-l.events:
		l.handle(e)
	case e := <-frames:
		l.handle(e)
	case write <- next:
		l.pending = l.pending[1:]
		l.refill()
	case <-l.conn.wake:
		l.refill()
	case c := <-l.conn.commands:
		l.command(c)
	case <-l.timer.C:
		l.session.HandleTimeout(time.Now())
	}
}

func (l *loop) command(c command) {
	if c.close {
		l.session.Close(time.Now())
		return
	}
	l.params = *c.params
	l.session.Reconnect(time.Now())
}

func (l *loop) handle(e event) {
	if e.from != l.current {
		return
	}
	now := time.Now()
	var refused *refusedError
	switch {
	case e.opened:
		e.from.open = true
		l.session.HandleOpen(now)
	case e.text != nil:
		l.conn.count(func(s *Stats) { s.Received++ })
		l.session.HandleFrame(e.text, now)
	case e.from.open:
		l.session.HandleClosed(e.err.Error(), now)
	case errors.As(e.err, &refused):
		l.session.HandleRefused(refused.refusal, now)
	default:
		l.session.HandleFailed(e.err.Error(), now)
	}
}

// refill hands the session the next message when the writer has nothing else to do.
func (l *loop) refill() {
	if len(l.pending) > 0 || l.session.State() != signal.Joined {
		return
	}
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.outbox) == 0 {
		return
	}
	m := c.outbox[0].message
	c.outbox[0] = queued{}
	c.outbox = c.outbox[1:]
	if err := l.session.Send(m, time.Now()); err != nil {
		c.stats.Unsent++ // unexpected: it was encoded before, and the channel is joined
		ring(c.wake)
	}
}

// obey carries out what the session wants, in the order that it demands.
func (l *loop) obey() {
	l.pending = append(l.pending, l.out.Frames...)
	if h := l.out.Hangup; h != nil {
		l.drop(h.Graceful)
	}
	if l.out.Dial {
		l.drop(false)
		l.current = newAttempt(l)
	}
	l.publish()
}

// publish shows the callers what has changed.
func (l *loop) publish() {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined = l.session.State() == signal.Joined
	if !c.joined {
		c.stats.Unsent += uint64(len(c.outbox))
		c.outbox = nil
	}
	c.stats.SessionStats = l.session.Stats()
	for _, m := range l.out.Messages {
		c.deliver(m)
	}
	if len(l.out.Messages) > 0 {
		ring(c.bell)
	}
}

// deliver appends m to the inbox. Notices of failure come without the network's help, so the
// latest takes the place of the one before, and the inbox stays bounded.
func (c *Conn) deliver(m signal.Message) {
	if _, ok := m.(signal.Disconnected); ok && len(c.inbox) >= maxInbox {
		if last := len(c.inbox) - 1; isDisconnected(c.inbox[last]) {
			c.inbox[last] = m
			return
		}
	}
	c.inbox = append(c.inbox, m)
}

func isDisconnected(m signal.Message) bool {
	_, ok := m.(signal.Disconnected)
	return ok
}

func (c *Conn) inboxFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inbox) >= maxInbox
}

func (c *Conn) count(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

func (l *loop) drop(graceful bool) {
	if l.current != nil {
		l.current.hangup(graceful)
	}
	l.current, l.pending = nil, nil
}

// finish leaves the verdict for the callers.
func (l *loop) finish() {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = ErrClosed
	if l.out.Fatal != nil {
		c.err = l.out.Fatal
	}
	close(c.ended)
}
