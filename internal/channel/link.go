package channel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/protocol/signal"
)

// Bounds of what waits for a slow device.
const (
	// maxQueueBytes is far above the burst that follows a change of policy, which a portal condenses
	// when it gets large. One frame that does not fit may wait beside it, so that the largest init
	// always finds room.
	maxQueueBytes = 1 << 20
	// wishQueueBytes and candidateQueueBytes are how much of it others may use up: what a client
	// asks of a gateway or another client, and candidates. What does not fit is dropped, for nobody
	// may have a device cut by sending it too much. A request without an answer ends after its time;
	// ICE finds other paths or asks again.
	wishQueueBytes      = maxQueueBytes / 4 * 3
	candidateQueueBytes = maxQueueBytes / 2
	// frameOverhead is what a frame costs beside its text.
	frameOverhead = 64
)

// roomFor is how much may wait for a message to be queued behind it.
func roomFor(m signal.Message) int {
	switch m := m.(type) {
	case signal.CandidatesFromClient, signal.CandidatesFromGateway, signal.CandidatesFromPeer,
		signal.InvalidFromClient, signal.InvalidFromGateway, signal.InvalidFromPeer:
		return candidateQueueBytes
	case signal.CreateAuthorization:
		return wishQueueBytes
	case signal.DeviceAccessAuthorized:
		if m.Role == signal.Controlled {
			return wishQueueBytes
		}
	}
	return maxQueueBytes
}

// queuedText is a frame that waits.
type queuedText struct {
	text []byte
	// push, unless zero, names a message of which the handler wants to know that it has gone out.
	push signal.ID
	// beside says that it does not count, because it did not fit.
	beside bool
}

func (q *queuedText) cost() int { return len(q.text) + frameOverhead }

// Link is one device's websocket. Its methods may be called from any goroutine and never block.
type Link struct {
	server  *Server
	role    signal.Role
	dialect signal.Dialect
	handler Handler
	ws      *websocket.Conn
	// raw is the TCP connection, below TLS if there is any: closing it never waits.
	raw net.Conn

	// Of the reading goroutine: until when the device must have joined, and said something that the
	// protocol knows.
	joinBy, idleBy time.Time

	mu     sync.Mutex
	budget budget
	joined bool
	// flushing says that there is a writing goroutine, ending that it is to close the websocket
	// after the last frame, gone that nothing more can be written.
	flushing, ending, gone bool
	// cutOff is closed by a cut.
	cutOff chan struct{}
	code   websocket.StatusCode
	why    error
	queue  []queuedText
	queued int
	// beside says that a frame waits beside the bound.
	beside bool
	wg     sync.WaitGroup // the writing goroutine
}

// Role returns who is at the other end.
func (l *Link) Role() signal.Role { return l.role }

