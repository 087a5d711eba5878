package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// signInPolicy gives what it has to people whose provider calls them engineers.
const signInPolicy = `version: 1
accounts:
  - slug: acme
    name: Acme & Sons
    session_lifetime: 2h
    providers: [{name: company, issuer: %q, client_id: firelane, client_secret_file: %q, scopes: [groups]}]
    sites: [{name: berlin}]
    resources: [{name: Office, type: cidr, address: 10.2.0.0/16, site: berlin}]
    groups:
      - {name: engineers, claims: [{provider: company, claim: groups, value: eng}]}
    policies:
      - {group: engineers, resource: Office}
  - slug: other
`

// startWithProvider serves a portal that people can sign in to.
func startWithProvider(t *testing.T) (*testPortal, *testProvider) {
	t.Helper()
	provider, register := newProvider(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, fmt.Sprintf(signInPolicy, provider.URL, secret), func(o *Options) { o.Transport = provider.Client().Transport })
	register(p.callback())
	return p, provider
}

// callback is where acme's first provider sends people back to.
func (p *testPortal) callback() string {
	return p.url + callbackPath + p.accountOf("acme").Providers[0].ID
}

// TestPeopleSignInWithABrowser signs in as a person does, in Chromium, and uses the token that the
// page shows as a client does.
func TestPeopleSignInWithABrowser(t *testing.T) {
	p, _ := startWithProvider(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.Flag("ignore-certificate-errors", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 2*patience)
	defer cancel()
	err := chromedp.Do(ctx,
		chromedp.Navigate(p.url+"/acme?as=headless-client"),
		chromedp.Click(chromedp.CSS("a.way")),
		chromedp.WaitVisible(chromedp.ID("user")),
		chromedp.SendKeys(chromedp.ID("user"), "alice"),
		chromedp.SendKeys(chromedp.ID("password"), testPassword),
		chromedp.Click(chromedp.ID("go")),
		chromedp.WaitVisible(chromedp.ID("token")),
	)
	if err != nil {
		t.Fatal(err)
	}
	read := func(a chromedp.Action[string]) string {
		t.Helper()
		text, err := chromedp.Run(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	token := read(chromedp.Text(chromedp.ID("token")))
	if welcome := read(chromedp.Text(chromedp.CSS("h1"))); welcome != "Welcome, Alice <&>" {
		t.Errorf("the page says %q", welcome)
	}
	background := read(chromedp.Evaluate[string](`getComputedStyle(document.querySelector("#token")).backgroundColor`))
	if background != "rgb(242, 242, 242)" {
		t.Errorf("the page's own style is not in force: %s", background)
	}
	client := p.device(signal.RoleClient, token, "laptop")
	if init := next[signal.ClientInit](t, client); len(init.Resources) != 1 || init.Resources[0].Name != "Office" {
		t.Errorf("the client sees %v", init.Resources)
	}
	people, err := p.store.People(t.Context(), p.accountOf("acme").ID, "", 0)
	if err != nil || len(people) != 1 || people[0].Email != "alice@example.com" || people[0].Subject != "alice" {
		t.Errorf("%+v, %v", people, err)
	}
	p.shutOut(people[0].ID, client)
}

// shutOut disables a person, whose client must be sent away.
func (p *testPortal) shutOut(person string, client interface {
	Next(context.Context) (signal.Message, error)
}) {
	p.t.Helper()
	p.call(p.token(TokenWish{API: WriteScope}), "PATCH", "/people/"+person, map[string]any{"disabled": true}, nil)
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		_, err := client.Next(ctx)
		if err != nil {
			if !strings.Contains(err.Error(), "token") {
				p.t.Errorf("the client is told: %v", err)
			}
			return
		}
	}
}

// browser is an HTTP client with cookies that does not follow redirects.
func (p *testPortal) browser(provider *testProvider) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return &http.Client{
		Jar: jar, Transport: provider.Client().Transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// begin opens a sign-in and returns what the provider is asked.
func (p *testPortal) begin(b *http.Client) *url.URL {
	p.t.Helper()
	provider := p.accountOf("acme").Providers[0].ID
	resp, err := b.Get(p.url + startPath + "acme/" + provider)
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	if all := resp.Cookies(); len(all) == 0 {
		p.t.Error("there is no cookie")
	} else if c := all[len(all)-1]; c.Value == "" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != cookiePath {
		p.t.Errorf("cookie: %v", c)
	}
	to, err := resp.Location()
	if err != nil {
		p.t.Fatalf("%s: %v", resp.Status, err)
	}
	return to
}

// finish gives the password to the provider and returns where it sends the browser.
func (p *testPortal) finish(b *http.Client, to *url.URL, password string) string {
	p.t.Helper()
	resp, err := b.PostForm(to.String(), url.Values{"user": {"alice"}, "password": {password}})
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		p.t.Fatalf("%s: %v", resp.Status, err)
	}
	return back.String()
}

func open(t *testing.T, b *http.Client, address string) (int, string) {
	t.Helper()
	resp, err := b.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Security-Policy") != security {
		t.Errorf("headers: %v", resp.Header)
	}
	return resp.StatusCode, string(text)
}

// TestSignInsAreTiedToTheirBrowser tries what somebody would who has seen or made up an address.
func TestSignInsAreTiedToTheirBrowser(t *testing.T) {
	p, provider := startWithProvider(t)
	victim, thief := p.browser(provider), p.browser(provider)
	to := p.begin(victim)
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(to.Query().Get(name)) < 40 {
			t.Errorf("%s is %q", name, to.Query().Get(name))
		}
	}
	if to.Query().Get("code_challenge_method") != "S256" {
		t.Errorf("%v", to)
	}
	if code, _ := open(t, thief, p.callback()+"?code=x&state=made-up-made-up-made-up"); code != http.StatusBadRequest {
		t.Errorf("a made-up state: %d", code)
	}
	back := p.finish(victim, to, testPassword)
	p.begin(thief) // so that there is a cookie, and one of the right name
	at, err := url.Parse(p.callback())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range victim.Jar.Cookies(at) {
		c.Value, c.Path = "guessed", cookiePath
		thief.Jar.SetCookies(at, []*http.Cookie{c})
	}
	if code, text := open(t, thief, back); code != http.StatusBadRequest || strings.Contains(text, "firelane_client_") {
		t.Errorf("another browser: %d", code)
	}
	if code, _ := open(t, victim, back); code != http.StatusBadRequest {
		t.Errorf("the state is good twice: %d", code)
	}
	if code, text := open(t, victim, p.finish(victim, p.begin(victim), "wrong")); code != http.StatusForbidden || strings.Contains(text, "firelane_client_") {
		t.Errorf("a wrong password: %d", code)
	}
	code, text := open(t, victim, p.finish(victim, p.begin(victim), testPassword))
	if code != http.StatusOK || !strings.Contains(text, "firelane_client_") || !strings.Contains(text, "Acme &amp; Sons") {
		t.Errorf("%d: %s", code, text)
	}
	tokens, err := p.store.Tokens(t.Context(), p.accountOf("acme").ID, store.TokenFilter{Kind: store.ClientToken})
	if err != nil || len(tokens) != 1 || time.Until(tokens[0].Expires) > 2*time.Hour || time.Until(tokens[0].Expires) < 119*time.Minute {
		t.Errorf("%+v, %v", tokens, err)
	}
}

// TestPagesGiveNothingAway opens what is not there.
func TestPagesGiveNothingAway(t *testing.T) {
	p, provider := startWithProvider(t)
	b := p.browser(provider)
	if code, text := open(t, b, p.url+"/"); code != http.StatusOK || strings.Contains(text, "acme") {
		t.Errorf("the root: %d %s", code, text)
	}
	for path, want := range map[string]int{"/nobody?as=headless-client": 404, startPath + "acme/nothing": 404, startPath + "nobody/x": 404, "/other": 200} {
		if code, text := open(t, b, p.url+path); code != want || strings.Contains(text, "company") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}
