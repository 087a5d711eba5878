package channel

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/coder/websocket"
)

// closeGrace is how long a closing handshake may take.
const closeGrace = time.Second

// attempt is one websocket, from before it is open until it is gone.
type attempt struct {
	loop *loop
	// ctx ends the opening, and every read and write.
	ctx    context.Context
	cancel context.CancelFunc
	// done is closed when the loop wants to hear nothing more.
	done  chan struct{}
	write chan []byte

	// open is the loop's: the session knows that the websocket is open.
	open bool

	// Set before the event "opened" is sent, read after it was received.
	ws  *websocket.Conn
	raw net.Conn
}

// event is what an attempt tells the loop: that it is open, a text, or why it ended.
type event struct {
	from   *attempt
	opened bool
	text   []byte
	err    error
}

func newAttempt(l *loop) *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{loop: l, ctx: ctx, cancel: cancel, done: make(chan struct{}), write: make(chan []byte)}
	query := l.params.Query(l.conn.config.Role)
	l.wg.Go(func() { a.run(query) })
	return a
}

func (a *attempt) run(query string) {
	ws, raw, err := a.loop.conn.open.open(a.ctx, query)
	if err != nil {
		a.tell(a.loop.events, event{err: err})
		return
	}
	a.ws, a.raw = ws, raw
	if !a.tell(a.loop.events, event{opened: true}) {
		_ = ws.CloseNow()
		return
	}
	a.loop.wg.Go(a.writeAll)
	a.readAll()
}

// tell reports false if the loop does not want to know.
func (a *attempt) tell(to chan event, e event) bool {
	e.from = a
	select {
	case to <- e:
		return true
	case <-a.done:
		return false
	}
}

func (a *attempt) readAll() {
	for {
		kind, text, err := a.ws.Read(a.ctx)
		if err != nil {
			a.tell(a.loop.events, event{err: ending(err)})
			return
		}
		if kind != websocket.MessageText || len(text) == 0 {
			continue
		}
		if !a.tell(a.loop.frames, event{text: text}) {
			return
		}
	}
}

func (a *attempt) writeAll() {
	for {
		select {
		case text := <-a.write:
			if err := a.ws.Write(a.ctx, websocket.MessageText, text); err != nil {
				a.tell(a.loop.events, event{err: ending(err)})
				return
			}
			a.loop.conn.count(func(s *Stats) { s.Sent++ })
		case <-a.done:
			return
		}
	}
}

// hangup ends the attempt; the loop hears nothing more from it.
func (a *attempt) hangup(graceful bool) {
	close(a.done)
	if !a.open {
		a.cancel() // run closes what it gets all the same
		return
	}
	a.loop.wg.Go(func() {
		if graceful {
			late := time.AfterFunc(closeGrace, func() { _ = a.raw.Close() })
			_ = a.ws.Close(websocket.StatusNormalClosure, "")
			late.Stop()
		}
		a.cancel()
		_ = a.raw.Close()
		_ = a.ws.CloseNow()
	})
}

// ending says how a websocket ended, without the library's many layers.
func ending(err error) error {
	var closed websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return errors.New("the other end closed the websocket: " + closed.Code.String())
	case errors.Is(err, websocket.ErrMessageTooBig):
		return errors.New("the other end sent a frame that is too long")
	}
	return err
}
