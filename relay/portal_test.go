package relay

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/protocol/signal"
)

// relayPortal lets relays in and says how each link went.
type relayPortal struct {
	links  atomic.Pointer[channel.Server]
	http   *httptest.Server
	joins  chan signal.Join
	closed chan error
	reason string
	status int // of refused upgrades
}

func newRelayPortal(t *testing.T) *relayPortal {
	p := &relayPortal{joins: make(chan signal.Join, 16), closed: make(chan error, 16)}
	p.links.Store(new(channel.Server))
	p.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.status != 0 {
			channel.Refuse(w, signal.NewRefusal(p.status, "Refused", signal.CodeInvalidToken, "Invalid token"))
			return
		}
		_, _ = p.links.Load().Accept(w, r, signal.RoleRelay, signal.V2, p)
	}))
	t.Cleanup(p.away)
	return p
}

// away cuts all links and leaves nobody to answer.
func (p *relayPortal) away() {
	p.links.Load().Shutdown(expired())
	p.http.Close()
}

func (p *relayPortal) Join(_ *channel.Link, j signal.Join) string { p.joins <- j; return p.reason }
func (p *relayPortal) Joined(l *channel.Link)                     { _ = l.Send(signal.RelayInit{}) }
func (p *relayPortal) Message(*channel.Link, signal.Message) (signal.Reply, bool) {
	return signal.Reply{}, false
}
func (p *relayPortal) Closed(_ *channel.Link, why error) { p.closed <- why }

func portalConfig(p *relayPortal) PortalConfig {
	return PortalConfig{API: p.http.URL, Token: signal.NewSecret("token"), Stamp: NewStampSecret(), Public4: public4, Port: 3478,
		Agent: "Linux/0 relay/0.0.0", MaxPartition: time.Hour}
}

// running runs a portal's relay side; stop makes it take leave and end returns how it ended.
func running(t *testing.T, c PortalConfig) (p *Portal, stop func(), end func() error) {
	t.Helper()
	p, err := NewPortal(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return p, cancel, func() error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			t.Fatal("does not end")
			return nil
		}
	}
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

func TestARelayJoinsAgainWithTheSameSecretAndTakesLeave(t *testing.T) {
	before := runtime.NumGoroutine()
	portal := newRelayPortal(t)
	c := portalConfig(portal)
	p, stop, end := running(t, c)
	soon(t, "joined", p.Joined)
	if j := <-portal.joins; !j.StampSecret.Equal(c.Stamp) {
		t.Error("joined with another secret")
	}
	// As a portal that starts anew.
	portal.links.Swap(new(channel.Server)).Shutdown(expired())
	soon(t, "joined twice", func() bool { return p.Joined() && p.Stats().Joins == 2 })
	if j := <-portal.joins; !j.StampSecret.Equal(c.Stamp) {
		t.Error("joined again with another secret")
	}
	<-portal.closed
	stop()
	if err := end(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if why := <-portal.closed; !strings.Contains(why.Error(), "StatusNormalClosure") {
		t.Errorf("the portal sees the link end by %v, want a normal closure", why)
	}
	if p.Joined() {
		t.Error("joined after the end")
	}
	if s := p.Stats(); s.Joins != 2 || s.Losses != 1 {
		t.Errorf("counted %+v", s)
	}
	portal.away()
	soon(t, "goroutines return", func() bool { return runtime.NumGoroutine() <= before })
}

// expired is a context that is done.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestWhatThePortalRefusesIsFinal(t *testing.T) {
	for name, refuse := range map[string]func(*relayPortal){
		"portal: token is invalid or expired: Invalid token": func(p *relayPortal) { p.status = http.StatusUnauthorized },
		"portal: portal refuses the login: disabled":         func(p *relayPortal) { p.reason = "disabled" },
	} {
		portal := newRelayPortal(t)
		refuse(portal)
		p, _, end := running(t, portalConfig(portal))
		if err := end(); err == nil || err.Error() != name {
			t.Errorf("ended with %v, want %s", err, name)
		}
		if p.Joined() {
			t.Error("joined all the same")
		}
	}
}

func TestARelayGivesUpAfterItsTime(t *testing.T) {
	portal := newRelayPortal(t)
	c := portalConfig(portal)
	c.MaxPartition = time.Millisecond
	p, _, end := running(t, c)
	soon(t, "joined", p.Joined)
	portal.away()
	var fatal *signal.FatalError
	if err := end(); !errors.As(err, &fatal) || fatal.Kind != signal.RetriesSpent {
		t.Errorf("ended with %v", err)
	}
}

func TestWhichEndsOfAChannelAreFinal(t *testing.T) {
	spent, invalid := &signal.FatalError{Kind: signal.RetriesSpent}, &signal.FatalError{Kind: signal.TokenInvalid}
	now := time.Now()
	for _, c := range []struct {
		name  string
		err   error
		began time.Time
		most  time.Duration
		ever  bool
		want  bool
	}{
		{"the portal is not up yet", spent, now, time.Hour, false, true},
		{"the portal is not up yet, without a bound", spent, now.Add(-1000 * time.Hour), 0, false, true},
		{"the portal was never up", spent, now.Add(-2 * time.Hour), time.Hour, false, false},
		{"the portal was up once", spent, now, time.Hour, true, false},
		{"the token is refused", invalid, now, time.Hour, false, false},
		{"something else", channel.ErrClosed, now, time.Hour, false, false},
	} {
		p := &Portal{cfg: PortalConfig{MaxPartition: c.most}}
		p.ever.Store(c.ever)
		if got := p.again(c.err, c.began); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestBadPortals(t *testing.T) {
	stamp := NewStampSecret()
	for _, c := range []PortalConfig{
		{API: "ftp://portal", Stamp: stamp}, {API: "wss://", Stamp: stamp}, {API: "wss://user@portal", Stamp: stamp}, {API: "wss://portal"},
	} {
		c.Public4 = netip.MustParseAddr("192.0.2.1")
		if _, err := NewPortal(c); err == nil {
			t.Errorf("%q is accepted", c.API)
		}
	}
}

func TestRepeatedFailuresAreLoggedOnceAMinute(t *testing.T) {
	var f failures
	at := beginning
	var logged []int
	for range 150 {
		if n, due := f.note(at); due {
			logged = append(logged, n)
		}
		at = at.Add(time.Second)
	}
	if len(logged) != 3 || logged[0] != 1 || logged[1] != 61 || logged[2] != 121 {
		t.Errorf("logged at failures %v", logged)
	}
}