// Send queues m. It fails with signal.ErrNotJoined before the join, and with ErrSlow when the
// device has not read enough of what came before: then the link is cut. Candidates and wishes of
// others are dropped well before that, which is counted; the error is ErrDropped, and the link stays.
func (l *Link) Send(m signal.Message) error {
	f, err := signal.EncodeFromPortal(l.role, l.dialect, m)
	if err != nil {
		return err
	}
	q := queuedText{text: f.PortalText()}
	if m, ok := m.(signal.DeviceAccessAuthorized); ok {
		q.push = m.Push
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.joined {
		return signal.ErrNotJoined
	}
	return l.push(q, roomFor(m))
}

// Leave ends the channel and then the websocket; the device comes back unless it was told
// otherwise by a signal.Disconnect before.
func (l *Link) Leave() {
	l.mu.Lock()
	f := signal.Frame{Topic: l.role.String(), Event: signal.EventClose, Payload: []byte("{}")}
	_ = l.push(queuedText{text: f.PortalText()}, maxQueueBytes) // a link that cannot take it is about to end anyway
	l.joined = false
	l.mu.Unlock()
	l.End(websocket.StatusNormalClosure)
}

// End closes the websocket with this code after what is queued.
func (l *Link) End(code websocket.StatusCode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending || l.gone {
		return
	}
	l.ending, l.code = true, code
	l.because(ErrEnded)
	l.startFlush()
}

// Cut drops the connection at once. why is what the handler is told.
func (l *Link) Cut(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(why)
}

// open gives the link its connection, unless somebody has ended it in the meantime.
func (l *Link) open(ws *websocket.Conn, raw net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ws, l.raw = ws, raw
	if l.gone {
		_ = raw.Close()
	}
	if l.ending {
		l.startFlush()
	}
}

// because keeps the first reason; the lock is held.
func (l *Link) because(why error) {
	if l.why == nil {
		l.why = why
	}
}

// cut drops the connection; the lock is held. The reading goroutine notices and cleans up.
func (l *Link) cut(why error) {
	l.because(why)
	if !l.gone {
		close(l.cutOff)
	}
	l.gone = true
	l.queue, l.queued = nil, 0
	if l.raw != nil {
		_ = l.raw.Close()
	}
}

// push queues one text, if no more than room waits with it; the lock is held.
func (l *Link) push(q queuedText, room int) error {
	switch {
	case l.gone || l.ending:
		return ErrEnded
	case l.queued+q.cost() <= room:
		l.queued += q.cost()
	case room < maxQueueBytes:
		l.server.count(func(s *ServerStats) { s.Dropped++ })
		return ErrDropped
	case !l.beside:
		l.putBeside(&q)
	default:
		l.server.count(func(s *ServerStats) { s.Slow++ })
		l.cut(ErrSlow)
		return ErrSlow
	}
	l.queue = append(l.queue, q)
	l.startFlush()
	return nil
}

// putBeside has the largest frame, q or one that waits, wait beside the bound; the lock is held.
func (l *Link) putBeside(q *queuedText) {
	largest := q
	for i := range l.queue {
		if w := &l.queue[i]; w.cost() > largest.cost() {
			largest = w
		}
	}
	l.queued += q.cost() - largest.cost()
	largest.beside, l.beside = true, true
}

// startFlush sees to it that there is a writing goroutine; the lock is held.
func (l *Link) startFlush() {
	if l.flushing || l.gone || l.ws == nil {
		return
	}
	l.flushing = true
	l.wg.Go(l.flush)
}

// flush writes until nothing is queued, so that an idle link has no writing goroutine.
func (l *Link) flush() {
	for {
		q, more := l.pop()
		if !more {
			return
		}
		if q.text == nil {
			l.closeWebsocket()
			return
		}
		if err := l.write(q.text); err != nil {
			l.Cut(err)
			return
		}
		l.server.count(func(s *ServerStats) { s.Sent++ })
		if !q.push.IsZero() {
			l.handler.Message(l, signal.Pushed{ID: q.push})
		}
	}
}

// write bounds the time by a deadline on the connection: a context would let the library close
// it first, and the reading goroutine tell the handler a lesser reason.
func (l *Link) write(text []byte) error {
	if err := l.raw.SetWriteDeadline(time.Now().Add(l.writeTimeout())); err != nil {
		return err
	}
	if err := l.ws.Write(context.Background(), websocket.MessageText, text); err != nil {
		if isTimeout(err) {
			l.server.count(func(s *ServerStats) { s.Slow++ })
			return ErrSlow
		}
		return err
	}
	return l.raw.SetWriteDeadline(time.Time{}) // for the pongs of the reading goroutine
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// pop returns the next text. With more but no text the websocket is to be closed.
func (l *Link) pop() (q queuedText, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.gone:
	case len(l.queue) > 0:
		q = l.queue[0]
		l.queue[0] = queuedText{}
		l.queue = l.queue[1:]
		if q.beside {
			l.beside = false
		} else {
			l.queued -= q.cost()
		}
		return q, true
	case l.ending:
		return q, true
	}
	l.queue, l.flushing = nil, false
	return q, false
}

func (l *Link) closeWebsocket() {
	late := time.AfterFunc(closeGrace, func() { _ = l.raw.Close() })
	defer late.Stop()
	l.mu.Lock()
	code := l.code
	l.mu.Unlock()
	_ = l.ws.Close(code, "")
}

func (l *Link) writeTimeout() time.Duration {
	if l.server.write > 0 {
		return l.server.write
	}
	return writeTimeout
}

// serve reads until the link ends, and cleans up.
func (l *Link) serve() {
	defer l.server.leave(l)
	join := joinTimeout
	if l.server.join > 0 {
		join = l.server.join
	}
	now := time.Now()
	l.joinBy, l.idleBy = now.Add(join), now.Add(l.server.idleTimeout(l.role))
	err := l.readAll()
	l.mu.Lock()
	l.because(err)
	l.gone, l.joined = true, false
	l.queue, l.queued = nil, 0
	why := l.why
	l.mu.Unlock()
	_ = l.raw.Close()
	_ = l.ws.CloseNow()
	l.wg.Wait()
	l.handler.Closed(l, why)
}

func (l *Link) readAll() error {
	for {
		if err := l.raw.SetReadDeadline(l.deadline()); err != nil {
			return err
		}
		kind, text, err := l.ws.Read(context.Background())
		switch {
		case isTimeout(err):
			return errors.New("device is silent")
		case err != nil:
			return ending(err)
		}
		l.server.count(func(s *ServerStats) { s.Received++ })
		l.spend(1)
		if kind == websocket.MessageText { // binary messages mean nothing, and are no sign of life
			l.idleBy = time.Now().Add(l.server.idleTimeout(l.role))
			l.aside(func() { l.handle(text) })
		}
	}
}

// aside runs f on a goroutine of its own and waits for it. What handling a message takes of a stack
// goes with it: the goroutine that waits for the next one, of which there are thousands, stays at the
// smallest.
func (l *Link) aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (l *Link) deadline() time.Time {
	l.mu.Lock()
	joined := l.joined
	l.mu.Unlock()
	if !joined && l.joinBy.Before(l.idleBy) {
		return l.joinBy
	}
	return l.idleBy
}
