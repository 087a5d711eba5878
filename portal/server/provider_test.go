package server

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"html/template"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
	"golang.org/x/crypto/bcrypt"
)

const (
	testClient   = "firelane"
	testSecret   = "a secret between the portal and the provider"
	testPassword = "correct horse"
)

// testProvider is an OpenID Connect provider with a login page of its own, made of Ory's library. It
// insists on PKCE.
type testProvider struct {
	*httptest.Server
	oauth fosite.OAuth2Provider
	key   *rsa.PrivateKey
	// claims are what it says about whoever signs in.
	claims map[string]any
	// saysIssuer is what it promises about the parameter iss of its answers.
	saysIssuer bool
}

// newProvider starts a provider that sends people back to redirect; it is not known before.
func newProvider(t *testing.T) (p *testProvider, register func(redirect string)) {
	t.Helper()
	p = &testProvider{claims: map[string]any{
		"email": "Alice@Example.com", "email_verified": true, "name": "Alice <&>", "groups": []string{"eng", "ops"},
	}}
	var err error
	if p.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(testSecret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("/auth", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	return p, func(redirect string) {
		clients := storage.NewMemoryStore()
		clients.Clients[testClient] = &fosite.DefaultClient{
			ID: testClient, Secret: hash, RedirectURIs: []string{redirect}, ResponseTypes: []string{"code"},
			GrantTypes: []string{"authorization_code"}, Scopes: []string{"openid", "email", "profile", "groups"},
		}
		p.oauth = compose.ComposeAllEnabled(&fosite.Config{
			GlobalSecret: make([]byte, 32), IDTokenIssuer: p.URL, EnforcePKCE: true,
		}, clients, p.key)
	}
}

func (p *testProvider) discovery(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"id_token_signing_alg_values_supported": []string{"RS256"}, "authorization_response_iss_parameter_supported": p.saysIssuer,
	})
}

func (p *testProvider) keys(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), Use: "sig", Algorithm: "RS256"}}})
}

var loginPage = template.Must(template.New("").Parse(`<!doctype html><title>Provider</title>
<form method="post" action="/auth?{{.}}"><input id="user" name="user"><input id="password" name="password" type="password">
<button id="go">Sign in</button></form>`))

func (p *testProvider) authorize(w http.ResponseWriter, r *http.Request) {
	request, err := p.oauth.NewAuthorizeRequest(r.Context(), r)
	if err != nil {
		p.oauth.WriteAuthorizeError(r.Context(), w, request, err)
		return
	}
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/html")
		_ = loginPage.Execute(w, template.URL(r.URL.RawQuery))
		return
	}
	if r.PostFormValue("password") != testPassword {
		p.oauth.WriteAuthorizeError(r.Context(), w, request, fosite.ErrAccessDenied)
		return
	}
	for _, s := range request.GetRequestedScopes() {
		request.GrantScope(s)
	}
	answer, err := p.oauth.NewAuthorizeResponse(r.Context(), request, p.session(r.PostFormValue("user")))
	if err != nil {
		p.oauth.WriteAuthorizeError(r.Context(), w, request, err)
		return
	}
	p.oauth.WriteAuthorizeResponse(r.Context(), w, request, answer)
}

func (p *testProvider) token(w http.ResponseWriter, r *http.Request) {
	request, err := p.oauth.NewAccessRequest(r.Context(), r, p.session(""))
	if err != nil {
		p.oauth.WriteAccessError(r.Context(), w, request, err)
		return
	}
	answer, err := p.oauth.NewAccessResponse(r.Context(), request)
	if err != nil {
		p.oauth.WriteAccessError(r.Context(), w, request, err)
		return
	}
	p.oauth.WriteAccessResponse(r.Context(), w, request, answer)
}

func (p *testProvider) session(user string) *openid.DefaultSession {
	now := time.Now()
	return &openid.DefaultSession{
		Claims: &jwt.IDTokenClaims{
			Issuer: p.URL, Subject: user, Audience: []string{testClient}, ExpiresAt: now.Add(time.Hour), IssuedAt: now,
			RequestedAt: now, AuthTime: now, Extra: p.claims,
		},
		Headers: &jwt.Headers{}, Subject: user,
	}
}
