package channel

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/protocol/signal"
)

func TestGatewayAndPortal(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	p.onMessage = func(_ *Link, m signal.Message) (signal.Reply, bool) {
		_, ok := m.(signal.AuthorizationApplied)
		return signal.Reply{Reason: signal.ReasonInvalidRef}, ok
	}
	c := device(t, Config{API: p.http.URL})
	next[signal.Connected](t, c)
	if m := next[signal.GatewayInit](t, c); m.Interface.IPv4.String() != "100.64.0.1" {
		t.Errorf("init %+v", m)
	}
	for _, m := range []signal.Message{signal.Capabilities{ICEless: true}, signal.AuthorizationApplied{Ref: "x"}} {
		if err := c.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if m := next[signal.Rejected](t, c); m.Reason != "invalid_ref" || m.Name != "authorization_created" {
		t.Errorf("rejected %+v", m)
	}
	if err := p.link(t, 0).Send(signal.Disconnect{Reason: signal.ReasonTokenExpired}); err != nil {
		t.Fatal(err)
	}
	var fatal *signal.FatalError
	if err := last(t, c); !errors.As(err, &fatal) || fatal.Kind != signal.TokenInvalid {
		t.Errorf("ends with %v", err)
	}
	if s := c.Stats(); s.Joins != 1 || s.Rejected != 1 || s.Sent != 3 {
		t.Errorf("stats %+v", s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.messages) != 2 || p.messages[0] != (signal.Capabilities{ICEless: true}) {
		t.Errorf("the portal got %+v", p.messages)
	}
}

func TestConnReconnects(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	c := device(t, Config{API: p.http.URL, Role: signal.RoleClient})
	endings := []func(l *Link){
		func(l *Link) { l.End(websocket.StatusServiceRestart) },
		(*Link).Leave,
		func(l *Link) { l.Cut(errors.New("test")) },
		func(*Link) { c.Reconnect(signal.Params{ExternalID: "other"}) },
	}
	for i := range endings {
		next[signal.Connected](t, c)
		next[signal.ClientInit](t, c)
		endings[i](p.link(t, i))
		next[signal.Disconnected](t, c)
	}
	next[signal.Connected](t, c)
	next[signal.ClientInit](t, c)
	c.Close()
	if err := last(t, c); !errors.Is(err, ErrClosed) {
		t.Errorf("ends with %v", err)
	}
	if err := c.Send(signal.NoRelays{}); !errors.Is(err, ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
	c.Reconnect(signal.Params{}) // must not block
	eventually(t, "the portal sees all links end", func() bool { return len(p.closings()) == 5 })
	if why := p.closings()[4]; !strings.Contains(why.Error(), "StatusNormalClosure") {
		t.Errorf("our close reads as %v", why)
	}
}

func TestConnIsRefused(t *testing.T) {
	noLeaks(t)
	var refusal atomic.Pointer[signal.Refusal]
	var asked atomic.Int32
	p := newPortal(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1); refusal.Load() != nil {
			Refuse(w, *refusal.Load())
			return
		}
		_, _ = p.Accept(w, r, signal.RoleGateway, signal.V2, p)
	}))
	t.Cleanup(s.Close)
	for _, c := range []struct {
		status int
		code   string
		kind   signal.FatalKind
	}{{401, signal.CodeInvalidToken, signal.TokenInvalid}, {401, signal.CodeMissingToken, signal.TokenInvalid}, {401, "other", signal.AuthenticationFailed}} {
		r := signal.NewRefusal(c.status, "Unauthorized", c.code, "Invalid token")
		refusal.Store(&r)
		var fatal *signal.FatalError
		if err := last(t, device(t, Config{API: s.URL})); !errors.As(err, &fatal) || fatal.Kind != c.kind || fatal.Detail != "Invalid token" {
			t.Errorf("%+v ends with %v", c, err)
		}
	}
	for _, status := range []int{429, 503} {
		asked.Store(0)
		r := signal.NewRefusal(status, "Slow Down", signal.CodeRateLimit, "Later")
		r.RetryAfter = "0"
		refusal.Store(&r)
		conn := device(t, Config{API: s.URL})
		for range 30 { // more than the budget allows without Retry-After
			if m := next[signal.Disconnected](t, conn); m.In != 0 || !strings.Contains(m.Why, signal.CodeRateLimit) {
				t.Fatalf("%+v", m)
			}
		}
		refusal.Store(nil)
		for joined := false; !joined; {
			m, err := conn.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, joined = m.(signal.Connected)
		}
		if asked.Load() < 31 {
			t.Errorf("asked %d times", asked.Load())
		}
		conn.Close()
	}
}

