package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Identity is what an OpenID provider says about a person.
type Identity struct {
	Account string
	// Issuer and Subject are the claims iss and sub: together they name a person for ever, unlike
	// an e-mail address.
	Issuer, Subject string
	// Provider is our id of the provider.
	Provider    string
	Email, Name string
	// Groups are those of the provider's claim, as of the last sign-in.
	Groups []string
}

// Person is an actor who has signed in at least once. Sessions are the person's ClientTokens.
type Person struct {
	Identity
	ID            string
	Disabled      bool
	Created, Seen time.Time
}

// maxGroups bounds the groups of a person; large directories give a few hundred.
const maxGroups = 2000

const personColumns = "account, id, issuer, subject, provider, email, name, groups, disabled, created, seen"

// SignIn finds the person of an identity and notes what the provider says now, or makes the person.
// Whether somebody who is disabled may go on is for the caller to decide.
func (s *Store) SignIn(ctx context.Context, i Identity, now time.Time) (Person, error) {
	if err := i.check(); err != nil {
		return Person{}, err
	}
	i.Groups = slices.Clone(i.Groups)
	groups, err := encode(i.Groups)
	if err != nil {
		return Person{}, err
	}
	fresh, err := s.newID()
	if err != nil {
		return Person{}, err
	}
	return write(ctx, s, func(t *tx) (p Person, err error) {
		known, err := collect(t, `UPDATE people SET provider = ?, email = ?, name = ?, groups = ?, seen = ?
			WHERE account = ? AND issuer = ? AND subject = ? RETURNING `+personColumns, scanPerson,
			i.Provider, i.Email, i.Name, groups, ms(now), i.Account, i.Issuer, i.Subject)
		if err != nil {
			return p, err
		}
		if len(known) > 0 {
			return known[0], nil
		}
		if err := t.room(i.Account, "people", s.limits.People); err != nil {
			return p, err
		}
		p = Person{Identity: i, ID: fresh, Created: at(ms(now)), Seen: at(ms(now))}
		return p, t.exec("INSERT INTO people ("+personColumns+") VALUES (?,?,?,?,?,?,?,?,0,?,?)",
			i.Account, p.ID, i.Issuer, i.Subject, i.Provider, i.Email, i.Name, groups, ms(now), ms(now))
	})
}

// Person returns one person of an account, by id.
func (s *Store) Person(ctx context.Context, account, id string) (Person, error) {
	return readOne(ctx, s, "SELECT "+personColumns+" FROM people WHERE account = ? AND id = ?", scanPerson, account, id)
}

// People returns the people of an account in the order of their ids, after the given one, limit at
// most.
func (s *Store) People(ctx context.Context, account, after string, limit int) ([]Person, error) {
	return read(ctx, s, "SELECT "+personColumns+" FROM people WHERE account = ? AND id > ? ORDER BY id LIMIT ?",
		scanPerson, account, after, clamp(limit))
}

// SetDisabled notes whether a person may still sign in. Ending the person's sessions is the caller's
// next step, by RevokeToken.
func (s *Store) SetDisabled(ctx context.Context, account, id string, disabled bool) error {
	return s.changeOne(ctx, "UPDATE people SET disabled = ? WHERE account = ? AND id = ?", disabled, account, id)
}

// PendingSignIn is a sign-in between the redirect to the provider and the person's return.
type PendingSignIn struct {
	Account string
	// State is the secret that comes back with the person; the store keeps its hash.
	State string
	// Data is the caller's: nonce, PKCE verifier, where to go next.
	Data    []byte
	Expires time.Time
}

// maxSignInData bounds the data of a pending sign-in.
const maxSignInData = 4 << 10

// BeginSignIn keeps a pending sign-in. If the account has as many as it may, the ones that would
// expire first make room: anybody can begin sign-ins, and newcomers are more likely to be honest.
func (s *Store) BeginSignIn(ctx context.Context, p PendingSignIn, now time.Time) error {
	if len(p.State) < 16 || len(p.State) > maxText || len(p.Data) > maxSignInData || p.Expires.IsZero() {
		return fmt.Errorf("%w: state, data or expiry of a sign-in", ErrInvalid)
	}
	if err := id("account", p.Account); err != nil {
		return err
	}
	state, data := sha256.Sum256([]byte(p.State)), append([]byte{}, p.Data...)
	_, err := write(ctx, s, func(t *tx) (struct{}, error) {
		if err := t.exec("DELETE FROM sign_ins WHERE account = ? AND expires <= ?", p.Account, ms(now)); err != nil {
			return struct{}{}, err
		}
		if err := t.room(p.Account, "sign_ins", s.limits.SignIns); errors.Is(err, ErrFull) {
			err = t.exec(`DELETE FROM sign_ins WHERE state =
				(SELECT state FROM sign_ins WHERE account = ? ORDER BY expires LIMIT 1)`, p.Account)
			if err != nil {
				return struct{}{}, err
			}
		} else if err != nil {
			return struct{}{}, err
		}
		n, err := t.change("INSERT INTO sign_ins (state, account, data, expires) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			state[:], p.Account, data, ms(p.Expires))
		if err == nil && n == 0 {
			err = fmt.Errorf("sign-in: %w", ErrExists)
		}
		return struct{}{}, err
	})
	return err
}

// TakeSignIn removes and returns the pending sign-in of a state: it can be taken once. ErrNotFound
// if there is none or it is expired at now.
func (s *Store) TakeSignIn(ctx context.Context, state string, now time.Time) (PendingSignIn, error) {
	hash := sha256.Sum256([]byte(state))
	p, err := write(ctx, s, func(t *tx) (PendingSignIn, error) {
		p := PendingSignIn{State: state}
		var expires int64
		err := t.row("DELETE FROM sign_ins WHERE state = ? RETURNING account, data, expires", hash[:]).Scan(&p.Account, &p.Data, &expires)
		if errors.Is(err, sql.ErrNoRows) {
			return p, ErrNotFound
		}
		p.Expires = at(expires)
		return p, err
	})
	if err == nil && !now.Before(p.Expires) {
		return PendingSignIn{}, ErrNotFound
	}
	return p, err
}

func (i *Identity) check() error {
	if len(i.Groups) > maxGroups {
		return fmt.Errorf("%w: %d groups, %d are allowed", ErrInvalid, len(i.Groups), maxGroups)
	}
	for _, g := range i.Groups {
		if err := short("group", g, maxText); err != nil {
			return err
		}
	}
	if i.Issuer == "" || i.Subject == "" {
		return fmt.Errorf("%w: issuer or subject is empty", ErrInvalid)
	}
	return first(id("account", i.Account), short("issuer", i.Issuer, maxText), short("subject", i.Subject, maxText),
		short("provider", i.Provider, maxID), short("email", i.Email, maxText), short("name", i.Name, maxText))
}

func scanPerson(r *sql.Rows) (p Person, err error) {
	var groups string
	var created, seen int64
	if err := r.Scan(&p.Account, &p.ID, &p.Issuer, &p.Subject, &p.Provider, &p.Email, &p.Name, &groups, &p.Disabled, &created, &seen); err != nil {
		return p, err
	}
	p.Created, p.Seen = at(created), at(seen)
	return p, decode(groups, &p.Groups)
}
