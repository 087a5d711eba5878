package store

import (
	"context"
	"database/sql"
)

// tx is the writer's connection inside a transaction. Its statements are prepared once. They run
// without a deadline: interrupting one would undo the whole group.
type tx struct {
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

// exec carries out a statement.
func (t *tx) exec(query string, args ...any) error {
	_, err := t.change(query, args...)
	return err
}

// change carries out a statement and returns how many rows it changed.
func (t *tx) change(query string, args ...any) (int64, error) {
	p, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := p.Exec(args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// row queries one row; its error comes with Scan.
func (t *tx) row(query string, args ...any) *sql.Row {
	p, err := t.prepare(query)
	if err != nil {
		return t.conn.QueryRowContext(context.Background(), query, args...) // fails likewise, in Scan
	}
	return p.QueryRow(args...)
}

// collect queries rows and scans each.
func collect[T any](t *tx, query string, scan func(*sql.Rows) (T, error), args ...any) ([]T, error) {
	p, err := t.prepare(query)
	if err != nil {
		return nil, err
	}
	rows, err := p.Query(args...)
	if err != nil {
		return nil, err
	}
	return gather(rows, scan)
}

func (t *tx) prepare(query string) (*sql.Stmt, error) {
	if p := t.prepared[query]; p != nil {
		return p, nil
	}
	p, err := t.conn.PrepareContext(context.Background(), query)
	if err == nil {
		t.prepared[query] = p
	}
	return p, err
}

func (t *tx) forget() {
	for _, p := range t.prepared {
		p.Close() // the connection goes next
	}
	clear(t.prepared)
}

// read queries rows on one of the reading connections and scans each.
func read[T any](ctx context.Context, s *Store, query string, scan func(*sql.Rows) (T, error), args ...any) ([]T, error) {
	rows, err := s.reads.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return gather(rows, scan)
}

// readOne is read for a query that has one row at most; none is ErrNotFound.
func readOne[T any](ctx context.Context, s *Store, query string, scan func(*sql.Rows) (T, error), args ...any) (one T, err error) {
	all, err := read(ctx, s, query, scan, args...)
	if err != nil {
		return one, err
	}
	if len(all) == 0 {
		return one, ErrNotFound
	}
	return all[0], nil
}

func gather[T any](rows *sql.Rows, scan func(*sql.Rows) (T, error)) ([]T, error) {
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// MaxPage bounds the rows of one answer: about a megabyte.
const MaxPage = 1000

// clamp brings a wished number of rows into 1..MaxPage; 0 means as many as allowed.
func clamp(limit int) int {
	if limit <= 0 {
		return MaxPage
	}
	return min(limit, MaxPage)
}
