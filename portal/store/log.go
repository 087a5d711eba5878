package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openLog opens the log, which is there as soon as a connection has read the database, for syncing; with
// reserve, its file is at least logKept bytes long afterwards. Nobody but SQLite reads it.
func openLog(ctx context.Context, c *sql.Conn, path string, reserve bool) (_ *os.File, err error) {
	// The write lock: the log must not grow meanwhile, in this process or another.
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil && reserve {
		reserveLog(f)
	}
	if _, end := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); end != nil {
		err = errors.Join(err, end, f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

// reserveLog writes zeros behind what the log has, which SQLite takes for the log's end: a frame of zeros
// has the wrong salt. Without room on the disk the file stays as it is, and commits are slower.
func reserveLog(f *os.File) {
	fi, err := f.Stat()
	if err != nil {
		return
	}
	zeros := make([]byte, 1<<20)
	for at := fi.Size(); at < logKept && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), logKept-at)], at)
	}
	if errors.Join(err, f.Sync()) != nil {
		_ = f.Truncate(fi.Size()) // as it was, or longer: both are fine
	}
}

// syncLog puts what has been committed on the disk. After an error nothing more can be: whether the
// kernel still has what it could not write is not known.
func (w *writer) syncLog() error {
	if err := w.sync(); err != nil {
		w.lost = fmt.Errorf("%w: sync the log: %w", ErrUncertain, err)
		w.stats.lost.Store(true)
	}
	return w.lost
}

// syncData is fdatasync: it leaves out the file's times, unlike f.Sync.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
