package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/server"
)

// defaultData is where the portal keeps its database.
const defaultData = "/var/lib/firelane/portal"

// collectAt has the collector run when the heap has grown by half: a join storm leaves less behind
// then. What it takes in processor time is little, as a portal mostly waits. GOGC overrides it.
const collectAt = 50

// portalFlags are the flags of `firelane portal` as given.
type portalFlags struct {
	config, data, listen, url string
	tlsCert, tlsKey           string
	proxies                   []string
	metrics, logLevel         string
	iceless, geoHeaders       bool
	perAddress                int
}

func (f *portalFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.config, "config", "", "the policy `file`; edits take effect within a second, or at SIGHUP")
	s.StringVar(&f.data, "data", defaultData, "the `directory` of the database")
	s.StringVar(&f.listen, "listen", "127.0.0.1:8080", "serve at this IP `address` and port")
	s.StringVar(&f.url, "url", "", "where people and devices reach the portal, such as https://portal.example.com (default: the address it serves at)")
	s.StringVar(&f.tlsCert, "tls-cert", "", "serve with TLS, with the certificate chain in this PEM `file`")
	s.StringVar(&f.tlsKey, "tls-key", "", "the key of --tls-cert, a PEM `file`")
	s.StringArrayVar(&f.proxies, "trusted-proxy", nil, "believe X-Forwarded-For of this `prefix`; may be given several times")
	s.BoolVar(&f.geoHeaders, "geo-headers", false, "believe X-Azure-Geo-Country and X-Geo-Location-* of trusted proxies, which must overwrite or remove what clients send in them")
	s.IntVar(&f.perAddress, "max-per-address", server.DefaultPerAddress, "how many `devices` may be connected from one address (of IPv6, from one /64)")
	s.StringVar(&f.metrics, "metrics", "", "answer HTTP requests for /metrics (Prometheus) and /healthz at this IP address and port")
	s.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	s.BoolVar(&f.iceless, "iceless", false, "let devices that can do so connect without ICE")
	s.SortFlags = false
}

// portalConfig is all of the command line, checked.
type portalConfig struct {
	server.Options
	listen          netip.AddrPort
	tlsCert, tlsKey string
	metrics         string
	level           slog.Level
}

// parsePortal returns a configuration that can be used, or says what is wrong with f.
func parsePortal(f portalFlags) (portalConfig, error) {
	c := portalConfig{tlsCert: f.tlsCert, tlsKey: f.tlsKey, metrics: f.metrics}
	c.Config, c.Data, c.ICEless, c.GeoHeaders, c.PerAddress = f.config, f.data, f.iceless, f.geoHeaders, f.perAddress
	if f.config == "" {
		return c, errors.New("--config is missing")
	}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return c, errors.New("--tls-cert and --tls-key belong together")
	}
	var err error
	if c.listen, err = netip.ParseAddrPort(f.listen); err != nil {
		return c, fmt.Errorf("--listen %q: want an IP address and a port, as in [::]:443", f.listen)
	}
	for _, text := range f.proxies {
		p, err := parsePrefix(text)
		if err != nil {
			return c, fmt.Errorf("--trusted-proxy %q: want an IP address or prefix, as in 10.0.0.0/8", text)
		}
		c.Proxies = append(c.Proxies, p)
	}
	if f.geoHeaders && len(f.proxies) == 0 {
		return c, errors.New("--geo-headers is about trusted proxies: give them with --trusted-proxy")
	}
	if f.perAddress < 1 || f.perAddress > server.MaxPerAddress {
		return c, fmt.Errorf("--max-per-address %d: want 1 to %d", f.perAddress, server.MaxPerAddress)
	}
	if f.metrics != "" {
		if err := observe.CheckAddr(f.metrics); err != nil {
			return c, fmt.Errorf("--metrics %q: %w", f.metrics, err)
		}
	}
	if err := c.level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return c, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	if f.url != "" {
		c.URL, err = parsePortalURL(f.url)
	}
	return c, err
}

func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

func parsePortalURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("--url %q: want a scheme and a host, as in https://portal.example.com", text)
	}
	u.Path = ""
	return u, nil
}

// newPortal returns `firelane portal` and its subcommands.
func newPortal() *cobra.Command {
	var f portalFlags
	c := &cobra.Command{
		Use:   "portal [flags]",
		Short: "Run the control plane",
		Long: `Run the control plane: gateways, clients and relays connect to it, people sign in
at it. What there is, and who may use it, is in the policy file; "firelane portal
check" says whether one is good, "firelane portal plan" what it would change.

Behind a proxy that does TLS, give it with --trusted-proxy, and --url as people
see it. Devices verify certificates of public authorities only.`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: func(_ *cobra.Command, _ []string) error {
			cfg, err := parsePortal(f)
			if err != nil {
				return err
			}
			if err := runPortal(cfg); err != nil {
				return &failure{err: firstProblem(err)}
			}
			return nil
		},
	}
	f.register(c.Flags())
	c.AddCommand(newPortalCheck(), newPortalPlan(), newPortalBackup(), newPortalToken())
	return c
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown argument %q", args[0])
	}
	return nil
}

// firstProblem shortens the problems of a policy file to one line.
func firstProblem(err error) error {
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) < 2 {
		return err
	}
	return fmt.Errorf("%v; and %d more: see \"firelane portal check\"", problems[0], len(problems)-1)
}

// runPortal serves until a signal.
func runPortal(cfg portalConfig) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	hangup := make(chan os.Signal, 1) // from now on: opening the database may take a while
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.level}))
	var secure *tls.Config
	if cfg.tlsCert != "" {
		var err error
		if secure, err = server.LoadTLS(cfg.tlsCert, cfg.tlsKey, cfg.Log); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", cfg.listen.String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer l.Close() // again, if it was served
	if cfg.URL == nil {
		cfg.URL = &url.URL{Scheme: "http", Host: l.Addr().String()}
		if secure != nil {
			cfg.URL.Scheme = "https"
		}
	}
	s, err := server.Open(ctx, cfg.Options)
	if err != nil {
		return err
	}
	defer s.Close() // if it is not served
	if cfg.metrics != "" {
		m, err := observe.Listen(cfg.metrics)
		if err != nil {
			return err
		}
		go func() {
			if err := observe.Serve(ctx, m, s.Metrics); err != nil {
				cfg.Log.Error("metrics end", "error", err)
			}
		}()
	}
	go reloadOnHangup(ctx, s, hangup)
	cfg.Log.Info("portal serves", "address", l.Addr().String(), "url", cfg.URL.String(), "tls", secure != nil)
	err = s.Serve(ctx, l, secure)
	cfg.Log.Info("portal ended")
	return err
}

// reloadOnHangup looks at the policy file at every SIGHUP.
func reloadOnHangup(ctx context.Context, s *server.Server, hangup <-chan os.Signal) {
	for {
		select {
		case <-hangup:
			_ = s.Reload() // logged
		case <-ctx.Done():
			return
		}
	}
}
