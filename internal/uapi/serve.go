package uapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Handler is the device behind the socket. Serve calls it from one goroutine at a time.
type Handler interface {
	// Get reports the state; the caller owns what it returns.
	Get() State
	// Set applies c, which it owns. An error that wraps a syscall.Errno (EINVAL, EADDRINUSE …)
	// is answered with that number, any other with EIO.
	Set(c Config) error
}

// maxConns bounds how many connections are answered at once. Only root can open one, tools
// hold one for milliseconds, and the next waits in the listener's queue.
const maxConns = 32

// requestTimeout bounds how long a client may take from one request to the end of the next,
// reading of the answer included, so that a client that hangs cannot keep a place for ever.
const requestTimeout = time.Minute

// Serve answers connections accepted from l until ctx is done or l fails. It closes l and all
// connections, waits for the requests being handled, and returns nil when ctx ended it, else
// l's error. Refused requests are logged to log at debug.
func Serve(ctx context.Context, l net.Listener, h Handler, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	s := server{handler: h, log: log}
	places := make(chan struct{}, maxConns)
	context.AfterFunc(ctx, func() { l.Close() })
	defer func() {
		cancel()
		l.Close()
		s.conns.Wait()
	}()
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on the configuration socket: %w", err)
		}
		s.conns.Go(func() {
			s.serve(ctx, c)
			<-places
		})
	}
}

type server struct {
	handler Handler
	log     *slog.Logger
	turn    sync.Mutex // held while the handler is called
	conns   sync.WaitGroup
}

// serve answers the requests of one connection, one after the other.
func (s *server) serve(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		if c.SetDeadline(time.Now().Add(requestTimeout)) != nil {
			return
		}
		req, err := ReadRequest(r)
		var syntax *SyntaxError
		if err != nil && !errors.As(err, &syntax) {
			return // the client hung up, or its time is over
		}
		if err == nil {
			err = s.handle(w, req)
		}
		if err != nil {
			s.log.Debug("configuration request refused", "err", err)
		}
		if WriteErrno(w, err) != nil || w.Flush() != nil {
			return
		}
	}
}

func (s *server) handle(w io.Writer, req Request) error {
	if req.Op == Set {
		s.turn.Lock()
		defer s.turn.Unlock()
		return s.handler.Set(req.Config)
	}
	return WriteState(w, s.get())
}

// get asks the handler; who reads the answer slowly keeps nobody else waiting.
func (s *server) get() State {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.handler.Get()
}
