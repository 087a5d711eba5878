package store

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"
	"unicode/utf8"
)

const (
	// maxID bounds ids: UUIDs have 36 characters, accounts may be named by a slug.
	maxID = 64
	// maxText bounds names and what devices say about themselves, as the protocol does.
	maxText = 255
)

// id checks an id that must be there.
func id(what, s string) error {
	if s == "" {
		return fmt.Errorf("%w: %s is empty", ErrInvalid, what)
	}
	return short(what, s, maxID)
}

// short checks the length and the encoding of a text.
func short(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s has %d bytes, %d are allowed", ErrInvalid, what, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrInvalid, what)
	}
	return nil
}

// first returns the first error there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ms is a time as the database has it; the zero time is 0.
func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// at is a time from the database.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// random returns n bytes of chance.
func (s *Store) random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.rand, b); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return b, nil
}

// newID returns a random UUID (RFC 9562, version 4).
func (s *Store) newID() (string, error) {
	b, err := s.random(16)
	if err != nil {
		return "", err
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// decode fills v from what encode has made.
func decode(s string, v any) error {
	if err := json.Unmarshal([]byte(s), v); err != nil {
		return fmt.Errorf("column in the database: %w", err)
	}
	return nil
}

func parseAddrs(v4, v6 string) (a4, a6 netip.Addr, err error) {
	if a4, err = netip.ParseAddr(v4); err != nil {
		return a4, a6, fmt.Errorf("column in the database: %w", err)
	}
	if a6, err = netip.ParseAddr(v6); err != nil {
		return a4, a6, fmt.Errorf("column in the database: %w", err)
	}
	return a4, a6, nil
}
