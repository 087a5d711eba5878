package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// tryUpgrade asks for a relay's websocket and returns the answer.
func (p *testPortal) tryUpgrade(token, from string) (status int, body string, header http.Header) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "GET", p.url+signal.Endpoint(signal.RoleRelay, signal.V1)+"?ipv4=203.0.113.7", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
		"User-Agent": agents[signal.RoleRelay].String(), signal.TokenHeader: "Bearer " + token, "X-Forwarded-For": from,
	} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		p.t.Cleanup(func() { resp.Body.Close() })
		return resp.StatusCode, "", resp.Header
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// One address gets its share and no more, is told so, and keeps nobody else out. A place that becomes
// free can be taken.
func TestAnAddressHasItsShare(t *testing.T) {
	p := start(t, policy, func(o *Options) {
		o.PerAddress, o.Proxies = 2, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	const office = "203.0.113.66"
	token := func() string { return p.token(TokenWish{Relay: true}) } // another each time: there is a limit for each
	for n := range 2 {
		if status, body, _ := p.tryUpgrade(token(), office); status != http.StatusSwitchingProtocols {
			t.Fatalf("websocket %d: %d %s", n, status, body)
		}
	}
	status, body, header := p.tryUpgrade(token(), office)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") != "10" || !strings.HasPrefix(header.Get("Content-Type"), signal.ProblemType) ||
		!strings.Contains(body, "from this address") || !strings.Contains(body, signal.CodeRateLimit) {
		t.Errorf("one too many: %d %v %s", status, header, body)
	}
	if status, body, _ := p.tryUpgrade(token(), "203.0.113.67"); status != http.StatusSwitchingProtocols {
		t.Errorf("a neighbour: %d %s", status, body)
	}
	if n := p.sockets.refused.Load(); n != 1 {
		t.Errorf("%d are counted", n)
	}
	if status, _, _ := p.tryUpgrade("nonsense", office); status != http.StatusUnauthorized {
		t.Errorf("a bad token: %d", status)
	}
	p.channels.Shutdown(t.Context())
	eventually(t, "the places are free", func() bool {
		p.sockets.mu.Lock()
		defer p.sockets.mu.Unlock()
		return len(p.sockets.has) == 0
	})
	if status, body, _ := p.tryUpgrade(token(), office); !strings.Contains(body, "Too many connections") || status != http.StatusServiceUnavailable {
		t.Errorf("while the portal ends: %d %s", status, body)
	}
	p.sockets.mu.Lock()
	defer p.sockets.mu.Unlock()
	if len(p.sockets.has) != 0 {
		t.Errorf("a refused upgrade keeps its place: %v", p.sockets.has)
	}
}

// Idle connections of one address are closed beyond its share; a proxy's are not.
func TestConnectionsOfAnAddressAreBounded(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := &sharedListener{inner, newShares(2), func(netip.Addr) bool { return trusted }}
		accepted := make(chan net.Conn, 3)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					close(accepted)
					return
				}
				accepted <- c
			}
		}()
		dial := func() net.Conn {
			c, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		dial()
		first := <-accepted
		dial()
		<-accepted
		third := dial()
		if trusted {
			<-accepted
		} else {
			_ = third.SetReadDeadline(time.Now().Add(patience))
			if n, err := third.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("one too many reads %d, %v", n, err)
			}
			first.Close()
			first.Close() // gives back once
			dial()
			<-accepted
			if got := fmt.Sprint(l.shares.has); got != "map[127.0.0.1/32:2]" || l.shares.refused.Load() != 1 {
				t.Errorf("shares are %s, %d refused", got, l.shares.refused.Load())
			}
		}
		inner.Close()
		for range accepted {
		}
	}
}

