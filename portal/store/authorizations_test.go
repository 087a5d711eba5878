package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAuthorizationIsRefused(t *testing.T) {
	s := open(t, Options{Limits: Limits{Authorizations: 2}})
	ctx := t.Context()
	c, g := device(t, s, "acme", Client, "c"), device(t, s, "acme", Gateway, "g")
	one := authorization(c, g, "one")
	check(t, s.PutAuthorization(ctx, one))
	for name, bad := range map[string]func(*Authorization) error{
		"unknown client":  func(a *Authorization) error { a.Client = "nobody"; return ErrNotFound },
		"unknown gateway": func(a *Authorization) error { a.Gateway = "nobody"; return ErrNotFound },
		"unknown token":   func(a *Authorization) error { a.Token = "none"; return ErrNotFound },
		"id is taken":     func(a *Authorization) error { a.ID = "one"; return ErrExists },
		"never expires":   func(a *Authorization) error { a.Expires = time.Time{}; return ErrInvalid },
		"no policy":       func(a *Authorization) error { a.Policy = ""; return ErrInvalid },
	} {
		a := authorization(c, g, "two")
		want := bad(&a)
		if err := s.PutAuthorization(ctx, a); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	one.Expires = one.Expires.Add(time.Hour)
	check(t, s.PutAuthorization(ctx, one)) // again, with a later end
	check(t, s.PutAuthorization(ctx, authorization(c, g, "two")))
	wantErr(t, s.PutAuthorization(ctx, authorization(c, g, "three")), ErrFull)
	if got := must(s.Authorizations(ctx, "acme", AuthorizationFilter{ID: "one"}, noon))(t); len(got) != 1 || got[0] != one {
		t.Errorf("stored %+v, want %+v", got, one)
	}
	_, err := s.Revoke(ctx, "acme", AuthorizationFilter{After: "x"})
	wantErr(t, err, ErrInvalid)
}

// The table behaves like a map from (gateway, client, resource) to the last authorization.
func TestAuthorizationsAgreeWithAModel(t *testing.T) {
	s, runs := open(t, Options{}), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		ctx, account := t.Context(), fmt.Sprint("run ", runs)
		var clients, gateways []string
		for i := range 2 {
			for kind, ids := range map[DeviceKind]*[]string{Client: &clients, Gateway: &gateways} {
				d, _, err := s.ConnectDevice(ctx, DeviceNews{DeviceKey: DeviceKey{account, kind, "o", fmt.Sprint(i)}}, noon)
				if err != nil {
					t.Fatal(err)
				}
				*ids = append(*ids, d.ID)
			}
		}
		m := model{}
		for i := range rapid.IntRange(1, 15).Draw(t, "steps") {
			f := AuthorizationFilter{
				Client:   rapid.SampledFrom(append([]string{""}, clients...)).Draw(t, "client"),
				Gateway:  rapid.SampledFrom(append([]string{""}, gateways...)).Draw(t, "gateway"),
				Resource: rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "resource"),
				Policy:   rapid.SampledFrom([]string{"", "p1", "p2"}).Draw(t, "policy"),
			}
			now := noon.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "now")) * time.Second)
			switch rapid.SampledFrom([]string{"put", "put", "put", "revoke", "expire"}).Draw(t, "what") {
			case "put":
				a := Authorization{
					Account: account, ID: fmt.Sprintf("%03d", i), Client: or(f.Client, clients[0]), Gateway: or(f.Gateway, gateways[0]),
					Resource: or(f.Resource, "r1"), Policy: or(f.Policy, "p1"), Created: noon,
					Expires: noon.Add(time.Duration(rapid.IntRange(1, 3).Draw(t, "expires")) * time.Second),
				}
				if err := s.PutAuthorization(ctx, a); err != nil {
					t.Fatal(err)
				}
				m[[3]string{a.Gateway, a.Client, a.Resource}] = a
			case "revoke":
				if f == (AuthorizationFilter{}) {
					continue
				}
				got, err := s.Revoke(ctx, account, f)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "revoked", got, m.take(func(a Authorization) bool { return fits(a, f) }))
			case "expire":
				n, err := s.DeleteExpired(ctx, account, now, 0)
				if gone := m.take(func(a Authorization) bool { return !a.Expires.After(now) }); err != nil || int(n) != len(gone) {
					t.Fatalf("%d expired, want %d: %v", n, len(gone), err)
				}
			}
			live, err := s.Authorizations(ctx, account, f, now)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "live", live, m.find(func(a Authorization) bool { return fits(a, f) && a.Expires.After(now) }))
			if n, err := s.Counts(ctx, account); err != nil || int(n.Authorizations) != len(m) {
				t.Fatalf("%d counted, want %d: %v", n.Authorizations, len(m), err)
			}
		}
	})
}

type model map[[3]string]Authorization

func (m model) find(pick func(Authorization) bool) []Authorization {
	var all []Authorization
	for _, a := range m {
		if pick(a) {
			all = append(all, a)
		}
	}
	return all
}

func (m model) take(pick func(Authorization) bool) []Authorization {
	all := m.find(pick)
	maps.DeleteFunc(m, func(_ [3]string, a Authorization) bool { return pick(a) })
	return all
}

func fits(a Authorization, f AuthorizationFilter) bool {
	return or(f.Client, a.Client) == a.Client && or(f.Gateway, a.Gateway) == a.Gateway &&
		or(f.Resource, a.Resource) == a.Resource && or(f.Policy, a.Policy) == a.Policy
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func same(t *rapid.T, what string, got, want []Authorization) {
	t.Helper()
	byID := func(a, b Authorization) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if !slices.Equal(got, want) {
		t.Fatalf("%s:\n%+v, want\n%+v", what, got, want)
	}
}
