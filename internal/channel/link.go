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
	// maxQueueBytes is far above the burst that follows a change of policy: a message of a few
	// hundred bytes per resource that a device notices. It counts from the second frame on, so that
	// the largest init always fits.
	maxQueueBytes = 1 << 20
	// frameOverhead is what a frame costs beside its text.
	frameOverhead = 64
)

// Link is one device's websocket. Its methods may be called from any goroutine and never block.
type Link struct {
	server  *Server
	role    signal.Role
	dialect signal.Dialect
	handler Handler
	ws      *websocket.Conn
	// raw is the TCP connection, below TLS if there is any: closing it never waits.
	raw net.Conn

	// Of the reading goroutine.
	joinBy time.Time
	budget budget

	mu     sync.Mutex
	joined bool
	// flushing says that there is a writing goroutine, ending that it is to close the websocket
	// after the last frame, gone that nothing more can be written.
	flushing, ending, gone bool
	// cutOff is closed by a cut.
	cutOff chan struct{}
	code   websocket.StatusCode
	why    error
	queue  [][]byte
	queued int
	wg     sync.WaitGroup // the writing goroutine
}

// Role returns who is at the other end.
func (l *Link) Role() signal.Role { return l.role }

// Send queues m. It fails with signal.ErrNotJoined before the join, and with ErrSlow when the
// device has not read enough of what came before: then the link is cut.
func (l *Link) Send(m signal.Message) error {
	f, err := signal.EncodeFromPortal(l.role, l.dialect, m)
	if err != nil {
		return err
	}
	text := f.PortalText()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.joined {
		return signal.ErrNotJoined
	}
	return l.push(text)
}

// Leave ends the channel and then the websocket; the device comes back unless it was told
// otherwise by a signal.Disconnect before.
func (l *Link) Leave() {
	l.mu.Lock()
	f := signal.Frame{Topic: l.role.String(), Event: signal.EventClose, Payload: []byte("{}")}
	_ = l.push(f.PortalText()) // a link that cannot take it is about to end anyway
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

// push queues one text; the lock is held.
func (l *Link) push(text []byte) error {
	switch {
	case l.gone || l.ending:
		return ErrEnded
	case len(l.queue) > 0 && l.queued+len(text)+frameOverhead > maxQueueBytes:
		l.server.count(func(s *ServerStats) { s.Slow++ })
		l.cut(ErrSlow)
		return ErrSlow
	}
	l.queue = append(l.queue, text)
	l.queued += len(text) + frameOverhead
	l.startFlush()
	return nil
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
		text, more := l.pop()
		if !more {
			return
		}
		if text == nil {
			l.closeWebsocket()
			return
		}
		if err := l.write(text); err != nil {
			l.Cut(err)
			return
		}
		l.server.count(func(s *ServerStats) { s.Sent++ })
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
func (l *Link) pop() (text []byte, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.gone:
	case len(l.queue) > 0:
		text = l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.queued -= len(text) + frameOverhead
		return text, true
	case l.ending:
		return nil, true
	}
	l.queue, l.flushing = nil, false
	return nil, false
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
	l.joinBy = time.Now().Add(join)
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
		case kind == websocket.MessageText:
			l.server.count(func(s *ServerStats) { s.Received++ })
			l.spend(1 + len(text)/costBytes)
			l.handle(text)
		}
	}
}

func (l *Link) deadline() time.Time {
	l.mu.Lock()
	joined := l.joined
	l.mu.Unlock()
	at := time.Now().Add(l.server.idleTimeout(l.role))
	if !joined && l.joinBy.Before(at) {
		return l.joinBy
	}
	return at
}
