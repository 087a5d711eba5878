package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Identity is what an OpenID provider says about a person.
type Identity struct {
	Account string
	// Issuer and Subject are the claims iss and sub: together they name a person for ever, unlike
	// an e-mail address.
	Issuer, Subject string
	// Provider is our id of the provider. Several may have the same issuer.
	Provider    string
	Email, Name string
	// Claims is what else it says, in the caller's form.
	Claims []string
}

// Person is an actor who has signed in at least once. Sessions are the person's ClientTokens.
type Person struct {
	Account, ID     string
	Issuer, Subject string
	// Provider, Email and Name are those of the last sign-in.
	Provider, Email, Name string
	Disabled              bool
	Created, Seen         time.Time
	// Claims is what each provider said at the last sign-in with it.
	Claims map[string][]string
}

const (
	// maxClaims bounds the claims of one provider about a person; large directories give a few
	// hundred groups.
	maxClaims = 2000
	// maxVouching bounds the providers whose claims about a person are kept, as the policy file
	// bounds those of an account. The one longest silent goes.
	maxVouching = 32
)

const (
	personColumns = "account, id, issuer, subject, provider, email, name, disabled, created, seen"
	// personQuery is followed by a condition; its columns are those of scanPerson.
	personQuery = "SELECT " + personColumns + `, (SELECT json_group_object(provider, json(said)) FROM claims
		WHERE claims.account = people.account AND claims.person = people.id) FROM people WHERE `
)

// SignIn finds the person of an identity and notes what the provider says now, or makes the person.
// What other providers have said stays. Whether somebody who is disabled may go on is for the caller
// to decide.
func (s *Store) SignIn(ctx context.Context, i Identity, now time.Time) (Person, error) {
	if err := i.check(); err != nil {
		return Person{}, err
	}
	said, err := encode(append([]string{}, i.Claims...)) // never null
	if err != nil {
		return Person{}, err
	}
	fresh, err := s.newID()
	if err != nil {
		return Person{}, err
	}
	return write(ctx, s, func(t *tx) (p Person, err error) {
		id, err := s.signIn(t, &i, fresh, now)
		if err != nil {
			return p, err
		}
		if err := t.exec(`INSERT INTO claims (account, person, provider, said, seen) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET said = excluded.said, seen = excluded.seen`, i.Account, id, i.Provider, said, ms(now)); err != nil {
			return p, err
		}
		if err := t.exec(`DELETE FROM claims WHERE account = ?1 AND person = ?2 AND provider IN (SELECT provider FROM claims
			WHERE account = ?1 AND person = ?2 ORDER BY provider = ?3 DESC, seen DESC LIMIT -1 OFFSET ?4)`,
			i.Account, id, i.Provider, maxVouching); err != nil {
			return p, err
		}
		return t.person(i.Account, id)
	})
}

// signIn returns the id of an identity's person, who gets the one that is given if there is none.
func (s *Store) signIn(t *tx, i *Identity, fresh string, now time.Time) (id string, err error) {
	err = t.row(`UPDATE people SET provider = ?, email = ?, name = ?, seen = ?
		WHERE account = ? AND issuer = ? AND subject = ? RETURNING id`,
		i.Provider, i.Email, i.Name, ms(now), i.Account, i.Issuer, i.Subject).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if err := t.room(i.Account, "people", s.limits.People); err != nil {
		return "", err
	}
	return fresh, t.exec("INSERT INTO people ("+personColumns+") VALUES (?,?,?,?,?,?,?,0,?,?)",
		i.Account, fresh, i.Issuer, i.Subject, i.Provider, i.Email, i.Name, ms(now), ms(now))
}

func (t *tx) person(account, id string) (p Person, err error) {
	all, err := collect(t, personQuery+"account = ? AND id = ?", scanPerson, account, id)
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return p, err
	}
	return all[0], nil
}

// Person returns one person of an account, by id.
func (s *Store) Person(ctx context.Context, account, id string) (Person, error) {
	return readOne(ctx, s, personQuery+"account = ? AND id = ?", scanPerson, account, id)
}

// People returns the people of an account in the order of their ids, after the given one, limit at
// most.
func (s *Store) People(ctx context.Context, account, after string, limit int) ([]Person, error) {
	return read(ctx, s, personQuery+"account = ? AND id > ? ORDER BY id LIMIT ?", scanPerson, account, after, clamp(limit))
}

// SetDisabled notes whether a person may still sign in. Ending the person's sessions is the caller's
// next step, by RevokeToken.
func (s *Store) SetDisabled(ctx context.Context, account, id string, disabled bool) error {
	return s.changeOne(ctx, "UPDATE people SET disabled = ? WHERE account = ? AND id = ?", disabled, account, id)
}

// Vouching returns the providers whose claims about people of an account are kept.
func (s *Store) Vouching(ctx context.Context, account string) ([]string, error) {
	return read(ctx, s, "SELECT DISTINCT provider FROM claims WHERE account = ?",
		func(r *sql.Rows) (p string, err error) { return p, r.Scan(&p) }, account)
}

// forgetChunk is how many people one ForgetClaims takes: about 2 ms.
const forgetChunk = 64

// ForgetClaims drops what a provider has said about people, a few of them at a time, and returns those
// as they are then; nobody means that nothing is left.
func (s *Store) ForgetClaims(ctx context.Context, account, provider string) ([]Person, error) {
	return write(ctx, s, func(t *tx) ([]Person, error) {
		ids, err := collect(t, `DELETE FROM claims WHERE account = ?1 AND provider = ?2 AND person IN
			(SELECT person FROM claims WHERE account = ?1 AND provider = ?2 LIMIT ?3) RETURNING person`,
			func(r *sql.Rows) (id string, err error) { return id, r.Scan(&id) }, account, provider, forgetChunk)
		if err != nil {
			return nil, err
		}
		all := make([]Person, len(ids))
		for i, id := range ids {
			if all[i], err = t.person(account, id); err != nil {
				return nil, err
			}
		}
		return all, nil
	})
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
	if len(i.Claims) > maxClaims {
		return fmt.Errorf("%w: %d claims, %d are allowed", ErrInvalid, len(i.Claims), maxClaims)
	}
	for _, c := range i.Claims {
		if err := short("claim", c, maxText); err != nil {
			return err
		}
	}
	if i.Issuer == "" || i.Subject == "" {
		return fmt.Errorf("%w: issuer or subject is empty", ErrInvalid)
	}
	return first(id("account", i.Account), short("issuer", i.Issuer, maxText), short("subject", i.Subject, maxText),
		short("provider", i.Provider, maxID), short("email", i.Email, maxText), short("name", i.Name, maxText))
}

// scanPerson scans the columns of personQuery.
func scanPerson(r *sql.Rows) (p Person, err error) {
	var claims string
	var created, seen int64
	if err := r.Scan(&p.Account, &p.ID, &p.Issuer, &p.Subject, &p.Provider, &p.Email, &p.Name, &p.Disabled, &created, &seen, &claims); err != nil {
		return p, err
	}
	p.Created, p.Seen = at(created), at(seen)
	return p, decode(claims, &p.Claims)
}