func TestConnSurvivesBadFrames(t *testing.T) {
	noLeaks(t)
	url := scripted(t, func(ctx context.Context, ws *websocket.Conn) {
		write(ctx, ws, joinOK, `{`, `[1,2]`, `{"event":"init","payload":{},"ref":null,"topic":"gateway"}`,
			`{"event":"novelty","payload":7,"ref":null,"topic":"gateway","join_ref":null}`, `{"event":"x","payload":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}`)
		_ = ws.Write(ctx, websocket.MessageBinary, []byte("binary"))
		_ = ws.Write(ctx, websocket.MessageText, nil)
		write(ctx, ws, `{"event":"disconnect","payload":{"reason":"certificate_revoked"},"topic":"gateway"}`)
		write(ctx, ws, `{"event":"big","payload":"`+strings.Repeat("x", signal.FromPortal.Bytes)+`"}`)
		_, _, _ = ws.Read(ctx)
	})
	c := device(t, Config{API: url})
	next[signal.Connected](t, c)
	next[signal.Malformed](t, c)
	next[signal.Malformed](t, c)
	var field *signal.FieldError
	if m := next[signal.Malformed](t, c); !errors.As(m.Err, &field) || field.Field != "interface.ipv4" {
		t.Errorf("%v", m.Err)
	}
	if m := next[signal.Unknown](t, c); m.Name != "novelty" || string(m.Payload) != "7" {
		t.Errorf("%+v", m)
	}
	if m := next[signal.Malformed](t, c); !strings.Contains(m.Err.Error(), "nests") {
		t.Errorf("%v", m.Err)
	}
	next[signal.Disconnect](t, c)
	if m := next[signal.Disconnected](t, c); !strings.Contains(m.Why, "too long") {
		t.Errorf("%+v", m)
	}
}

func TestConnOutboxIsBounded(t *testing.T) {
	noLeaks(t)
	url := scripted(t, func(ctx context.Context, ws *websocket.Conn) {
		write(ctx, ws, joinOK)
		<-ctx.Done() // never reads
	})
	c := device(t, Config{API: url})
	next[signal.Connected](t, c)
	long := signal.Candidate("candidate:1 1 udp 2130706431 192.0.2.1 52625 typ host " + strings.Repeat("x", 400))
	var full error
	for i := 0; full == nil && i < 5000; i++ {
		m := signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{{1, byte(i >> 8), byte(i)}}}
		for range 20 {
			m.Candidates = append(m.Candidates, long)
		}
		full = c.Send(m)
	}
	if !errors.Is(full, ErrFull) {
		t.Fatalf("a peer that does not read: %v", full)
	}
	if s := c.Stats(); s.Full != 1 {
		t.Errorf("stats %+v", s)
	}
	c.mu.Lock()
	again := c.outbox[len(c.outbox)-1].message
	c.mu.Unlock()
	if err := c.Send(again); err != nil || c.Stats().Repeated != 1 {
		t.Errorf("a message that waits already: %v, %+v", err, c.Stats())
	}
}

