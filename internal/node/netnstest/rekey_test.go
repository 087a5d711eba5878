package netnstest

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/firelane/firelane/internal/node"
	"github.com/firelane/firelane/internal/tun"
	"github.com/firelane/firelane/internal/uapi"
	"github.com/firelane/firelane/protocol/wireguard"
)

// faster is by how much the timers of this test run faster: a session is renewed after 2 s.
const faster = 60

// TestSessionsAreRenewedWithoutLoss runs two interfaces in this process, whose timers a test can
// speed up, and pings across them while sessions are replaced.
func TestSessionsAreRenewedWithoutLoss(t *testing.T) {
	before := runtime.NumGoroutine()
	a, b := newHost(t), newHost(t)
	connect(a, b, 1)
	ta, stopA := runInside(a, 1)
	tb, stopB := runInside(b, 2)
	ta.peer(tb, tb.at("10.77.1.2"))
	tb.peer(ta, "")
	ta.reaches(tb.addr4(), 5*time.Second)

	handshakes := map[int64]bool{}
	stop := background(func() { handshakes[ta.handshake().Unix()] = true })
	const pings = 1200
	if got := ta.ping(tb.addr4(), pings, 10*time.Millisecond); got != pings {
		t.Errorf("%d of %d pings are answered while sessions are renewed", got, pings)
	}
	stop()
	if len(handshakes) < 4 {
		t.Errorf("handshakes at %d different seconds, want at least 4: the timers do not run fast", len(handshakes))
	}
	t.Logf("%d sessions, no loss", len(handshakes))

	// Silence lets sessions die of age; the next packet makes another.
	quiet := ta.handshake()
	await(t, 10*time.Second, "silence", func() bool {
		return time.Since(quiet) > 2*wireguard.PlainPolicy().RejectAfterTime/faster
	})
	ta.reaches(tb.addr4(), time.Second)
	stopA()
	stopB()
	await(t, 5*time.Second, "end of all goroutines", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// runInside runs an interface in this process, on a thread in the host's namespace. It ends with
// the test, or by the returned function.
func runInside(h *host, n int) (*tunnel, func()) {
	h.t.Helper()
	x := &tunnel{host: h, n: n, ours: true, ended: true, port: 51820 + n}
	x.identify(h.t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- h.within(func() error {
			cfg, err := staticConfig(x.name)
			ready <- err
			if err != nil {
				return err
			}
			return node.RunStatic(ctx, cfg)
		})
	}()
	h.try(<-ready)
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("%s: %v", x.name, err)
		}
	}
	h.t.Cleanup(stop)
	x.configure()
	return x, stop
}

func staticConfig(name string) (node.StaticConfig, error) {
	dev, err := tun.Create(name, tun.Options{Queues: 2, MTU: 1420, Csum: true, TSO: true, USO: true})
	if err != nil {
		return node.StaticConfig{}, err
	}
	f, err := uapi.Open(name)
	if err != nil {
		return node.StaticConfig{}, err
	}
	l, err := uapi.Listen(name, f)
	return node.StaticConfig{
		Name: name, Tun: dev, UAPI: l, Queues: 2, GSO: true, GRO: true,
		Policy: wireguard.PlainPolicy().Divided(faster),
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, err
}
