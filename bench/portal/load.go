package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/server"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

const policy = `version: 1
accounts:
  - slug: load
    sites: [{name: site}]
    service_accounts: [{name: robot}]
    resources:
      - {name: a, type: cidr, address: 10.2.0.0/16, site: site}
      - {name: b, type: dns, address: b.example, site: site}
    groups: [{name: robots, service_accounts: [robot]}]
    policies: [{group: robots, resource: a}, {group: robots, resource: b}]
`

// options are the command line.
type options struct {
	program            string
	clients, gateways  int
	rate, beside       int // per second
	duration, patience time.Duration
	// tls says that the portal serves with TLS, rest is how long devices do nothing but beat before
	// memory is measured again.
	tls  bool
	rest time.Duration
}

// load is one run.
type load struct {
	options
	dir, policy, metrics string
	listen, url          string
	resource             signal.ID
	tokens               []string // of clients, then gateways, then the relay
	process              *exec.Cmd
	devices              []*device
	fatal                atomic.Int64
	text                 string // what was printed
	// certFile, keyFile and trust are there with TLS.
	certFile, keyFile string
	trust             *tls.Config
	web               http.Client
}

// device is one client, gateway or relay.
type device struct {
	conn *channel.Conn
	// inits counts the times it was told its state; created gets a client's authorizations.
	inits   atomic.Int64
	created chan bool
}

// makers is how many tokens are made at a time: they share commits.
const makers = 64

