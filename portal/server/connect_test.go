package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// upgrade asks for a websocket as a device does and returns the answer that is not one.
func (p *testPortal) upgrade(r signal.Role, token, agent, query string, header http.Header) (*http.Response, signal.Problem) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+signal.Endpoint(r, signal.V2)+"?"+query, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	for key, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
		"User-Agent": agent,
	} {
		req.Header.Set(key, value)
	}
	if token != "" {
		req.Header.Set(signal.TokenHeader, "Bearer "+token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem signal.Problem
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, err := io.ReadAll(io.LimitReader(resp.Body, signal.MaxProblem))
		if err != nil || json.Unmarshal(body, &problem) != nil {
			p.t.Fatalf("%s: %v, %s", resp.Status, err, body)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json; charset=utf-8" {
			p.t.Errorf("%s is %s", resp.Status, got)
		}
		if problem.Status != resp.StatusCode || problem.Type != "about:blank" {
			p.t.Errorf("%s is described as %+v", resp.Status, problem)
		}
	}
	return resp, problem
}

func TestRefusedUpgrades(t *testing.T) {
	p := start(t, policy)
	gateway, relay := p.token(TokenWish{Site: "berlin"}), p.token(TokenWish{Relay: true})
	service := func(w TokenWish) string { w.ServiceAccount = "ci"; return p.token(w) }
	acme := p.accountOf("acme")
	_, former, err := p.store.CreateToken(t.Context(), store.TokenOrder{
		Account: acme.ID, Kind: store.ServiceToken, Subject: acme.ServiceAccounts[1].ID, Expires: time.Now().Add(time.Hour),
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	orphan := func(kind store.TokenKind) string {
		_, text, err := p.store.CreateToken(t.Context(), store.TokenOrder{
			Account: acme.ID, Kind: kind, Subject: "00000000-0000-4000-8000-000000000000", Expires: time.Now().Add(time.Hour),
		}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	_, expired, err := p.store.CreateToken(t.Context(), store.TokenOrder{
		Account: acme.ID, Kind: store.ServiceToken, Subject: acme.ServiceAccounts[0].ID, Expires: time.Now().Add(-time.Minute),
	}, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8%3D"
	good := "external_id=a&name=b&public_key=" + key
	client, gatewayAgent := agents[signal.RoleClient].String(), agents[signal.RoleGateway].String()
	for _, c := range []struct {
		name         string
		role         signal.Role
		token, agent string
		query        string
		status       int
		code, detail string
	}{
		{"no token", signal.RoleGateway, "", gatewayAgent, good, 401, signal.CodeMissingToken, ""},
		{"no token, and nothing else either", signal.RoleClient, "", "", "", 401, signal.CodeMissingToken, ""},
		{"a token of nobody", signal.RoleGateway, "not-a-token", gatewayAgent, good, 401, signal.CodeInvalidToken, ""},
		{"a token with another secret", signal.RoleGateway, gateway[:len(gateway)-4] + "AAAA", gatewayAgent, good, 401, signal.CodeInvalidToken, ""},
		{"a relay's token", signal.RoleGateway, relay, gatewayAgent, good, 401, signal.CodeInvalidToken, ""},
		{"a gateway's token", signal.RoleClient, gateway, client, good, 401, signal.CodeInvalidToken, ""},
		{"a gateway's token, for a relay", signal.RoleRelay, p.token(TokenWish{Site: "berlin"}), "", "ipv4=203.0.113.1", 401, signal.CodeInvalidToken, ""},
		{"an expired token", signal.RoleClient, expired, client, good, 401, signal.CodeInvalidToken, ""},
		{"a site that has gone", signal.RoleGateway, orphan(store.GatewayToken), gatewayAgent, good, 401, signal.CodeInvalidToken, ""},
		{"a disabled service account", signal.RoleClient, former, client, good, 401, signal.CodeInvalidToken, ""},
		{"a person that has gone", signal.RoleClient, orphan(store.ClientToken), client, good, 401, signal.CodeInvalidToken, ""},
		{"a bad token comes before bad parameters", signal.RoleGateway, "not-a-token-2", gatewayAgent, "", 401, signal.CodeInvalidToken, ""},
		{"no key", signal.RoleClient, service(TokenWish{}), client, "external_id=a", 400, signal.CodeInvalidParams, "public_key is missing"},
		{"a short key", signal.RoleClient, service(TokenWish{}), client, "external_id=a&public_key=AAAA", 400, signal.CodeInvalidParams, "public_key is invalid"},
		{"no id", signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), gatewayAgent, "public_key=" + key, 400, signal.CodeInvalidParams, "external_id is missing"},
		{"a long name", signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), gatewayAgent, "external_id=a&public_key=" + key + "&name=" + strings.Repeat("x", 256), 400, signal.CodeInvalidParams, ""},
		{"a client without version", signal.RoleClient, service(TokenWish{}), "curl/8", good, 400, signal.CodeInvalidParams, "user_agent is invalid"},
		{"a relay without address", signal.RoleRelay, p.token(TokenWish{Relay: true}), "", "", 400, signal.CodeInvalidParams, "ipv4 and ipv6 are missing"},
		{"a relay with a name for an address", signal.RoleRelay, p.token(TokenWish{Relay: true}), "", "ipv4=localhost", 400, signal.CodeInvalidParams, "ipv4 is invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, problem := p.upgrade(c.role, c.token, c.agent, c.query, nil)
			if resp.StatusCode != c.status || problem.Code != c.code || c.detail != "" && problem.Detail != c.detail {
				t.Errorf("%s: %+v", resp.Status, problem)
			}
		})
	}
}

// TestUpgradesAreLimited uses one token twice within a second: the second time must be told to come
// back, as devices understand it, and other tokens must not notice.
func TestUpgradesAreLimited(t *testing.T) {
	p := start(t, policy)
	token := p.token(TokenWish{Site: "berlin"})
	first, _ := p.upgrade(signal.RoleGateway, token, "", "", nil)
	second, problem := p.upgrade(signal.RoleGateway, token, "", "", nil)
	if first.StatusCode != http.StatusBadRequest {
		t.Errorf("first: %s", first.Status)
	}
	if second.StatusCode != http.StatusServiceUnavailable || problem.Code != signal.CodeRateLimit || second.Header.Get("Retry-After") != "1" {
		t.Errorf("second: %s %+v %q", second.Status, problem, second.Header.Get("Retry-After"))
	}
	if other, _ := p.upgrade(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "", "", nil); other.StatusCode != http.StatusBadRequest {
		t.Errorf("another token: %s", other.Status)
	}
}

// TestGuessingIsLimited tries tokens from one address until it is told to stop; then a good one has
// to wait as well, but not from another address.
func TestGuessingIsLimited(t *testing.T) {
	p := start(t, policy, func(o *Options) { o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	from := func(a string) http.Header { return http.Header{"X-Forwarded-For": {a}} }
	refused := 0
	for n := 0; refused == 0 && n < 2*failureBurst; n++ {
		resp, _ := p.upgrade(signal.RoleGateway, "guess"+strings.Repeat("x", n), "", "", from("198.51.100.1"))
		if resp.StatusCode == http.StatusServiceUnavailable {
			refused = n
		}
	}
	if refused < failureBurst {
		t.Errorf("refused after %d guesses, want at least %d", refused, failureBurst)
	}
	if resp, _ := p.upgrade(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "", "", from("198.51.100.2")); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("from another address: %s", resp.Status)
	}
}

func TestOrdinaryRequestsAreNotUpgrades(t *testing.T) {
	p := start(t, policy)
	resp, err := http.Get(p.url + "/gateway/v2/websocket")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Content-Type") != signal.ProblemType+"; charset=utf-8" {
		t.Errorf("%s", resp.Status)
	}
}

func TestClientAddress(t *testing.T) {
	s := &Server{options: Options{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"a stranger", "198.51.100.1:1", nil, "198.51.100.1"},
		{"a stranger who lies", "198.51.100.1:1", []string{"10.0.0.1"}, "198.51.100.1"},
		{"a proxy for itself", "10.0.0.1:1", nil, "10.0.0.1"},
		{"a proxy", "10.0.0.1:1", []string{"198.51.100.2"}, "198.51.100.2"},
		{"two proxies", "10.0.0.1:1", []string{"198.51.100.2, 10.0.0.2"}, "198.51.100.2"},
		{"two headers", "10.0.0.1:1", []string{"198.51.100.2", "10.0.0.2"}, "198.51.100.2"},
		{"a client who lies to a proxy", "10.0.0.1:1", []string{"192.0.2.9, 198.51.100.2"}, "198.51.100.2"},
		{"nonsense", "10.0.0.1:1", []string{"unknown"}, "10.0.0.1"},
		{"nonsense on the left", "10.0.0.1:1", []string{"unknown, 198.51.100.2"}, "198.51.100.2"},
		{"a port", "10.0.0.1:1", []string{"198.51.100.2:4711"}, "198.51.100.2"},
		{"IPv6", "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", "[fd00::1]:1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.2"}, "198.51.100.2"},
		{"more proxies than anybody has", "10.0.0.1:1", []string{"198.51.100.2" + strings.Repeat(",10.0.0.2", 2*maxForwarded)}, "10.0.0.2"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}, URL: &url.URL{}}
		if got := s.clientAddr(r).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestLimiter(t *testing.T) {
	l, now := newLimiter[int](2, time.Second), time.Unix(1_790_000_000, 0)
	for i, want := range []bool{true, true, false} {
		if _, ok := l.take(1, now); ok != want {
			t.Errorf("take %d: %v", i, ok)
		}
	}
	if wait, ok := l.take(1, now); ok || wait != time.Second {
		t.Errorf("an empty bucket: %v, %v", wait, ok)
	}
	if _, ok := l.take(2, now); !ok {
		t.Error("another key is spent")
	}
	if _, ok := l.take(1, now.Add(time.Second)); !ok {
		t.Error("nothing comes back")
	}
	for k := range 2 * maxBuckets {
		l.take(k, now.Add(2*time.Second))
	}
	if n := len(l.fullAt); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
}
