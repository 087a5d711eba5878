package store

import "errors"

// What can go wrong, for errors.Is. Errors that are none of these come from the disk or the
// database.
var (
	// ErrNotFound: there is no such row in this account.
	ErrNotFound = errors.New("not found")
	// ErrExists: the id is taken.
	ErrExists = errors.New("exists already")
	// ErrInvalid: an argument is empty, too long or malformed. The text says which.
	ErrInvalid = errors.New("invalid argument")
	// ErrFull: a bound of Limits is reached.
	ErrFull = errors.New("the account is full")
	// ErrBusy: too many writes are waiting.
	ErrBusy = errors.New("too many writes waiting")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store is closed")
	// ErrUncertain: the commit failed in a way that leaves open whether the write will be found
	// after the next Open. The caller must treat the write as not confirmed.
	ErrUncertain = errors.New("commit failed")
	// ErrToken: the token is unknown, revoked, expired, of another kind, or its secret is wrong.
	// Which one is not said.
	ErrToken = errors.New("token is not valid")
	// ErrNewer: the database was written by a newer version of the program.
	ErrNewer = errors.New("database is of a newer version")
	// ErrForeign: the file is a database of another program.
	ErrForeign = errors.New("file is not a portal database")
)
