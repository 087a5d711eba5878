package store

import (
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestPeopleAreKnownByIssuerAndSubject(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	i := Identity{Account: "acme", Issuer: "https://id.example", Subject: "42", Provider: "oidc", Email: "a@example.com", Name: "Alice", Claims: []string{"g=eng"}}
	p := must(s.SignIn(ctx, i, noon))(t)
	check(t, s.SetDisabled(ctx, "acme", p.ID, true))
	i.Email, i.Claims = "alice@example.com", []string{"g=ops", "g=eng"}
	again := must(s.SignIn(ctx, i, noon.Add(time.Hour)))(t)
	if again.ID != p.ID || again.Email != "alice@example.com" || !again.Disabled || !slices.Equal(again.Claims["oidc"], i.Claims) ||
		!again.Seen.Equal(noon.Add(time.Hour)) || !again.Created.Equal(noon) {
		t.Errorf("second sign-in gives %+v", again)
	}
	i.Issuer = "https://other.example"
	if other := must(s.SignIn(ctx, i, noon))(t); other.ID == p.ID {
		t.Error("another issuer's 42 is the same person")
	}
	if all := must(s.People(ctx, "acme", "", 0))(t); len(all) != 2 {
		t.Errorf("%d people", len(all))
	}
	i.Claims = make([]string, maxClaims+1)
	_, err := s.SignIn(ctx, i, noon)
	wantErr(t, err, ErrInvalid)
}

func claimsAre(t *testing.T, what string, got, want map[string][]string) {
	t.Helper()
	if !maps.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("%s: claims are %v, want %v", what, got, want)
	}
}

func TestClaimsAreKeptByProvider(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	i := Identity{Account: "acme", Issuer: "https://id.example", Subject: "42", Provider: "office", Claims: []string{"g=eng"}}
	s.mustSignIn(t, i)
	i.Provider, i.Claims = "guests", nil
	p := s.mustSignIn(t, i)
	claimsAre(t, "after both", p.Claims, map[string][]string{"office": {"g=eng"}, "guests": {}})
	j := i
	j.Subject, j.Provider, j.Claims = "43", "office", []string{"g=ops"}
	other := s.mustSignIn(t, j)
	j.Account = "other"
	s.mustSignIn(t, j)

	if got := must(s.Vouching(ctx, "acme"))(t); !slices.Equal(got, []string{"guests", "office"}) {
		t.Errorf("%v vouch", got)
	}
	gone := must(s.ForgetClaims(ctx, "acme", "office"))(t)
	if len(gone) != 2 {
		t.Fatalf("forgotten about %v", gone)
	}
	for _, g := range gone {
		claimsAre(t, "of the forgotten", g.Claims, map[string]map[string][]string{p.ID: {"guests": {}}, other.ID: {}}[g.ID])
	}
	claimsAre(t, "later", must(s.Person(ctx, "acme", p.ID))(t).Claims, map[string][]string{"guests": {}})
	if again := must(s.ForgetClaims(ctx, "acme", "office"))(t); len(again) != 0 {
		t.Errorf("forgotten twice: %v", again)
	}
	if all := must(s.People(ctx, "other", "", 0))(t); len(all) != 1 || len(all[0].Claims["office"]) != 1 {
		t.Errorf("in another account: %+v", all)
	}
}

func (s *Store) mustSignIn(t *testing.T, i Identity) Person {
	t.Helper()
	return must(s.SignIn(t.Context(), i, noon))(t)
}

func TestProvidersOfAPersonAreBounded(t *testing.T) {
	s := open(t, Options{})
	i := Identity{Account: "acme", Issuer: "https://id.example", Subject: "42"}
	var p Person
	for n := range maxVouching + 5 {
		i.Provider = fmt.Sprint(n)
		p = must(s.SignIn(t.Context(), i, noon.Add(time.Duration(n)*time.Minute)))(t)
	}
	if _, newest := p.Claims[i.Provider]; len(p.Claims) != maxVouching || !newest || p.Claims["4"] != nil || p.Claims["5"] == nil {
		t.Errorf("%d providers are kept: %v", len(p.Claims), p.Claims)
	}
}

// What a person's only provider had said before claims were kept by provider is that provider's.
func TestClaimsAreMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "portal.db")
	db := must(sql.Open("sqlite", path))(t)
	c := must(db.Conn(t.Context()))(t)
	must(step(t.Context(), c, must(steps(migrations))(t)[:1]))(t)
	must(c.ExecContext(t.Context(), `INSERT INTO people (account, id, issuer, subject, provider, email, name, groups, created, seen)
		VALUES ('acme', 'p', 'i', 's', 'office', '', 'Alice', '["g=eng"]', 1, 2)`))(t)
	check(t, c.Close())
	check(t, db.Close())
	s := must(Open(t.Context(), path, Options{}))(t)
	defer s.Close()
	p := must(s.Person(t.Context(), "acme", "p"))(t)
	claimsAre(t, "after the migration", p.Claims, map[string][]string{"office": {"g=eng"}})
	if n := must(s.Counts(t.Context(), "acme"))(t); n.People != 1 || p.Name != "Alice" {
		t.Errorf("%+v, %+v", n, p)
	}
}
