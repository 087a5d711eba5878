package server

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
)

// TokenWish is a token that somebody wants, in the names of the policy file. Exactly one of Site,
// ServiceAccount, Relay and API is set.
type TokenWish struct {
	// Account is a slug; empty for relays, and where there is one account only.
	Account              string
	Site, ServiceAccount string
	Relay                bool
	// API is a scope; with Portal, that of what belongs to the portal as a whole: its relays.
	API    string
	Portal bool
	// Name is for people who look through tokens, By says who wanted it.
	Name, By string
	// Expires is zero for never or, for service accounts, serviceLifetime.
	Expires time.Time
}

// serviceLifetime is how long the token of a service account is good if nobody says.
const serviceLifetime = 90 * 24 * time.Hour

// Order translates the wish into ids.
func (w *TokenWish) Order(f *config.File, now time.Time) (o store.TokenOrder, err error) {
	wishes := 0
	for _, set := range []bool{w.Site != "", w.ServiceAccount != "", w.Relay, w.API != ""} {
		if set {
			wishes++
		}
	}
	if wishes != 1 {
		return o, errors.New("want exactly one of a site, a service account, relays and the API")
	}
	if !w.Expires.IsZero() && !w.Expires.After(now) {
		return o, errors.New("the token would have expired already")
	}
	o = store.TokenOrder{Account: store.Portal, Kind: store.RelayToken, Name: w.Name, CreatedBy: w.By, Expires: w.Expires}
	if w.API != "" && w.API != ReadScope && w.API != WriteScope {
		return o, fmt.Errorf("scope %q: want %s or %s", w.API, ReadScope, WriteScope)
	}
	switch {
	case w.Portal && w.API == "":
		return o, errors.New("only a token of the API can be for the portal as a whole")
	case w.Portal:
		o.Kind, o.Subject = store.APIToken, w.API
		return o, nil
	case w.Relay:
		return o, nil
	}
	a, err := FindAccount(f, w.Account)
	if err != nil {
		return o, err
	}
	o.Account = a.ID
	switch {
	case w.API != "":
		o.Kind, o.Subject = store.APIToken, w.API
	case w.Site != "":
		i := slices.IndexFunc(a.Sites, func(s config.Site) bool { return s.Name == w.Site })
		if i < 0 {
			return o, fmt.Errorf("account %s has no site %q", a.Slug, w.Site)
		}
		o.Kind, o.Subject = store.GatewayToken, a.Sites[i].ID
	default:
		i := slices.IndexFunc(a.ServiceAccounts, func(s config.ServiceAccount) bool { return s.Name == w.ServiceAccount })
		if i < 0 {
			return o, fmt.Errorf("account %s has no service account %q", a.Slug, w.ServiceAccount)
		}
		o.Kind, o.Subject = store.ServiceToken, a.ServiceAccounts[i].ID
		if o.Expires.IsZero() {
			o.Expires = now.Add(serviceLifetime)
		}
	}
	return o, nil
}

// FindAccount returns the account with a slug or, without one, the only account.
func FindAccount(f *config.File, slug string) (*config.Account, error) {
	if slug == "" && len(f.Accounts) == 1 {
		return &f.Accounts[0], nil
	}
	if slug == "" {
		return nil, errors.New("there are several accounts: say which")
	}
	if a := findAccount(f, func(a *config.Account) bool { return a.Slug == slug }); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("there is no account %q", slug)
}