// With TLS the cookie is bound to the host; without, browsers would not take that.
func TestCookieOfASignIn(t *testing.T) {
	for address, want := range map[string]string{
		"https://portal.example": "__Host-firelane_sign_in_4ba69735ca53765e=x; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax",
		"http://127.0.0.1:8080":  "firelane_sign_in_4ba69735ca53765e=x; Path=/sign-in/; Max-Age=60; HttpOnly; SameSite=Lax",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		s := &signIns{server: &Server{options: Options{URL: u}}}
		if got := s.cookie("state", "x", time.Minute).String(); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}

// No account may have a slug that would hide an address of the portal, or be hidden by it.
func TestOwnAddressesAreNoSlugs(t *testing.T) {
	paths := []string{startPath, callbackPath, apiPrefix, openAPIPath, "/healthz", "/readyz", "/metrics", "/ingestion/flow_logs"}
	for _, r := range []signal.Role{signal.RoleGateway, signal.RoleClient, signal.RoleRelay} {
		paths = append(paths, signal.Endpoint(r, signal.V2))
	}
	for _, path := range paths {
		slug := strings.Split(path, "/")[1]
		_, err := config.Parse("f", fmt.Appendf(nil, "version: 1\naccounts:\n  - slug: %s\n", slug))
		if err == nil || !strings.Contains(err.Error(), "f:3:11: /"+slug+" is an address of the portal itself; use another, such as "+slug+"-1, and add id: ") {
			t.Errorf("%s: %v", slug, err)
		}
	}
}

// Tokens of relays are made, listed and revoked with a token for the portal as a whole, and with no other.
func TestAPITokensOfRelays(t *testing.T) {
	p := start(t, policy)
	account, whole := p.token(TokenWish{API: WriteScope}), p.token(TokenWish{API: WriteScope, Portal: true})
	wish := map[string]any{"relay": true, "name": "edge"}
	if resp := p.call(account, "POST", "/tokens", wish, nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("an account's token: %s", resp.Status)
	}
	var made struct{ ID, Token, Kind, Name string }
	if resp := p.call(whole, "POST", "/tokens", wish, &made); resp.StatusCode != http.StatusCreated || made.Kind != "relay" || made.Name != "edge" {
		t.Fatalf("%s: %+v", resp.Status, made)
	}
	relay := p.device(signal.RoleRelay, made.Token, "relay")
	next[signal.RelayInit](t, relay)
	var list listOf[TokenView]
	if p.call(whole, "GET", "/tokens?kind=relay", nil, &list); len(list.Items) != 1 || list.Items[0].ID != made.ID {
		t.Errorf("list: %+v", list)
	}
	if p.call(account, "GET", "/tokens?kind=relay", nil, &list); len(list.Items) != 0 {
		t.Errorf("an account sees %+v", list)
	}
	if resp := p.call(account, "DELETE", "/tokens/"+made.ID, nil, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an account revokes it: %s", resp.Status)
	}
	if resp := p.call(whole, "DELETE", "/tokens/"+made.ID, nil, nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("revoke: %s", resp.Status)
	}
	if err := ended(t, relay); !strings.Contains(err.Error(), "token") {
		t.Errorf("the relay is told: %v", err)
	}
	if resp := p.call(whole, "POST", "/tokens", map[string]any{"site": "berlin"}, nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a gateway's token: %s", resp.Status)
	}
	for _, path := range []string{"/gateways", "/clients", "/authorizations", "/flows", "/people"} {
		var things listOf[struct{}]
		if p.call(whole, "GET", path, nil, &things); len(things.Items) != 0 {
			t.Errorf("%s: %+v", path, things)
		}
	}
}

// The API makes tokens of itself as the command line does: for whom the token that asks is for.
func TestAPITokensOfTheAPI(t *testing.T) {
	p := start(t, policy)
	for _, portal := range []bool{false, true} {
		write := p.token(TokenWish{API: WriteScope, Portal: portal})
		var made struct{ ID, Token, Kind, Subject string }
		if resp := p.call(write, "POST", "/tokens", map[string]any{"api": "read"}, &made); resp.StatusCode != http.StatusCreated || made.Kind != "api" || made.Subject != ReadScope {
			t.Fatalf("%s: %+v", resp.Status, made)
		}
		want := p.accountOf("acme").ID
		if portal {
			want = store.Portal
		}
		if token, err := p.store.Authenticate(t.Context(), made.Token, time.Now(), store.APIToken); err != nil || token.Account != want {
			t.Errorf("%+v, %v", token, err)
		}
		if resp := p.call(made.Token, "POST", "/tokens", map[string]any{"api": "write"}, nil); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a reader makes a writer: %s", resp.Status)
		}
		if resp := p.call(write, "POST", "/tokens", map[string]any{"api": "king"}, nil); resp.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("an unknown scope: %s", resp.Status)
		}
	}
}
