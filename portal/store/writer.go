package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxQueued bounds the writes that wait: at 20 µs of work each, the last of them waits for
	// about 100 ms. More than that means that the disk does not keep up, and callers had better
	// know at once.
	maxQueued = 4096
	// maxGroup bounds the writes of one transaction, so that the first of them does not wait long
	// for the last: 256 take about 10 ms.
	maxGroup = 256
)

// writer owns the writing connection. Its goroutine is the only one that uses it.
type writer struct {
	queue chan *request
	// between takes what must run outside a transaction.
	between chan func(*tx)
	stats   writeStats
	conn    *sql.Conn
	tx      tx
	group   []*request
	// log is what sync puts on the disk after a commit; lost is why that cannot be done any more.
	log  *os.File
	sync func() error
	lost error

	// closing is held for reading while a request is queued, so that none arrives after stop.
	closing sync.RWMutex
	closed  bool
	done    chan error
	// ended is closed when nothing is taken any more, neither from queue nor from between.
	ended chan struct{}
}

// request is one write on its way through the writer.
type request struct {
	do func(*tx) error
	// state goes from waiting to taken, by the writer, or to withdrawn, by the caller.
	state  atomic.Int32
	queued time.Time
	// err is the writer's until outcome is closed.
	err     error
	outcome chan struct{}
}

const (
	waiting int32 = iota
	taken
	withdrawn
)

func newWriter(ctx context.Context, db *sql.DB, log string, o *Options) (*writer, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	f, err := openLog(ctx, c, log, o.ReserveLog)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	syncLog := o.Sync
	if syncLog == nil {
		syncLog = syncData
	}
	w := &writer{
		queue:   make(chan *request, maxQueued),
		between: make(chan func(*tx)),
		conn:    c,
		log:     f,
		sync:    func() error { return syncLog(f) },
		tx:      tx{conn: c, prepared: map[string]*sql.Stmt{}},
		done:    make(chan error, 1),
		ended:   make(chan struct{}),
	}
	go func() { w.done <- w.run() }()
	return w, nil
}

// write has the writer carry out do, and returns what it returned once that is on the disk. do
// must not keep t, and must not use anything that the caller may change meanwhile.
func write[T any](ctx context.Context, s *Store, do func(t *tx) (T, error)) (T, error) {
	var result, none T
	err := s.writer.do(ctx, func(t *tx) (err error) {
		result, err = do(t)
		return err
	})
	if err != nil {
		return none, err
	}
	return result, nil
}

func (w *writer) do(ctx context.Context, do func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{do: do, queued: time.Now(), outcome: make(chan struct{})}
	if err := w.enqueue(r); err != nil {
		return err
	}
	select {
	case <-r.outcome:
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, withdrawn) {
			w.stats.withdrawn.Add(1)
			return ctx.Err()
		}
		<-r.outcome
	}
	return r.err
}

func (w *writer) enqueue(r *request) error {
	w.closing.RLock()
	defer w.closing.RUnlock()
	if w.closed {
		return ErrClosed
	}
	select {
	case w.queue <- r:
		return nil
	default:
		w.stats.refused.Add(1)
		return ErrBusy
	}
}

// stop carries out what waits and ends the writer.
func (w *writer) stop() error {
	w.closing.Lock()
	w.closed = true
	close(w.queue)
	w.closing.Unlock()
	return <-w.done
}

func (w *writer) run() error {
	defer close(w.ended)
	for {
		select {
		case do := <-w.between:
			do(&w.tx)
		case first, more := <-w.queue:
			if !more {
				w.tx.forget()
				return errors.Join(w.log.Close(), w.conn.Close())
			}
			w.carryOutGroup(first)
		}
	}
}

func (w *writer) carryOutGroup(first *request) {
	if w.gather(first); len(w.group) == 0 {
		return
	}
	committed := w.commit()
	for _, r := range w.group {
		if r.err == nil {
			r.err = committed
		}
		w.stats.outcome(r.err, time.Since(r.queued))
		close(r.outcome)
	}
	clear(w.group) // what they refer to is their callers' again
}

// restartLog copies what is left of the log into the database, so that the next commit starts the
// log anew. It never waits for readers; with one in the way the log goes on.
func (w *writer) restartLog(ctx context.Context) error {
	return w.aside(ctx, func(t *tx) error {
		var busy, pages, copied int
		return t.row("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied)
	})
}

// aside has the writer carry out do between two transactions, without one.
func (w *writer) aside(ctx context.Context, do func(*tx) error) error {
	done := make(chan error, 1)
	select {
	case w.between <- func(t *tx) { done <- do(t) }:
		return <-done
	case <-w.ended:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gather takes first and what else waits, without waiting for more: while one group is synced, the
// next one comes together by itself.
func (w *writer) gather(first *request) {
	w.group = w.group[:0]
	for r := first; ; {
		if r.state.CompareAndSwap(waiting, taken) {
			w.group = append(w.group, r)
		}
		if len(w.group) == maxGroup {
			return
		}
		var more bool
		select {
		case r, more = <-w.queue:
			if !more {
				return // closed and empty: run ends next
			}
		default:
			return
		}
	}
}

// commit carries out the group in one transaction. An error is that of the transaction; those of
// single writes are in their requests.
func (w *writer) commit() error {
	start := time.Now()
	if w.lost != nil {
		return w.lost
	}
	if err := w.tx.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for _, r := range w.group {
		if r.err = w.carryOut(r); r.err != nil && errors.Is(r.err, errBroken) {
			w.tx.exec("ROLLBACK") // the error is already the one to report
			return r.err
		}
	}
	if err := w.tx.exec("COMMIT"); err != nil {
		w.tx.exec("ROLLBACK") // likewise
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	if err := w.syncLog(); err != nil {
		return err
	}
	w.stats.group(len(w.group), time.Since(start))
	return nil
}

// errBroken: the transaction is lost, not only one write.
var errBroken = errors.New("transaction is broken")

// carryOut does one write in a savepoint.
func (w *writer) carryOut(r *request) error {
	if err := w.tx.exec("SAVEPOINT one"); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	err := r.do(&w.tx)
	if err != nil {
		if undo := w.tx.exec("ROLLBACK TO one"); undo != nil {
			return fmt.Errorf("%w: %w, then %w", errBroken, err, undo)
		}
	}
	if release := w.tx.exec("RELEASE one"); release != nil {
		return fmt.Errorf("%w: %w", errBroken, release)
	}
	return err
}
