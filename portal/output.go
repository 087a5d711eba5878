package portal

import (
	"context"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// ConnID names a channel. The driver chooses it and never uses it again.
type ConnID uint64

// End says what is to become of a channel.
type End uint8

// The ends.
const (
	// Stay: nothing.
	Stay End = iota
	// Leave ends the channel and its websocket in good order.
	Leave
	// Restart closes the websocket with 1012: the device comes back.
	Restart
	// Away closes the websocket with 1001, which is how relays are sent away.
	Away
	// Cut drops the connection.
	Cut
)

// String returns the end's name.
func (e End) String() string { return [...]string{"stay", "leave", "restart", "away", "cut"}[e] }

// Delivery is what one channel is to be given.
type Delivery struct {
	Conn ConnID
	// Message is nil if there is only an end.
	Message signal.Message
	// End follows the message.
	End End
}

// Output is what the machine wants done.
type Output struct {
	// Deliveries are in order.
	Deliveries []Delivery
	// Writes may be carried out in any order.
	Writes []Write
}

func (o *Output) empty() bool { return len(o.Deliveries) == 0 && len(o.Writes) == 0 }

// Store is what writes are carried out on: a *store.Store.
type Store interface {
	PutAuthorization(ctx context.Context, a store.Authorization) error
	Revoke(ctx context.Context, account string, f store.AuthorizationFilter) ([]store.Authorization, error)
	DeleteExpired(ctx context.Context, account string, now time.Time, limit int) (int64, error)
}

var _ Store = (*store.Store)(nil)

// Write is one change of the store. Its result goes to HandleStored.
type Write struct {
	// ID is the machine's name for the write.
	ID uint64

	account string
	put     *store.Authorization
	revoke  string
	expired time.Time
}

// Do carries the write out. It may be called from any goroutine.
func (w Write) Do(ctx context.Context, s Store) error {
	switch {
	case w.put != nil:
		return s.PutAuthorization(ctx, *w.put)
	case w.revoke != "":
		_, err := s.Revoke(ctx, w.account, store.AuthorizationFilter{ID: w.revoke})
		return err
	}
	for {
		n, err := s.DeleteExpired(ctx, w.account, w.expired, store.MaxPage)
		if err != nil || n < store.MaxPage {
			return err
		}
	}
}

// String says what the write does.
func (w Write) String() string {
	switch {
	case w.put != nil:
		return "put authorization " + w.put.ID
	case w.revoke != "":
		return "revoke authorization " + w.revoke
	}
	return "delete expired authorizations of " + w.account
}

// Stats counts since the start, but for the first group, which is how many there are now.
type Stats struct {
	Clients, Gateways, Relays, Authorizations, Pending int

	Connects, Duplicates uint64
	// Requests are answered by Authorized or Refused; what is neither was withdrawn by a newer
	// one or with its channel.
	Requests, Authorized uint64
	Refused              map[signal.Reason]uint64
	// TimedOut are refused because a gateway or the store did not answer, or what a client was to be
	// told did not go out.
	TimedOut uint64
	// Revoked counts authorizations taken away before their end, Expired those that ended.
	Revoked, Expired uint64
	// CandidatesDropped had no pair to go to, or were more than one device may have passed on to
	// another.
	CandidatesDropped uint64
	// WritesFailed counts what the store could not do; revocations are repeated.
	WritesFailed uint64
	// Full counts wishes that met a bound.
	Full uint64
	// LateAnswers came from gateways when nobody waited any more.
	LateAnswers uint64
}
