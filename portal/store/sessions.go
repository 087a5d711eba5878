package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// expiredKept is how long a session that has expired stays in any case: until the authorizations on it
// have been ended, which happens when it expires.
const expiredKept = time.Hour

// CreateSession makes a ClientToken as CreateToken does. If the person has as many sessions as Limits
// allow, the oldest end as by RevokeToken; ended are their ids. Of those that have ended, no more are kept
// than there may be sessions, so that nobody fills an account by signing in again and again.
func (s *Store) CreateSession(ctx context.Context, o TokenOrder, now time.Time) (k Token, text string, ended []string, err error) {
	if o.Kind != ClientToken {
		return k, "", nil, fmt.Errorf("%w: a session by a %v token", ErrInvalid, o.Kind)
	}
	k, text, err = s.createToken(ctx, o, now, func(t *tx) (err error) {
		if ended, err = s.endOldest(t, &o, now); err != nil {
			return err
		}
		return s.forgetEnded(t, &o, now)
	})
	if err != nil {
		return Token{}, "", nil, err
	}
	return k, text, ended, nil
}

// endOldest makes room for one more session of a person.
func (s *Store) endOldest(t *tx, o *TokenOrder, now time.Time) ([]string, error) {
	ended, err := collect(t, `UPDATE tokens SET revoked = ?1 WHERE id IN (SELECT id FROM tokens
		WHERE account = ?2 AND subject = ?3 AND kind = ?4 AND revoked = 0 AND expires > ?1
		ORDER BY created DESC, id LIMIT -1 OFFSET ?5) RETURNING id`,
		func(r *sql.Rows) (id string, err error) { return id, r.Scan(&id) }, ms(now), o.Account, o.Subject, ClientToken, s.limits.Sessions-1)
	if err != nil {
		return nil, err
	}
	for _, id := range ended {
		if err := t.exec("DELETE FROM authorizations WHERE account = ? AND token = ?", o.Account, id); err != nil {
			return nil, err
		}
	}
	return ended, nil
}

// forgetEnded deletes sessions of a person that ended longest ago.
func (s *Store) forgetEnded(t *tx, o *TokenOrder, now time.Time) error {
	return t.exec(`DELETE FROM tokens WHERE id IN (SELECT id FROM tokens
		WHERE account = ?1 AND subject = ?2 AND kind = ?3 AND (revoked > 0 OR expires <= ?4)
		ORDER BY CASE revoked WHEN 0 THEN expires ELSE revoked END DESC, created DESC LIMIT -1 OFFSET ?5)`,
		o.Account, o.Subject, ClientToken, ms(now.Add(-expiredKept)), s.limits.Sessions)
}
