package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// rawClient is a client that says what it likes.
type rawClient struct {
	t  *testing.T
	ws *websocket.Conn
}

const joinText = `{"topic":"client","event":"phx_join","payload":null,"ref":0}`

func (p *testPortal) rawClient(t *testing.T, token string, h http.Header) *rawClient {
	t.Helper()
	q := url.Values{"external_id": {"dev"}, "name": {"dev"}, "public_key": {"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}
	if h == nil {
		h = http.Header{}
	}
	h.Set(signal.TokenHeader, "Bearer "+token)
	h.Set("User-Agent", agents[signal.RoleClient].String())
	ws, _, err := websocket.Dial(t.Context(), p.url+"/client/v2/websocket?"+q.Encode(), &websocket.DialOptions{HTTPHeader: h})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(8 << 20)
	t.Cleanup(func() { ws.CloseNow() })
	return &rawClient{t, ws}
}

func (r *rawClient) send(text string) {
	r.t.Helper()
	if err := r.ws.Write(r.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

// until returns the first frame of an event and what came before it.
func (r *rawClient) until(event string) (frame string, before []string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for {
		_, text, err := r.ws.Read(ctx)
		if err != nil {
			r.t.Fatalf("no %s: %v, after %v", event, err, before)
		}
		var f struct {
			Event string `json:"event"`
		}
		if err := json.Unmarshal(text, &f); err != nil {
			r.t.Fatal(err)
		}
		if f.Event == event {
			return string(text), before
		}
		before = append(before, string(text))
	}
}

// join returns init.
func (r *rawClient) join() string {
	r.t.Helper()
	r.send(joinText)
	text, _ := r.until("init")
	return text
}

const verifiedPolicy = `version: 1
accounts:
  - slug: acme
    sites: [{name: berlin}]
    service_accounts: [{name: ci}]
    resources:
      - {name: Office, type: cidr, address: 10.2.0.0/16, site: berlin}
    groups:
      - {name: robots, service_accounts: [ci]}
    policies:
      - {group: robots, resource: Office, conditions: {client_verified: true}}
`

// onlyClient is the id of the account's only client.
func (p *testPortal) onlyClient() string {
	p.t.Helper()
	all, err := p.store.Devices(p.t.Context(), p.accountOf("acme").ID, store.DeviceFilter{Kind: store.Client})
	if err != nil || len(all) != 1 {
		p.t.Fatalf("%d clients, %v", len(all), err)
	}
	return all[0].ID
}

func TestJoiningAgainDoesNotBringBackVerification(t *testing.T) {
	p := start(t, verifiedPolicy)
	admin := p.token(TokenWish{API: WriteScope})
	p.rawClient(t, p.token(TokenWish{ServiceAccount: "ci"}), nil).join()
	device := "/devices/" + p.onlyClient()
	p.call(admin, "PATCH", device, map[string]any{"verified": true}, nil)
	c := p.rawClient(t, p.token(TokenWish{ServiceAccount: "ci"}), nil)
	if text := c.join(); !strings.Contains(text, "Office") {
		t.Fatalf("a verified client is told %s", text)
	}
	p.call(admin, "PATCH", device, map[string]any{"verified": false}, nil)
	c.until("resource_deleted")
	if text := c.join(); strings.Contains(text, "Office") {
		t.Errorf("after joining again: %s", text)
	}
}

// A change goes on when whoever asked for it has gone: store and machine must agree.
func TestAChangeOutlivesItsRequest(t *testing.T) {
	p := start(t, verifiedPolicy)
	c := p.rawClient(t, p.token(TokenWish{ServiceAccount: "ci"}), nil)
	c.join()
	a := &api{Server: p.Server}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), callerKey{}, store.Token{Account: p.accountOf("acme").ID}))
	cancel()
	for _, verified := range []bool{true, false} {
		q := &deviceChange{ByID: ByID{ID: p.onlyClient()}}
		q.Body.Verified = &verified
		if _, err := a.changeDevice(ctx, q); err != nil {
			t.Fatal(err)
		}
		c.until(map[bool]string{true: "resource_created_or_updated", false: "resource_deleted"}[verified])
	}
}

func TestRevokedFromElsewhereWhileTheClientIsAway(t *testing.T) {
	p := start(t, policy)
	other := p.otherHandle()
	gateway := p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "gateway")
	next[signal.GatewayInit](t, gateway)
	id, token := p.tokenAndID(TokenWish{ServiceAccount: "ci"})
	client := p.device(signal.RoleClient, token, "client")
	next[signal.ClientInit](t, client)
	send(t, client, signal.RequestAuthorization{ResourceID: p.resource("Office")})
	send(t, gateway, signal.AuthorizationApplied{Ref: next[signal.CreateAuthorization](t, gateway).Ref})
	next[signal.AuthorizationCreated](t, client)
	client.Close()
	eventually(t, "the client is away", func() bool { return p.driver.stats().Clients == 0 })
	if _, err := other.RevokeToken(t.Context(), p.accountOf("acme").ID, id, time.Now()); err != nil {
		t.Fatal(err)
	}
	if r := next[signal.RejectAccess](t, gateway); r.ResourceID != p.resource("Office") {
		t.Errorf("gateway is told %+v", r)
	}
}