func (l *load) makeTokens(ctx context.Context) error {
	file, err := config.Parse("policy", []byte(policy))
	if err != nil {
		return err
	}
	if l.resource, err = signal.ParseID(file.Accounts[0].Resources[0].ID); err != nil {
		return err
	}
	data := filepath.Join(l.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	s, err := store.Open(ctx, server.DatabasePath(data), store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	l.tokens = make([]string, l.clients+l.gateways+1)
	errs := make(chan error, len(l.tokens))
	var makersDone sync.WaitGroup
	for first := range makers {
		makersDone.Go(func() {
			for i := first; i < len(l.tokens); i += makers {
				errs <- l.makeToken(ctx, s, file, i)
			}
		})
	}
	makersDone.Wait()
	close(errs)
	for one := range errs {
		err = errors.Join(err, one)
	}
	return err
}

func (l *load) makeToken(ctx context.Context, s *store.Store, file *config.File, i int) error {
	w := server.TokenWish{Account: "load"}
	switch l.role(i) {
	case signal.RoleClient:
		w.ServiceAccount = "robot"
	case signal.RoleGateway:
		w.Site = "site"
	case signal.RoleRelay:
		w.Relay = true
	}
	order, err := w.Order(file, time.Now())
	if err == nil {
		_, l.tokens[i], err = s.CreateToken(ctx, order, time.Now())
	}
	return err
}

func (l *load) role(i int) signal.Role {
	switch {
	case i < l.clients:
		return signal.RoleClient
	case i < l.clients+l.gateways:
		return signal.RoleGateway
	}
	return signal.RoleRelay
}

// startPortal starts the portal, the second time where the first one was.
func (l *load) startPortal(ctx context.Context) error {
	if l.url == "" {
		var free [2]net.Listener
		for i := range free {
			var err error
			if free[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return err
			}
		}
		scheme := "http://"
		if l.tls {
			scheme = "https://"
		}
		l.listen, l.metrics = free[0].Addr().String(), free[1].Addr().String()
		l.url = scheme + l.listen
		if err := errors.Join(free[0].Close(), free[1].Close()); err != nil {
			return err
		}
	}
	l.process = exec.CommandContext(ctx, l.program, "portal", "--config", l.policy, "--data", filepath.Join(l.dir, "data"),
		"--listen", l.listen, "--metrics", l.metrics, "--log-level", "warn")
	if l.tls {
		l.process.Args = append(l.process.Args, "--tls-cert", l.certFile, "--tls-key", l.keyFile)
	}
	l.process.Stderr = os.Stderr
	if err := l.process.Start(); err != nil {
		return fmt.Errorf("start portal: %w", err)
	}
	return l.await(ctx, "the portal answers", func() bool {
		r, err := l.web.Get(l.url + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

func (l *load) stopPortal() {
	if l.process == nil {
		return
	}
	_ = l.process.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = l.process.Wait()
	l.process = nil
}

// resident is the portal's resident set, in bytes.
func (l *load) resident() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.process.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

func (l *load) await(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(l.patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("not in %v: %s", l.patience, what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// connect has every device dial at the same time.
func (l *load) connect(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for i, token := range l.tokens {
		d, err := l.dial(ctx, i, token)
		if err != nil {
			return 0, err
		}
		l.devices = append(l.devices, d)
	}
	err := l.awaitInits(ctx, 1)
	return time.Since(began), err
}

// rejoin waits until every device has found the portal again.
func (l *load) rejoin(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := l.awaitInits(ctx, 2)
	return time.Since(began), err
}

func (l *load) awaitInits(ctx context.Context, n int64) error {
	return l.await(ctx, "all devices have joined", func() bool {
		return !slices.ContainsFunc(l.devices, func(d *device) bool { return d.inits.Load() < n })
	})
}

func (l *load) dial(ctx context.Context, i int, token string) (*device, error) {
	r := l.role(i)
	component := map[signal.Role][2]string{
		signal.RoleClient: {"headless-client", "1.5.12"}, signal.RoleGateway: {"gateway", "1.6.1"}, signal.RoleRelay: {"relay", "0.1.0"},
	}[r]
	c := channel.Config{
		API: l.url, Role: r, Token: signal.NewSecret(token), MaxPartition: l.patience, TLS: l.trust,
		Agent: signal.Agent{OS: "Linux", OSVersion: "6", Component: component[0], Version: component[1]}.String(),
	}
	copy(c.Seed[:], fmt.Sprint(i))
	c.Params = signal.Params{Name: fmt.Sprint("device ", i), ExternalID: fmt.Sprint("load-", i)}
	copy(c.Params.PublicKey[:], fmt.Sprintf("key of %025d", i))
	if r == signal.RoleRelay {
		c.Params = signal.Params{Name: "relay", IPv4: netip.MustParseAddr("203.0.113.7"), Port: signal.DefaultRelayPort}
		c.Join.StampSecret = signal.NewSecret(strings.Repeat("0", 64))
	}
	conn, err := channel.Dial(c)
	if err != nil {
		return nil, err
	}
	d := &device{conn: conn, created: make(chan bool, 1)}
	go l.follow(ctx, d)
	return d, nil
}

// follow does what a device does with what it is told.
func (l *load) follow(ctx context.Context, d *device) {
	for {
		m, err := d.conn.Next(ctx)
		if err != nil {
			if !errors.Is(err, channel.ErrClosed) && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "device gives up:", err)
				l.fatal.Add(1)
			}
			return
		}
		switch m := m.(type) {
		case signal.GatewayInit, signal.ClientInit, signal.RelayInit:
			d.inits.Add(1)
		case signal.CreateAuthorization:
			_ = d.conn.Send(signal.AuthorizationApplied{Ref: m.Ref}) // lost with its channel, or counted as failed
		case signal.AuthorizationCreated:
			d.created <- true
		case signal.AuthorizationFailed:
			d.created <- false
		}
	}
}

// answerTime bounds one authorization: the portal itself gives up after fifteen seconds.
const answerTime = 20 * time.Second

// ask has clients ask at the rate, each in its turn, whether the ones before are done or not.
func (l *load) ask(ctx context.Context) (times []time.Duration, failed int) {
	tick := time.NewTicker(time.Second / time.Duration(l.rate))
	defer tick.Stop()
	n := int(l.duration.Seconds() * float64(l.rate))
	results := make(chan time.Duration, n)
	var asking sync.WaitGroup
	for i := range min(n, l.clients) {
		<-tick.C
		d := l.devices[i]
		asking.Go(func() { results <- l.askOnce(ctx, d) })
	}
	asking.Wait()
	close(results)
	for t := range results {
		if t < 0 {
			failed++
			continue
		}
		times = append(times, t)
	}
	slices.Sort(times)
	return times, failed
}

// askOnce returns how long one authorization takes, negative if it fails.
func (l *load) askOnce(ctx context.Context, d *device) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	began := time.Now()
	if d.conn.Send(signal.RequestAuthorization{ResourceID: l.resource}) != nil {
		return -1
	}
	select {
	case ok := <-d.created:
		if ok {
			return time.Since(began)
		}
	case <-ctx.Done():
	}
	return -1
}

// percentile returns that of sorted times.
func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[(len(times)-1)*p/100].Round(10 * time.Microsecond)
}

func (l *load) close() {
	var closing sync.WaitGroup
	for _, d := range l.devices {
		closing.Go(d.conn.Close)
	}
	closing.Wait()
}
