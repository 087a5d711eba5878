package store

import (
	"context"
	"crypto/sha3"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// TokenKind says what a token opens.
type TokenKind uint8

// The kinds of tokens.
const (
	// GatewayToken lets any number of gateways join the site that is its subject.
	GatewayToken TokenKind = 1
	// RelayToken lets relays join; its account is Portal.
	RelayToken TokenKind = 2
	// ClientToken is a person's session on one client, from a sign-in; its subject is the person.
	ClientToken TokenKind = 3
	// ServiceToken is a client token of a service account, its subject.
	ServiceToken TokenKind = 4
	// IngestToken lets a collector read flow logs.
	IngestToken TokenKind = 5
	// APIToken opens the HTTP API of one account, or of Portal; its subject is what it may do there.
	APIToken TokenKind = 6
)

// kindNames are part of the text of tokens.
var kindNames = map[TokenKind]string{
	GatewayToken: "gateway", RelayToken: "relay", ClientToken: "client", ServiceToken: "service", IngestToken: "ingest",
	APIToken: "api",
}

// String returns the kind's name.
func (k TokenKind) String() string {
	if n := kindNames[k]; n != "" {
		return n
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseTokenKind is the inverse of String.
func ParseTokenKind(name string) (TokenKind, bool) {
	for k, n := range kindNames {
		if n == name {
			return k, true
		}
	}
	return 0, false
}

// TokenOrder is the wish for a new token.
type TokenOrder struct {
	Account string
	Kind    TokenKind
	// Subject is who holds the token: a site, a person, a service account.
	Subject string
	// Name is for people who look through tokens.
	Name string
	// Provider is the OpenID provider that vouched for the subject; empty without one.
	Provider string
	// CreatedBy says who ordered it.
	CreatedBy string
	// Expires is when the token ends to be valid; the zero time for never, which client and service
	// tokens may not have.
	Expires time.Time
	// Nonce is what the client will put in front of the text on its own, so that whoever saw only
	// the text has nothing; 128 bytes at most, without a dot. Usually empty.
	Nonce string
}

// Token is a token without its secret.
type Token struct {
	Account, ID string
	Kind        TokenKind
	Subject     string
	Name        string
	Provider    string
	CreatedBy   string
	Created     time.Time
	// Expires is zero for never, Revoked if it is not, Used if it never was.
	Expires, Revoked, Used time.Time
}

const (
	tokenColumns = "account, id, kind, subject, name, provider, created_by, created, expires, revoked, used"

	idBytes     = 16
	secretBytes = 32
	saltBytes   = 16
	// bodyChars is the length of id and secret in unpadded base64: 48 bytes.
	bodyChars = (idBytes + secretBytes) / 3 * 4
	// maxNonce is the protocol's bound.
	maxNonce = 128
)

// CreateToken makes a token and returns its text, which nobody can return again: the store keeps a
// salted hash. The text starts with a dot and has no white space:
//
//	. firelane_<kind>_ base64url(id 16 bytes ‖ secret 32 bytes)
func (s *Store) CreateToken(ctx context.Context, o TokenOrder, now time.Time) (Token, string, error) {
	return s.createToken(ctx, o, now, func(*tx) error { return nil })
}

// createToken is CreateToken with something to do before, in the same transaction.
func (s *Store) createToken(ctx context.Context, o TokenOrder, now time.Time, before func(*tx) error) (k Token, text string, err error) {
	if err := o.check(); err != nil {
		return k, "", err
	}
	chance, err := s.random(idBytes + secretBytes + saltBytes)
	if err != nil {
		return k, "", err
	}
	body, salt := chance[:idBytes+secretBytes], chance[idBytes+secretBytes:]
	k = Token{
		Account: o.Account, ID: hex.EncodeToString(body[:idBytes]), Kind: o.Kind, Subject: o.Subject, Name: o.Name,
		Provider: o.Provider, CreatedBy: o.CreatedBy, Created: at(ms(now)), Expires: at(ms(o.Expires)),
	}
	hash := hashToken(o.Nonce, body[idBytes:], salt)
	_, err = write(ctx, s, func(t *tx) (struct{}, error) {
		if err := before(t); err != nil {
			return struct{}{}, err
		}
		if err := t.room(k.Account, "tokens", s.limits.Tokens); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, t.exec("INSERT INTO tokens ("+tokenColumns+", salt, hash) VALUES (?,?,?,?,?,?,?,?,?,0,0,?,?)",
			k.Account, k.ID, k.Kind, k.Subject, k.Name, k.Provider, k.CreatedBy, ms(k.Created), ms(k.Expires), salt, hash)
	})
	if err != nil {
		return Token{}, "", err
	}
	return k, "." + prefix(k.Kind) + base64.RawURLEncoding.EncodeToString(body), nil
}

// Authenticate returns the token that a text belongs to, if it is one of the kinds, has not been
// revoked and is not expired at now; else ErrToken. It takes no account because it is how an account
// is learnt. The row is found by the id in the text; the secret is compared in constant time.
func (s *Store) Authenticate(ctx context.Context, text string, now time.Time, kinds ...TokenKind) (Token, error) {
	nonce, kind, body, ok := parseToken(text)
	if !ok {
		return Token{}, ErrToken
	}
	type row struct {
		Token
		salt, hash []byte
	}
	r, err := readOne(ctx, s, "SELECT "+tokenColumns+", salt, hash FROM tokens WHERE id = ?", func(rows *sql.Rows) (r row, err error) {
		r.Token, err = scanToken(rows, &r.salt, &r.hash)
		return r, err
	}, hex.EncodeToString(body[:idBytes]))
	if errors.Is(err, ErrNotFound) {
		return Token{}, ErrToken
	} else if err != nil {
		return Token{}, err
	}
	if subtle.ConstantTimeCompare(hashToken(nonce, body[idBytes:], r.salt), r.hash) != 1 || r.Kind != kind || !r.valid(now) {
		return Token{}, ErrToken
	}
	for _, k := range kinds {
		if k == r.Kind {
			return r.Token, nil
		}
	}
	return Token{}, ErrToken
}

// valid says whether the token is good at now.
func (k *Token) valid(now time.Time) bool {
	return k.Revoked.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires))
}

// Token returns one token of an account, by id.
func (s *Store) Token(ctx context.Context, account, id string) (Token, error) {
	return readOne(ctx, s, "SELECT "+tokenColumns+" FROM tokens WHERE account = ? AND id = ?",
		func(r *sql.Rows) (Token, error) { return scanToken(r) }, account, id)
}

// TokenFilter picks tokens; empty fields pick all.
type TokenFilter struct {
	Kind    TokenKind
	Subject string
	// Revoked also picks those that have been revoked.
	Revoked bool
	// After and Limit are as in DeviceFilter.
	After string
	Limit int
}

// Tokens returns the tokens of an account that f picks.
func (s *Store) Tokens(ctx context.Context, account string, f TokenFilter) ([]Token, error) {
	return read(ctx, s, "SELECT "+tokenColumns+` FROM tokens WHERE account = ?1 AND id > ?2
		AND (?3 = 0 OR kind = ?3) AND (?4 = '' OR subject = ?4) AND (?5 OR revoked = 0) ORDER BY id LIMIT ?6`,
		func(r *sql.Rows) (Token, error) { return scanToken(r) }, account, f.After, f.Kind, f.Subject, f.Revoked, clamp(f.Limit))
}

// useChunk is how many tokens one write notes the use of: more would make the writes behind it wait. 64
// take about a millisecond.
const useChunk = 64

// UseTokens notes that tokens were used at now. Unknown ones are ignored.
func (s *Store) UseTokens(ctx context.Context, account string, ids []string, now time.Time) error {
	for chunk := range slices.Chunk(ids, useChunk) {
		list, err := encode(chunk)
		if err != nil {
			return err
		}
		_, err = write(ctx, s, func(t *tx) (struct{}, error) {
			return struct{}{}, t.exec("UPDATE tokens SET used = max(used, ?) WHERE account = ? AND id IN (SELECT value FROM json_each(?))",
				ms(now), account, list)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RevokeToken ends a token for good, and the authorizations that were given on it, which it returns
// so that gateways can be told. Revoking it again does nothing.
func (s *Store) RevokeToken(ctx context.Context, account, id string, now time.Time) ([]Authorization, error) {
	return write(ctx, s, func(t *tx) ([]Authorization, error) {
		n, err := t.change("UPDATE tokens SET revoked = CASE revoked WHEN 0 THEN ? ELSE revoked END WHERE account = ? AND id = ?",
			ms(now), account, id)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return nil, err
		}
		return collect(t, "DELETE FROM authorizations WHERE account = ? AND token = ? RETURNING "+authorizationColumns,
			scanAuthorization, account, id)
	})
}

// DeleteTokens deletes tokens of an account that were revoked or expired before a time, limit at
// most, and returns how many.
func (s *Store) DeleteTokens(ctx context.Context, account string, before time.Time, limit int) (int64, error) {
	return write(ctx, s, func(t *tx) (int64, error) {
		return t.change(`DELETE FROM tokens WHERE account = ?1 AND id IN (SELECT id FROM tokens WHERE account = ?1
			AND (revoked BETWEEN 1 AND ?2 OR expires BETWEEN 1 AND ?2) LIMIT ?3)`, account, ms(before), clamp(limit))
	})
}

func (o *TokenOrder) check() error {
	switch {
	case kindNames[o.Kind] == "":
		return fmt.Errorf("%w: token kind %d", ErrInvalid, o.Kind)
	case (o.Kind == RelayToken) != (o.Account == Portal) && !(o.Kind == APIToken && o.Account == Portal):
		return fmt.Errorf("%w: relay tokens, and beside them only those of the API, belong to the portal as a whole", ErrInvalid)
	case (o.Kind == ClientToken || o.Kind == ServiceToken) && o.Expires.IsZero():
		return fmt.Errorf("%w: a %v token must expire", ErrInvalid, o.Kind)
	case len(o.Nonce) > maxNonce || strings.Contains(o.Nonce, "."):
		return fmt.Errorf("%w: nonce", ErrInvalid)
	}
	if o.Kind != RelayToken && o.Kind != IngestToken {
		if err := id("subject", o.Subject); err != nil {
			return err
		}
	}
	return first(id("account", o.Account), short("subject", o.Subject, maxID), short("name", o.Name, maxText),
		short("provider", o.Provider, maxID), short("creator", o.CreatedBy, maxText))
}

// prefix makes tokens recognisable, for people and for scanners of leaked secrets.
func prefix(k TokenKind) string { return "firelane_" + k.String() + "_" }

// parseToken takes a text apart; body has the length of id and secret.
func parseToken(text string) (nonce string, kind TokenKind, body []byte, ok bool) {
	nonce, rest, found := strings.Cut(text, ".")
	if !found || len(nonce) > maxNonce || len(rest) < bodyChars {
		return "", 0, nil, false
	}
	head := rest[:len(rest)-bodyChars]
	for kind = range kindNames {
		if head == prefix(kind) {
			body, err := base64.RawURLEncoding.Strict().DecodeString(rest[len(head):])
			return nonce, kind, body, err == nil
		}
	}
	return "", 0, nil, false
}

// hashToken is what the store keeps. The secret has 256 bits of chance, so a slow hash would protect
// nothing that a fast one does not.
func hashToken(nonce string, secret, salt []byte) []byte {
	h := sha3.New256()
	h.Write([]byte(nonce))
	h.Write(secret)
	h.Write(salt)
	return h.Sum(nil)
}

// scanToken scans tokenColumns and what follows them.
func scanToken(r *sql.Rows, more ...any) (k Token, err error) {
	var created, expires, revoked, used int64
	err = r.Scan(append([]any{&k.Account, &k.ID, &k.Kind, &k.Subject, &k.Name, &k.Provider, &k.CreatedBy,
		&created, &expires, &revoked, &used}, more...)...)
	k.Created, k.Expires, k.Revoked, k.Used = at(created), at(expires), at(revoked), at(used)
	return k, err
}
