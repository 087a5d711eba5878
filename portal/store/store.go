package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver; without cgo, so that the program stays static
)

// Options are what a store can be told at Open. The zero value is good.
type Options struct {
	// Limits replace DefaultLimits where they are not zero.
	Limits Limits
	// IPv4 and IPv6 are the ranges that tunnel addresses come from; by default 100.64.0.0/11 and
	// fd00:2021:1111::/107. Devices keep the addresses they have when the ranges change.
	IPv4, IPv6 netip.Prefix
	// ReserveLog writes the blocks of the log's file at Open, logKept bytes, so that commits are
	// faster. It is for processes that write for long.
	ReserveLog bool
	// Sync puts the log on the disk, fdatasync by default. After an error nothing is written any more.
	Sync func(log *os.File) error
	// Rand is the source of ids and secrets, crypto/rand by default.
	Rand io.Reader
}

// Limits bound the rows of one account.
type Limits struct {
	Devices, Tokens, Authorizations, People, SignIns int64
	// PersonDevices bounds the clients of one person, OwnerDevices the devices of a service account or
	// of a site: none of them can take all that the account may have.
	PersonDevices, OwnerDevices int64
	// Sessions bounds the sessions of one person, and beside them those that have ended: the oldest go.
	Sessions int64
	// FlowLogs and FlowLogBytes bound the ring of flow logs by records and by the sum of their
	// bodies.
	FlowLogs, FlowLogBytes int64
}

// DefaultLimits hold where Options say nothing. The devices fill a sixteenth of the address ranges,
// so that linear probing for a free address ends after one or two steps. The others are what fits
// comfortably on a small virtual machine: an authorization takes about 1 KiB with its indexes.
var DefaultLimits = Limits{
	Devices:        1 << 17,
	Tokens:         1 << 17,
	Authorizations: 1 << 20,
	People:         1 << 17,
	SignIns:        10_000,
	PersonDevices:  256,
	OwnerDevices:   1 << 14,
	Sessions:       64,
	FlowLogs:       1 << 20,
	FlowLogBytes:   1 << 30,
}

// Store is an open database.
type Store struct {
	path   string
	limits Limits
	pool4  netip.Prefix
	pool6  netip.Prefix
	rand   io.Reader
	reads  *sql.DB
	writes *sql.DB
	writer *writer
	copier *checkpointer
	close  sync.Once
}

const (
	// readers is the number of connections that read at the same time. A read takes microseconds;
	// more would only cost memory for their page caches.
	readers = 4
	// busyTimeout is how long a connection waits for the write lock, which another process (a
	// subcommand that makes a token) holds for one commit.
	busyTimeout = 5 * time.Second
	// pageCache is the page cache per connection, in KiB.
	pageCache = 16 << 10
)

// Open opens the database at path, makes it if there is none (readable by its owner only), and
// brings its schema up to date. Several processes may have it open, for a moment each; a running
// portal notices by ForeignChanges.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s := &Store{path: path, limits: o.Limits.orDefault(), pool4: o.IPv4, pool6: o.IPv6, rand: o.Rand}
	if !s.pool4.IsValid() {
		s.pool4 = netip.MustParsePrefix("100.64.0.0/11")
	}
	if !s.pool6.IsValid() {
		s.pool6 = netip.MustParsePrefix("fd00:2021:1111::/107")
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("create database: %w", err)
	}
	if err := s.connect(ctx, &o); err != nil {
		s.disconnect()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return s, nil
}

// create makes an empty file with the mode of a secret, whatever the umask, and makes its name
// durable. SQLite gives the log the mode of the database.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (s *Store) connect(ctx context.Context, o *Options) error {
	var err error
	if s.writes, err = sql.Open("sqlite", s.dsn(false)); err != nil {
		return err
	}
	s.writes.SetMaxOpenConns(2) // the writer's and, for a moment now and then, the checkpointer's
	if err := migrate(ctx, s.writes); err != nil {
		return err
	}
	if s.reads, err = sql.Open("sqlite", s.dsn(true)); err != nil {
		return err
	}
	s.reads.SetMaxOpenConns(readers)
	s.reads.SetMaxIdleConns(readers)
	if s.writer, err = newWriter(ctx, s.writes, s.logPath(), o); err != nil {
		return err
	}
	s.copier = newCheckpointer(s.writes, s.writer)
	return nil
}

