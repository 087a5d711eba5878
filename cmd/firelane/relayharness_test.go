package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/protocol/signal"
)

// fakePortal lets relays in, or refuses them, and keeps what they say. It can go away and come
// back at the same address.
type fakePortal struct {
	t    *testing.T
	addr string

	mu       sync.Mutex
	refusal  *signal.Refusal
	reason   string        // refuses the join
	hang     chan struct{} // keeps the portal from reading after a join until it is closed
	upgrades []*http.Request
	joins    []signal.Join
	closed   int
	server   *http.Server
	links    *channel.Server
}

func newFakePortal(t *testing.T) *fakePortal {
	p := &fakePortal{t: t, addr: "127.0.0.1:9443"}
	t.Cleanup(p.down)
	return p
}

// up makes the portal answer.
func (p *fakePortal) up() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.server, p.links = &http.Server{Handler: p}, new(channel.Server)
	go p.server.Serve(l)
}

// down cuts all links.
func (p *fakePortal) down() {
	if p.server == nil {
		return
	}
	p.server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.links.Shutdown(ctx)
	p.server = nil
}

func (p *fakePortal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.upgrades = append(p.upgrades, r.Clone(context.Background()))
	refusal := p.refusal
	p.mu.Unlock()
	if refusal != nil {
		channel.Refuse(w, *refusal)
		return
	}
	role, dialect, ok := signal.ParseEndpoint(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = p.links.Accept(w, r, role, dialect, p)
}

func (p *fakePortal) Join(_ *channel.Link, j signal.Join) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joins = append(p.joins, j)
	return p.reason
}

func (p *fakePortal) Joined(l *channel.Link) {
	_ = l.Send(signal.RelayInit{})
	if p.hang != nil {
		<-p.hang
	}
}

func (p *fakePortal) Message(*channel.Link, signal.Message) (signal.Reply, bool) {
	p.t.Error("a relay sends a message")
	return signal.Reply{}, false
}

func (p *fakePortal) Closed(*channel.Link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed++
}

// stamps returns the stamp secrets of all joins.
func (p *fakePortal) stamps() (all []signal.Secret) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range p.joins {
		all = append(all, j.StampSecret)
	}
	return all
}

func (p *fakePortal) closings() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// setUpRelayHost gives this namespace the relay's public address.
func setUpRelayHost(t *testing.T) {
	t.Helper()
	setUp(t, "lo")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(relayPublic + "/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrReplace(lo, addr); err != nil {
		t.Fatal(err)
	}
}

// lifetimeOfRelay bounds a relay under test.
const lifetimeOfRelay = 40 * time.Second

const (
	healthAddr  = "127.0.0.1:8080"
	metricsAddr = "127.0.0.1:9586"
)

// runningRelay is the program under test.
type runningRelay struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr syncBuffer
	ended  chan struct{} // closed when it has
	err    error         // how, from then on
}

// relayWith starts a relay and waits until it answers.
func relayWith(t *testing.T, env []string, args ...string) *runningRelay {
	t.Helper()
	setUpRelayHost(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lifetimeOfRelay)
	args = append([]string{"relay", "--public-ip4-addr", relayPublic, "--allow-loopback-peers", "--health-check-addr", healthAddr,
		"--metrics", metricsAddr, "--no-raise-limits"}, args...)
	r := &runningRelay{t: t, cmd: exec.CommandContext(ctx, self, args...), ended: make(chan struct{})}
	r.cmd.Args[0] = "firelane"
	r.cmd.Env = append(append(os.Environ(), envProgram+"=1", promptEnd()), env...)
	r.cmd.Stderr = &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.err = r.cmd.Wait(); close(r.ended) }()
	t.Cleanup(func() {
		cancel()
		<-r.ended
		if t.Failed() {
			t.Logf("the relay says:\n%s", r.stderr.String())
		}
	})
	await(t, "health endpoint", func() bool { code, _ := r.get("/healthz"); return code == http.StatusOK })
	return r
}

// get asks the health endpoint.
func (r *runningRelay) get(path string) (code int, body string) {
	r.t.Helper()
	return httpGet(healthAddr, path)
}

// httpGet returns zero if nothing answers.
func httpGet(addr, path string) (code int, body string) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// becomes waits for a status of /readyz, then compares the text.
func (r *runningRelay) becomes(code int, text string) {
	r.t.Helper()
	await(r.t, "such readiness", func() bool { got, _ := r.get("/readyz"); return got == code })
	if _, body := r.get("/readyz"); body != text+"\n" {
		r.t.Errorf("/readyz says %q, want %q", body, text)
	}
	if code, body := r.get("/healthz"); code != http.StatusOK || body != "ok\n" {
		r.t.Errorf("/healthz: %d %q", code, body)
	}
}

// metric returns the line of a metric's value, or "".
func (r *runningRelay) metric(name string) string {
	r.t.Helper()
	_, body := httpGet(metricsAddr, "/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (r *runningRelay) signal(sig syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.t.Fatal(err)
	}
}

// ends waits for the end within a time, which must be with code 0 or as a failure that says want.
func (r *runningRelay) ends(within time.Duration, want string) {
	r.t.Helper()
	select {
	case <-r.ended:
		var exit *exec.ExitError
		switch {
		case want == "" && r.err != nil:
			r.t.Errorf("ended with %v", r.err)
		case want != "" && (!errors.As(r.err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(r.stderr.String(), "firelane: "+want)):
			r.t.Errorf("ended with %v, want code %d and %q", r.err, exitFailed, want)
		}
	case <-time.After(within):
		r.t.Fatalf("does not end within %v", within)
	}
}

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
