package server

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// backupDirName is the directory in Options.Data in which a copy for the API grows. It is there only
	// meanwhile: what is found at the start has been left by a crash.
	backupDirName = "backup.part"
	// policySuffix follows the database's name in the name of the policy file that belongs to it.
	policySuffix = ".policy"
	// copyTime bounds the copying of the database: a disk that takes longer has other troubles.
	copyTime = 10 * time.Minute
	// Each backupPiece of a backup has backupWait to be taken, so that who takes less than 25 KiB/s is cut.
	backupPiece = 256 << 10
	backupWait  = 10 * time.Second
	// backupRetry is when somebody who has met another backup should ask again.
	backupRetry = 10 * time.Second
)

// backups has a place for one backup over the API: a copy takes as much of the disk as the database.
type backups struct {
	mu sync.Mutex
	// cancel ends the one that is under way; it is nil if there is none.
	cancel  context.CancelFunc
	closed  bool
	running sync.WaitGroup
}

// begin takes the place until end is called; the context ends then, or when the portal does.
func (b *backups) begin(ctx context.Context) (_ context.Context, end func(), ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.cancel != nil {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(ctx)
	b.cancel = cancel
	b.running.Add(1)
	return ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		cancel()
		b.cancel = nil
		b.running.Done()
	}, true
}

// close ends the one that is under way, waits for that, and lets none begin.
func (b *backups) close() {
	b.mu.Lock()
	b.closed = true
	if b.cancel != nil {
		b.cancel()
	}
	b.mu.Unlock()
	b.running.Wait()
}

// removeBackup removes a copy that is not finished, or that is open.
func removeBackup(data string) error { return os.RemoveAll(filepath.Join(data, backupDirName)) }

// archive is a backup that can be sent: files without names, which are gone when they are closed.
type archive struct {
	made  time.Time
	files []archived
}

type archived struct {
	name string
	file *os.File
	size int64
}

// openArchive copies the database and opens the policy file in force, if there is one. That is opened
// first: an edit between the two is then made once more by the portal that is restored, which does no harm.
func (s *Server) openArchive(ctx context.Context, now time.Time) (_ *archive, err error) {
	a := &archive{made: now}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	policy, err := os.Open(InForcePath(s.options.Data))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	known := err == nil
	if known {
		a.files = append(a.files, archived{name: databaseName + policySuffix, file: policy})
	}
	database, err := s.openCopy(ctx)
	if err != nil {
		return nil, err
	}
	a.files = append(a.files, archived{name: databaseName, file: database})
	for i := range a.files {
		fi, err := a.files[i].file.Stat()
		if err != nil {
			return nil, err
		}
		a.files[i].size = fi.Size()
	}
	return a, nil
}

// openCopy copies the database and opens the copy, which has no name any more.
func (s *Server) openCopy(ctx context.Context) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	dir := filepath.Join(s.options.Data, backupDirName)
	if err := removeBackup(s.options.Data); err != nil { // one that could not be removed
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, databaseName)
	if err := s.store.Backup(ctx, path); err != nil {
		return nil, errors.Join(err, removeBackup(s.options.Data))
	}
	f, err := os.Open(path)
	if gone := errors.Join(err, removeBackup(s.options.Data)); gone != nil {
		if err == nil {
			_ = f.Close()
		}
		return nil, gone
	}
	return f, nil
}

func (a *archive) close() {
	for _, f := range a.files {
		_ = f.file.Close() // it has only been read
	}
}

// name is what the archive is to be saved as.
func (a *archive) name() string {
	return "portal-" + a.made.UTC().Format("20060102T150405Z") + ".tar"
}

// Lengths of a tar archive: a header and the unit that contents are filled up to, and the two empty ones
// at its end.
const (
	tarBlock = 512
	tarEnd   = 2 * tarBlock
)

// length is that of what writeTo writes: the format has one block for each header, whatever the size.
func (a *archive) length() int64 {
	n := int64(tarEnd)
	for _, f := range a.files {
		n += tarBlock + (f.size+tarBlock-1)/tarBlock*tarBlock
	}
	return n
}

// writeTo writes the archive, in pieces of at most backupPiece.
func (a *archive) writeTo(w io.Writer) error {
	t := tar.NewWriter(w)
	buffer := make([]byte, backupPiece)
	for _, f := range a.files {
		h := &tar.Header{Name: f.name, Mode: 0o600, Size: f.size, ModTime: a.made.Truncate(time.Second), Format: tar.FormatGNU}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		// Without the limit the file would choose the pieces, not the buffer.
		if _, err := io.CopyBuffer(t, io.LimitReader(f.file, f.size), buffer); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return t.Close()
}

// steadyWriter gives each write backupWait.
type steadyWriter struct {
	ctx      context.Context
	w        io.Writer
	deadline func(time.Time) error
}

func (s *steadyWriter) Write(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.deadline(time.Now().Add(backupWait)); err != nil {
		return 0, err
	}
	return s.w.Write(b)
}
