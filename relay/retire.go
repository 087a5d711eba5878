package relay

import (
	"context"
	"sync"
	"time"
)

// Retire makes the server refuse every further Allocate request with 508, also one that would
// replace an allocation of the same user. What there is goes on until it is given up or expires.
func (s *Server) Retire() { s.cfg.Limits.Allocations = 0 }

// retirement is the way from Relay.Retire to the control goroutine.
type retirement struct {
	once  sync.Once
	asked chan struct{}
}

// Retire has the relay take no further allocations: the first half of an end that clients do not
// notice, if their portal has sent them elsewhere. It does not wait. Any goroutine.
func (r *Relay) Retire() { r.retirement.once.Do(func() { close(r.retirement.asked) }) }

// emptyInterval is how often WaitEmpty looks, well below what a person waits for.
const emptyInterval = 20 * time.Millisecond

// WaitEmpty waits until the relay has no allocations, which after Retire it comes to as clients
// leave, or until ctx is done, and reports which. Any goroutine.
func (r *Relay) WaitEmpty(ctx context.Context) bool {
	tick := time.NewTicker(emptyInterval)
	defer tick.Stop()
	for r.Counters().ActiveAllocations.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
