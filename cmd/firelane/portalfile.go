package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/server"
	"github.com/firelane/firelane/portal/store"
)

// newPortalCheck returns `firelane portal check`.
func newPortalCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a policy file, or what is in it",
		Long: `Say what is wrong with a policy file, one line for each problem, as
file:line:column: what; what to do. If nothing is, list what is in it with ids: to
rename a thing without making it another one, give it its old id explicitly.`,
		DisableFlagsInUseLine: true,
		Args:                  oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := parsePolicyFile(args[0], c.OutOrStdout())
			if err != nil {
				return err
			}
			return listPolicy(c.OutOrStdout(), args[0], f)
		},
	}
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one file, got %d arguments", len(args))
	}
	return nil
}

// parsePolicyFile reads a policy file and writes all that is wrong with it.
func parsePolicyFile(path string, w io.Writer) (*config.File, error) {
	text, err := readPolicyText(path)
	if err != nil {
		return nil, &failure{err: err}
	}
	f, err := config.Parse(path, text)
	if err != nil {
		fmt.Fprintln(w, err)
		return nil, &failure{err: err, told: true}
	}
	return f, nil
}

// readPolicyText reads a policy file, and one byte more than it may have.
func readPolicyText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, config.MaxSize+1))
}

func listPolicy(w io.Writer, path string, f *config.File) error {
	all := config.Diff(nil, f)
	fmt.Fprintf(w, "%s: good\n", path)
	for _, c := range all {
		if c.ID == c.Name { // relays have no other id
			fmt.Fprintf(w, "%v %q\n", c.Kind, c.Name)
			continue
		}
		if _, err := fmt.Fprintf(w, "%s: %v %q %s\n", c.AccountSlug, c.Kind, c.Name, c.ID); err != nil {
			return &failure{err: err}
		}
	}
	return nil
}

// newPortalPlan returns `firelane portal plan`.
func newPortalPlan() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:                   "plan [flags] FILE",
		Short:                 "Say what a policy file would change, and for whom",
		Long:                  "Compare a policy file with the one in force in the portal of --data, running or not.",
		DisableFlagsInUseLine: true,
		Args:                  oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			after, err := parsePolicyFile(args[0], c.OutOrStdout())
			if err != nil {
				return err
			}
			before, err := inForce(data)
			if err == nil {
				err = config.WritePlan(c.OutOrStdout(), config.Diff(before, after))
			}
			if err != nil {
				return &failure{err: err}
			}
			return nil
		},
	}
	c.Flags().StringVar(&data, "data", defaultData, "the `directory` of the database")
	return c
}

// inForce is the policy file in force; nil if none has ever been.
func inForce(data string) (*config.File, error) {
	path := server.InForcePath(data)
	text, err := readPolicyText(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return config.Parse(path, text)
}

// newPortalBackup returns `firelane portal backup`.
func newPortalBackup() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:   "backup [flags] PATH",
		Short: "Copy the database, of a running portal too",
		Long: `Copy the database as it is at one instant to PATH, and the policy file in force to
PATH.policy; neither may exist. To restore them while no portal runs, put PATH in
place of portal.db in the data directory and PATH.policy in place of
policy.in-force, and remove portal.db-wal and portal.db-shm. Without
policy.in-force the portal revokes all authorizations.`,
		DisableFlagsInUseLine: true,
		Args:                  oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			return withStore(c.Context(), data, func(ctx context.Context, s *store.Store) error { return backup(ctx, s, data, args[0]) })
		},
	}
	c.Flags().StringVar(&data, "data", defaultData, "the `directory` of the database")
	return c
}

// policySuffix names the policy file that belongs to a backup.
const policySuffix = ".policy"

// backup copies the policy file first: an edit between the two is then made once more by the portal that
// is restored, which does no harm.
func backup(ctx context.Context, s *store.Store, data, path string) error {
	text, err := readPolicyText(server.InForcePath(data))
	known := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	if known {
		if err := writeNew(path+policySuffix, text); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	}
	err = s.Backup(ctx, path)
	if err != nil && known {
		err = errors.Join(err, os.Remove(path+policySuffix))
	}
	return err
}

// writeNew writes a file that must not exist, durably.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// withStore opens the database of a portal, which must be there, for as long as f takes.
func withStore(ctx context.Context, data string, f func(context.Context, *store.Store) error) error {
	if ctx == nil {
		ctx = context.Background()
	}
	path := server.DatabasePath(data)
	if _, err := os.Stat(path); err != nil {
		return &failure{err: fmt.Errorf("no portal has run with --data %s: %w", data, err)}
	}
	return openStore(ctx, path, f)
}

func openStore(ctx context.Context, path string, f func(context.Context, *store.Store) error) error {
	s, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		return &failure{err: err}
	}
	if err := errors.Join(f(ctx, s), s.Close()); err != nil {
		return &failure{err: err}
	}
	return nil
}
