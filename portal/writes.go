package portal

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

const (
	// maxPuts bounds the authorizations on their way to the store: half of what it lets wait.
	maxPuts = 2048
	// maxRevoking bounds the revocations on their way; the others wait here, for there may be as
	// many as there are authorizations.
	maxRevoking = 1024
	// revokePause follows a revocation that the store could not do.
	revokePause = time.Second
)

// writes is what the store has been asked for or will be.
type writes struct {
	last uint64
	// ready go into the next output.
	ready []Write
	// under way, by id.
	puts     map[uint64]*authorization
	revoking map[uint64]revocation
	purging  map[uint64]string
	// queue are revocations that wait, until paused is over.
	queue  []revocation
	paused bool
}

type revocation struct{ account, id string }

func newWrites() writes {
	return writes{puts: map[uint64]*authorization{}, revoking: map[uint64]revocation{}, purging: map[uint64]string{}}
}

// put asks for an authorization to be stored; it reports false if too many are.
func (w *writes) put(a *authorization) bool {
	if len(w.puts) >= maxPuts {
		return false
	}
	w.last++
	w.puts[w.last] = a
	w.ready = append(w.ready, Write{ID: w.last, account: a.account, put: a.row()})
	return true
}

func (w *writes) revoke(account, id string) { w.queue = append(w.queue, revocation{account, id}) }

// purge asks for expired authorizations of accounts to be deleted. With too many such writes under
// way it does nothing: what is left goes with the next one.
func (w *writes) purge(accounts map[string]bool, now time.Time) {
	for _, a := range slices.Sorted(maps.Keys(accounts)) {
		if len(w.purging) < maxRevoking {
			w.last++
			w.purging[w.last] = a
			w.ready = append(w.ready, Write{ID: w.last, account: a, expired: now})
		}
	}
}

// release moves what may be written into the output.
func (p *Portal) release() {
	w := &p.writes
	for len(w.queue) > 0 && len(w.revoking) < maxRevoking && !w.paused {
		r := w.queue[0]
		w.queue = w.queue[1:]
		w.last++
		w.revoking[w.last] = r
		w.ready = append(w.ready, Write{ID: w.last, account: r.account, revoke: r.id})
	}
	if len(w.queue) == 0 {
		w.queue = nil
	}
	p.out.Writes = append(p.out.Writes, w.ready...)
	w.ready = nil
}

// Settled reports whether every revocation so far is in the store, those included that have to wait
// for what they revoke to get there.
func (p *Portal) Settled() bool {
	w := &p.writes
	if len(w.queue)+len(w.revoking) > 0 {
		return false
	}
	for _, a := range w.puts {
		if a.doomed {
			return false
		}
	}
	return true
}

// HandleStored takes the result of a Write.
func (p *Portal) HandleStored(id uint64, err error, now time.Time) {
	p.now = now
	w := &p.writes
	if err != nil {
		p.stats.WritesFailed++
	}
	if a, ok := w.puts[id]; ok {
		delete(w.puts, id)
		p.stored(a, err, now)
	}
	if r, ok := w.revoking[id]; ok {
		delete(w.revoking, id)
		if err != nil {
			w.queue = append(w.queue, r)
			p.pauseRevoking(now)
		}
	}
	delete(w.purging, id) // what a failed purge has left goes with the next one
	p.settle(now)
}

func (p *Portal) pauseRevoking(now time.Time) {
	if p.writes.paused {
		return
	}
	p.writes.paused = true
	p.timers.start(now.Add(revokePause), "repeat revocations", func(time.Time) { p.writes.paused = false })
}

// stored goes on with an authorization that the store has answered for.
func (p *Portal) stored(a *authorization, err error, now time.Time) {
	n := p.grants.pair(a.client, a.gateway)
	next := n.waiting[a.resource]
	delete(n.waiting, a.resource)
	switch {
	case err != nil:
		p.grants.remove(a)
		if errors.Is(err, store.ErrUncertain) {
			p.undo(a, n)
		}
		if q := a.pending; q != nil {
			p.refuse(q, signal.Offline, nil)
		}
	default:
		if before := p.grants.confirm(a); before != nil {
			p.timers.cancel(before.end)
			p.retry(before)
		}
		p.expireLater(a)
		if a.doomed {
			a.doomed = false
			p.revoke(a) // and with it what it has taken the place of
		} else if q := a.pending; q != nil {
			p.tell(q, now)
		}
	}
	if next != nil && next.open() {
		p.again = append(p.again, next)
	}
	p.grants.tidy(n)
}

// undo takes back an authorization that may be in the store or not, and with it the one whose place
// it may have taken.
func (p *Portal) undo(a *authorization, n *pair) {
	p.writes.revoke(a.account, a.id.String())
	if before := n.current[a.resource]; before != nil {
		p.revoke(before)
	}
}
