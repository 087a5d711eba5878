package server

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/firelane/firelane/portal/store"
)

// uses notes that tokens were used: later and many at a time, since nobody waits for it and a thousand
// devices that come back at the same time have more urgent writes.
type uses struct {
	mu sync.Mutex
	// tokens are the ids, by account; n is how many.
	tokens map[string]map[string]bool
	n      int
}

const (
	// usesEvery is how often uses are written.
	usesEvery = 10 * time.Second
	// maxUses bounds those that wait; beyond it, the use of a token is noted the next time.
	maxUses = 1 << 16
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
	if u.tokens == nil {
		u.tokens = map[string]map[string]bool{}
	}
	if u.tokens[t.Account] == nil {
		u.tokens[t.Account] = map[string]bool{}
	}
	if u.n < maxUses && !u.tokens[t.Account][t.ID] {
		u.tokens[t.Account][t.ID] = true
		u.n++
	}
}

func (u *uses) take() map[string]map[string]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.tokens
	u.tokens, u.n = nil, 0
	return all
}

// writeUses writes what has been noted, one account after the other: one write at a time leaves the disk
// to others.
func (s *Server) writeUses(ctx context.Context) {
	now := time.Now()
	for account, tokens := range s.uses.take() {
		if err := s.store.UseTokens(ctx, account, slices.Sorted(maps.Keys(tokens)), now); err != nil {
			s.log.Debug("cannot note the use of tokens", "tokens", len(tokens), "error", err)
		}
	}
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
