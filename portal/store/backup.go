package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup writes a copy of the database, as it is at one instant, to path, which must not exist.
// Writes go on meanwhile. The copy appears under its name only when it is whole and on the disk; it
// is a database like any other, readable by its owner only, and is restored by putting it in place
// of the original while no portal runs (without the original's -wal and -shm files).
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("backup to %s: %w", path, os.ErrExist)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".backup-*") // mode 0700: nobody sees the copy grow
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	part := filepath.Join(dir, "copy")
	if err := create(part); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := s.copyTo(ctx, part); err != nil {
		return fmt.Errorf("backup to %s: %w", path, err)
	}
	if err := syncFile(part); err != nil {
		return fmt.Errorf("backup to %s: %w", path, err)
	}
	if err := os.Link(part, path); err != nil { // unlike a rename, it never replaces a file
		return fmt.Errorf("backup to %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// copyTo copies the database into an empty file, on a connection of its own: those for reading may
// not write anything, anywhere.
func (s *Store) copyTo(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", s.dsn(false))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", path)
	return errors.Join(err, db.Close())
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
