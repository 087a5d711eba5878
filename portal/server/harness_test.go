package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// policy has one of everything that these tests need.
const policy = `version: 1
accounts:
  - slug: acme
    sites: [{name: berlin}]
    service_accounts: [{name: ci}, {name: former, disabled: true}]
    resources:
      - {name: Office, type: cidr, address: 10.2.0.0/16, site: berlin}
      - {name: Git, type: dns, address: git.corp.example, site: berlin}
    groups:
      - {name: robots, service_accounts: [ci]}
    policies:
      - {group: robots, resource: Office, flow_logs: true}
  - slug: other
    sites: [{name: berlin}]
    service_accounts: [{name: ci}]
`

// testPortal is a portal that serves on loopback.
type testPortal struct {
	*Server
	t    testing.TB
	dir  string
	file string
	url  string
	stop func()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

func writePolicy(t testing.TB, path, text string) {
	t.Helper()
	part := path + ".part" // editors replace files, so that nobody reads half of one
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, path); err != nil {
		t.Fatal(err)
	}
}

// start serves a policy; o may say more.
func start(t testing.TB, text string, o ...func(*Options)) *testPortal {
	t.Helper()
	p := &testPortal{t: t, dir: t.TempDir()}
	p.file = filepath.Join(p.dir, "policy.yaml")
	writePolicy(t, p.file, text)
	p.serve(o...)
	return p
}

// serve starts a server on what is in the directory.
func (p *testPortal) serve(o ...func(*Options)) {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	options := Options{
		Config: p.file, Data: filepath.Join(p.dir, "data"), URL: &url.URL{Scheme: "http", Host: l.Addr().String()},
		Log: slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	for _, f := range o {
		f(&options)
	}
	if p.Server, err = Open(p.t.Context(), options); err != nil {
		p.t.Fatal(err)
	}
	p.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, l, nil) }()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("serve: %v", err)
		}
	}
	p.t.Cleanup(p.stop)
}

// token makes a token as the command line does: with a handle of its own on the database.
func (p *testPortal) token(w TokenWish) string {
	p.t.Helper()
	_, text := p.tokenAndID(w)
	return text
}

func (p *testPortal) tokenAndID(w TokenWish) (id, text string) {
	p.t.Helper()
	if w.Account == "" {
		w.Account = "acme"
	}
	order, err := w.Order(p.policy.file.Load(), time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	t, text, err := p.store.CreateToken(p.t.Context(), order, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	return t.ID, text
}

// otherHandle is another process's database.
func (p *testPortal) otherHandle() *store.Store {
	p.t.Helper()
	s, err := store.Open(p.t.Context(), DatabasePath(p.options.Data), store.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { s.Close() })
	return s
}

// agents are the User-Agents of devices, by role.
var agents = map[signal.Role]signal.Agent{
	signal.RoleGateway: {OS: "Ubuntu", OSVersion: "24.4.0", Component: "gateway", Version: "1.6.1"},
	signal.RoleClient:  {OS: "Ubuntu", OSVersion: "24.4.0", Component: "headless-client", Version: "1.5.12"},
	signal.RoleRelay:   {OS: "Ubuntu", OSVersion: "24.4.0", Component: "relay", Version: "0.1.0"},
}

// stamp is the stamp secret of test relays.
const stampSecret = "0000000000000000000000000000000000000000000000000000000000000000"

// device dials the portal; name tells devices apart.
func (p *testPortal) device(r signal.Role, token, name string) *channel.Conn {
	p.t.Helper()
	c, err := channel.Dial(deviceConfig(p.url, r, token, name))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

func deviceConfig(portal string, r signal.Role, token, name string) channel.Config {
	c := channel.Config{API: portal, Role: r, Token: signal.NewSecret(token), Agent: agents[r].String()}
	c.Params = signal.Params{Name: name, ExternalID: signal.ExternalID("id of " + name)}
	copy(c.Params.PublicKey[:], fmt.Sprintf("key of %-32s", name))
	if r == signal.RoleRelay {
		c.Params = signal.Params{Name: name, IPv4: netip.MustParseAddr("203.0.113.7"), Port: 3478}
		c.Join.StampSecret = signal.NewSecret(stampSecret)
	}
	return c
}

// next returns the next message of type M; others are passed over.
func next[M signal.Message](t testing.TB, c *channel.Conn) M {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		m, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("no %v: %v", reflect.TypeFor[M](), err)
		}
		if got, ok := m.(M); ok {
			return got
		}
		t.Logf("passed over %T", m)
	}
}

// send sends m, which the channel must take.
func send(t testing.TB, c *channel.Conn, m signal.Message) {
	t.Helper()
	if err := c.Send(m); err != nil {
		t.Fatalf("send %T: %v", m, err)
	}
}

// ended waits for the last word of a channel.
func ended(t testing.TB, c *channel.Conn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, err := c.Next(ctx); err != nil {
			return err
		}
	}
}

// resource is the id of a resource of acme's.
func (p *testPortal) resource(name string) signal.ID {
	p.t.Helper()
	for _, r := range p.accountOf("acme").Resources {
		if r.Name == name {
			id, err := signal.ParseID(r.ID)
			if err != nil {
				p.t.Fatal(err)
			}
			return id
		}
	}
	p.t.Fatalf("no resource %q", name)
	return signal.ID{}
}
