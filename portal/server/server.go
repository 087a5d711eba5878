package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// Options are what a portal is started with.
type Options struct {
	// Config is the path of the policy file.
	Config string
	// Data is the directory of the database; it is made if it is not there.
	Data string
	// URL is where people and devices reach the portal from outside, such as
	// https://portal.example.com. It must not be nil.
	URL *url.URL
	// Proxies may say in X-Forwarded-For whom they speak for.
	Proxies []netip.Prefix
	// GeoHeaders says that Proxies also tell where that is, in X-Azure-Geo-Country or in
	// X-Geo-Location-Region, -City and -Coordinates. They must overwrite or remove all of these in
	// what they forward: otherwise a client is wherever it says, and conditions on the region are
	// worth nothing.
	GeoHeaders bool
	// ICEless lets devices that are capable of it connect without ICE.
	ICEless bool
	// PerAddress is how many websockets one address may have; zero is DefaultPerAddress.
	PerAddress int
	// Transport carries requests to OpenID Connect providers; nil is http.DefaultTransport.
	Transport http.RoundTripper
	// Log is where to log; nil is nowhere.
	Log *slog.Logger

	// sync is the store's; tests break disks with it.
	sync func(*os.File) error
	// uploadGrace is the constant, unless tests have less time.
	uploadGrace time.Duration
}

// Server is a portal that is ready to serve.
type Server struct {
	options Options
	log     *slog.Logger
	store   *store.Store
	// lock keeps other portals away from the data directory.
	lock   *os.File
	driver *driver
	// secret is what the keys of ingest tokens are derived from.
	secret   [32]byte
	channels channel.Server
	handler  http.Handler
	policy   policyFile
	signIn   *signIns

	upgrades  *limiter[attempt]
	failures  *limiter[netip.Prefix]
	ingests   *limiter[netip.Addr]
	ingesting chan struct{}
	// uploading are the devices that upload now.
	uploading busy
	uses      uses
	// parsing has a place for each policy file that is being read for the API.
	parsing chan struct{}
	// backups has a place for the backup that is taken over the API.
	backups backups
	// sockets are the shares of websockets, by the address of the device; conns those of TCP
	// connections, by that of the peer.
	sockets, conns *shares
	// changing is held while the store is changed and the machine told, so that the machine hears of
	// changes in their order.
	changing  sync.RWMutex
	nextConn  atomic.Uint64
	refused   atomic.Uint64
	ending    atomic.Bool
	serveOnce sync.Once
}

// The limits on HTTP. Websockets are beyond them once they are accepted.
const (
	// maxConnections bounds open connections: the channels there may be, and a thousand for people.
	maxConnections = MaxPerAddress + 1000
	// headerTime bounds how long a header may take, requestTime a request with its body.
	headerTime  = 10 * time.Second
	requestTime = time.Minute
	// idleTime bounds an open connection without a request.
	idleTime = time.Minute
	// maxHeader bounds a header: the protocol's query and token, and what browsers send.
	maxHeader = 32 << 10
	// shutdownTime bounds how long devices are waited for when the portal ends.
	shutdownTime = 5 * time.Second
)

// databaseName is the database's in Options.Data, inForceName that of the policy file in force.
const (
	databaseName = "portal.db"
	inForceName  = "policy.in-force"
)

// DatabasePath returns where the database is in a data directory.
func DatabasePath(data string) string { return filepath.Join(data, databaseName) }

// InForcePath returns where the policy file in force is kept in a data directory.
func InForcePath(data string) string { return filepath.Join(data, inForceName) }

// Open reads the policy file, opens the database and continues from what is there. A policy file
// that is not good is an error of type config.Problems.
func Open(ctx context.Context, o Options) (*Server, error) {
	s := &Server{
		options: o, log: o.Log,
		upgrades: newLimiter[attempt](1, upgradeInterval),
		failures: newLimiter[netip.Prefix](failureBurst, failureInterval),
		ingests:  newLimiter[netip.Addr](1, ingestInterval), ingesting: make(chan struct{}, maxIngesting),
		parsing: make(chan struct{}, maxParsing),
	}
	if s.options.uploadGrace == 0 {
		s.options.uploadGrace = uploadGrace
	}
	if o.PerAddress == 0 {
		o.PerAddress = DefaultPerAddress
	}
	s.sockets, s.conns = newShares(o.PerAddress), newShares(o.PerAddress+plainPerAddress)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if o.URL == nil {
		return nil, errors.New("the portal's URL is missing")
	}
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	text, file, err := readPolicy(o.Config)
	if err != nil {
		return nil, err
	}
	if s.lock, err = lockData(o.Data); err != nil {
		return nil, err
	}
	if err = removeBackup(o.Data); err != nil {
		return nil, errors.Join(fmt.Errorf("remove what is left of a backup: %w", err), s.lock.Close())
	}
	if s.store, err = store.Open(ctx, DatabasePath(o.Data), store.Options{ReserveLog: true, Sync: o.sync}); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	if err := s.start(ctx, text, file); err != nil {
		return nil, errors.Join(err, s.closeStore())
	}
	return s, nil
}

// closeStore closes the database, then lets another portal have it.
func (s *Server) closeStore() error { return errors.Join(s.store.Close(), s.lock.Close()) }

