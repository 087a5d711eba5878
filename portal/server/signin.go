package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"golang.org/x/oauth2"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
)

// signIns is how people get a token: they open /<account>?as=headless-client, choose a provider,
// come back from it, and are shown a token to paste into their client.
type signIns struct {
	server    *Server
	providers *providers
	starts    *limiter[netip.Prefix]
}

const (
	// signInTime is how long a person may take at the provider.
	signInTime = 10 * time.Minute
	// An address may begin startBurst sign-ins at once, and one every startInterval: a whole office
	// that comes in at nine.
	startBurst    = 60
	startInterval = time.Second
	// startPath is where sign-ins begin: behind it come the account's slug and the provider's id.
	startPath = "/sign-in/start/"
	// callbackPath, with the provider's id behind it, is where providers send people back to. Each has
	// a path of its own, so that what one provider says is never taken for another's (RFC 9700, section
	// 4.4.2).
	callbackPath = "/sign-in/callback/"
)

// begun is what is remembered of a sign-in between its two halves.
type begun struct {
	Provider string `json:"provider"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
	// Browser is the hash of the cookie.
	Browser []byte `json:"browser"`
}

func newSignIns(s *Server) *signIns {
	return &signIns{
		server: s, providers: newProviders(s.options.Transport), starts: newLimiter[netip.Prefix](startBurst, startInterval),
	}
}

func (s *signIns) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", s.serveRoot)
	mux.HandleFunc("GET /{account}", s.serveAccount)
	mux.HandleFunc("GET "+startPath+"{account}/{provider}", s.serveStart)
	mux.HandleFunc("GET "+callbackPath+"{provider}", s.serveReturn)
}

// serveRoot asks for the account, whose names are nobody's business; or takes an answer.
func (s *signIns) serveRoot(w http.ResponseWriter, r *http.Request) {
	if slug := r.URL.Query().Get("account"); slug != "" {
		http.Redirect(w, r, "/"+url.PathEscape(slug)+"?as=headless-client", http.StatusSeeOther)
		return
	}
	file := s.server.policy.file.Load()
	if len(file.Accounts) == 1 { // nothing is given away
		s.serveChoice(w, &file.Accounts[0])
		return
	}
	render(w, http.StatusOK, "account", nil)
}

// serveAccount offers the account's providers.
func (s *signIns) serveAccount(w http.ResponseWriter, r *http.Request) {
	a := s.server.accountOf(r.PathValue("account"))
	if a == nil {
		s.fail(w, http.StatusNotFound, "There is no such account.")
		return
	}
	s.serveChoice(w, a)
}

func (s *signIns) serveChoice(w http.ResponseWriter, a *config.Account) {
	type link struct{ Name, Path string }
	page := struct {
		Account string
		Links   []link
	}{Account: a.Name}
	for i := range a.Providers {
		if p := &a.Providers[i]; !p.Disabled {
			page.Links = append(page.Links, link{p.Name, startPath + url.PathEscape(a.Slug) + "/" + url.PathEscape(p.ID)})
		}
	}
	render(w, http.StatusOK, "choice", page)
}

// serveStart sends a person to the provider.
func (s *signIns) serveStart(w http.ResponseWriter, r *http.Request) {
	a, p := s.find(r.PathValue("account"), r.PathValue("provider"))
	if p == nil {
		s.fail(w, http.StatusNotFound, "There is no such provider.")
		return
	}
	now := time.Now()
	if wait, ok := s.starts.take(subnet(s.server.clientAddr(r)), now); !ok {
		w.Header().Set("Retry-After", retryAfter(wait))
		s.fail(w, http.StatusTooManyRequests, "Too many people sign in from this address. Try again in a minute.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), providerTime)
	defer cancel()
	_, o, err := s.providers.oauth(ctx, p, s.redirect(p))
	if err != nil {
		s.server.log.Error("cannot begin a sign-in", "account", a.Slug, "provider", p.Name, "error", err)
		s.fail(w, http.StatusBadGateway, "The provider cannot be reached now.")
		return
	}
	state, nonce, browser, verifier := random(), random(), random(), oauth2.GenerateVerifier()
	hash := sha256.Sum256([]byte(browser))
	data, err := json.Marshal(begun{Provider: p.ID, Nonce: nonce, Verifier: verifier, Browser: hash[:]})
	if err == nil {
		err = s.server.store.BeginSignIn(ctx, store.PendingSignIn{Account: a.ID, State: state, Data: data, Expires: now.Add(signInTime)}, now)
	}
	if err != nil {
		s.server.log.Error("cannot keep a sign-in", "error", err)
		s.fail(w, http.StatusServiceUnavailable, "That cannot be done now. Try again in a minute.")
		return
	}
	s.dropCookies(w, r)
	http.SetCookie(w, s.cookie(state, browser, signInTime))
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, o.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", nonce)), http.StatusFound)
}

// serveReturn takes a person back and shows the token.
func (s *signIns) serveReturn(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*providerTime)
	defer cancel()
	now := time.Now()
	q := r.URL.Query()
	pending, b, ok := s.take(ctx, r, q.Get("state"), now)
	if ok {
		http.SetCookie(w, s.cookie(q.Get("state"), "", -time.Second))
	}
	if !ok || b.Provider != r.PathValue("provider") {
		s.fail(w, http.StatusBadRequest, "This sign-in has expired, or was begun in another browser. Begin again.")
		return
	}
	a, p := s.server.account(pending.Account), (*config.Provider)(nil)
	if a != nil {
		_, p = s.find(a.Slug, b.Provider)
	}
	if p == nil {
		s.fail(w, http.StatusNotFound, "There is no such provider.")
		return
	}
	if err := s.providers.checkIssuer(ctx, p, q["iss"]); err != nil {
		s.server.log.Warn("sign-in fails", "account", a.Slug, "provider", p.Name, "error", err)
		s.fail(w, http.StatusForbidden, "The provider's answer is not good. Begin again.")
		return
	}
	if reason := q.Get("error"); reason != "" {
		s.server.log.Info("provider refuses a sign-in", "account", a.Slug, "provider", p.Name, "reason", clip(reason))
		s.fail(w, http.StatusForbidden, "The provider has not let you in.")
		return
	}
	who, err := s.providers.identify(ctx, p, s.redirect(p), q.Get("code"), b.Verifier, b.Nonce)
	if err != nil {
		s.server.log.Warn("sign-in fails", "account", a.Slug, "provider", p.Name, "error", err)
		s.fail(w, http.StatusForbidden, "The provider's answer is not good. Begin again.")
		return
	}
	text, until, err := s.admit(ctx, a, who, now)
	switch {
	case errors.Is(err, errDisabled):
		s.fail(w, http.StatusForbidden, "You may not sign in here. Ask your administrator.")
	case err != nil:
		s.server.log.Error("cannot finish a sign-in", "account", a.Slug, "error", err)
		s.fail(w, http.StatusServiceUnavailable, "That cannot be done now. Try again in a minute.")
	default:
		render(w, http.StatusOK, "token", struct{ Account, Name, Token, Until string }{
			a.Name, who.Name, text, until.UTC().Format("2006-01-02 15:04 UTC"),
		})
	}
}

// take ends a pending sign-in, which must come from the browser that began it.
func (s *signIns) take(ctx context.Context, r *http.Request, state string, now time.Time) (p store.PendingSignIn, b begun, ok bool) {
	if state == "" || len(state) > maxAttribute {
		return p, b, false
	}
	cookie, err := r.Cookie(s.cookieName(state))
	if err != nil {
		return p, b, false
	}
	if p, err = s.server.store.TakeSignIn(ctx, state, now); err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			s.server.log.Error("cannot take a sign-in", "error", err)
		}
		return p, b, false
	}
	hash := sha256.Sum256([]byte(cookie.Value))
	return p, b, json.Unmarshal(p.Data, &b) == nil && subtle.ConstantTimeCompare(hash[:], b.Browser) == 1
}

// errDisabled is returned for people whom an administrator has shut out.
var errDisabled = errors.New("person is disabled")

// admit notes what the provider says about a person, tells the machine, and makes a token.
func (s *signIns) admit(ctx context.Context, a *config.Account, who store.Identity, now time.Time) (text string, until time.Time, err error) {
	ctx, end := s.server.change(ctx)
	defer end()
	if who.Account = a.ID; !known(s.server.account(a.ID), who.Provider) {
		return "", until, errDisabled // it has gone meanwhile, and what it has said is forgotten or about to be
	}
	person, err := s.server.store.SignIn(ctx, who, now)
	if err != nil {
		return "", until, err
	}
	if person.Disabled {
		return "", until, errDisabled
	}
	actor := actorOf(&person)
	s.server.driver.do(func(m *portal.Portal, now time.Time) { m.HandleActor(person.ID, actor, true, now) })
	until = now.Add(a.SessionLifetime)
	_, text, ended, err := s.server.store.CreateSession(ctx, store.TokenOrder{
		Account: a.ID, Kind: store.ClientToken, Subject: person.ID, Name: "sign-in", Provider: who.Provider,
		CreatedBy: clip(person.Name), Expires: until,
	}, now)
	for _, id := range ended {
		s.server.tokenGone(id)
	}
	if err == nil {
		s.server.log.Info("person signed in", "account", a.Slug, "person", person.ID, "ended", len(ended))
	}
	return text, until, err
}

// find returns an account and one of its providers that people may use, or nil.
func (s *signIns) find(slug, provider string) (*config.Account, *config.Provider) {
	a := s.server.accountOf(slug)
	if a == nil {
		return nil, nil
	}
	i := slices.IndexFunc(a.Providers, func(p config.Provider) bool { return p.ID == provider && !p.Disabled })
	if i < 0 {
		return a, nil
	}
	return a, &a.Providers[i]
}

// redirect is where p sends people back to.
func (s *signIns) redirect(p *config.Provider) string {
	return s.server.options.URL.JoinPath(callbackPath, url.PathEscape(p.ID)).String()
}

func (s *signIns) fail(w http.ResponseWriter, status int, what string) {
	render(w, status, "failed", what)
}

// random returns 256 bits of chance as text.
func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
