package relay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/protocol/signal"
)

// MaxPartition is how long a relay tries to reach its portal before it gives up, unless told
// otherwise: Firezone's relay has the same. Until then it carries data as before.
const MaxPartition = 24 * time.Hour

// PortalConfig is what a relay tells its portal, and how it gets there.
type PortalConfig struct {
	// API is the portal's URL, as in channel.Config.
	API string
	// Token lets the relay in.
	Token signal.Secret
	// Name is shown to administrators; "" for none.
	Name string
	// Public4, Public6 and Port are where clients reach the relay; one address may be missing.
	Public4, Public6 netip.Addr
	Port             uint16
	// Stamp is the secret from which the portal derives credentials and the relay's identity:
	// that of the server's SharedSecret. It stays the same over all connections.
	Stamp signal.Secret
	// Agent is the User-Agent.
	Agent string
	// MaxPartition bounds how long the portal may be out of reach, from the start on as well; 0
	// is for ever.
	MaxPartition time.Duration
	// Log gets state changes; nil for none.
	Log *slog.Logger
}

// NewStampSecret returns a secret of 32 random bytes in hexadecimal, as portals expect it. It
// lives in memory only: a relay that starts anew is another relay.
func NewStampSecret() signal.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return signal.NewSecret(hex.EncodeToString(b[:]))
}

// Portal keeps a relay known to its portal. It does not touch the relay, which carries data
// whatever becomes of the portal.
type Portal struct {
	cfg    PortalConfig
	joined atomic.Bool
	ever   atomic.Bool // joined at least once
	trying failures

	mu    sync.Mutex
	conn  *channel.Conn
	spent channel.Stats // of connections before conn
}

// NewPortal returns a portal that nobody has told anything yet, or says what is wrong with c.
func NewPortal(c PortalConfig) (*Portal, error) {
	if _, err := signal.ParseTarget(c.API, signal.RoleRelay, signal.V2); err != nil {
		return nil, err
	}
	if c.Stamp.IsZero() {
		return nil, errors.New("relay: no stamp secret")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Portal{cfg: c}, nil
}

// Joined reports whether the portal knows the relay at this moment. Any goroutine.
func (p *Portal) Joined() bool { return p.joined.Load() }

// Run keeps the relay joined until ctx is done; then it takes leave and returns nil. Any other
// end is an error that the process should fail with: the portal refuses the token or the join, or
// was out of reach for too long.
func (p *Portal) Run(ctx context.Context) error {
	began, pause := time.Now(), firstPause
	for {
		err := p.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !p.again(err, began) {
			return fmt.Errorf("portal: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

// Pauses between channels that came to nothing before the first join. Each has tried for a
// quarter of a minute.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// again reports whether a channel that ended with err shall be followed by another. A device that
// never joined gives up soon, for its supervisor to see; a relay may as well wait: machines that
// start together come up in any order.
func (p *Portal) again(err error, began time.Time) bool {
	var fatal *signal.FatalError
	if !errors.As(err, &fatal) || fatal.Kind != signal.RetriesSpent || p.ever.Load() {
		return false
	}
	return p.cfg.MaxPartition == 0 || time.Since(began) < p.cfg.MaxPartition
}

// connect opens a channel and follows it to its end.
func (p *Portal) connect(ctx context.Context) error {
	conn, err := p.dial()
	if err != nil {
		return err
	}
	defer p.hangup()
	for {
		m, err := conn.Next(ctx)
		if err != nil {
			return err
		}
		p.handle(m)
	}
}

func (p *Portal) dial() (*channel.Conn, error) {
	c := channel.Config{
		API: p.cfg.API, Role: signal.RoleRelay, Dialect: signal.V2, Token: p.cfg.Token, Agent: p.cfg.Agent,
		Params:       signal.Params{Name: p.cfg.Name, IPv4: p.cfg.Public4, IPv6: p.cfg.Public6, Port: p.cfg.Port},
		Join:         signal.Join{StampSecret: p.cfg.Stamp},
		MaxPartition: p.cfg.MaxPartition,
	}
	_, _ = rand.Read(c.Seed[:]) // never fails
	conn, err := channel.Dial(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = conn
	return conn, err
}

// hangup takes leave if there is somebody to take leave of.
func (p *Portal) hangup() {
	p.joined.Store(false)
	p.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent, p.conn = sumOf(p.spent, p.conn.Stats()), nil
}

// handle takes notice of what the channel says. A relay's portal has nothing to tell but init,
// upon which there is nothing to do.
func (p *Portal) handle(m signal.Message) {
	switch m := m.(type) {
	case signal.Connected:
		p.ever.Store(true)
		p.joined.Store(true)
		p.trying = failures{}
		p.cfg.Log.Info("joined the portal", "relay", signal.RelayID(p.cfg.Stamp).String())
	case signal.Disconnected:
		p.joined.Store(false)
		if count, due := p.trying.note(time.Now()); due {
			p.cfg.Log.Warn("portal is out of reach", "why", m.Why, "failures", count, "retry_in", m.In)
		}
	case signal.Malformed:
		p.cfg.Log.Debug("portal sent what is no message", "error", m.Err)
	default:
		p.cfg.Log.Debug("message from the portal", "event", m.Event())
	}
}

// Stats returns what all channels so far have counted. Any goroutine.
func (p *Portal) Stats() channel.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return p.spent
	}
	return sumOf(p.spent, p.conn.Stats())
}

func sumOf(a, b channel.Stats) channel.Stats {
	a.Dials += b.Dials
	a.Joins += b.Joins
	a.Losses += b.Losses
	a.Malformed += b.Malformed
	a.Unknown += b.Unknown
	a.Rejected += b.Rejected
	a.Sent += b.Sent
	a.Received += b.Received
	return a
}

// failures thins out the log lines about attempts that fail.
type failures struct {
	count  int
	logged time.Time
}

// failureInterval is how often a failure that repeats is logged.
const failureInterval = time.Minute

// note counts a failure and reports whether to log, and how many there were since the first.
func (f *failures) note(now time.Time) (count int, due bool) {
	f.count++
	if f.count > 1 && now.Sub(f.logged) < failureInterval {
		return f.count, false
	}
	f.logged = now
	return f.count, true
}
