package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestTokenOpensOnlyWhatItIsFor(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	k, text, err := s.CreateToken(ctx, TokenOrder{Account: "acme", Kind: GatewayToken, Subject: "site", Name: "berlin", CreatedBy: "root"}, noon)
	check(t, err)
	if !strings.HasPrefix(text, ".firelane_gateway_") || strings.ContainsAny(text, " \t\n") || strings.Count(text, ".") != 1 {
		t.Errorf("text %q", text)
	}
	if got := must(s.Authenticate(ctx, text, noon, RelayToken, GatewayToken))(t); got != k {
		t.Errorf("authenticated %+v, want %+v", got, k)
	}
	flip := func(i int) string {
		b := []byte(text)
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		return string(b)
	}
	for name, bad := range map[string]string{
		"empty": "", "dot": ".", "short": text[:len(text)-1], "long": text + "A", "nonce": "n" + text,
		"other secret": flip(len(text) - 20), "other id": flip(len(text) - bodyChars), "no dot": text[1:],
		"other kind": strings.Replace(text, "gateway", "relay", 1), "bad base64": text[:len(text)-1] + "!",
	} {
		if _, err := s.Authenticate(ctx, bad, noon, GatewayToken, RelayToken); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = s.Authenticate(ctx, text, noon, ClientToken)
	wantErr(t, err, ErrToken)
	_, err = s.Authenticate(ctx, text, noon)
	wantErr(t, err, ErrToken)
}

func TestSecretsOfTokensAreNotStored(t *testing.T) {
	s := open(t, Options{})
	_, text, err := s.CreateToken(t.Context(), TokenOrder{Account: "acme", Kind: GatewayToken, Subject: "site"}, noon)
	check(t, err)
	_, _, body, ok := parseToken(text)
	var n int
	check(t, s.reads.QueryRow("SELECT count(*) FROM tokens WHERE instr(salt, ?1) OR instr(hash, ?1)", body[idBytes:]).Scan(&n))
	if !ok || n != 0 {
		t.Errorf("secret found %d times", n)
	}
}

func TestTokenWithNonceNeedsIt(t *testing.T) {
	s := open(t, Options{})
	order := TokenOrder{Account: "acme", Kind: ClientToken, Subject: "alice", Provider: "oidc", Expires: noon.Add(time.Hour), Nonce: "abc123"}
	k, text, err := s.CreateToken(t.Context(), order, noon)
	check(t, err)
	if got := must(s.Authenticate(t.Context(), "abc123"+text, noon, ClientToken))(t); got != k || got.Provider != "oidc" {
		t.Errorf("authenticated %+v", got)
	}
	_, err = s.Authenticate(t.Context(), text, noon, ClientToken)
	wantErr(t, err, ErrToken)
}

func TestTokensEnd(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	c, g := device(t, s, "acme", Client, "c"), device(t, s, "acme", Gateway, "g")
	k, text, err := s.CreateToken(ctx, TokenOrder{Account: "acme", Kind: ServiceToken, Subject: "robot", Expires: noon.Add(time.Hour)}, noon)
	check(t, err)
	must(s.Authenticate(ctx, text, noon.Add(time.Hour-time.Millisecond), ServiceToken))(t)
	_, err = s.Authenticate(ctx, text, noon.Add(time.Hour), ServiceToken)
	wantErr(t, err, ErrToken)

	a := authorization(c, g, "one")
	a.Token = k.ID
	check(t, s.PutAuthorization(ctx, a))
	check(t, s.UseTokens(ctx, "acme", []string{k.ID, "unknown"}, noon.Add(time.Minute)))
	gone := must(s.RevokeToken(ctx, "acme", k.ID, noon.Add(2*time.Minute)))(t)
	if len(gone) != 1 || gone[0] != a {
		t.Errorf("revoked with the token: %+v", gone)
	}
	must(s.RevokeToken(ctx, "acme", k.ID, noon.Add(time.Hour)))(t)
	_, err = s.Authenticate(ctx, text, noon, ServiceToken)
	wantErr(t, err, ErrToken)
	wantErr(t, s.PutAuthorization(ctx, a), ErrNotFound)
	got := must(s.Token(ctx, "acme", k.ID))(t)
	if !got.Revoked.Equal(noon.Add(2*time.Minute)) || !got.Used.Equal(noon.Add(time.Minute)) {
		t.Errorf("token is %+v", got)
	}
	if n := len(must(s.Tokens(ctx, "acme", TokenFilter{}))(t)); n != 0 {
		t.Errorf("%d tokens listed, want none", n)
	}
	if n := len(must(s.Tokens(ctx, "acme", TokenFilter{Revoked: true, Kind: ServiceToken, Subject: "robot"}))(t)); n != 1 {
		t.Errorf("%d tokens listed with revoked ones", n)
	}
	if n := must(s.DeleteTokens(ctx, "acme", noon, 0))(t); n != 0 {
		t.Errorf("%d tokens deleted too early", n)
	}
	if n := must(s.DeleteTokens(ctx, "acme", noon.Add(2*time.Minute), 0))(t); n != 1 {
		t.Errorf("%d tokens deleted", n)
	}
}

func TestTokenBounds(t *testing.T) {
	s := open(t, Options{Limits: Limits{Tokens: 1}})
	for name, bad := range map[string]TokenOrder{
		"no account":             {Kind: GatewayToken, Subject: "site"},
		"relay in an account":    {Kind: RelayToken, Account: "acme"},
		"gateway of the portal":  {Kind: GatewayToken, Account: Portal, Subject: "site"},
		"gateway without a site": {Kind: GatewayToken, Account: "acme"},
		"client without an end":  {Kind: ClientToken, Account: "acme", Subject: "alice"},
		"kind":                   {Kind: 9, Account: "acme", Subject: "x"},
		"nonce with a dot":       {Kind: GatewayToken, Account: "acme", Subject: "site", Nonce: "a.b"},
		"long name":              {Kind: GatewayToken, Account: "acme", Subject: "site", Name: strings.Repeat("x", 256)},
	} {
		if _, _, err := s.CreateToken(t.Context(), bad, noon); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	order := TokenOrder{Kind: RelayToken, Account: Portal}
	_, text, err := s.CreateToken(t.Context(), order, noon)
	check(t, err)
	must(s.Authenticate(t.Context(), text, noon, RelayToken))(t)
	_, _, err = s.CreateToken(t.Context(), order, noon)
	wantErr(t, err, ErrFull)
	for k := range kindNames {
		if got, ok := ParseTokenKind(k.String()); !ok || got != k {
			t.Errorf("%v parses as %v", k, got)
		}
	}
	if _, ok := ParseTokenKind(TokenKind(9).String()); ok {
		t.Error("unknown kind parses")
	}
}