func (s *Server) start(ctx context.Context, text []byte, file *config.File) error {
	inForce, known, err := s.inForce(file)
	if err != nil {
		return err
	}
	state, err := loadState(ctx, s.store, inForce)
	if err != nil {
		return fmt.Errorf("load what the portal knew: %w", err)
	}
	if state.Distrusted = !known; !known && len(state.Authorizations) > 0 {
		s.log.Warn("the policy file that was in force when the portal ended is missing: all authorizations are revoked, and clients ask for new ones; a backup holds both",
			"missing", InForcePath(s.options.Data), "authorizations", len(state.Authorizations))
	}
	settings, err := s.settings(ctx)
	if err != nil {
		return err
	}
	s.secret = settings.Secret
	s.driver = newDriver(portal.New(settings, state, time.Now()), s.log, s.store)
	s.signIn = newSignIns(s)
	s.policy.file.Store(inForce)
	s.install(ctx, text, file)
	s.handler = s.routes()
	return nil
}

// settings are the machine's.
func (s *Server) settings(ctx context.Context) (portal.Settings, error) {
	st := portal.Settings{ICEless: s.options.ICEless, FlowLogs: s.flowLogs()}
	secret, err := s.store.Secret(ctx, store.Portal, "ingest", len(st.Secret))
	if err != nil {
		return st, fmt.Errorf("portal's secret: %w", err)
	}
	copy(st.Secret[:], secret)
	_, err = rand.Read(st.Seed[:])
	return st, err
}

// uploadInterval is how often devices upload flow records, in seconds, and uploadBatch how many at a
// time.
const (
	uploadInterval = 60
	uploadBatch    = 1000
)

// flowLogs is what devices are told about uploads. They upload to port 443 with TLS or not at all.
func (s *Server) flowLogs() signal.FlowLogs {
	u := s.options.URL
	if u.Scheme != "https" || u.Port() != "" && u.Port() != "443" {
		return signal.FlowLogs{APIURL: "https://localhost/"}
	}
	return signal.FlowLogs{APIURL: "https://" + u.Hostname() + "/", UploadIntervalSecs: uploadInterval, UploadBatchSize: uploadBatch}
}

// Handler answers everything but metrics.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve serves on l, with TLS if there is a configuration for it, until ctx ends; then devices are
// asked to come back and the database is closed. It can be called once.
func (s *Server) Serve(ctx context.Context, l net.Listener, c *tls.Config) error {
	err := errors.New("portal has been served before")
	s.serveOnce.Do(func() { err = s.serve(ctx, l, c) })
	return err
}

func (s *Server) serve(ctx context.Context, l net.Listener, c *tls.Config) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // websockets cannot come out of HTTP/2 here
	server := &http.Server{
		Handler: s.handler, Protocols: &protocols,
		ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	l = &sharedListener{netutil.LimitListener(l, maxConnections), s.conns, s.trusts}
	if c != nil {
		c = c.Clone()
		c.NextProtos = []string{"http/1.1"}
		l = tls.NewListener(l, c)
	}
	watching, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { s.watchPolicy(watching) })
	watchers.Go(func() { s.watchStore(watching) })
	watchers.Go(func() { s.watchUses(watching) })
	watchers.Go(func() { s.maintain(watching) })
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	var err error
	select {
	case err = <-ended:
		err = fmt.Errorf("serve portal: %w", err)
	case <-ctx.Done():
	}
	stopWatching()
	watchers.Wait()
	s.shutdown(server)
	return errors.Join(err, s.closeStore())
}

// shutdown asks devices to come back later and waits for what is under way: for channels and for requests
// at the same time, so that neither takes the other's.
func (s *Server) shutdown(server *http.Server) {
	s.ending.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	var channels sync.WaitGroup
	channels.Go(func() { s.channels.Shutdown(ctx) })
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
	}
	s.backups.close()
	channels.Wait()
	s.driver.close()
}

// Close closes a portal that has not been served.
func (s *Server) Close() error {
	var err error
	s.serveOnce.Do(func() {
		s.backups.close()
		s.driver.close()
		err = s.closeStore()
	})
	return err
}

// routes says what is where.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range []signal.Role{signal.RoleGateway, signal.RoleClient, signal.RoleRelay} {
		mux.HandleFunc(signal.Endpoint(r, signal.V2), s.serveSocket)
		if old := signal.Endpoint(r, signal.V1); old != signal.Endpoint(r, signal.V2) {
			mux.HandleFunc(old, s.serveSocket)
		}
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("POST "+portal.IngestPath, s.serveIngest)
	s.signIn.routes(mux)
	s.apiRoutes(mux)
	return mux
}

// serveReady says whether devices can be served: the database answers and can be written.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	if _, err := s.store.Accounts(ctx, "", 1); err != nil || s.ending.Load() || s.store.Stats().Lost {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// maintainEvery is how often what only grows is cut back, tokenKept how long tokens stay to be seen
// after their end.
const (
	maintainEvery = time.Hour
	tokenKept     = 30 * 24 * time.Hour
)

// maintain deletes tokens that have long been of no use, and notes which devices are connected.
func (s *Server) maintain(ctx context.Context) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.maintainOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot maintain the database", "error", err)
		}
	}
}

func (s *Server) maintainOnce(ctx context.Context, now time.Time) error {
	seen := map[string][]string{}
	s.driver.live(func(c *session) {
		if id := c.connect.Device.ID; id != "" {
			seen[c.account] = append(seen[c.account], id)
		}
	})
	for account, ids := range seen {
		for len(ids) > 0 {
			n := min(len(ids), store.MaxPage)
			if err := s.store.SeeDevices(ctx, account, ids[:n], now); err != nil {
				return err
			}
			ids = ids[n:]
		}
	}
	return eachAccount(ctx, s.store, func(account string) error {
		for {
			n, err := s.store.DeleteTokens(ctx, account, now.Add(-tokenKept), 0)
			if err != nil || n < store.MaxPage {
				return err
			}
		}
	})
}
