package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/protocol/signal"
)

func TestServerAnswersEveryFrame(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	ws := rawDevice(t, p.http.URL, signal.RoleGateway)
	ok := func(topic, ref string) string {
		return `{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":` + ref + `,"topic":"` + topic + `"}`
	}
	no := func(reason, topic, ref string) string {
		return `{"event":"phx_reply","payload":{"response":{"reason":"` + reason + `"},"status":"error"},"ref":` + ref + `,"topic":"` + topic + `"}`
	}
	for _, c := range []struct{ send, want string }{
		{`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":0}`, ok("phoenix", "0")},
		{`{"topic":"gateway","event":"no_relays","payload":{},"ref":1}`, no("unmatched topic", "gateway", "1")},
		{`{"topic":"client","event":"phx_join","payload":null,"ref":2}`, no("unmatched topic", "client", "2")},
		{`{"topic":"gateway","event":"phx_join","payload":null,"ref":"3"}`, ok("gateway", `"3"`)},
		{"", ""}, // init
		{`{"topic":"gateway","event":"novelty","payload":null,"ref":4}`, no("unknown_message", "gateway", "4")},
		{`{"topic":"gateway","event":"authorization_created","payload":{},"ref":5}`, no("invalid_message", "gateway", "5")},
		{`{"topic":"gateway","event":"novelty","payload":null,"ref":null}` + "", ""},
		{`not JSON`, ""},
		{`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":18446744073709551616}`, ok("phoenix", "18446744073709551616")},
		{`{"topic":"gateway","event":"phx_leave","payload":{},"ref":6}`, ok("gateway", "6")},
		{"", `{"event":"phx_close","payload":{},"ref":null,"topic":"gateway"}`},
	} {
		if c.send != "" {
			write(t.Context(), ws, c.send)
		}
		if c.send != "" && c.want == "" {
			continue // no answer: the next row would see it
		}
		if got := read(t, ws); c.want != "" && got != c.want || c.want == "" && !strings.Contains(got, `"init"`) {
			t.Fatalf("%s\ngot  %s\nwant %s", c.send, got, c.want)
		}
	}
	if got := read(t, ws); !strings.Contains(got, "StatusNormalClosure") {
		t.Errorf("after leaving: %s", got)
	}
	if s := p.Stats(); s.Malformed != 2 || s.Unknown != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestServerRefusesJoins(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	p.onJoin = func(_ *Link, j signal.Join) string {
		if j.StampSecret.Reveal() != "secret" {
			return "disabled"
		}
		return ""
	}
	ws := rawDevice(t, p.http.URL, signal.RoleRelay)
	for _, c := range []struct{ payload, want string }{
		{`null`, "invalid_message"}, {`{"stamp_secret":7}`, "invalid_message"}, {`{"stamp_secret":"` + strings.Repeat("x", 300) + `"}`, "invalid_message"},
		{`{"stamp_secret":"other"}`, "disabled"}, {`{"stamp_secret":"secret"}`, `"status":"ok"`},
	} {
		write(t.Context(), ws, `{"topic":"relay","event":"phx_join","payload":`+c.payload+`,"ref":0}`)
		if got := read(t, ws); !strings.Contains(got, c.want) {
			t.Errorf("join with %s: %s", c.payload, got)
		}
	}
}

func TestRelayAndPortalSpeakV1(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	relay := device(t, Config{API: p.http.URL, Role: signal.RoleRelay, Join: signal.Join{StampSecret: signal.NewSecret("s")}})
	next[signal.Connected](t, relay)
	next[signal.RelayInit](t, relay)
	old := device(t, Config{API: p.http.URL, Role: signal.RoleClient, Dialect: signal.V1})
	next[signal.Connected](t, old)
	next[signal.ClientInit](t, old)
	if err := old.Send(signal.RequestAuthorization{ResourceID: signal.ID{1}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request arrives", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.messages) == 1
	})
	if err := p.link(t, 1).Send(signal.AuthorizationFailed{ResourceID: signal.ID{1}, Reason: signal.Offline}); err != nil {
		t.Fatal(err)
	}
	if m := next[signal.AuthorizationFailed](t, old); m.Reason != signal.Offline {
		t.Errorf("%+v", m)
	}
}

func TestServerCutsASlowReader(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	good := device(t, Config{API: p.http.URL})
	next[signal.Connected](t, good)
	next[signal.GatewayInit](t, good)
	healthy := p.link(t, 0)
	ws := rawDevice(t, p.http.URL, signal.RoleGateway)
	write(t.Context(), ws, `{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`)
	slow := p.link(t, 1)
	resource := signal.GatewayResource{ID: signal.ID{1}, Type: signal.DNS, Name: strings.Repeat("x", 60000), Address: "a.example"}
	var err error
	for i := 0; err == nil && i < 10000; i++ {
		err = slow.Send(signal.ResourceUpdated{GatewayResource: resource})
	}
	if !errors.Is(err, ErrSlow) {
		t.Fatalf("a device that does not read: %v", err)
	}
	eventually(t, "the slow link ends", func() bool { return len(p.closings()) == 1 })
	if why := p.closings()[0]; !errors.Is(why, ErrSlow) || p.Stats().Slow != 1 {
		t.Errorf("ended by %v, %+v", why, p.Stats())
	}
	if err := healthy.Send(signal.RejectAccess{ClientID: signal.ID{1}, ResourceID: signal.ID{2}}); err != nil {
		t.Fatal(err)
	}
	next[signal.RejectAccess](t, good)
	if err := slow.Send(signal.RejectAccess{ClientID: signal.ID{1}, ResourceID: signal.ID{2}}); err == nil {
		t.Error("a cut link takes messages")
	}
}

func TestServerCutsAStuckWrite(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	p.write = 50 * time.Millisecond
	ws := rawDevice(t, p.http.URL, signal.RoleGateway)
	write(t.Context(), ws, `{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`)
	l := p.link(t, 0)
	huge := signal.GatewayResource{ID: signal.ID{1}, Type: signal.DNS, Name: strings.Repeat("x", 16<<20), Address: "a.example"}
	if err := l.Send(signal.ResourceUpdated{GatewayResource: huge}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the link ends", func() bool { return len(p.closings()) == 1 })
	if why := p.closings()[0]; !errors.Is(why, ErrSlow) {
		t.Errorf("ended by %v", why)
	}
}

func TestServerEndsSilentDevices(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	p.idle, p.join = 100*time.Millisecond, 300*time.Millisecond
	mute := rawDevice(t, p.http.URL, signal.RoleGateway)
	joined := rawDevice(t, p.http.URL, signal.RoleGateway)
	write(t.Context(), joined, `{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`)
	beats := rawDevice(t, p.http.URL, signal.RoleGateway) // but never joins
	go func() {
		for beats.Write(t.Context(), websocket.MessageText, []byte(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":0}`)) == nil {
			if _, _, err := beats.Read(t.Context()); err != nil {
				return
			}
		}
	}()
	eventually(t, "all three end", func() bool { return len(p.closings()) == 3 })
	for _, why := range p.closings() {
		if why.Error() != "device is silent" {
			t.Errorf("ended by %v", why)
		}
	}
	_, _ = mute, joined
}

func TestServerLimitsFrames(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	ws := rawDevice(t, p.http.URL, signal.RoleGateway)
	write(t.Context(), ws, `{"topic":"phoenix","event":"heartbeat","payload":"`+strings.Repeat("x", signal.FromDevice.Bytes)+`","ref":0}`)
	if got := read(t, ws); !strings.Contains(got, "StatusMessageTooBig") {
		t.Errorf("got %s", got)
	}
	eventually(t, "the link ends", func() bool { return len(p.closings()) == 1 })
	if why := p.closings()[0]; !strings.Contains(why.Error(), "too long") {
		t.Errorf("ended by %v", why)
	}
}

func TestServerShutsDown(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	c := device(t, Config{API: p.http.URL})
	next[signal.Connected](t, c)
	next[signal.GatewayInit](t, c)
	stuck := rawDevice(t, p.http.URL, signal.RoleGateway) // does not answer the closing handshake
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.Shutdown(ctx)
	if s := p.Stats(); s.Links != 0 || ctx.Err() != nil {
		t.Errorf("stats %+v, %v", s, ctx.Err())
	}
	if m := next[signal.Disconnected](t, c); !strings.Contains(m.Why, "StatusServiceRestart") {
		t.Errorf("%+v", m)
	}
	if m := next[signal.Disconnected](t, c); !strings.Contains(m.Why, "503") {
		t.Errorf("%+v", m)
	}
	_ = stuck
}

func TestServerKeepsEarlyData(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	conn, err := net.Dial("tcp", p.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, upgrade+masked(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":41}`)+
		masked(`{"topic":"phoenix","event":"heartbeat","payload":"`+strings.Repeat("x", 2000)+`","ref":42}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if _, err := http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"41", "42"} {
		var header [2]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, header[1])
		if _, err := io.ReadFull(r, text); err != nil || !strings.Contains(string(text), `"ref":`+ref) {
			t.Fatalf("answer %q, %v", text, err)
		}
	}
}

// upgrade is the least request that is one.
const upgrade = "GET /gateway/v2/websocket HTTP/1.1\r\nHost: portal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

// masked is text as a client's frame, under the mask zero.
func masked(text string) string {
	if len(text) < 126 {
		return "\x81" + string([]byte{0x80 | byte(len(text))}) + "\x00\x00\x00\x00" + text
	}
	return "\x81\xfe" + string([]byte{byte(len(text) >> 8), byte(len(text))}) + "\x00\x00\x00\x00" + text
}

// maxIdleLink is what five thousand links may cost each: three eighths of what a connection may cost
// the portal altogether.
const maxIdleLink = 24 << 10

// An idle link costs little memory, stacks and the test's own end of the connection included.
func TestIdleLinksAreCheap(t *testing.T) {
	noLeaks(t)
	perLink := idleLinkBytes(t, 500)
	t.Logf("%d bytes for each idle link", perLink)
	if perLink > maxIdleLink {
		t.Errorf("%d bytes for each idle link, want at most %d", perLink, maxIdleLink)
	}
}

func idleLinkBytes(t testing.TB, links int) int {
	t.Helper()
	p := newPortal(t)
	before := memory()
	conns := make([]net.Conn, links)
	for i := range conns {
		conn, err := net.Dial("tcp", p.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns[i] = conn
		if _, err := fmt.Fprint(conn, upgrade, masked(`{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are joined and told", func() bool { return p.Stats().Sent >= uint64(2*links) })
	for i := range links {
		l := p.link(t, i)
		eventually(t, "the writers return", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return !l.flushing
		})
	}
	after := memory()
	runtime.KeepAlive(conns)
	return int(after-before) / links
}

// BenchmarkIdleLinks reports what each of as many links as a portal is meant for costs.
func BenchmarkIdleLinks(b *testing.B) {
	const links = 5000
	sum := 0
	for b.Loop() {
		sum += idleLinkBytes(b, links)
	}
	b.ReportMetric(float64(sum/b.N), "B/link")
}

// memory is what heap and stacks take after a collection.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func TestServerAnswersWhatIsNoUpgrade(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	w := httptest.NewRecorder()
	if _, err := p.Accept(w, httptest.NewRequest(http.MethodGet, "/gateway/v2/websocket", nil), signal.RoleGateway, signal.V2, p); err == nil || w.Code != http.StatusUpgradeRequired {
		t.Errorf("answered %d, %v", w.Code, err)
	}
	if s := p.Stats(); s.Links != 0 {
		t.Errorf("stats %+v", s)
	}
}
