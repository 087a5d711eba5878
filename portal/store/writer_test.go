package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// hold makes the writer wait inside a write until release is called, so that others queue up.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		if err := s.writer.do(context.Background(), func(*tx) error { close(entered); <-leave; return nil }); err != nil {
			t.Error(err)
		}
	}()
	<-entered
	return func() { close(leave); <-left }
}

// waitFor waits until ok, for ten seconds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Writes that wait together are committed together; one that fails takes no other with it.
func TestGroupCommit(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	var all sync.WaitGroup
	boom := errors.New("boom")
	for i := range 50 {
		all.Go(func() {
			err := s.writer.do(context.Background(), func(t *tx) error {
				if err := t.exec("INSERT INTO settings VALUES ('acme', ?, x'')", fmt.Sprint(i)); err != nil {
					return err
				}
				if i%5 == 0 {
					return boom
				}
				return nil
			})
			if (i%5 == 0) != errors.Is(err, boom) {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	waitFor(t, "50 writes wait", func() bool { return s.Stats().Waiting == 50 })
	release()
	all.Wait()
	var rows int
	check(t, s.reads.QueryRow("SELECT count(*) FROM settings").Scan(&rows))
	st := s.Stats()
	if rows != 40 || st.Groups != 2 || st.Largest != 50 || st.Writes != 41 || st.Failed != 10 || st.Latency.Count != 51 || st.Commit.Count != 2 {
		t.Errorf("%d rows, %+v", rows, st)
	}
}

// A context that ends while its write waits means that nothing was written; one that ends while it
// is being carried out changes nothing about the outcome.
func TestContextsEndOnlyWaitingWrites(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- s.PutSetting(ctx, "acme", "withdrawn", nil) }()
	waitFor(t, "the write waits", func() bool { return s.Stats().Waiting == 1 })
	cancel()
	wantErr(t, <-result, context.Canceled)
	wantErr(t, s.PutSetting(ctx, "acme", "late", nil), context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	entered, leave := make(chan struct{}), make(chan struct{})
	go func() {
		result <- s.writer.do(ctx, func(t *tx) error {
			close(entered)
			<-leave
			return t.exec("INSERT INTO settings VALUES ('acme', 'taken', x'')")
		})
	}()
	release()
	<-entered
	cancel()
	close(leave)
	check(t, <-result)
	must(s.Setting(t.Context(), "acme", "taken"))(t)
	_, err := s.Setting(t.Context(), "acme", "withdrawn")
	wantErr(t, err, ErrNotFound)
	if st := s.Stats(); st.Withdrawn != 1 {
		t.Errorf("%+v", st)
	}
}

func TestQueueIsBounded(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	var all sync.WaitGroup
	for range maxQueued {
		all.Go(func() {
			if err := s.writer.do(context.Background(), func(*tx) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "the queue is full", func() bool { return s.Stats().Waiting == maxQueued })
	wantErr(t, s.PutSetting(t.Context(), "acme", "x", nil), ErrBusy)
	release()
	all.Wait()
	if st := s.Stats(); st.Refused != 1 || st.Largest > maxGroup {
		t.Errorf("%+v", st)
	}
}

// Close carries out what waits.
func TestCloseDrainsTheQueue(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	written := make(chan error)
	go func() { written <- s.PutSetting(context.Background(), "acme", "last", nil) }()
	waitFor(t, "the write waits", func() bool { return s.Stats().Waiting == 1 })
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	release()
	check(t, <-written)
	check(t, <-closed)
	s = reopen(t, s, Options{})
	must(s.Setting(t.Context(), "acme", "last"))(t)
}

// A transaction that fails as a whole is reported to all its writes, and the next one works.
func TestBrokenTransactionIsReportedToAll(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			err := s.writer.do(context.Background(), func(t *tx) error {
				if i == 1 {
					return t.exec("ROLLBACK") // takes the savepoint with it
				}
				return t.exec("INSERT INTO settings VALUES ('acme', ?, x'')", fmt.Sprint(i))
			})
			if err == nil {
				t.Errorf("write %d is reported as done", i)
			}
		})
	}
	waitFor(t, "3 writes wait", func() bool { return s.Stats().Waiting == 3 })
	release()
	all.Wait()
	var rows int
	check(t, s.reads.QueryRow("SELECT count(*) FROM settings").Scan(&rows))
	if rows != 0 {
		t.Errorf("%d rows of a lost transaction", rows)
	}
	check(t, s.PutSetting(t.Context(), "acme", "next", nil))
}

func TestLogStartsAnew(t *testing.T) {
	s := open(t, Options{})
	fill := func() {
		for i := range 20 {
			check(t, s.PutSetting(t.Context(), "acme", fmt.Sprint(i), make([]byte, maxSetting)))
		}
	}
	fill()
	before := must(s.copier.length(t.Context()))(t)
	check(t, s.copier.checkpoint(t.Context()))
	check(t, s.PutSetting(t.Context(), "acme", "last", nil))
	if after := must(s.copier.length(t.Context()))(t); before < 20*maxSetting || after > before/10 {
		t.Errorf("the log had %d bytes and has %d", before, after)
	}
	s = reopen(t, s, Options{})
	must(s.Setting(t.Context(), "acme", "last"))(t)
	if got := must(s.Setting(t.Context(), "acme", "19"))(t); len(got) != maxSetting {
		t.Errorf("a setting of %d bytes came back", len(got))
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	bounds := h.Bounds()
	for _, d := range []time.Duration{0, bounds[4], bounds[4] + 1, time.Hour} {
		h.add(d)
	}
	last := len(h.Counts) - 1
	if h.Count != 4 || h.Counts[0] != 1 || h.Counts[4] != 1 || h.Counts[5] != 1 || h.Counts[last] != 1 || len(bounds) != last {
		t.Errorf("%+v", h)
	}
	if bounds[0] != 100*time.Microsecond || bounds[last-1] < time.Second {
		t.Errorf("bounds from %v to %v", bounds[0], bounds[last-1])
	}
}

func TestGroupsAreCountedBySize(t *testing.T) {
	var w writeStats
	for _, n := range []int{1, 2, 3, 4, maxGroup} {
		w.group(n, 0)
	}
	if got, want := w.snapshot().Sizes, [groupSizes]uint64{1, 1, 2, 0, 0, 0, 0, 0, 1}; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// A commit that fails is reported to all its writes as uncertain, and the next one works.
func TestFailedCommitIsReportedToAll(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			err := s.writer.do(context.Background(), func(t *tx) error {
				if i != 1 {
					return t.exec("INSERT INTO settings VALUES ('acme', ?, x'')", fmt.Sprint(i))
				}
				if err := t.exec("PRAGMA defer_foreign_keys = ON"); err != nil { // until the commit
					return err
				}
				return t.exec("INSERT INTO authorizations VALUES ('acme', 'id', 'nobody', 'nobody', 'r', 'p', NULL, 1, 2)")
			})
			if !errors.Is(err, ErrUncertain) {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	waitFor(t, "3 writes wait", func() bool { return s.Stats().Waiting == 3 })
	release()
	all.Wait()
	_, err := s.Setting(t.Context(), "acme", "0")
	wantErr(t, err, ErrNotFound)
	check(t, s.PutSetting(t.Context(), "acme", "next", nil))
}
