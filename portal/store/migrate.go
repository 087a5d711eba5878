package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// migrations are the steps of the schema, named <four digits>_<subject>.sql. A step that has been
// released is never edited: the next one changes what it made.
//
//go:embed schema/*.sql
var migrations embed.FS

// applicationID marks the file as ours, at offset 68 of the database header: "flan" in ASCII.
const applicationID = 0x666c616e

// migrate carries out the steps that the database has not seen, each in a transaction that also
// counts it, so that a crash leaves a whole number of steps.
func migrate(ctx context.Context, db *sql.DB) error {
	steps, err := steps(migrations)
	if err != nil {
		return err
	}
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		more, err := step(ctx, c, steps)
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

// step carries out the next step, if there is one, under the write lock: of two processes that open
// an old database, one does the step and the other finds it done.
func step(ctx context.Context, c *sql.Conn, steps []string) (more bool, err error) {
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // nothing else to be done about an error here
		}
	}()
	var version, id, tables int
	for query, into := range map[string]*int{
		"PRAGMA user_version": &version, "PRAGMA application_id": &id, "SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := c.QueryRowContext(ctx, query).Scan(into); err != nil {
			return false, err
		}
	}
	switch {
	case id != applicationID && (version != 0 || tables != 0):
		return false, ErrForeign
	case version > len(steps):
		return false, fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, version, len(steps))
	case version == len(steps):
		_, err := c.ExecContext(ctx, "COMMIT")
		return false, err
	}
	for _, query := range []string{
		steps[version],
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", version+1),
		"COMMIT",
	} {
		if _, err := c.ExecContext(ctx, query); err != nil {
			return false, fmt.Errorf("schema step %d: %w", version+1, err)
		}
	}
	return true, nil
}

// steps returns the text of all steps in order, and fails unless they are numbered 1, 2, 3 …
func steps(files fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(files, "schema")
	if err != nil {
		return nil, err
	}
	all := make([]string, 0, len(entries))
	for i, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 || len(number) != 4 {
			return nil, fmt.Errorf("schema step %q is not number %04d", e.Name(), i+1)
		}
		b, err := fs.ReadFile(files, "schema/"+e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, string(b))
	}
	return all, nil
}