const regionPolicy = `version: 1
accounts:
  - slug: acme
    sites: [{name: berlin}]
    service_accounts: [{name: ci}]
    resources:
      - {name: Office, type: cidr, address: 10.2.0.0/16, site: berlin}
    groups:
      - {name: robots, service_accounts: [ci]}
    policies:
      - {group: robots, resource: Office, conditions: {region: {in: [DE]}}}
`

func TestLocationHeadersNeedAFlag(t *testing.T) {
	for _, believed := range []bool{false, true} {
		p := start(t, regionPolicy, func(o *Options) {
			o.Proxies, o.GeoHeaders = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, believed
		})
		h := http.Header{"X-Forwarded-For": {"203.0.113.66"}, "X-Geo-Location-Region": {"DE"}}
		c := p.rawClient(t, p.token(TokenWish{ServiceAccount: "ci"}), h)
		if text := c.join(); strings.Contains(text, "Office") != believed {
			t.Errorf("believed %v: %s", believed, text)
		}
	}
}

// signedIn is what becomes of a person who comes back from a provider: a token.
func (p *testPortal) signedIn(t *testing.T, provider string, claims ...string) (token string) {
	t.Helper()
	a := p.accountOf("acme")
	who := store.Identity{Issuer: "https://login.example", Subject: "alice", Name: "alice", Claims: claims}
	for _, known := range a.Providers {
		if known.Name == provider {
			who.Provider = known.ID
		}
	}
	text, _, err := p.signIn.admit(t.Context(), a, who, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestASessionKeepsItsProvider(t *testing.T) {
	p := start(t, `version: 1
accounts:
  - slug: acme
    providers:
      - {name: weak, issuer: "https://login.example", client_id: weak}
      - {name: strong, issuer: "https://login.example", client_id: strong}
    sites: [{name: berlin}]
    resources:
      - {name: Office, type: cidr, address: 10.2.0.0/16, site: berlin}
    policies:
      - {group: Everyone, resource: Office, conditions: {provider: {in: [strong]}}}
`)
	c := p.rawClient(t, p.signedIn(t, "weak"), nil)
	if text := c.join(); strings.Contains(text, "Office") {
		t.Fatalf("at once: %s", text)
	}
	strong := p.signedIn(t, "strong") // at another machine
	c.send(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":9}`)
	if _, before := c.until("phx_reply"); len(before) > 0 {
		t.Errorf("after another sign-in: %v", before)
	}
	if text := c.join(); strings.Contains(text, "Office") {
		t.Errorf("after joining again: %s", text)
	}
	if text := p.rawClient(t, strong, nil).join(); !strings.Contains(text, "Office") {
		t.Errorf("the other session is told %s", text)
	}
}

func TestJoiningAgainDoesNotBringBackClaims(t *testing.T) {
	p := start(t, `version: 1
accounts:
  - slug: acme
    providers:
      - {name: idp, issuer: "https://login.example", client_id: idp}
    sites: [{name: berlin}]
    resources:
      - {name: Office, type: cidr, address: 10.2.0.0/16, site: berlin}
    groups:
      - {name: eng, claims: [{provider: idp, claim: groups, value: eng}]}
    policies:
      - {group: eng, resource: Office}
`)
	c := p.rawClient(t, p.signedIn(t, "idp", "groups=eng"), nil)
	if text := c.join(); !strings.Contains(text, "Office") {
		t.Fatalf("a member is told %s", text)
	}
	p.signedIn(t, "idp")
	c.until("resource_deleted")
	if text := c.join(); strings.Contains(text, "Office") {
		t.Errorf("after joining again: %s", text)
	}
}

const twoProviders = `version: 1
accounts:
  - slug: acme
    providers:
      - {name: office, issuer: "https://login.example", client_id: a}
      - {name: guests, issuer: "https://login.example", client_id: b}
    sites: [{name: berlin}]
    resources:
      - {name: Office, type: cidr, address: 10.2.0.0/16, site: berlin}
      - {name: Lobby, type: cidr, address: 10.3.0.0/16, site: berlin}
    groups:
      - {name: eng, claims: [{provider: office, claim: groups, value: eng}]}
      - {name: visitors, claims: [{provider: guests, claim: groups, value: eng}]}
    policies:
      - {group: eng, resource: Office}
      - {group: visitors, resource: Lobby}
`

// A session has the groups of its own provider, whatever another one says about the same person.
func TestClaimsOfOneProviderAreNotAnothers(t *testing.T) {
	p := start(t, twoProviders)
	office := p.rawClient(t, p.signedIn(t, "office", "groups=eng"), nil)
	if text := office.join(); !strings.Contains(text, "Office") || strings.Contains(text, "Lobby") {
		t.Fatalf("by office: %s", text)
	}
	guest := p.signedIn(t, "guests", "groups=other")
	office.send(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":9}`)
	if _, before := office.until("phx_reply"); len(before) > 0 {
		t.Errorf("after another provider's sign-in: %v", before)
	}
	if text := office.join(); !strings.Contains(text, "Office") || strings.Contains(text, "Lobby") {
		t.Errorf("joining again: %s", text)
	}
	if text := p.rawClient(t, guest, nil).join(); strings.Contains(text, "Office") || strings.Contains(text, "Lobby") {
		t.Errorf("by guests: %s", text)
	}
	p.stop()
	p.serve()
	office = p.rawClient(t, p.signedIn(t, "office", "groups=eng"), nil)
	if text := office.join(); !strings.Contains(text, "Office") {
		t.Errorf("after a restart: %s", text)
	}
}

// A provider that goes takes its groups along: they do not come back with its name.
func TestARemovedProviderTakesItsGroups(t *testing.T) {
	p := start(t, twoProviders)
	token := p.signedIn(t, "office", "groups=eng")
	if text := p.rawClient(t, token, nil).join(); !strings.Contains(text, "Office") {
		t.Fatalf("a member is told %s", text)
	}
	without := strings.Replace(twoProviders, `      - {name: office, issuer: "https://login.example", client_id: a}`+"\n", "", 1)
	without = strings.Replace(without, "      - {name: eng, claims: [{provider: office, claim: groups, value: eng}]}\n", "", 1)
	without = strings.Replace(without, "      - {group: eng, resource: Office}\n", "", 1)
	vouching := func() int {
		all, err := p.store.Vouching(t.Context(), p.accountOf("acme").ID)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	writePolicy(t, p.file, without)
	eventually(t, "the claims are forgotten", func() bool { return vouching() == 0 })
	writePolicy(t, p.file, twoProviders)
	eventually(t, "the provider is back", func() bool { return len(p.accountOf("acme").Providers) == 2 })
	p.upgrades = newLimiter[attempt](1, time.Nanosecond) // it comes back within a second
	if text := p.rawClient(t, token, nil).join(); strings.Contains(text, "Office") {
		t.Errorf("the old session is told %s", text)
	}
	if text := p.rawClient(t, p.signedIn(t, "office", "groups=eng"), nil).join(); !strings.Contains(text, "Office") {
		t.Errorf("a new session is told %s", text)
	}
}