func TestConnInboxIsBounded(t *testing.T) {
	noLeaks(t)
	var written atomic.Int32
	const many = 200000
	url := scripted(t, func(ctx context.Context, ws *websocket.Conn) {
		write(ctx, ws, joinOK)
		text := []byte(`{"event":"novelty","payload":"` + strings.Repeat("x", 2000) + `","topic":"gateway"}`)
		for written.Load() < many && ws.Write(ctx, websocket.MessageText, text) == nil {
			written.Add(1)
		}
	})
	c := device(t, Config{API: url})
	eventually(t, "the inbox is full", c.inboxFull)
	for range 10 * maxInbox {
		m, err := c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(signal.Disconnected); ok {
			t.Fatalf("lost: %+v", m)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inbox) > maxInbox+2 {
		t.Errorf("%d messages wait", len(c.inbox))
	}
	if written.Load() == many {
		t.Error("the portal never had to wait")
	}
}

func TestConnGivesUpOnAPortalThatIsSilent(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, scheme := range []string{"ws", "wss"} {
		c := device(t, Config{API: scheme + "://" + l.Addr().String()})
		conn, err := l.Accept() // and say nothing
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := last(t, c); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", scheme, err)
		}
		_ = conn.Close()
	}
}

func TestConnTriesAllAddresses(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	_, port, _ := net.SplitHostPort(p.http.Listener.Addr().String())
	var asked atomic.Int32
	c := device(t, Config{
		API: "ws://portal.example:" + port,
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if asked.Add(1) == 1 {
				return nil, errors.New("no such host " + host)
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("127.0.0.3")}, nil
		},
	})
	if m := next[signal.Disconnected](t, c); !strings.Contains(m.Why, "no such host portal.example") {
		t.Errorf("%+v", m)
	}
	next[signal.Connected](t, c)
}

func TestConnChecksTheCertificate(t *testing.T) {
	noLeaks(t)
	p := &testPortal{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = p.Accept(w, r, signal.RoleGateway, signal.V2, p)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	stranger := device(t, Config{API: s.URL})
	if m := next[signal.Disconnected](t, stranger); !strings.Contains(m.Why, "certificate") {
		t.Errorf("%+v", m)
	}
	stranger.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := device(t, Config{API: s.URL, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	next[signal.Connected](t, c)
	next[signal.GatewayInit](t, c)
	c.Close()
	p.Shutdown(t.Context())
}

func TestUpgradeOnTheWire(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	key := signal.PublicKey{0xfb, 0xff}
	c, err := Dial(Config{
		API: "ws://" + l.Addr().String() + "/api/?x=y", Token: signal.NewSecret(" .tok\nen "), Agent: "Ubuntu/24.4.0 gateway/1.6.1 (x86_64; 6.8.0-45-generic)",
		Params: signal.Params{ExternalID: "abc", Name: "edge 1", PublicKey: key},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprint(conn, "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\nContent-Length: 24\r\n\r\n{\"code\":\"invalid_token\"}")
	_ = conn.Close()
	if want := "/api/gateway/v2/websocket?external_id=abc&name=edge+1&public_key=%2B%2F8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D"; r.RequestURI != want {
		t.Errorf("asks for %s\nwant %s", r.RequestURI, want)
	}
	if r.Host != "127.0.0.1" {
		t.Errorf("host %q", r.Host)
	}
	if len(r.Header["Sec-Websocket-Key"]) != 1 {
		t.Errorf("header %v", r.Header)
	}
	delete(r.Header, "Sec-Websocket-Key")
	want := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"User-Agent": {"Ubuntu/24.4.0 gateway/1.6.1 (x86_64; 6.8.0-45-generic)"}, "X-Authorization": {"Bearer .token"},
	}
	if got := fmt.Sprint(r.Header); got != fmt.Sprint(want) {
		t.Errorf("header %s\nwant %v", got, want)
	}
	var fatal *signal.FatalError
	if err := last(t, c); !errors.As(err, &fatal) || fatal.Kind != signal.TokenInvalid {
		t.Errorf("ends with %v", err)
	}
}

func TestDialRefusesBadConfigurations(t *testing.T) {
	for _, c := range []Config{
		{API: "ftp://portal.example"}, {API: "wss://"}, {API: "wss://portal.example:0"}, {API: "wss://u:p@portal.example"}, {API: ":"},
		{API: "wss://portal.example", Role: signal.RoleRelay},
	} {
		if conn, err := Dial(c); err == nil {
			conn.Close()
			t.Errorf("%q is dialled", c.API)
		}
	}
}
