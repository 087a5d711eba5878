package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// maxSetting bounds the value of a setting: keys and small state.
const maxSetting = 64 << 10

// Portal is the account of what belongs to the portal as a whole: its own secrets, and the tokens of
// relays.
const Portal = "."

// Secret returns the secret of that name, and makes it of size random bytes when there is none yet.
// All callers get the same one.
func (s *Store) Secret(ctx context.Context, account, name string, size int) ([]byte, error) {
	if size < 16 || size > maxSetting {
		return nil, fmt.Errorf("%w: secret of %d bytes", ErrInvalid, size)
	}
	if v, err := s.Setting(ctx, account, name); !errors.Is(err, ErrNotFound) {
		return v, err
	}
	fresh, err := s.random(size)
	if err != nil {
		return nil, err
	}
	return write(ctx, s, func(t *tx) (v []byte, err error) {
		if err := t.exec("INSERT INTO settings (account, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", account, name, fresh); err != nil {
			return nil, err
		}
		return v, t.row("SELECT value FROM settings WHERE account = ? AND name = ?", account, name).Scan(&v)
	})
}

// Setting returns the value of a setting, or ErrNotFound.
func (s *Store) Setting(ctx context.Context, account, name string) ([]byte, error) {
	if err := first(id("account", account), id("setting", name)); err != nil {
		return nil, err
	}
	return readOne(ctx, s, "SELECT value FROM settings WHERE account = ? AND name = ?",
		func(r *sql.Rows) (v []byte, err error) { return v, r.Scan(&v) }, account, name)
}

// PutSetting sets a setting.
func (s *Store) PutSetting(ctx context.Context, account, name string, value []byte) error {
	if len(value) > maxSetting {
		return fmt.Errorf("%w: setting of %d bytes, %d are allowed", ErrInvalid, len(value), maxSetting)
	}
	if err := first(id("account", account), id("setting", name)); err != nil {
		return err
	}
	value = append([]byte{}, value...) // never nil, which would be NULL
	_, err := write(ctx, s, func(t *tx) (struct{}, error) {
		return struct{}{}, t.exec(`INSERT INTO settings (account, name, value) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET value = excluded.value`, account, name, value)
	})
	return err
}
