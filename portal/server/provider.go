package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
)

const (
	// providerTime bounds every exchange with a provider.
	providerTime = 10 * time.Second
	// maxProviderAnswer bounds an answer of a provider: a large set of keys has some 50 KiB.
	maxProviderAnswer = 1 << 20
	// discoveryKept is how long a provider's metadata is used. Keys are fetched anew when a token
	// names an unknown one.
	discoveryKept = time.Hour
	// maxSecret bounds the file of a client secret.
	maxSecret = 4 << 10
	// maxClaims bounds the claims of a person that are kept, as the store does.
	maxClaims = 2000
)

// providers are the OpenID Connect providers of all accounts, as far as they have been used.
type providers struct {
	client *http.Client

	mu    sync.Mutex
	known map[string]*discovered // by issuer; bounded by the policy file
}

type discovered struct {
	*oidc.Provider
	at time.Time
}

func newProviders(transport http.RoundTripper) *providers {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &providers{
		client: &http.Client{Transport: boundedTransport{transport}, Timeout: providerTime},
		known:  map[string]*discovered{},
	}
}

// boundedTransport cuts answers off.
type boundedTransport struct{ http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxProviderAnswer), resp.Body}
	}
	return resp, err
}

// context carries the HTTP client to the libraries.
func (p *providers) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// discover returns a provider's metadata.
func (p *providers) discover(ctx context.Context, issuer string) (*oidc.Provider, error) {
	p.mu.Lock()
	known := p.known[issuer]
	p.mu.Unlock()
	if known != nil && time.Since(known.at) < discoveryKept {
		return known.Provider, nil
	}
	fresh, err := oidc.NewProvider(p.context(ctx), issuer)
	if err != nil {
		return nil, fmt.Errorf("discover provider: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[issuer] = &discovered{fresh, time.Now()}
	return fresh, nil
}

// oauth returns what is said to the provider.
func (p *providers) oauth(ctx context.Context, of *config.Provider, redirect string) (*oidc.Provider, *oauth2.Config, error) {
	provider, err := p.discover(ctx, of.Issuer)
	if err != nil {
		return nil, nil, err
	}
	secret, err := readSecret(of.SecretFile)
	if err != nil {
		return nil, nil, err
	}
	scopes := append([]string{oidc.ScopeOpenID, "email", "profile"}, of.Scopes...)
	return provider, &oauth2.Config{
		ClientID: of.ClientID, ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: redirect, Scopes: scopes,
	}, nil
}

// readSecret reads a client secret, every time anew, so that it can be replaced.
func readSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read client secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", fmt.Errorf("read client secret: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// checkIssuer checks whether the answer of a provider is from it, as far as it says so: iss are the values
// of that parameter (RFC 9207, section 2.4). A provider that promises to say so must.
func (p *providers) checkIssuer(ctx context.Context, of *config.Provider, iss []string) error {
	if len(iss) > 1 || len(iss) == 1 && iss[0] != of.Issuer {
		return errors.New("the answer is another issuer's")
	}
	ctx, cancel := context.WithTimeout(ctx, providerTime)
	defer cancel()
	provider, err := p.discover(ctx, of.Issuer)
	if err != nil {
		return err
	}
	var metadata struct {
		Says bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return fmt.Errorf("read provider's metadata: %w", err)
	}
	if metadata.Says && len(iss) == 0 {
		return errors.New("the answer lacks its issuer")
	}
	return nil
}

// identify exchanges a code for who the person is.
func (p *providers) identify(ctx context.Context, of *config.Provider, redirect, code, verifier, nonce string) (store.Identity, error) {
	ctx, cancel := context.WithTimeout(p.context(ctx), providerTime)
	defer cancel()
	provider, o, err := p.oauth(ctx, of, redirect)
	if err != nil {
		return store.Identity{}, err
	}
	answer, err := o.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return store.Identity{}, fmt.Errorf("exchange code: %w", withoutBody(err))
	}
	raw, ok := answer.Extra("id_token").(string)
	if !ok {
		return store.Identity{}, errors.New("the provider sends no id_token")
	}
	token, err := provider.Verifier(&oidc.Config{ClientID: of.ClientID}).Verify(ctx, raw)
	if err != nil {
		return store.Identity{}, fmt.Errorf("verify id_token: %w", err)
	}
	if token.Nonce != nonce {
		return store.Identity{}, errors.New("id_token has another nonce")
	}
	claims := map[string]any{}
	if err := token.Claims(&claims); err != nil {
		return store.Identity{}, fmt.Errorf("read claims: %w", err)
	}
	if provider.UserInfoEndpoint() != "" {
		p.ask(ctx, provider, oauth2.StaticTokenSource(answer), token.Subject, claims)
	}
	return identity(of, token, claims), nil
}

// ask adds what only the provider's userinfo endpoint says. Without an answer the id_token is all.
func (p *providers) ask(ctx context.Context, provider *oidc.Provider, source oauth2.TokenSource, subject string, claims map[string]any) {
	info, err := provider.UserInfo(ctx, source)
	if err != nil || info.Subject != subject { // another subject is another person (OpenID Connect Core 5.3.2)
		return
	}
	more := map[string]any{}
	if info.Claims(&more) != nil {
		return
	}
	for name, value := range more {
		if _, known := claims[name]; !known {
			claims[name] = value
		}
	}
}

// identity is what is kept of the claims.
func identity(of *config.Provider, token *oidc.IDToken, claims map[string]any) store.Identity {
	i := store.Identity{Issuer: token.Issuer, Subject: token.Subject, Provider: of.ID, Claims: textClaims(claims)}
	text := func(name string) string {
		s, _ := claims[name].(string)
		return clip(s)
	}
	if verified(claims["email_verified"]) { // an address that anybody can claim is none
		i.Email = strings.ToLower(text("email"))
	}
	i.Name = text("name")
	for _, instead := range []string{"preferred_username", "email", "sub"} {
		if i.Name == "" {
			i.Name = text(instead)
		}
	}
	return i
}

// verified reads a claim that some providers send as text.
func verified(v any) bool { return v == true || v == "true" }

// ofTheToken are claims about the token rather than the person.
var ofTheToken = []string{
	"iss", "aud", "exp", "iat", "nbf", "jti", "nonce", "azp", "auth_time", "at_hash", "c_hash", "s_hash", "sid", "acr", "rat",
}

// textClaims are the claims that policies can ask for, as name=value: texts and lists of texts, in
// order. What would be too long is left out, and so is what is too much.
func textClaims(claims map[string]any) []string {
	var all []string
	add := func(name string, value any) {
		if s, ok := value.(string); ok && s != "" && len(name)+1+len(s) <= maxAttribute {
			all = append(all, name+"="+s)
		}
	}
	for name, value := range claims {
		if slices.Contains(ofTheToken, name) || strings.Contains(name, "=") {
			continue
		}
		add(name, value)
		if list, ok := value.([]any); ok {
			for _, one := range list {
				add(name, one)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), maxClaims)]
}

// withoutBody keeps what a provider answered, which may hold secrets, out of logs.
func withoutBody(err error) error {
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		return fmt.Errorf("provider answers %s %s", answer.Response.Status, clip(answer.ErrorCode))
	}
	return err
}
