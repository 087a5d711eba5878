package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/server"
	"github.com/firelane/firelane/portal/store"
)

// newPortalToken returns `firelane portal token` and its subcommands.
func newPortalToken() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens",
		Long: `Make, list and revoke the tokens of gateways, relays, service accounts and the
HTTP API. They work on the database; a running portal follows within a second.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return errors.New("want create, list or revoke") },
	}
	c.AddCommand(newTokenCreate(), newTokenList(), newTokenRevoke())
	return c
}

// tokenPlace is where tokens are and what names mean.
type tokenPlace struct{ config, data, account string }

func (p *tokenPlace) register(c *cobra.Command) {
	c.Flags().StringVar(&p.data, "data", defaultData, "the `directory` of the database")
	c.Flags().StringVar(&p.config, "config", "", "the policy `file` (default: the one in force)")
	c.Flags().StringVar(&p.account, "account", "", "the account's slug (default: the only account)")
}

// file returns the policy file that gives names a meaning.
func (p *tokenPlace) file() (*config.File, error) {
	path := p.config
	if path == "" {
		path = server.InForcePath(p.data)
	}
	text, err := readPolicyText(path)
	if err != nil {
		return nil, fmt.Errorf("%w; say which policy file with --config", err)
	}
	return config.Parse(path, text)
}

func newTokenCreate() *cobra.Command {
	var p tokenPlace
	var w server.TokenWish
	var expires string
	c := &cobra.Command{
		Use:   "create [flags]",
		Short: "Make a token, and print it once",
		Long: `Make a token and print it, and nothing else, to standard output; it cannot be
printed again. Devices take it as FIREZONE_TOKEN.`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			now := time.Now()
			if expires != "" {
				d, err := parseLifetime(expires)
				if err != nil {
					return fmt.Errorf("--expires %q: want a number and m, h or d, as in 90d", expires)
				}
				w.Expires = now.Add(d)
			}
			w.Account, w.By = p.account, creator()
			return createToken(c, p, w, now)
		},
	}
	p.register(c)
	s := c.Flags()
	s.StringVar(&w.Site, "site", "", "for gateways of the site with this `name`")
	s.BoolVar(&w.Relay, "relay", false, "for relays")
	s.StringVar(&w.ServiceAccount, "service-account", "", "for the service account with this `name`")
	s.StringVar(&w.API, "api", "", "for the HTTP API of the account: read or write")
	s.BoolVar(&w.Portal, "portal", false, "with --api: for the portal as a whole, that is its relays, instead of an account")
	s.StringVar(&w.Name, "name", "", "what to show in lists")
	s.StringVar(&expires, "expires", "", "how long it is good, such as 90d (default: for ever; 90d for service accounts)")
	return c
}

func createToken(c *cobra.Command, p tokenPlace, w server.TokenWish, now time.Time) error {
	file := &config.File{}
	if !w.Relay && !w.Portal {
		var err error
		if file, err = p.file(); err != nil {
			return &failure{err: firstProblem(err)}
		}
	}
	order, err := w.Order(file, now)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.data, 0o700); err != nil { // tokens may be made before the portal first runs
		return &failure{err: err}
	}
	return openStore(context.Background(), server.DatabasePath(p.data), func(ctx context.Context, s *store.Store) error {
		t, text, err := s.CreateToken(ctx, order, now)
		if err == nil {
			fmt.Fprintf(c.ErrOrStderr(), "token %s\n", t.ID)
			_, err = fmt.Fprintln(c.OutOrStdout(), text)
		}
		return err
	})
}

// parseLifetime reads whole minutes, hours or days.
func parseLifetime(s string) (time.Duration, error) {
	units := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	const most = 100_000 // days: 273 years
	for suffix, unit := range units {
		if number, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil || n == 0 || n > most {
				return 0, errors.New("out of range")
			}
			return time.Duration(n) * unit, nil
		}
	}
	return 0, errors.New("no unit")
}

// creator says who makes a token.
func creator() string {
	if u, err := user.Current(); err == nil {
		return "command line, " + u.Username
	}
	return "command line"
}

func newTokenList() *cobra.Command {
	var p tokenPlace
	var relays, revoked bool
	c := &cobra.Command{
		Use:                   "list [flags]",
		Short:                 "List tokens, without their secrets",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			account, names, err := p.tokenAccount(relays)
			if err != nil {
				return err
			}
			return withStore(c.Context(), p.data, func(ctx context.Context, s *store.Store) error {
				return listTokens(ctx, c, s, account, names, revoked)
			})
		},
	}
	p.register(c)
	c.Flags().BoolVar(&relays, "relay", false, "those of relays, and of the API for the portal as a whole")
	c.Flags().BoolVar(&revoked, "revoked", false, "also those that have been revoked")
	return c
}

// tokenAccount returns the id of the account that is meant, and the names of who may hold tokens.
func (p *tokenPlace) tokenAccount(relays bool) (string, map[string]string, error) {
	if relays {
		return store.Portal, nil, nil
	}
	file, err := p.file()
	if err != nil {
		return "", nil, &failure{err: firstProblem(err)}
	}
	a, err := server.FindAccount(file, p.account)
	if err != nil {
		return "", nil, err
	}
	names := map[string]string{}
	for _, s := range a.Sites {
		names[s.ID] = s.Name
	}
	for _, s := range a.ServiceAccounts {
		names[s.ID] = s.Name
	}
	return a.ID, names, nil
}

func listTokens(ctx context.Context, c *cobra.Command, s *store.Store, account string, names map[string]string, revoked bool) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tFOR\tNAME\tCREATED\tEXPIRES\tREVOKED\tUSED")
	for after := ""; ; {
		page, err := s.Tokens(ctx, account, store.TokenFilter{After: after, Revoked: revoked})
		if err != nil {
			return err
		}
		for _, t := range page {
			subject := t.Subject
			if name := names[subject]; name != "" {
				subject = name
			}
			fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Kind, orDash(subject), orDash(t.Name),
				day(t.Created), day(t.Expires), day(t.Revoked), day(t.Used))
			after = t.ID
		}
		if len(page) < store.MaxPage {
			return w.Flush()
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

func newTokenRevoke() *cobra.Command {
	var p tokenPlace
	var relays bool
	c := &cobra.Command{
		Use:                   "revoke [flags] ID",
		Short:                 "Revoke a token; its devices are sent away",
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one id, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			account, _, err := p.tokenAccount(relays)
			if err != nil {
				return err
			}
			return withStore(c.Context(), p.data, func(ctx context.Context, s *store.Store) error {
				_, err := s.RevokeToken(ctx, account, args[0], time.Now())
				if errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("there is no token %s in this account", args[0])
				}
				return err
			})
		},
	}
	p.register(c)
	c.Flags().BoolVar(&relays, "relay", false, "it is one of relays, or of the API for the portal as a whole")
	return c
}
