package server

import (
	"context"
	"errors"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/store"
)

// storeEvery is how often the database is asked whether another process has written to it: what a
// subcommand does takes effect within half a second.
const storeEvery = 250 * time.Millisecond

// watchStore notices what other processes change.
func (s *Server) watchStore(ctx context.Context) {
	tick := time.NewTicker(storeEvery)
	defer tick.Stop()
	var seen int64
	for first := true; ; first = false {
		n, err := s.store.ForeignChanges(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("cannot see what others change", "error", err)
		case err == nil && (n != seen || first):
			if err = s.lookAtTokens(ctx); err == nil {
				seen = n
			} else if ctx.Err() == nil {
				s.log.Warn("cannot look at the tokens in use", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookAtTokens tells the machine which tokens of live channels are no longer good.
func (s *Server) lookAtTokens(ctx context.Context) error {
	inUse := map[string]map[string]bool{} // by account
	s.driver.live(func(c *session) {
		if inUse[c.account] == nil {
			inUse[c.account] = map[string]bool{}
		}
		inUse[c.account][c.connect.TokenID] = true
	})
	for account, ids := range inUse {
		err := eachPage(func(after string) (string, int, error) {
			page, err := s.store.Tokens(ctx, account, store.TokenFilter{After: after})
			for i := range page {
				delete(ids, page[i].ID)
			}
			return last(page, func(t *store.Token) string { return t.ID }), len(page), err
		})
		if err != nil {
			return err
		}
		for id := range ids {
			s.tokenGone(id)
		}
	}
	return nil
}

// confirm ends a channel whose token has been revoked since it was let in.
func (s *Server) confirm(c *session) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	t, err := s.store.Token(ctx, c.account, c.connect.TokenID)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && !t.Revoked.IsZero():
		s.tokenGone(c.connect.TokenID)
	case err != nil:
		s.log.Warn("cannot look at a token again", "error", err)
	}
}

// tokenGone ends the channels of a token that has been revoked in the store.
func (s *Server) tokenGone(id string) {
	s.log.Info("token revoked", "token", id)
	s.driver.do(func(m *portal.Portal, now time.Time) { m.HandleTokenRevoked(id, now) })
}
