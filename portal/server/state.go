package server

import (
	"context"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
)

// loadState reads what the machine continues from.
func loadState(ctx context.Context, db *store.Store, file *config.File) (portal.State, error) {
	st := portal.State{File: file, Actors: map[string]config.Actor{}, Providers: map[string]string{}}
	for i := range file.Accounts {
		for _, sa := range file.Accounts[i].ServiceAccounts {
			st.Actors[sa.ID] = config.Actor{ServiceAccount: sa.ID}
		}
	}
	now := time.Now()
	err := eachAccount(ctx, db, func(account string) error {
		err := eachPage(func(after string) (string, int, error) {
			page, err := db.Devices(ctx, account, store.DeviceFilter{After: after})
			st.Devices = append(st.Devices, page...)
			return last(page, func(d *store.Device) string { return d.ID }), len(page), err
		})
		if err != nil {
			return err
		}
		err = eachPage(func(after string) (string, int, error) {
			page, err := db.Authorizations(ctx, account, store.AuthorizationFilter{After: after}, now)
			st.Authorizations = append(st.Authorizations, page...)
			return last(page, func(a *store.Authorization) string { return a.ID }), len(page), err
		})
		if err != nil {
			return err
		}
		err = eachPage(func(after string) (string, int, error) {
			page, err := db.Tokens(ctx, account, store.TokenFilter{Kind: store.ClientToken, After: after})
			for i := range page {
				st.Providers[page[i].ID] = page[i].Provider
			}
			return last(page, func(t *store.Token) string { return t.ID }), len(page), err
		})
		if err != nil {
			return err
		}
		return eachPerson(ctx, db, account, func(p *store.Person) {
			if !p.Disabled {
				st.Actors[p.ID] = actorOf(p)
			}
		})
	})
	return st, err
}

// eachAccount calls f with every account that owns anything.
func eachAccount(ctx context.Context, db *store.Store, f func(account string) error) error {
	return eachPage(func(after string) (string, int, error) {
		page, err := db.Accounts(ctx, after, 0)
		if err != nil {
			return "", 0, err
		}
		for _, a := range page {
			if err := f(a); err != nil {
				return "", 0, err
			}
		}
		return last(page, func(a *string) string { return *a }), len(page), nil
	})
}

func eachPerson(ctx context.Context, db *store.Store, account string, f func(*store.Person)) error {
	return eachPage(func(after string) (string, int, error) {
		page, err := db.People(ctx, account, after, 0)
		for i := range page {
			f(&page[i])
		}
		return last(page, func(p *store.Person) string { return p.ID }), len(page), err
	})
}

// eachPage goes through pages until one is not full. next returns the last id of its page and how
// many there were.
func eachPage(next func(after string) (last string, n int, err error)) error {
	for after, n := "", store.MaxPage; n == store.MaxPage; {
		var err error
		if after, n, err = next(after); err != nil {
			return err
		}
	}
	return nil
}

func last[T any](page []T, id func(*T) string) string {
	if len(page) == 0 {
		return ""
	}
	return id(&page[len(page)-1])
}
