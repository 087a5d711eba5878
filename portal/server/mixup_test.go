package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/store"
)

// with returns an address with one more parameter.
func with(address, name, value string) string {
	return address + "&" + name + "=" + url.QueryEscape(value)
}

// Each provider has an address to come back to, and an answer counts only there: otherwise a bad one could
// have another's code sent to itself.
func TestProvidersDoNotAnswerForEachOther(t *testing.T) {
	p, provider := startWithProvider(t)
	b := p.browser(provider)
	id := p.accountOf("acme").Providers[0].ID
	to := p.begin(b)
	if got := to.Query().Get("redirect_uri"); got != p.url+"/sign-in/callback/"+id {
		t.Errorf("the provider is asked to send people to %s", got)
	}
	back := p.finish(b, to, testPassword)
	elsewhere := strings.Replace(back, id, "3f0e9c1a-8a52-4a7e-9d6b-0c1d2e3f4a5b", 1)
	if code, text := open(t, b, elsewhere); code != http.StatusBadRequest || strings.Contains(text, "firelane_client_") {
		t.Errorf("at the address of another: %d", code)
	}
	for iss, want := range map[string]int{"https://attacker.example": http.StatusForbidden, provider.URL: http.StatusOK} {
		if code, _ := open(t, b, with(p.finish(b, p.begin(b), testPassword), "iss", iss)); code != want {
			t.Errorf("an answer of %s: %d", iss, code)
		}
	}
	twice := with(with(p.finish(b, p.begin(b), testPassword), "iss", provider.URL), "iss", "https://attacker.example")
	if code, _ := open(t, b, twice); code != http.StatusForbidden {
		t.Errorf("two issuers: %d", code)
	}
}

// A provider that promises to say who it is has to.
func TestPromisedIssuersAreDemanded(t *testing.T) {
	p, provider := startWithProvider(t)
	provider.saysIssuer = true
	b := p.browser(provider)
	if code, _ := open(t, b, p.finish(b, p.begin(b), testPassword)); code != http.StatusForbidden {
		t.Errorf("without: %d", code)
	}
	if code, _ := open(t, b, with(p.finish(b, p.begin(b), testPassword), "iss", provider.URL)); code != http.StatusOK {
		t.Errorf("with: %d", code)
	}
}

// Sign-ins in several tabs do not disturb each other, nor does a visit to where they end; a browser keeps
// few of them.
func TestSignInsInSeveralTabs(t *testing.T) {
	p, provider := startWithProvider(t)
	b := p.browser(provider)
	first, second := p.begin(b), p.begin(b)
	if code, _ := open(t, b, p.callback()+"?code=x&state=made-up-made-up-made-up"); code != http.StatusBadRequest {
		t.Errorf("a made-up state: %d", code)
	}
	for _, tab := range []*url.URL{first, second} {
		if code, text := open(t, b, p.finish(b, tab, testPassword)); code != http.StatusOK || !strings.Contains(text, "firelane_client_") {
			t.Errorf("%d", code)
		}
	}
	at, err := url.Parse(p.url + startPath)
	if err != nil {
		t.Fatal(err)
	}
	if left := b.Jar.Cookies(at); len(left) > 0 {
		t.Errorf("cookies are left: %v", left)
	}
	var last *url.URL
	for range maxCookies + 5 {
		last = p.begin(b)
	}
	if n := len(b.Jar.Cookies(at)); n != maxCookies {
		t.Errorf("%d cookies", n)
	}
	if code, _ := open(t, b, p.finish(b, last, testPassword)); code != http.StatusOK {
		t.Errorf("the newest: %d", code)
	}
}

// Too many sessions end the oldest, whose client is sent away.
func TestSessionsOfAPersonAreBounded(t *testing.T) {
	p, _ := startWithProvider(t)
	a := p.accountOf("acme")
	who := store.Identity{Provider: a.Providers[0].ID, Issuer: a.Providers[0].Issuer, Subject: "alice", Name: "Alice"}
	first, _, err := p.signIn.admit(t.Context(), a, who, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := p.rawClient(t, first, nil)
	c.join()
	for range store.DefaultLimits.Sessions {
		if _, _, err := p.signIn.admit(t.Context(), a, who, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if frame, _ := c.until("disconnect"); !strings.Contains(frame, "token") {
		t.Errorf("%s", frame)
	}
	live, err := p.store.Tokens(t.Context(), a.ID, store.TokenFilter{Kind: store.ClientToken})
	if err != nil || int64(len(live)) != store.DefaultLimits.Sessions {
		t.Errorf("%d sessions, %v", len(live), err)
	}
}
