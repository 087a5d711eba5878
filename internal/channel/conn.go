package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

// Config is what a Conn is made from.
type Config struct {
	// API is the portal's URL: wss://… or, unprotected, ws://host:port.
	API     string
	Role    signal.Role
	Dialect signal.Dialect
	// Params go into the query. Reconnect replaces them.
	Params signal.Params
	// Token goes into a header, if there is one.
	Token signal.Secret
	// Agent is the User-Agent. Its component and version decide whom the portal pairs us with.
	Agent string
	// Join is for relays.
	Join signal.Join
	// MaxPartition is signal.SessionConfig's.
	MaxPartition time.Duration
	// Seed is where jitter comes from.
	Seed [32]byte

	// TLS may hold other roots than the system's. Nil is fine.
	TLS *tls.Config
	// Resolve looks up the portal's host. Nil asks the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Control, if set, sees every TCP socket before it connects, for marks and the like.
	Control func(network, address string, c syscall.RawConn) error
}

const (
	// maxOutbox bounds what waits for a slow network. A gateway sends two messages for each
	// client that connects, so this is a burst of five hundred.
	maxOutbox = 1024
	// maxInbox bounds what waits for a slow caller.
	maxInbox = 256
)

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("portal channel is closed")
	// ErrFull is returned for messages that the network cannot take as fast.
	ErrFull = errors.New("portal channel is congested")
)

// Conn is a device's channel to its portal, over any number of websockets, one at a time. Its
// methods may be called from any goroutine.
type Conn struct {
	config   Config
	open     opener
	commands chan command
	bell     chan struct{} // something is in the inbox
	wake     chan struct{} // something is in the outbox, or there is room in the inbox
	ended    chan struct{} // the loop has returned

	mu     sync.Mutex
	joined bool
	outbox []queued
	inbox  []signal.Message
	err    error // why the loop has returned
	stats  Stats
}

// queued is a message that waits for the network. The frame has no ref yet; it is there to tell
// equal messages.
type queued struct {
	message signal.Message
	frame   signal.Frame
}

// command is a caller's wish for the session.
type command struct {
	params *signal.Params // reconnect with these
	close  bool
}

// Stats counts since the start.
type Stats struct {
	signal.SessionStats
	// Sent and Received are frames; Full counts messages refused by a full outbox, Repeated those
	// equal to one that still waited, Unsent those that were lost with their connection.
	Sent, Received, Full, Repeated, Unsent uint64
}

// Dial starts a channel. It fails for an unusable configuration only; whether the portal can be
// reached is told by Next.
func Dial(c Config) (*Conn, error) {
	target, err := signal.ParseTarget(c.API, c.Role, c.Dialect)
	if err != nil {
		return nil, fmt.Errorf("dial portal: %w", err)
	}
	if c.Role == signal.RoleRelay && c.Join.StampSecret.IsZero() {
		return nil, errors.New("dial portal: a relay needs a stamp secret")
	}
	header := http.Header{"User-Agent": {c.Agent}}
	if !c.Token.IsZero() {
		header.Set(signal.TokenHeader, signal.AuthorizationHeader(signal.CleanToken(c.Token.Reveal())))
	}
	if c.Resolve == nil {
		c.Resolve = systemResolve
	}
	conn := &Conn{
		config:   c,
		open:     opener{target, header, c.TLS, c.Resolve, c.Control},
		commands: make(chan command),
		bell:     make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		ended:    make(chan struct{}),
	}
	go newLoop(conn).run()
	return conn, nil
}

// Next returns the next message from the portal or notice about the channel (signal.Connected,
// Disconnected, Rejected, Malformed), in order. After the last one it returns a
// *signal.FatalError, or ErrClosed.
func (c *Conn) Next(ctx context.Context) (signal.Message, error) {
	for {
		m, err := c.take()
		if m != nil || err != nil {
			return m, err
		}
		select {
		case <-c.bell:
		case <-c.ended: // by now there is an error to take
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *Conn) take() (signal.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inbox) == 0 {
		return nil, c.err
	}
	m := c.inbox[0]
	c.inbox = slices.Delete(c.inbox, 0, 1)
	if len(c.inbox) > 0 {
		ring(c.bell) // for another caller of Next
	}
	if len(c.inbox) == maxInbox-1 {
		ring(c.wake)
	}
	return m, nil
}

// Send queues m. It fails with signal.ErrNotJoined while the channel is down: after the next
// Connected, the portal's init is the new beginning. A message equal to one that still waits is
// not queued again, which is no error.
func (c *Conn) Send(m signal.Message) error {
	f, err := signal.EncodeFromDevice(c.config.Role, c.config.Dialect, m)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	same := func(q queued) bool { return q.frame.Event == f.Event && bytes.Equal(q.frame.Payload, f.Payload) }
	switch {
	case c.err != nil:
		return c.err
	case !c.joined:
		return signal.ErrNotJoined
	case slices.ContainsFunc(c.outbox, same):
		c.stats.Repeated++
		return nil
	case len(c.outbox) >= maxOutbox:
		c.stats.Full++
		return ErrFull
	}
	c.outbox = append(c.outbox, queued{m, f})
	ring(c.wake)
	return nil
}

// Reconnect closes the websocket and opens another at once with these parameters: the network or
// the device's key has changed.
func (c *Conn) Reconnect(p signal.Params) {
	select {
	case c.commands <- command{params: &p}:
	case <-c.ended:
	}
}

// Close ends the channel, with a closing handshake if the portal answers it soon, and waits
// until all its goroutines have returned. What is still queued is not sent.
func (c *Conn) Close() {
	select {
	case c.commands <- command{close: true}:
	case <-c.ended:
	}
	<-c.ended
}

// Stats returns the counters.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// ring makes sure that somebody looks.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
