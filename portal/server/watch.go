package server

import (
	"context"
	"errors"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/internal/channel"
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

// lookAtTokens tells the machine which tokens in use are no longer good: those of live channels, and
// those of authorizations, whose clients may be away.
func (s *Server) lookAtTokens(ctx context.Context) error {
	inUse := s.driver.tokens()
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

// confirm ends a channel whose token has been revoked since it was let in, and looks again at a
// device and person that the machine did not know before. A device of which nothing can be learned
// has to come back.
func (s *Server) confirm(c *session, l *channel.Link) {
	s.changing.RLock() // what is read here must not be told after something newer
	defer s.changing.RUnlock()
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	t, err := s.store.Token(ctx, c.account, c.connect.TokenID)
	if errors.Is(err, store.ErrNotFound) || err == nil && !t.Revoked.IsZero() {
		s.tokenGone(c.connect.TokenID)
		return
	}
	if err == nil && c.unknown {
		err = s.introduce(ctx, c)
	}
	if err != nil {
		s.log.Warn("cannot look again at who has been let in", "error", err)
		l.End(websocket.StatusServiceRestart)
	}
}

// introduce tells the machine what the store says about the device and the owner of a channel.
func (s *Server) introduce(ctx context.Context, c *session) error {
	d, err := s.store.Device(ctx, c.account, c.connect.Device.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.driver.do(func(m *portal.Portal, now time.Time) { m.HandleDeviceDeleted(c.connect.Device.ID, now) })
		return nil
	case err != nil:
		return err
	}
	s.driver.do(func(m *portal.Portal, now time.Time) { m.HandleDeviceChanged(d, now) })
	if c.connect.ActorKind != personKind {
		return nil
	}
	p, err := s.store.Person(ctx, c.account, d.Owner)
	if errors.Is(err, store.ErrNotFound) {
		p.Disabled, err = true, nil
	}
	if err == nil {
		s.driver.do(func(m *portal.Portal, now time.Time) { m.HandleActor(d.Owner, actorOf(&p), !p.Disabled, now) })
	}
	return err
}

// tokenGone ends the channels of a token that has been revoked in the store.
func (s *Server) tokenGone(id string) {
	s.log.Info("token revoked", "token", id)
	s.driver.do(func(m *portal.Portal, now time.Time) { m.HandleTokenRevoked(id, now) })
}
