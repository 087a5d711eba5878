package store

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"
)

const (
	// logSoft is the length of the log from which it is copied into the database. Each copy syncs
	// both files, so it should be rare: at 200 authorizations a second, 7 MB/s, it is every other
	// second. A longer log would make reads and the next Open slower.
	logSoft = 16 << 20
	// logKept is what stays of the log's file when it starts anew: overwriting a file syncs faster
	// than growing one. It leaves room for what is written while the log is copied.
	logKept = 2 * logSoft
	// checkEvery is how often the length of the log is looked at: at the fastest, about 20 MB/s,
	// it overshoots logSoft by 20 MB, and the log grows a little.
	checkEvery = time.Second
	// pageSize is SQLite's.
	pageSize = 4096
)

// checkpointer copies the log into the database while commits go on, then has the writer start the
// log anew, which by then means copying a few pages.
type checkpointer struct {
	db   *sql.DB
	w    *writer
	done atomic.Uint64

	end   context.CancelFunc
	ended chan struct{}
}

func newCheckpointer(db *sql.DB, w *writer) *checkpointer {
	ctx, end := context.WithCancel(context.Background())
	c := &checkpointer{db: db, w: w, end: end, ended: make(chan struct{})}
	go c.run(ctx)
	return c
}

func (c *checkpointer) run(ctx context.Context) {
	defer close(c.ended)
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if n, err := c.length(ctx); err == nil && n >= logSoft && c.checkpoint(ctx) == nil {
				c.done.Add(1)
			}
		}
	}
}

// length is how much of the log's file is in use, in bytes.
func (c *checkpointer) length(ctx context.Context) (int64, error) {
	var busy, pages, copied int64
	err := c.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &pages, &copied)
	return pages * pageSize, err
}

const (
	// maxPasses bounds how often what commits have added is copied beside them, before the writer
	// has to: each pass has less to do than the one before.
	maxPasses = 4
	// fewPages are few enough for the writer's turn: 20 commits' worth, about a millisecond.
	fewPages = 160
)

// checkpoint fails harmlessly while a reader or a backup holds on to the log: it is tried again.
func (c *checkpointer) checkpoint(ctx context.Context) error {
	var busy, pages, copied int
	for range maxPasses {
		if err := c.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied); err != nil {
			return err
		}
		if pages-copied <= fewPages {
			break
		}
	}
	return c.w.restartLog(ctx)
}

func (c *checkpointer) stop() {
	c.end()
	<-c.ended
}
