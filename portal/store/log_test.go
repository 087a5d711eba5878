package store

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// setSync replaces what the writer does after a commit; it is the writer's.
func setSync(t *testing.T, s *Store, sync func(real func() error) error) {
	t.Helper()
	check(t, s.writer.do(t.Context(), func(*tx) error {
		real := s.writer.sync
		s.writer.sync = func() error { return sync(real) }
		return nil
	}))
}

// crashed copies the database and its log as a crash at this moment would leave them at best, and returns
// the copy's path. Another process copies: SQLite's locks end when this one closes a file of theirs.
func crashed(t *testing.T, s *Store) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "portal.db")
	for from, to := range map[string]string{s.path: path, s.logPath(): path + "-wal"} {
		if out, err := exec.CommandContext(t.Context(), "cp", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return path
}

// A write is confirmed after its log has been synced, and once for all that share a transaction. What is
// synced has the write.
func TestWritesAreConfirmedAfterTheSync(t *testing.T) {
	s := open(t, Options{})
	var synced atomic.Int64
	entered, leave := make(chan struct{}), make(chan struct{})
	setSync(t, s, func(real func() error) error {
		if synced.Add(1) == 2 { // the one of setSync itself is the first
			close(entered)
			<-leave
		}
		return real()
	})
	written := make(chan error, 1)
	go func() { written <- s.PutSetting(context.Background(), "acme", "x", nil) }()
	select {
	case <-entered:
	case err := <-written:
		t.Fatalf("confirmed without a sync: %v", err)
	}
	select {
	case err := <-written:
		t.Errorf("confirmed before the sync: %v", err)
	default:
	}
	path := crashed(t, s)
	close(leave)
	check(t, <-written)
	revived := must(Open(t.Context(), path, Options{}))(t)
	defer revived.Close()
	if _, err := revived.Setting(t.Context(), "acme", "x"); err != nil {
		t.Errorf("what is synced does not have the write: %v", err)
	}
	if n := synced.Load(); n != 2 {
		t.Errorf("%d syncs", n)
	}
	open, err := s.writer.log.Stat()
	check(t, err)
	if there := must(os.Stat(s.logPath()))(t); !os.SameFile(open, there) {
		t.Error("what is synced is not the log")
	}
}

// After a sync that fails nothing is confirmed any more: the log may have a hole.
func TestAFailedSyncEndsWriting(t *testing.T) {
	s := open(t, Options{})
	check(t, s.PutSetting(t.Context(), "acme", "before", nil))
	boom := errors.New("boom")
	var broken atomic.Bool
	setSync(t, s, func(real func() error) error {
		if broken.Load() {
			return boom
		}
		return real()
	})
	broken.Store(true)
	err := s.PutSetting(t.Context(), "acme", "x", nil)
	wantErr(t, err, ErrUncertain)
	wantErr(t, err, boom)
	broken.Store(false) // as a kernel that has forgotten what it could not write
	wantErr(t, s.PutSetting(t.Context(), "acme", "y", nil), ErrUncertain)
	if !s.Stats().Lost {
		t.Error("the numbers do not say so")
	}
	must(s.Setting(t.Context(), "acme", "before"))(t)
	_, err = s.Setting(t.Context(), "acme", "y")
	wantErr(t, err, ErrNotFound)
}

// Unless told otherwise, the store has the kernel put the log on the disk: with a pipe in the log's place,
// which cannot be synced, nothing is confirmed.
func TestTheLogIsSyncedByTheKernel(t *testing.T) {
	s := open(t, Options{})
	check(t, s.PutSetting(t.Context(), "acme", "before", nil))
	var pipe [2]int
	check(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	check(t, unix.Dup3(pipe[1], int(s.writer.log.Fd()), unix.O_CLOEXEC))
	err := s.PutSetting(t.Context(), "acme", "x", nil)
	wantErr(t, err, ErrUncertain)
	wantErr(t, err, unix.EINVAL)
}

// Whoever opens the store may put the log on the disk in another way, which then counts.
func TestTheLogIsSyncedAsAsked(t *testing.T) {
	boom := errors.New("boom")
	var s *Store
	s = open(t, Options{Sync: func(f *os.File) error {
		if f.Name() != s.logPath() {
			t.Errorf("%s is synced", f.Name())
		}
		return boom
	}})
	wantErr(t, s.PutSetting(t.Context(), "acme", "x", nil), boom)
}

// A reserved log has its blocks before the first commit, keeps what it has, and does not grow while it is
// written and starts anew.
func TestLogIsReserved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "portal.db")
	s := must(Open(t.Context(), path, Options{}))(t)
	defer s.Close()
	check(t, s.PutSetting(t.Context(), "acme", "before", []byte("x")))
	two := must(Open(t.Context(), path, Options{ReserveLog: true}))(t)
	defer two.Close()
	size := func() int64 { return must(os.Stat(path + "-wal"))(t).Size() }
	if size() != logKept {
		t.Fatalf("the log has %d bytes", size())
	}
	if got := must(two.Setting(t.Context(), "acme", "before"))(t); string(got) != "x" {
		t.Errorf("%q is left", got)
	}
	for _, by := range []*Store{two, s} {
		check(t, by.PutSetting(t.Context(), "acme", "after", make([]byte, maxSetting)))
		check(t, by.copier.checkpoint(t.Context()))
		check(t, by.PutSetting(t.Context(), "acme", "anew", nil))
	}
	if size() != logKept {
		t.Errorf("the log has %d bytes afterwards", size())
	}
	var verdict string
	check(t, two.reads.QueryRow("PRAGMA integrity_check").Scan(&verdict))
	if verdict != "ok" {
		t.Error(verdict)
	}
}
