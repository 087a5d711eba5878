package server

import (
	"context"
	"slices"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
)

// forgetProviders drops what providers that are no longer in the policy file have said about people.
// Should one come back, its people have its groups again when they sign in again, not before.
func (s *Server) forgetProviders(ctx context.Context) error {
	return eachAccount(ctx, s.store, func(account string) error {
		vouching, err := s.store.Vouching(ctx, account)
		if err != nil {
			return err
		}
		for _, provider := range vouching {
			if known(s.account(account), provider) {
				continue
			}
			for more := true; more && err == nil; {
				more, err = s.forgetSome(ctx, account, provider)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// forgetSome forgets the claims of a provider about some people and tells the machine; more says that
// there may be others.
func (s *Server) forgetSome(ctx context.Context, account, provider string) (more bool, err error) {
	ctx, end := s.change(ctx)
	defer end()
	people, err := s.store.ForgetClaims(ctx, account, provider)
	for i := range people {
		p := &people[i]
		s.driver.do(func(m *portal.Portal, now time.Time) { m.HandleActor(p.ID, actorOf(p), !p.Disabled, now) })
	}
	return len(people) > 0, err
}

// known reports whether an account, which may be nil, has a provider, disabled or not.
func known(a *config.Account, provider string) bool {
	return a != nil && slices.ContainsFunc(a.Providers, func(p config.Provider) bool { return p.ID == provider })
}
