package channel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/protocol/signal"
)

// Handler is the portal's side of one link. Calls come one at a time, in the order of what the
// device says; nothing is read from it meanwhile, so a call that blocks stops that device and nobody
// else. The exception is Message with signal.Pushed, which comes at any time before Closed.
type Handler interface {
	// Join decides about a join. A reason refuses it, which is final for the device.
	Join(l *Link, j signal.Join) (refusal string)
	// Joined follows the answer to an accepted join: from here on the link takes messages, and
	// the first has to be init. A device may join more than once.
	Joined(l *Link)
	// Message takes one message. If answer is true the device gets the reply. Unknown events,
	// which are answered already, do not come here. A signal.Pushed has no answer.
	Message(l *Link, m signal.Message) (reply signal.Reply, answer bool)
	// Closed is the last call. It happens once, whoever ended the link, when both goroutines are
	// done with everything else.
	Closed(l *Link, why error)
}

// Default bounds of a Server.
const (
	// maxLinks bounds the links of one server: four times the five thousand it is meant for.
	maxLinks = 20000
	// idleTimeout ends a link whose device is silent. It beats every ten seconds.
	idleTimeout = 37 * time.Second
	// relayIdleTimeout is the same for relays.
	relayIdleTimeout = 41 * time.Second
	// joinTimeout is how long a link may stay unjoined. Devices join at once.
	joinTimeout = 15 * time.Second
	// writeTimeout is how long one frame may take to leave.
	writeTimeout = 10 * time.Second
)

// Buffers for framing. Frames longer than these bypass them.
const (
	readBuffer  = 512
	writeBuffer = 512
)

var (
	// ErrSlow ends a link whose device does not read.
	ErrSlow = errors.New("device reads too slowly")
	// ErrDropped is returned for what others have a device sent that is behind with reading. It is an
	// ErrSlow, but the link stays.
	ErrDropped = fmt.Errorf("%w: message dropped", ErrSlow)
	// ErrEnded ends a link of the portal's own accord.
	ErrEnded = errors.New("portal ended the link")
	// ErrBusy is returned for a link too many.
	ErrBusy = errors.New("too many links")
)

// Server makes links out of HTTP requests. The zero value is ready; it must not be copied.
type Server struct {
	mu     sync.Mutex
	links  map[*Link]struct{}
	closed bool
	wg     sync.WaitGroup
	counts ServerStats

	// timeouts, for tests; zero is the default.
	idle, join, write time.Duration
}

// ServerStats counts since the start, but for Links, which is how many there are.
type ServerStats struct {
	Links, Accepted, Busy, Slow, Malformed, Unknown, Received, Sent uint64
	// Throttled counts how often a device had to wait because it had sent too much.
	Throttled uint64
	// Dropped counts messages that others caused for a device that was behind with reading.
	Dropped uint64
}

// Accept upgrades the request of a device that the portal has let in, and serves the link on a
// goroutine of its own: the HTTP handler should return. On an error the request has been
// answered. The HTTP server must not offer HTTP/2, which cannot be upgraded.
func (s *Server) Accept(w http.ResponseWriter, r *http.Request, role signal.Role, d signal.Dialect, h Handler) (*Link, error) {
	l := &Link{server: s, role: role, dialect: d, handler: h, cutOff: make(chan struct{})}
	if !s.enter(l) {
		refusal := signal.NewRefusal(http.StatusServiceUnavailable, "Service Unavailable", signal.CodeRateLimit, "Too many connections")
		refusal.RetryAfter = "1"
		Refuse(w, refusal)
		return nil, ErrBusy
	}
	hijack := &hijacker{ResponseWriter: w, link: l}
	ws, err := websocket.Accept(hijack, r, &websocket.AcceptOptions{
		OnPingReceived: func(context.Context, []byte) bool { l.spend(1); return true },
		OnPongReceived: func(context.Context, []byte) { l.spend(1) },
	})
	if err != nil {
		s.leave(l)
		return nil, fmt.Errorf("accept device: %w", err)
	}
	ws.SetReadLimit(int64(signal.FromDevice.Bytes))
	l.open(ws, hijack.conn)
	go l.serve()
	return l, nil
}

func (s *Server) enter(l *Link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.links) >= maxLinks {
		s.counts.Busy++
		return false
	}
	if s.links == nil {
		s.links = make(map[*Link]struct{})
	}
	s.links[l] = struct{}{}
	s.counts.Accepted++
	s.wg.Add(1)
	return true
}

func (s *Server) leave(l *Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
	s.wg.Done()
}

// Shutdown refuses further links, asks every device to come back later by the websocket code
// 1012, and waits for the links to end; when ctx ends it cuts what is left.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	links := make([]*Link, 0, len(s.links))
	for l := range s.links {
		links = append(links, l)
	}
	s.mu.Unlock()
	for _, l := range links {
		l.End(websocket.StatusServiceRestart)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, l := range links {
			l.Cut(ErrEnded)
		}
	})
	defer stop()
	s.wg.Wait()
}

// Stats returns the counters.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Links = uint64(len(s.links))
	return c
}

func (s *Server) count(f func(*ServerStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.counts)
}

func (s *Server) idleTimeout(r signal.Role) time.Duration {
	switch {
	case s.idle > 0:
		return s.idle
	case r == signal.RoleRelay:
		return relayIdleTimeout
	}
	return idleTimeout
}

// hijacker hands the connection over with small buffers.
type hijacker struct {
	http.ResponseWriter
	link *Link
	// conn is the TCP connection, for deadlines.
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = conn
	if below, ok := conn.(interface{ NetConn() net.Conn }); ok {
		h.conn = below.NetConn()
	}
	// What the device sent along with its request stays buffered.
	early := make([]byte, rw.Reader.Buffered())
	if _, err := io.ReadFull(rw.Reader, early); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), conn), max(readBuffer, len(early)))
	if _, err := r.Peek(len(early)); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return &meter{Conn: conn, link: h.link}, bufio.NewReadWriter(r, bufio.NewWriterSize(conn, writeBuffer)), nil
}
