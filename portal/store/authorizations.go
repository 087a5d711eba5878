package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Authorization is the portal's permission for one client to use one resource through one gateway,
// until it expires. In a device pool, Gateway is the client that is connected to.
type Authorization struct {
	Account, ID      string
	Client, Gateway  string
	Resource, Policy string
	// Token is the client's token; empty if it has none that could be revoked.
	Token            string
	Created, Expires time.Time
}

// authorizationColumns are in the order of scanAuthorization.
const authorizationColumns = "account, id, client, gateway, resource, policy, coalesce(token, ''), created, expires"

// PutAuthorization stores an authorization; nil means that it is on the disk. An earlier one of the
// same client, gateway and resource is replaced: the last one wins. ErrNotFound if the client, the
// gateway or the token is gone, ErrExists if another authorization has the id.
func (s *Store) PutAuthorization(ctx context.Context, a Authorization) error {
	if err := first(id("account", a.Account), id("id", a.ID), id("client", a.Client), id("gateway", a.Gateway),
		id("resource", a.Resource), id("policy", a.Policy), short("token", a.Token, maxID)); err != nil {
		return err
	}
	if a.Expires.IsZero() {
		return fmt.Errorf("%w: an authorization must expire", ErrInvalid)
	}
	_, err := write(ctx, s, func(t *tx) (struct{}, error) { return struct{}{}, s.putAuthorization(t, &a) })
	return err
}

func (s *Store) putAuthorization(t *tx, a *Authorization) error {
	if err := t.room(a.Account, "authorizations", s.limits.Authorizations); err != nil {
		return err
	}
	var known bool
	err := t.row(`SELECT EXISTS (SELECT 1 FROM devices WHERE account = ?1 AND id = ?2)
		AND EXISTS (SELECT 1 FROM devices WHERE account = ?1 AND id = ?3)
		AND (?4 = '' OR EXISTS (SELECT 1 FROM tokens WHERE account = ?1 AND id = ?4 AND revoked = 0))`,
		a.Account, a.Client, a.Gateway, a.Token).Scan(&known)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("client, gateway or token: %w", ErrNotFound)
	}
	var id string
	err = t.row(`INSERT INTO authorizations (account, id, client, gateway, resource, policy, token, created, expires)
		VALUES (?, ?, ?, ?, ?, ?, nullif(?, ''), ?, ?)
		ON CONFLICT (account, gateway, client, resource) DO UPDATE SET
		  id = excluded.id, policy = excluded.policy, token = excluded.token, created = excluded.created, expires = excluded.expires
		ON CONFLICT (account, id) DO NOTHING
		RETURNING id`,
		a.Account, a.ID, a.Client, a.Gateway, a.Resource, a.Policy, a.Token, ms(a.Created), ms(a.Expires)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("authorization: %w", ErrExists)
	}
	return err
}

// AuthorizationFilter picks the authorizations that fit all fields that are set.
type AuthorizationFilter struct {
	ID, Client, Gateway, Resource, Policy, Token string
	// After and Limit are for going through many: in the order of ids, after this one, MaxPage
	// at most.
	After string
	Limit int
}

// Authorizations returns those of an account that f picks and that have not expired at now.
func (s *Store) Authorizations(ctx context.Context, account string, f AuthorizationFilter, now time.Time) ([]Authorization, error) {
	where, args := f.where(account)
	return read(ctx, s, "SELECT "+authorizationColumns+" FROM authorizations WHERE "+where+" AND expires > ? AND id > ? ORDER BY id LIMIT ?",
		scanAuthorization, append(args, ms(now), f.After, clamp(f.Limit))...)
}

// Revoke deletes the authorizations that f picks, expired or not, and returns them, so that their
// gateways can be told; After is ignored. At least one other field must be set. When it returns as
// many as the limit, there may be more: call it again.
func (s *Store) Revoke(ctx context.Context, account string, f AuthorizationFilter) ([]Authorization, error) {
	where, args := f.where(account)
	if len(args) == 1 {
		return nil, fmt.Errorf("%w: nothing says which authorizations to revoke", ErrInvalid)
	}
	return write(ctx, s, func(t *tx) ([]Authorization, error) {
		return revoke(t, where, args, clamp(f.Limit))
	})
}

// DeleteExpired deletes authorizations of an account that had expired at now, limit at most, and
// returns how many. Nobody needs to be told: gateways know when a grant ends.
func (s *Store) DeleteExpired(ctx context.Context, account string, now time.Time, limit int) (int64, error) {
	return write(ctx, s, func(t *tx) (int64, error) {
		return t.change(`DELETE FROM authorizations WHERE account = ?1 AND id IN
			(SELECT id FROM authorizations WHERE account = ?1 AND expires <= ?2 ORDER BY expires LIMIT ?3)`,
			account, ms(now), clamp(limit))
	})
}

func revoke(t *tx, where string, args []any, limit int) ([]Authorization, error) {
	inner := append(append([]any{args[0]}, args...), limit)
	return collect(t, "DELETE FROM authorizations WHERE account = ? AND id IN (SELECT id FROM authorizations WHERE "+where+
		" LIMIT ?) RETURNING "+authorizationColumns, scanAuthorization, inner...)
}

// where is f as a condition, with its arguments; the account is the first.
func (f *AuthorizationFilter) where(account string) (string, []any) {
	conditions, args := []string{"account = ?"}, []any{account}
	for _, c := range []struct{ column, value string }{
		{"id", f.ID}, {"client", f.Client}, {"gateway", f.Gateway},
		{"resource", f.Resource}, {"policy", f.Policy}, {"token", f.Token},
	} {
		if c.value != "" {
			conditions = append(conditions, c.column+" = ?")
			args = append(args, c.value)
		}
	}
	return strings.Join(conditions, " AND "), args
}

func scanAuthorization(r *sql.Rows) (a Authorization, err error) {
	var created, expires int64
	err = r.Scan(&a.Account, &a.ID, &a.Client, &a.Gateway, &a.Resource, &a.Policy, &a.Token, &created, &expires)
	a.Created, a.Expires = at(created), at(expires)
	return a, err
}
