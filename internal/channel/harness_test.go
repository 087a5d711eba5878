package channel

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/protocol/signal"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// noLeaks fails the test if it leaves goroutines behind.
func noLeaks(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		eventually(t, "goroutines return", func() bool { return runtime.NumGoroutine() <= before })
		if t.Failed() {
			buf := make([]byte, 1<<20)
			t.Logf("%s", buf[:runtime.Stack(buf, true)])
		}
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// testPortal lets everyone in and keeps what its handler is told.
type testPortal struct {
	Server
	http *httptest.Server
	// onJoin, if set, decides about joins; onMessage answers messages.
	onJoin    func(*Link, signal.Join) string
	onMessage func(*Link, signal.Message) (signal.Reply, bool)

	mu       sync.Mutex
	links    []*Link
	messages []signal.Message
	closed   []error
}

func newPortal(t testing.TB) *testPortal {
	p := &testPortal{}
	p.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		role, dialect, ok := signal.ParseEndpoint(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = p.Accept(w, r, role, dialect, p)
	}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		p.Shutdown(ctx)
		p.http.Close()
	})
	return p
}

func (p *testPortal) Join(l *Link, j signal.Join) string {
	if p.onJoin != nil {
		return p.onJoin(l, j)
	}
	return ""
}

func (p *testPortal) Joined(l *Link) {
	p.mu.Lock()
	p.links = append(p.links, l)
	p.mu.Unlock()
	_ = l.Send(initFor(l.Role())) // the device may have left already
}

func (p *testPortal) Message(l *Link, m signal.Message) (signal.Reply, bool) {
	p.mu.Lock()
	p.messages = append(p.messages, m)
	p.mu.Unlock()
	if p.onMessage != nil {
		return p.onMessage(l, m)
	}
	return signal.Reply{}, false
}

func (p *testPortal) Closed(_ *Link, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = append(p.closed, why)
}

func (p *testPortal) link(t testing.TB, n int) *Link {
	t.Helper()
	var l *Link
	eventually(t, "a device joins", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.links) > n {
			l = p.links[n]
		}
		return l != nil
	})
	return l
}

func (p *testPortal) closings() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]error(nil), p.closed...)
}

func initFor(r signal.Role) signal.Message {
	face := signal.Interface{
		IPv4: signal.Addr4{Addr: netip.MustParseAddr("100.64.0.1")}, IPv6: signal.Addr6{Addr: netip.MustParseAddr("fd00:2021:1111::1")},
	}
	switch r {
	case signal.RoleGateway:
		return signal.GatewayInit{Interface: face, Config: signal.Masquerade{IPv4: true, IPv6: true}, FlowLogs: signal.FlowLogs{APIURL: "https://localhost/"}}
	case signal.RoleClient:
		return signal.ClientInit{Interface: face, FlowLogs: signal.FlowLogs{APIURL: "https://localhost/"}}
	}
	return signal.RelayInit{}
}

// device dials url; the Conn is closed with the test.
func device(t *testing.T, c Config) *Conn {
	t.Helper()
	c.Params = signal.Params{ExternalID: "id", Name: "edge 1"}
	c.Agent = signal.Agent{OS: "Linux", OSVersion: "6", Component: "gateway", Version: "1.6.1"}.String()
	conn, err := Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// next returns the next message, which must be an M.
func next[M signal.Message](t *testing.T, c *Conn) M {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := c.Next(ctx)
	got, ok := m.(M)
	if !ok {
		t.Fatalf("got %v %+v, %v, want %v", reflect.TypeOf(m), m, err, reflect.TypeFor[M]())
	}
	return got
}

// last returns the error after all messages.
func last(t *testing.T, c *Conn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if _, err := c.Next(ctx); err != nil {
			return err
		}
	}
}

// scripted serves websockets with a function, for portals that misbehave.
func scripted(t *testing.T, serve func(ctx context.Context, ws *websocket.Conn)) string {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		serve(ctx, ws)
	}))
	t.Cleanup(func() { cancel(); s.Close(); wg.Wait() })
	return s.URL
}

const joinOK = `{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"gateway"}`

// write sends texts and gives up silently when the websocket is gone.
func write(ctx context.Context, ws *websocket.Conn, texts ...string) {
	for _, text := range texts {
		if ws.Write(ctx, websocket.MessageText, []byte(text)) != nil {
			return
		}
	}
}

// rawDevice is a websocket client without any manners of its own.
func rawDevice(t *testing.T, url string, role signal.Role) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ws, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+signal.Endpoint(role, signal.V2), &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

func read(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, text, err := ws.Read(ctx)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
