package server

import (
	"context"
	"sync"
	"time"

	"github.com/firelane/firelane/portal/store"
)

// uses notes when tokens were used last: later and a few at a time, since nobody waits for it and a
// thousand devices that come back at the same time have more urgent writes.
type uses struct {
	mu   sync.Mutex
	last map[useKey]time.Time
}

type useKey struct{ account, token string }

const (
	// usesEvery is how often uses are written.
	usesEvery = 10 * time.Second
	// maxUses bounds those that wait; beyond it, the use of a token is noted the next time.
	maxUses = 1 << 16
	// usesAtOnce is how many are written at a time: they share a commit.
	usesAtOnce = 32
	// usedInterval is how exactly the last use of a token is kept.
	usedInterval = time.Hour
)

// note remembers a use.
func (u *uses) note(t *store.Token, now time.Time) {
	if now.Sub(t.Used) < usedInterval {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[useKey]time.Time{}
	}
	if len(u.last) < maxUses {
		u.last[useKey{t.Account, t.ID}] = now
	}
}

func (u *uses) take() map[useKey]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.last
	u.last = nil
	return all
}

// writeUses writes what has been noted.
func (s *Server) writeUses(ctx context.Context) {
	var writing sync.WaitGroup
	room := make(chan struct{}, usesAtOnce)
	for k, at := range s.uses.take() {
		room <- struct{}{}
		writing.Go(func() {
			defer func() { <-room }()
			if err := s.store.UseToken(ctx, k.account, k.token, at); err != nil {
				s.log.Debug("cannot note the use of a token", "token", k.token, "error", err)
			}
		})
	}
	writing.Wait()
}

// watchUses writes uses now and then, and once more at the end.
func (s *Server) watchUses(ctx context.Context) {
	tick := time.NewTicker(usesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.writeUses(context.WithoutCancel(ctx))
			return
		case <-tick.C:
			s.writeUses(ctx)
		}
	}
}