// logPath is where SQLite keeps the log.
func (s *Store) logPath() string { return s.path + "-wal" }

// dsn is the driver's name of the database. The writer's automatic checkpoints are off: they would
// run inside a commit.
func (s *Store) dsn(readOnly bool) string {
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(NORMAL)", // the writer syncs
		"foreign_keys(ON)",
		fmt.Sprintf("page_size(%d)", pageSize),
		"wal_autocheckpoint(0)",
		fmt.Sprintf("journal_size_limit(%d)", logKept),
		"temp_store(MEMORY)",
		fmt.Sprintf("cache_size(-%d)", pageCache),
		"trusted_schema(OFF)",
	}}
	if readOnly {
		q.Add("_pragma", "query_only(ON)")
	}
	return "file:" + (&url.URL{Path: s.path}).EscapedPath() + "?" + q.Encode()
}

// Close waits for the writes that wait, copies the log into the database and closes it. Later
// calls of any method return ErrClosed or the error of a closed database.
func (s *Store) Close() error {
	var err error
	s.close.Do(func() {
		s.copier.stop()
		err = errors.Join(s.writer.stop(), s.disconnect())
	})
	return err
}

func (s *Store) disconnect() error {
	var errs []error
	for _, db := range []*sql.DB{s.reads, s.writes} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// ForeignChanges returns a number that differs from an earlier one of this Store exactly if another
// process has committed between the two calls. What changed is for the caller to look up. It commits
// nothing.
func (s *Store) ForeignChanges(ctx context.Context) (n int64, err error) {
	err = s.writer.aside(ctx, func(t *tx) error { return t.row("PRAGMA data_version").Scan(&n) })
	return n, err
}

// Accounts returns the accounts that own anything, at most limit of them after the one named by
// after, in order: for maintenance that goes through one account at a time.
func (s *Store) Accounts(ctx context.Context, after string, limit int) ([]string, error) {
	return read(ctx, s, "SELECT DISTINCT account FROM counts WHERE account > ? ORDER BY account LIMIT ?",
		func(r *sql.Rows) (a string, err error) { return a, r.Scan(&a) }, after, clamp(limit))
}

// Counts are the rows of one account.
type Counts struct {
	Devices, Tokens, Authorizations, People, SignIns, FlowLogs int64
	FlowLogBytes                                               int64
	// FlowLogsDropped counts the flow logs that have left the ring to make room.
	FlowLogsDropped int64
}

// Counts returns how much of its Limits an account uses.
func (s *Store) Counts(ctx context.Context, account string) (Counts, error) {
	var c Counts
	of := map[string]*int64{
		"devices": &c.Devices, "tokens": &c.Tokens, "authorizations": &c.Authorizations, "people": &c.People,
		"sign_ins": &c.SignIns, "flow_logs": &c.FlowLogs, "flow_log_bytes": &c.FlowLogBytes,
		"flow_logs_dropped": &c.FlowLogsDropped,
	}
	_, err := read(ctx, s, "SELECT subject, n FROM counts WHERE account = ?", func(r *sql.Rows) (struct{}, error) {
		var subject string
		var n int64
		err := r.Scan(&subject, &n)
		if into := of[subject]; into != nil {
			*into = n
		}
		return struct{}{}, err
	}, account)
	return c, err
}

// room returns ErrFull unless subject has room for one more row.
func (t *tx) room(account, subject string, limit int64) error {
	n, err := t.count(account, subject)
	if err == nil && n >= limit {
		err = fmt.Errorf("%w: %d %s", ErrFull, n, subject)
	}
	return err
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits
	for _, p := range []struct{ from, to *int64 }{
		{&l.Devices, &d.Devices}, {&l.Tokens, &d.Tokens}, {&l.Authorizations, &d.Authorizations},
		{&l.People, &d.People}, {&l.SignIns, &d.SignIns},
		{&l.PersonDevices, &d.PersonDevices}, {&l.OwnerDevices, &d.OwnerDevices}, {&l.Sessions, &d.Sessions},
		{&l.FlowLogs, &d.FlowLogs}, {&l.FlowLogBytes, &d.FlowLogBytes},
	} {
		if *p.from > 0 {
			*p.to = *p.from
		}
	}
	return d
}
